// Matrices times vectors: weights of 32, 16, 8 or 4 bits, read once each, in the widest registers that the machine has.
//
// Each result is summed by one thread in a fixed order, so neither batch nor threads change it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "threads.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINED __attribute__((always_inline))

namespace unitok {

enum Kind : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, INT4 = 3 };

// Weights of INT4 come in groups of 64, each with a scale, two halves of 16 bytes: bits 4k ... 4k+3 of a half's 16-bit
// word i hold its weight 8k + i, from -8 to 7. Rows are filled up with zeros.
constexpr int64_t GROUP = 64;

struct Linear {
  const void* weight;  // [rows, cols]
  const float* scale;  // [rows], of INT8; [rows, groups], of INT4
  const float* bias;   // [rows], or null
  int32_t rows, cols, kind;
};

inline float bfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

// At the start of a cache line, so that no register is loaded from two.
template <typename T>
struct Aligned {
  using value_type = T;
  static constexpr std::align_val_t line{64};
  Aligned() = default;
  template <typename U>
  Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), line)); }
  void deallocate(T* p, size_t) { ::operator delete(p, line); }
  template <typename U>
  bool operator==(const Aligned<U>&) const { return true; }
  template <typename U>
  bool operator!=(const Aligned<U>&) const { return false; }
};
template <typename T>
using Vector = std::vector<T, Aligned<T>>;

// Vectors that a matrix is multiplied with, and for INT8 and INT4 their whole numbers: 16 bits each, so that weights
// alone are rounded coarsely, and as large as leaves room for the sum.
struct Inputs {
  Vector<float> values;
  Vector<int16_t> whole;  // [n, whole_width], filled up with zeros
  std::vector<float> step;
  int64_t n = 0, width = 0, whole_width = 0;

  void resize(int64_t n_, int64_t width_) {
    n = n_, width = width_;
    values.resize(n * width);
  }
  float* row(int64_t m) { return values.data() + m * width; }
  void take(const float* x, int64_t n_, const Linear& next) {
    resize(n_, next.cols);
    std::memcpy(values.data(), x, n * width * sizeof(float));
    round_for(next);
  }
  void round_for(const Linear& next) {
    if (next.kind != INT8 && next.kind != INT4) return;
    whole_width = next.kind == INT4 ? (width + GROUP - 1) / GROUP * GROUP : width;
    whole.resize(n * whole_width);
    step.resize(n);
    // A register's 32 bits take at most every fourth product, in plain C++, and fewer elsewhere (`dot`).
    const float most = std::fmin(32767.0f, std::floor(2147483000.0f / (127.0f * (width / 4 + 4))));
    for (int64_t m = 0; m < n; ++m) {
      const float* x = row(m);
      float largest = 1e-12f;
#pragma omp simd reduction(max : largest)
      for (int64_t i = 0; i < width; ++i) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
      step[m] = largest / most;
      const float scale = most / largest;
      int16_t* q = whole.data() + m * whole_width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) q[i] = int16_t(int32_t(std::rint(x[i] * scale)));
      std::fill(q + width, q + whole_width, int16_t(0));
    }
  }
};

// Sums of products in the registers of the machine: `Sum::add` takes `Sum::width` weights and inputs. They are taken in
// `Sum::parts` parts, of every so many registers each: floats add slowly, and one sum would wait for itself.
//
// `held` keeps numbers in a register that several sums take, where the compiler would load them anew for each.
#if defined(__AVX512BW__)
template <typename Register>
inline Register held(Register x) {
  asm("" : "+v"(x));
  return x;
}
inline __m512 widened(const float* w) { return _mm512_loadu_ps(w); }
inline __m512 widened(const uint16_t* w) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline __m512i widened(const int8_t* w) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
}
inline __m512i widened(const int16_t* x) { return _mm512_loadu_si512(x); }
struct FloatSum {
  static constexpr int width = 16, parts = 2;
  __m512 sum = _mm512_setzero_ps();
  void add(__m512 w, __m512 x) { sum = _mm512_fmadd_ps(w, x, sum); }
  void add(const FloatSum& other) { sum = _mm512_add_ps(sum, other.sum); }
  float total() const { return _mm512_reduce_add_ps(sum); }
};
struct WholeSum {
  static constexpr int width = 32, parts = 1;
  __m512i sum = _mm512_setzero_si512();
#if defined(__AVX512VNNI__)
  void add(__m512i w, __m512i x) { sum = _mm512_dpwssd_epi32(sum, w, x); }
#else
  void add(__m512i w, __m512i x) { sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w, x)); }
#endif
  void add(const WholeSum& other) { sum = _mm512_add_epi32(sum, other.sum); }
  float total() const { return _mm512_reduce_add_ps(_mm512_cvtepi32_ps(sum)); }
};
struct Group {  // of weights of 4 bits, widened
  __m512i half[2];
  explicit Group(const uint8_t* w) {
    const __m512i shifts = _mm512_set_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0x0008000800080008,
                                            0x0008000800080008, 0x000c000c000c000c, 0x000c000c000c000c);
    for (int h = 0; h < 2; ++h) {
      const __m512i words = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w) + h));
      half[h] = _mm512_srai_epi16(_mm512_sllv_epi16(words, shifts), 12);
    }
  }
};
struct GroupSum {
  __m512 sum = _mm512_setzero_ps();
  void add(const Group& w, const int16_t* x, float scale) {
    const __m512i products = _mm512_add_epi32(_mm512_madd_epi16(w.half[0], _mm512_loadu_si512(x)),
                                              _mm512_madd_epi16(w.half[1], _mm512_loadu_si512(x + 32)));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_set1_ps(scale), sum);
  }
  float total() const { return _mm512_reduce_add_ps(sum); }
};
#elif defined(__AVX2__)
template <typename Register>
inline Register held(Register x) {
  asm("" : "+x"(x));
  return x;
}
inline float total_of(__m256 sum) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline __m256 widened(const float* w) { return _mm256_loadu_ps(w); }
inline __m256 widened(const uint16_t* w) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline __m256i widened(const int8_t* w) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
}
inline __m256i widened(const int16_t* x) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)); }
struct FloatSum {
  static constexpr int width = 8, parts = 2;
  __m256 sum = _mm256_setzero_ps();
  void add(__m256 w, __m256 x) { sum = _mm256_fmadd_ps(w, x, sum); }
  void add(const FloatSum& other) { sum = _mm256_add_ps(sum, other.sum); }
  float total() const { return total_of(sum); }
};
struct WholeSum {
  static constexpr int width = 16, parts = 1;
  __m256i sum = _mm256_setzero_si256();
  void add(__m256i w, __m256i x) { sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, x)); }
  void add(const WholeSum& other) { sum = _mm256_add_epi32(sum, other.sum); }
  float total() const { return total_of(_mm256_cvtepi32_ps(sum)); }
};
struct Group {  // of weights of 4 bits, widened
  __m256i quarter[4];
  explicit Group(const uint8_t* w) {
    const __m256i low = _mm256_set_m128i(_mm_set1_epi16(1 << 8), _mm_set1_epi16(1 << 12));
    const __m256i high = _mm256_set_m128i(_mm_set1_epi16(1), _mm_set1_epi16(1 << 4));
    for (int h = 0; h < 2; ++h) {
      const __m256i words = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w) + h));
      quarter[2 * h] = _mm256_srai_epi16(_mm256_mullo_epi16(words, low), 12);
      quarter[2 * h + 1] = _mm256_srai_epi16(_mm256_mullo_epi16(words, high), 12);
    }
  }
};
struct GroupSum {
  __m256 sum = _mm256_setzero_ps();
  void add(const Group& w, const int16_t* x, float scale) {
    const auto times = [&](int q) {
      return _mm256_madd_epi16(w.quarter[q], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x) + q));
    };
    const __m256i products = _mm256_add_epi32(_mm256_add_epi32(times(0), times(1)), _mm256_add_epi32(times(2), times(3)));
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_set1_ps(scale), sum);
  }
  float total() const { return total_of(sum); }
};
#elif defined(__ARM_NEON) && defined(__aarch64__)
template <typename Register>
inline Register held(Register x) { return x; }
inline float32x4_t widened(const float* w) { return vld1q_f32(w); }
inline float32x4_t widened(const uint16_t* w) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(w), 16)); }
inline int16x8_t widened(const int8_t* w) { return vmovl_s8(vld1_s8(w)); }
inline int16x8_t widened(const int16_t* x) { return vld1q_s16(x); }
struct FloatSum {
  static constexpr int width = 4, parts = 2;
  float32x4_t sum = vdupq_n_f32(0);
  void add(float32x4_t w, float32x4_t x) { sum = vfmaq_f32(sum, w, x); }
  void add(const FloatSum& other) { sum = vaddq_f32(sum, other.sum); }
  float total() const { return vaddvq_f32(sum); }
};
struct WholeSum {
  static constexpr int width = 8, parts = 1;
  int32x4_t sum = vdupq_n_s32(0);
  void add(int16x8_t w, int16x8_t x) {
    sum = vmlal_s16(vmlal_high_s16(sum, w, x), vget_low_s16(w), vget_low_s16(x));
  }
  void add(const WholeSum& other) { sum = vaddq_s32(sum, other.sum); }
  float total() const { return vaddvq_f32(vcvtq_f32_s32(sum)); }
};
struct Group {  // of weights of 4 bits, widened
  int16x8_t eighth[8];
  explicit Group(const uint8_t* w) {
    for (int h = 0; h < 2; ++h) {
      const int16x8_t words = vreinterpretq_s16_u8(vld1q_u8(w + 16 * h));
      eighth[4 * h] = vshrq_n_s16(vshlq_n_s16(words, 12), 12);
      eighth[4 * h + 1] = vshrq_n_s16(vshlq_n_s16(words, 8), 12);
      eighth[4 * h + 2] = vshrq_n_s16(vshlq_n_s16(words, 4), 12);
      eighth[4 * h + 3] = vshrq_n_s16(words, 12);
    }
  }
};
struct GroupSum {
  float32x4_t sum = vdupq_n_f32(0);
  void add(const Group& w, const int16_t* x, float scale) {
    int32x4_t products = vdupq_n_s32(0);
    for (int e = 0; e < 8; ++e) {
      const int16x8_t inputs = vld1q_s16(x + 8 * e);
      products = vmlal_s16(vmlal_high_s16(products, w.eighth[e], inputs), vget_low_s16(w.eighth[e]), vget_low_s16(inputs));
    }
    sum = vfmaq_n_f32(sum, vcvtq_f32_s32(products), scale);
  }
  float total() const { return vaddvq_f32(sum); }
};
#else
template <typename Register>
inline Register held(Register x) { return x; }
inline float widened(const float* w) { return *w; }
inline float widened(const uint16_t* w) { return bfloat16(*w); }
inline int32_t widened(const int8_t* w) { return *w; }
inline int32_t widened(const int16_t* x) { return *x; }
struct FloatSum {
  static constexpr int width = 1, parts = 2;
  float sum = 0;
  void add(float w, float x) { sum += w * x; }
  void add(const FloatSum& other) { sum += other.sum; }
  float total() const { return sum; }
};
struct WholeSum {
  static constexpr int width = 1, parts = 1;
  int64_t sum = 0;
  void add(int32_t w, int32_t x) { sum += w * x; }
  void add(const WholeSum& other) { sum += other.sum; }
  float total() const { return float(sum); }
};
struct Group {  // of weights of 4 bits, widened
  int16_t weight[GROUP];
  explicit Group(const uint8_t* w) {
    for (int64_t i = 0; i < GROUP; ++i) {
      const int64_t half = i / 32, k = i % 32 / 8, word = half * 16 + i % 8 * 2;
      const int bits = w[word + k / 2] >> (k % 2 * 4) & 15;
      weight[i] = int16_t(bits < 8 ? bits : bits - 16);
    }
  }
};
struct GroupSum {
  float sum = 0;
  void add(const Group& w, const int16_t* x, float scale) {
    int32_t products = 0;
    for (int64_t i = 0; i < GROUP; ++i) products += int32_t(w.weight[i]) * x[i];
    sum += float(products) * scale;
  }
  float total() const { return sum; }
};
#endif

// One product more; rounded once, as it would be in some blocks and not in others if the compiler could choose.
inline float plus(float sum, float w, float x) { return std::fma(w, x, sum); }
inline float plus(float sum, uint16_t w, float x) { return std::fma(bfloat16(w), x, sum); }
inline float plus(float sum, int8_t w, int16_t x) { return sum + float(int32_t(w) * x); }

// In bytes. Weights are fetched ahead: a row of them may be too short for the processor to see a stream in it.
constexpr int64_t FAR_AHEAD = 1024, CACHE_LINE = 64;

#if defined(__AVX512BW__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

// How many fit in beside weights and inputs.
constexpr int SUMS_IN_REGISTERS = 12;

// Calls f(0), f(1) ... f(n - 1), written out, so that sums that are chosen by those numbers stay in registers.
template <typename F, int... i>
INLINED inline void repeat(std::integer_sequence<int, i...>, F f) {
  (f(std::integral_constant<int, i>()), ...);
}
template <int n, typename F>
INLINED inline void repeat(F f) {
  repeat(std::make_integer_sequence<int, n>(), f);
}

// Sums of R rows of weights, `n` apart, times M vectors.
template <typename Sum, int R, int M>
struct Block {
  Sum sums[R][M];

  template <typename Weight, typename Input>
  INLINED inline void add(const Weight* w, const Input* x, int64_t n) {
    decltype(widened(w)) weights[R];
    repeat<R>([&](auto r) INLINED { weights[r] = M > 1 ? held(widened(w + r * n)) : widened(w + r * n); });
    repeat<M>([&](auto m) INLINED {
      const auto input = R > 1 ? held(widened(x + m * n)) : widened(x + m * n);
      repeat<R>([&](auto r) INLINED { sums[r][m].add(weights[r], input); });
    });
  }
  INLINED inline void add(const Block& other) {
    repeat<R>([&](auto r) INLINED { repeat<M>([&](auto m) INLINED { sums[r][m].add(other.sums[r][m]); }); });
  }
};

// The numbers that follow the last whole register, and the result: put(m, row, result).
template <typename Sum, int R, int M, typename Weight, typename Input, typename Put>
INLINED inline void finish(const Block<Sum, R, M>& block, const Weight* w, const Input* x, int64_t n, int64_t i, Put put) {
  repeat<R>([&](auto r) INLINED {
    repeat<M>([&](auto m) INLINED {
      float rest = 0;
      for (int64_t j = i; j < n; ++j) rest = plus(rest, w[r * n + j], x[m * n + j]);
      put(m, r, block.sums[r][m].total() + rest);
    });
  });
}

// R rows of a matrix times M vectors: put(m, row, result). What a vector gets does not depend on its neighbours: parts
// are summed in the same order in any block.
template <typename Sum, int R, int M, typename Weight, typename Input, typename Put>
inline void dot(const Weight* w, const Input* x, int64_t n, Put put) {
  constexpr int P = Sum::parts;
  constexpr int64_t step = Sum::width;
  Block<Sum, R, M> parts[P];
  int64_t i = 0;
  if constexpr (P == 1 || R * M * P <= SUMS_IN_REGISTERS) {
    constexpr int steps = std::max(P, int(CACHE_LINE / (step * sizeof(Weight))));
    for (; i + steps * step <= n; i += steps * step) {
      // Rows are fetched as they lie, one after the other: in their order here no processor sees a stream.
      const Weight* ahead = R == 1 ? w + i + FAR_AHEAD / sizeof(Weight) : w + 2 * R * n + i * R;
      repeat<R>([&](auto r) INLINED { __builtin_prefetch(ahead + r * (CACHE_LINE / sizeof(Weight))); });
      repeat<steps>([&](auto s) INLINED { parts[s % P].add(w + i + s * step, x + i + s * step, n); });
    }
  } else {
    // One part after the other, over stretches that stay near; the first fetches the next rows, which no processor
    // foresees in such strides.
    constexpr int64_t stretch = 64 * step;
    for (const int64_t whole = n / (P * step) * (P * step); i < whole;) {
      const int64_t stop = std::min(whole, i + stretch);
      for (int part = 0; part < P; ++part) {
        Block<Sum, R, M> sums = parts[part];
        for (int64_t j = i + part * step; j < stop; j += P * step) {
          if (part == 0) repeat<R>([&](auto r) INLINED { __builtin_prefetch(w + (R + r) * n + j); });
          sums.add(w + j, x + j, n);
        }
        parts[part] = sums;
      }
      i = stop;
    }
  }
  for (int part = 0; i + step <= n; i += step, part = (part + 1) % P) parts[part].add(w + i, x + i, n);
  for (int part = 1; part < P; ++part) parts[0].add(parts[part]);
  finish(parts[0], w, x, n, i, put);
}

// R rows times as many vectors as there are, `together` at a time and the rest together.
template <typename Sum, int R, int together, typename Weight, typename Input, typename Put>
inline void dot_all(const Weight* w, const Input* x, int64_t n, int64_t count, Put put) {
  int64_t m = 0;
  const auto at = [&](int64_t i, int r, float y) { put(m + i, r, y); };
  for (; m + together <= count; m += together) dot<Sum, R, together>(w, x + m * n, n, at);
  if constexpr (together > 1) {
    if (m < count) dot_all<Sum, R, together - 1>(w, x + m * n, n, count - m, at);
  }
}

// A row of groups times vectors, `together` at a time and the rest together.
template <int together, typename Put>
inline void dot_groups(const uint8_t* w, const float* scale, const int16_t* x, int64_t n, int64_t count, Put put) {
  int64_t m = 0;
  for (; m + together <= count; m += together) {
    GroupSum sums[together];
    for (int64_t g = 0; g < n / GROUP; ++g) {
      __builtin_prefetch(w + g * (GROUP / 2) + FAR_AHEAD);
      const Group group(w + g * (GROUP / 2));
#pragma GCC unroll 4
      for (int i = 0; i < together; ++i) sums[i].add(group, x + (m + i) * n + g * GROUP, scale[g]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < together; ++i) put(m + i, 0, sums[i].total());
  }
  if constexpr (together > 1) {
    if (m < count)
      dot_groups<together - 1>(w, scale, x + m * n, n, count - m, [&](int64_t i, int r, float y) { put(m + i, r, y); });
  }
}

// Where results go: of vector m and row r of a matrix to y[m * stride + r], instead of what is there or with it.
enum class Into { SET, ADD, TIMES };
struct Output {
  float* y;
  int64_t stride;
  Into into = Into::SET;

  void put(int64_t m, int64_t r, float value) const {
    float& place = y[m * stride + r];
    place = into == Into::SET ? value : into == Into::ADD ? place + value : place * value;
  }
};

// Rows of a thread's share times all inputs. Several rows at once save loads of the inputs; one after the other is what
// memory likes better, which few vectors wait for unless the matrix is small enough to be in a cache.
template <typename Weight, typename Put>
void multiply_floats(const Weight* w, const Inputs& inputs, const Share& share, Put put) {
  constexpr int64_t small = 2 << 20;
  const int64_t n = inputs.width, M = inputs.n;
  const bool is_small = share.of * n * int64_t(sizeof(Weight)) <= small;
  int64_t row = share.first;
  const auto put_at = [&](int64_t m, int r, float y) { put(m, row + r, y); };
  if (M >= 4 || (M > 1 && is_small)) {
    for (; row + 3 <= share.stop; row += 3) dot_all<FloatSum, 3, 4>(w + row * n, inputs.values.data(), n, M, put_at);
  } else if (is_small) {
    for (; row + 2 <= share.stop; row += 2) dot_all<FloatSum, 2, 1>(w + row * n, inputs.values.data(), n, M, put_at);
  }
  for (; row < share.stop; ++row) dot_all<FloatSum, 1, 4>(w + row * n, inputs.values.data(), n, M, put_at);
}

// A thread's share of the rows of a matrix times all inputs.
inline void multiply(const Linear& matrix, const Inputs& inputs, const Share& share, const Output& output) {
  const int64_t n = matrix.cols, M = inputs.n;
  int64_t row = share.first;
  const auto done = [&](int64_t m, int64_t r, float y) { output.put(m, r, matrix.bias ? y + matrix.bias[r] : y); };
  if (matrix.kind == INT8) {
    const auto scaled = [&](int64_t m, int r, float y) { done(m, row + r, y * matrix.scale[row + r] * inputs.step[m]); };
    const auto* w = static_cast<const int8_t*>(matrix.weight);
    if (M == 1 || REGISTERS >= 32) {
      for (; row + 3 <= share.stop; row += 3) dot_all<WholeSum, 3, 4>(w + row * n, inputs.whole.data(), n, M, scaled);
    }
    for (; row < share.stop; ++row) dot_all<WholeSum, 1, 4>(w + row * n, inputs.whole.data(), n, M, scaled);
  } else if (matrix.kind == INT4) {
    const int64_t whole_n = inputs.whole_width, groups = whole_n / GROUP;
    const auto scaled = [&](int64_t m, int r, float y) { done(m, row + r, y * inputs.step[m]); };
    for (const auto* w = static_cast<const uint8_t*>(matrix.weight); row < share.stop; ++row)
      dot_groups<4>(w + row * whole_n / 2, matrix.scale + row * groups, inputs.whole.data(), whole_n, M, scaled);
  } else if (matrix.kind == BFLOAT16) {
    multiply_floats(static_cast<const uint16_t*>(matrix.weight), inputs, share, done);
  } else {
    multiply_floats(static_cast<const float*>(matrix.weight), inputs, share, done);
  }
}

// y [M, rows] = x [M, cols] times a matrix, as many vectors at a time as stay near the processor.
inline void run(int n_threads, const Linear& matrix, int64_t M, const float* x, float* y) {
  constexpr int64_t at_once = 32;
  in_threads(n_threads, [&](int thread, int n) {
    Inputs inputs;
    const Share share(matrix.rows, thread, n);
    for (int64_t first = 0; first < M; first += at_once) {
      inputs.take(x + first * matrix.cols, std::min(at_once, M - first), matrix);
      multiply(matrix, inputs, share, Output{y + first * matrix.rows, matrix.rows});
    }
  });
}

}  // namespace unitok
