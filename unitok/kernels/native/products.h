// Matrices times vectors: weights of 32, 16, 8 or 4 bits, read once each, in the widest registers that the machine has.
//
// Each result is summed by one thread in a fixed order, so neither batch nor threads change it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "threads.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

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

// Vectors that a matrix is multiplied with, and for INT8 and INT4 their whole numbers: 16 bits each, so that weights
// alone are rounded coarsely, and as large as leaves room for the sum.
struct Inputs {
  std::vector<float> values;
  std::vector<int16_t> whole;  // [n, whole_width], filled up with zeros
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

// Sums of products in the registers of the machine: `Sum::add` takes `Sum::width` weights and inputs.
#if defined(__AVX512BW__)
inline __m512 widened(const float* w) { return _mm512_loadu_ps(w); }
inline __m512 widened(const uint16_t* w) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
struct FloatSum {
  static constexpr int width = 16;
  __m512 sum = _mm512_setzero_ps();
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum = _mm512_fmadd_ps(widened(w), _mm512_loadu_ps(x), sum);
  }
  void add(const FloatSum& other) { sum = _mm512_add_ps(sum, other.sum); }
  float total() const { return _mm512_reduce_add_ps(sum); }
};
struct WholeSum {
  static constexpr int width = 32;
  __m512i sum = _mm512_setzero_si512();
  void add(const int8_t* w, const int16_t* x) {
    const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(wide, _mm512_loadu_si512(x)));
  }
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
struct FloatSum {
  static constexpr int width = 8;
  __m256 sum = _mm256_setzero_ps();
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum = _mm256_fmadd_ps(widened(w), _mm256_loadu_ps(x), sum);
  }
  void add(const FloatSum& other) { sum = _mm256_add_ps(sum, other.sum); }
  float total() const { return total_of(sum); }
};
struct WholeSum {
  static constexpr int width = 16;
  __m256i sum = _mm256_setzero_si256();
  void add(const int8_t* w, const int16_t* x) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    const __m256i inputs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(wide, inputs));
  }
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
inline float32x4_t widened(const float* w) { return vld1q_f32(w); }
inline float32x4_t widened(const uint16_t* w) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(w), 16)); }
struct FloatSum {
  static constexpr int width = 4;
  float32x4_t sum = vdupq_n_f32(0);
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum = vfmaq_f32(sum, widened(w), vld1q_f32(x));
  }
  void add(const FloatSum& other) { sum = vaddq_f32(sum, other.sum); }
  float total() const { return vaddvq_f32(sum); }
};
struct WholeSum {
  static constexpr int width = 8;
  int32x4_t sum = vdupq_n_s32(0);
  void add(const int8_t* w, const int16_t* x) {
    const int16x8_t wide = vmovl_s8(vld1_s8(w)), inputs = vld1q_s16(x);
    sum = vmlal_s16(vmlal_high_s16(sum, wide, inputs), vget_low_s16(wide), vget_low_s16(inputs));
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
inline float widened(const float* w) { return *w; }
inline float widened(const uint16_t* w) { return bfloat16(*w); }
struct FloatSum {
  static constexpr int width = 1;
  float sum = 0;
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum += widened(w) * *x;
  }
  void add(const FloatSum& other) { sum += other.sum; }
  float total() const { return sum; }
};
struct WholeSum {
  static constexpr int width = 1;
  int64_t sum = 0;
  void add(const int8_t* w, const int16_t* x) { sum += int32_t(*w) * *x; }
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

inline float product(float w, float x) { return w * x; }
inline float product(uint16_t w, float x) { return bfloat16(w) * x; }
inline float product(int8_t w, int16_t x) { return float(int32_t(w) * x); }

// Bytes by which whole numbers are fetched ahead: a row of them is too short for the processor to see a stream in it.
constexpr int64_t FAR_AHEAD = 1024;

// R rows of a matrix times M vectors, `parts` sums of each to keep the adders busy: put(m, row, result). What a vector
// gets does not depend on its neighbours: floats are always summed in as many parts, whole numbers are summed exactly.
template <typename Sum, int R, int M, int parts, typename Weight, typename Input, typename Put>
inline void dot(const Weight* w, const Input* x, int64_t n, Put put) {
  constexpr int64_t step = Sum::width;
  Sum sums[R][M][parts];
  int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    if constexpr (sizeof(Weight) == 1) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) __builtin_prefetch(w + r * n + i + FAR_AHEAD);
    }
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m)
          sums[r][m][part % parts].add(w + r * n + i + part * step, x + m * n + i + part * step);
  }
  for (; i + step <= n; i += step)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sums[r][m][0].add(w + r * n + i, x + m * n + i);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      float rest = 0;
      for (int64_t j = i; j < n; ++j) rest += product(w[r * n + j], x[m * n + j]);
      Sum* s = sums[r][m];
#pragma GCC unroll 4
      for (int half = parts / 2; half; half /= 2)
#pragma GCC unroll 4
        for (int part = 0; part < half; ++part) s[part].add(s[part + half]);
      put(m, r, s[0].total() + rest);
    }
}

// R rows times as many vectors as there are, `together` at a time and the rest together.
template <typename Sum, int R, int together, int parts, typename Weight, typename Input, typename Put>
inline void dot_all(const Weight* w, const Input* x, int64_t n, int64_t count, Put put) {
  int64_t m = 0;
  const auto at = [&](int64_t i, int r, float y) { put(m + i, r, y); };
  for (; m + together <= count; m += together) dot<Sum, R, together, parts>(w, x + m * n, n, at);
  if constexpr (together > 1) {
    if (m < count) dot_all<Sum, R, together - 1, parts>(w, x + m * n, n, count - m, at);
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

// A thread's share of the rows of a matrix times all inputs: put(m, row, value) takes the results.
template <typename Put>
void multiply(const Linear& matrix, Inputs& inputs, const Share& share, Put put) {
  const int64_t n = matrix.cols, M = inputs.n;
  int64_t row = share.first;
  const auto done = [&](int64_t m, int r, float y) {
    put(m, row + r, matrix.bias ? y + matrix.bias[row + r] : y);
  };
  const auto scaled = [&](int64_t m, int r, float y) { done(m, r, y * matrix.scale[row + r] * inputs.step[m]); };
  if (matrix.kind == INT8) {
    // Few vectors wait for memory, which likes one row after the other; for many, registers are to be full.
    const auto* w = static_cast<const int8_t*>(matrix.weight);
    const int16_t* x = inputs.whole.data();
    for (; M >= 12 && row + 2 <= share.stop; row += 2) dot_all<WholeSum, 2, 3, 1>(w + row * n, x, n, M, scaled);
    for (; M > 1 && row < share.stop; ++row) dot_all<WholeSum, 1, 4, 1>(w + row * n, x, n, M, scaled);
    for (; row < share.stop; ++row) dot_all<WholeSum, 1, 1, 4>(w + row * n, x, n, M, scaled);
  } else if (matrix.kind == INT4) {
    const int64_t whole_n = inputs.whole_width, groups = whole_n / GROUP;
    const auto put_step = [&](int64_t m, int r, float y) { done(m, r, y * inputs.step[m]); };
    for (const auto* w = static_cast<const uint8_t*>(matrix.weight); row < share.stop; ++row)
      dot_groups<4>(w + row * whole_n / 2, matrix.scale + row * groups, inputs.whole.data(), whole_n, M, put_step);
  } else if (matrix.kind == BFLOAT16) {
    for (const auto* w = static_cast<const uint16_t*>(matrix.weight); row < share.stop; ++row)
      dot_all<FloatSum, 1, 2, 4>(w + row * n, inputs.row(0), n, M, done);
  } else {
    for (const auto* w = static_cast<const float*>(matrix.weight); row < share.stop; ++row)
      dot_all<FloatSum, 1, 2, 4>(w + row * n, inputs.row(0), n, M, done);
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
      multiply(matrix, inputs, share,
               [&](int64_t m, int64_t r, float value) { y[(first + m) * matrix.rows + r] = value; });
    }
  });
}

}  // namespace unitok
