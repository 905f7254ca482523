// A Transformer stack (RMSNorm, RoPE, grouped-query attention, SwiGLU) for a few positions at a time, in one call.
//
// At a few positions all time goes into reading weights: here they are read once each, by all threads, at the speed of
// the memory. Each result is summed by one thread in a fixed order, so neither batch nor threads change it. Compiled for
// the machine it runs on (-march=native): AVX-512, AVX2, NEON, or plain C++.
//
// Letters: M positions at once, D width, E width of a head, F width of the feed-forward layer.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

enum Kind : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

struct Linear {
  const void* weight;  // [rows, cols]
  const float* scale;  // [rows], of INT8
  const float* bias;   // [rows], or null
  int32_t rows, cols, kind;
};

struct Layer {
  const float *attention_norm, *q_norm, *k_norm, *feed_forward_norm;  // q_norm and k_norm may be null
  Linear q, k, v, out, gate, up, down;
  float *keys, *values;  // [B, kv_heads, max_positions, E]
};

struct Stack {
  const Layer* layers;
  const float* norm;
  int32_t n_layers, width, n_heads, kv_heads, head_width, ff_width;
  float eps;
};

struct Positions {
  int64_t n, max_positions;
  const int64_t *row, *position;  // [M]: which row of the cache, and where in it
  const float *cos, *sin;         // [max_positions or more, E], sines negated in the first half
};

// Waits for all threads; they are few and busy, so waiting is a short spin.
class Barrier {
 public:
  explicit Barrier(int n) : n_(n) {}
  void wait() {
    const int turn = turn_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
      if (spins > 20000) std::this_thread::yield();
  }

 private:
  const int n_;
  std::atomic<int> arrived_{0}, turn_{0};
};

// Threads that sleep between calls, for the rest of the process.
class Pool {
 public:
  explicit Pool(int n) : n_(n) {
    for (int i = 1; i < n; ++i) threads_.emplace_back([this, i] { work(i); });
  }
  int size() const { return n_; }
  void run(const std::function<void(int)>& task) {
    task_ = &task;
    busy_.store(n_ - 1, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      call_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    task(0);
    while (busy_.load(std::memory_order_acquire)) std::this_thread::yield();
  }

 private:
  void work(int i) {
    for (int seen = 0;;) {
      for (int spins = 0; call_.load(std::memory_order_acquire) == seen && spins < 2000; ++spins) {
      }
      if (call_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return call_.load() != seen; });
      }
      seen = call_.load(std::memory_order_acquire);
      (*task_)(i);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }
  const int n_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> call_{0}, busy_{0};
  const std::function<void(int)>* task_ = nullptr;
};

inline float bfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

// Vectors that a matrix is multiplied with, and for INT8 their whole numbers: 16 bits each, so that weights alone are
// rounded coarsely, and as large as leaves room for the sum.
struct Inputs {
  std::vector<float> values;
  std::vector<int16_t> whole;
  std::vector<float> step;
  int64_t n = 0, width = 0;

  void resize(int64_t n_, int64_t width_) {
    n = n_, width = width_;
    values.resize(n * width);
  }
  float* row(int64_t m) { return values.data() + m * width; }
  void take(const float* x, int64_t n_, const Linear& next) {
    resize(n_, next.cols);
    std::memcpy(values.data(), x, n * width * sizeof(float));
    if (next.kind == INT8) round();
  }
  void round() {
    whole.resize(n * width);
    step.resize(n);
    // A register's 32 bits take at most every fourth product, in plain C++, and fewer elsewhere (`dot`).
    const float most = std::fmin(32767.0f, std::floor(2147483000.0f / (127.0f * (width / 4 + 4))));
    for (int64_t m = 0; m < n; ++m) {
      const float* x = row(m);
      float largest = 1e-12f;
      for (int64_t i = 0; i < width; ++i) largest = std::fmax(largest, std::fabs(x[i]));
      step[m] = largest / most;
      const float scale = most / largest;
      int16_t* q = whole.data() + m * width;
      for (int64_t i = 0; i < width; ++i) q[i] = int16_t(std::lrintf(x[i] * scale));
    }
  }
};

// Sums of products in the registers of the machine: `Sum::add` takes `Sum::width` weights and inputs. Four sums for each
// of `Sum::together` inputs fit into the registers.
#if defined(__AVX512BW__)
inline __m512 widened(const float* w) { return _mm512_loadu_ps(w); }
inline __m512 widened(const uint16_t* w) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
struct FloatSum {
  static constexpr int width = 16, together = 4;
  __m512 sum = _mm512_setzero_ps();
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum = _mm512_fmadd_ps(widened(w), _mm512_loadu_ps(x), sum);
  }
  float total() const { return _mm512_reduce_add_ps(sum); }
};
struct WholeSum {
  static constexpr int width = 32, together = 4;
  __m512i sum = _mm512_setzero_si512();
  void add(const int8_t* w, const int16_t* x) {
    const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(wide, _mm512_loadu_si512(x)));
  }
  float total() const { return _mm512_reduce_add_ps(_mm512_cvtepi32_ps(sum)); }
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
  static constexpr int width = 8, together = 2;
  __m256 sum = _mm256_setzero_ps();
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum = _mm256_fmadd_ps(widened(w), _mm256_loadu_ps(x), sum);
  }
  float total() const { return total_of(sum); }
};
struct WholeSum {
  static constexpr int width = 16, together = 2;
  __m256i sum = _mm256_setzero_si256();
  void add(const int8_t* w, const int16_t* x) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    const __m256i inputs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(wide, inputs));
  }
  float total() const { return total_of(_mm256_cvtepi32_ps(sum)); }
};
#elif defined(__ARM_NEON) && defined(__aarch64__)
inline float32x4_t widened(const float* w) { return vld1q_f32(w); }
inline float32x4_t widened(const uint16_t* w) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(w), 16)); }
struct FloatSum {
  static constexpr int width = 4, together = 4;
  float32x4_t sum = vdupq_n_f32(0);
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum = vfmaq_f32(sum, widened(w), vld1q_f32(x));
  }
  float total() const { return vaddvq_f32(sum); }
};
struct WholeSum {
  static constexpr int width = 8, together = 4;
  int32x4_t sum = vdupq_n_s32(0);
  void add(const int8_t* w, const int16_t* x) {
    const int16x8_t wide = vmovl_s8(vld1_s8(w)), inputs = vld1q_s16(x);
    sum = vmlal_s16(vmlal_high_s16(sum, wide, inputs), vget_low_s16(wide), vget_low_s16(inputs));
  }
  float total() const { return vaddvq_f32(vcvtq_f32_s32(sum)); }
};
#else
inline float widened(const float* w) { return *w; }
inline float widened(const uint16_t* w) { return bfloat16(*w); }
struct FloatSum {
  static constexpr int width = 1, together = 1;
  float sum = 0;
  template <typename Weight>
  void add(const Weight* w, const float* x) {
    sum += widened(w) * *x;
  }
  float total() const { return sum; }
};
struct WholeSum {
  static constexpr int width = 1, together = 1;
  int32_t sum = 0;
  void add(const int8_t* w, const int16_t* x) { sum += int32_t(*w) * *x; }
  float total() const { return float(sum); }
};
#endif

inline float product(float w, float x) { return w * x; }
inline float product(uint16_t w, float x) { return bfloat16(w) * x; }
inline float product(int8_t w, int16_t x) { return float(int32_t(w) * x); }

// One row of a matrix times M vectors: rows stream in one after the other, four sums of each keep the adders busy. What
// a vector gets does not depend on its neighbours.
template <typename Sum, int M, typename Weight, typename Input>
inline void dot(const Weight* w, const Input* x, int64_t n, float* out) {
  constexpr int64_t step = Sum::width;
  Sum sums[M][4];
  int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step)
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part)
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sums[m][part].add(w + i + part * step, x + m * n + i + part * step);
  for (; i + step <= n; i += step)
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sums[m][0].add(w + i, x + m * n + i);
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    float rest = 0;
    for (int64_t j = i; j < n; ++j) rest += product(w[j], x[m * n + j]);
    const Sum* s = sums[m];
    out[m] = (s[0].total() + s[1].total()) + (s[2].total() + s[3].total()) + rest;
  }
}

// The same of as many vectors as there are: put(m, result).
template <typename Sum, typename Weight, typename Input, typename Put>
inline void dot_all(const Weight* w, const Input* x, int64_t n, int64_t count, Put put) {
  float results[Sum::together];
  int64_t m = 0;
  for (; m + Sum::together <= count; m += Sum::together) {
    dot<Sum, Sum::together>(w, x + m * n, n, results);
    for (int i = 0; i < Sum::together; ++i) put(m + i, results[i]);
  }
  for (; m < count; ++m) {
    dot<Sum, 1>(w, x + m * n, n, results);
    put(m, results[0]);
  }
}

struct Share {  // of n things: [first, stop)
  int64_t first, stop;
  Share(int64_t n, int thread, int n_threads) : first(n * thread / n_threads), stop(n * (thread + 1) / n_threads) {}
};

// A thread's share of the rows of a matrix times all inputs: put(m, row, value) takes the results.
template <typename Put>
void multiply(const Linear& matrix, Inputs& inputs, const Share& share, Put put) {
  const int64_t n = matrix.cols;
  for (int64_t r = share.first; r < share.stop; ++r) {
    const float bias = matrix.bias ? matrix.bias[r] : 0.0f;
    const auto done = [&](int64_t m, float y) { put(m, r, y + bias); };
    if (matrix.kind == INT8) {
      const int8_t* w = static_cast<const int8_t*>(matrix.weight) + r * n;
      dot_all<WholeSum>(w, inputs.whole.data(), n, inputs.n,
                        [&](int64_t m, float y) { done(m, y * matrix.scale[r] * inputs.step[m]); });
    } else if (matrix.kind == BFLOAT16) {
      dot_all<FloatSum>(static_cast<const uint16_t*>(matrix.weight) + r * n, inputs.row(0), n, inputs.n, done);
    } else {
      dot_all<FloatSum>(static_cast<const float*>(matrix.weight) + r * n, inputs.row(0), n, inputs.n, done);
    }
  }
}

void normalize(const float* x, const float* weight, int64_t n, float eps, float* out) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(sum / n + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void normalize_all(const float* x, const float* weight, const Linear& next, int64_t n, float eps, Inputs& out) {
  out.resize(n, next.cols);
  for (int64_t m = 0; m < n; ++m) normalize(x + m * next.cols, weight, next.cols, eps, out.row(m));
  if (next.kind == INT8) out.round();
}

void rotate(float* x, const float* cos, const float* sin, int64_t width, float* scratch) {
  const int64_t half = width / 2;
  for (int64_t i = 0; i < width; ++i) scratch[i] = x[i] * cos[i] + x[(i + half) % width] * sin[i];
  std::memcpy(x, scratch, width * sizeof(float));
}

// What a query sees, softmax(q k) v, of `length` positions; scores has room for them.
void attend(const float* query, const float* keys, const float* values, int64_t length, int64_t width, float* scores,
            float* out) {
  const float scale = 1.0f / std::sqrt(float(width));
  float largest = -INFINITY;
  for (int64_t t = 0; t < length; ++t) {
    float score = 0;
    const float* key = keys + t * width;
#pragma omp simd reduction(+ : score)
    for (int64_t i = 0; i < width; ++i) score += query[i] * key[i];
    scores[t] = score * scale;
    largest = std::fmax(largest, scores[t]);
  }
  float total = 0;
  for (int64_t t = 0; t < length; ++t) total += scores[t] = std::exp(scores[t] - largest);
  for (int64_t i = 0; i < width; ++i) out[i] = 0;
  for (int64_t t = 0; t < length; ++t) {
    const float weight = scores[t] / total;
    const float* value = values + t * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] += weight * value[i];
  }
}

// Heads [first, stop) of keys and values: store the new ones, then let the queries of each look.
void attend_heads(const Stack& stack, const Layer& layer, const Positions& at, float* qkv, int64_t first, int64_t stop,
                  float* mixed) {
  const int64_t E = stack.head_width, group = stack.n_heads / stack.kv_heads;
  const int64_t q_width = stack.n_heads * E, kv_width = stack.kv_heads * E, width = q_width + 2 * kv_width;
  std::vector<float> scratch(E), scores(at.max_positions);
  for (int64_t h = first; h < stop; ++h) {
    for (int64_t m = 0; m < at.n; ++m) {
      float *key = qkv + m * width + q_width + h * E, *value = key + kv_width;
      if (layer.k_norm) normalize(key, layer.k_norm, E, stack.eps, key);
      rotate(key, at.cos + at.position[m] * E, at.sin + at.position[m] * E, E, scratch.data());
      const int64_t place = ((at.row[m] * stack.kv_heads + h) * at.max_positions + at.position[m]) * E;
      std::memcpy(layer.keys + place, key, E * sizeof(float));
      std::memcpy(layer.values + place, value, E * sizeof(float));
    }
    for (int64_t m = 0; m < at.n; ++m) {
      const int64_t start = (at.row[m] * stack.kv_heads + h) * at.max_positions * E;
      for (int64_t g = h * group; g < (h + 1) * group; ++g) {
        float* query = qkv + m * width + g * E;
        if (layer.q_norm) normalize(query, layer.q_norm, E, stack.eps, query);
        rotate(query, at.cos + at.position[m] * E, at.sin + at.position[m] * E, E, scratch.data());
        attend(query, layer.keys + start, layer.values + start, at.position[m] + 1, E, scores.data(),
               mixed + m * q_width + g * E);
      }
    }
  }
}

}  // namespace

extern "C" {

void* new_pool(int32_t n_threads) { return new Pool(n_threads); }

// x [M, D] through the whole stack, in place; new keys and values go into the cache.
void run_stack(void* pool_, const Stack* stack_, const Positions* at_, float* x) {
  Pool& pool = *static_cast<Pool*>(pool_);
  const Stack& stack = *stack_;
  const Positions& at = *at_;
  const int64_t M = at.n, D = stack.width, F = stack.ff_width, E = stack.head_width;
  const int64_t q_width = stack.n_heads * E, kv_width = stack.kv_heads * E, width = q_width + 2 * kv_width;
  std::vector<float> qkv(M * width), mixed(M * q_width), gated(M * F);
  Barrier barrier(pool.size());
  pool.run([&](int thread) {
    const int n = pool.size();
    const Share of_q(q_width, thread, n), of_kv(kv_width, thread, n), of_width(D, thread, n), of_ff(F, thread, n);
    const int64_t first_head = stack.kv_heads * thread / n, stop_head = stack.kv_heads * (thread + 1) / n;
    Inputs inputs;
    std::vector<float> gates(M * F);
    const auto add_to_x = [&](int64_t m, int64_t r, float y) { x[m * D + r] += y; };
    for (int64_t l = 0; l < stack.n_layers; ++l) {
      const Layer& layer = stack.layers[l];
      normalize_all(x, layer.attention_norm, layer.q, M, stack.eps, inputs);
      const auto put_at = [&](int64_t start) {
        return [&qkv, start, width](int64_t m, int64_t r, float y) { qkv[m * width + start + r] = y; };
      };
      multiply(layer.q, inputs, of_q, put_at(0));
      multiply(layer.k, inputs, of_kv, put_at(q_width));
      multiply(layer.v, inputs, of_kv, put_at(q_width + kv_width));
      barrier.wait();
      attend_heads(stack, layer, at, qkv.data(), first_head, stop_head, mixed.data());
      barrier.wait();
      inputs.take(mixed.data(), M, layer.out);
      multiply(layer.out, inputs, of_width, add_to_x);
      barrier.wait();
      normalize_all(x, layer.feed_forward_norm, layer.gate, M, stack.eps, inputs);
      multiply(layer.gate, inputs, of_ff,
               [&](int64_t m, int64_t r, float y) { gates[m * F + r] = y / (1.0f + std::exp(-y)); });
      multiply(layer.up, inputs, of_ff, [&](int64_t m, int64_t r, float y) { gated[m * F + r] = gates[m * F + r] * y; });
      barrier.wait();
      inputs.take(gated.data(), M, layer.down);
      multiply(layer.down, inputs, of_width, add_to_x);
      barrier.wait();
    }
  });
  for (int64_t m = 0; m < M; ++m) normalize(x + m * D, stack.norm, D, stack.eps, x + m * D);
}

// y [M, rows] = x [M, cols] times a matrix, as many vectors at a time as stay near the processor.
void run_linear(void* pool_, const Linear* matrix, int64_t M, const float* x, float* y) {
  constexpr int64_t at_once = 32;
  Pool& pool = *static_cast<Pool*>(pool_);
  pool.run([&](int thread) {
    Inputs inputs;
    const Share share(matrix->rows, thread, pool.size());
    for (int64_t first = 0; first < M; first += at_once) {
      inputs.take(x + first * matrix->cols, std::min(at_once, M - first), *matrix);
      multiply(*matrix, inputs, share,
               [&](int64_t m, int64_t r, float value) { y[(first + m) * matrix->rows + r] = value; });
    }
  });
}

}  // extern "C"
