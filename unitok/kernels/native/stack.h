// A Transformer stack (RMSNorm, RoPE, grouped-query attention, SwiGLU) for new positions of sequences.
//
// Letters: M positions at once, D width, E width of a head, F width of the feed-forward layer.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "exponential.h"
#include "products.h"

namespace unitok {

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
  const int64_t *row, *position, *length;  // [M]: which row of the cache, where in it, how many places it sees
  const float *cos, *sin;         // [max_positions or more, E], sines negated in the first half
};

inline float sum_of_products(const float* a, const float* b, int64_t n) {
  constexpr int together = 4, step = FloatSum::width;
  FloatSum sums[together];
  int64_t i = 0;
  for (; i + together * step <= n; i += together * step)
    repeat<together>([&](auto k) INLINED { sums[k].add(widened(a + i + k * step), widened(b + i + k * step)); });
  for (; i + step <= n; i += step) sums[0].add(widened(a + i), widened(b + i));
  sums[0].add(sums[1]), sums[2].add(sums[3]), sums[0].add(sums[2]);
  float rest = 0;
  for (; i < n; ++i) rest = plus(rest, a[i], b[i]);
  return sums[0].total() + rest;
}

inline void normalize(const float* x, const float* weight, int64_t n, float eps, float* out) {
  const float scale = 1.0f / std::sqrt(sum_of_products(x, x, n) / n + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

inline void normalize_all(const float* x, const float* weight, const Linear& next, int64_t n, float eps, Inputs& out) {
  out.resize(n, next.cols);
  for (int64_t m = 0; m < n; ++m) normalize(x + m * next.cols, weight, next.cols, eps, out.row(m));
  out.round_for(next);
}

inline void silu(float* x, const Share& share) {
#pragma omp simd
  for (int64_t i = share.first; i < share.stop; ++i) x[i] /= 1.0f + exponential(-x[i]);
}

inline void rotate(float* x, const float* cos, const float* sin, int64_t width, float* scratch) {
  const int64_t half = width / 2;
  std::memcpy(scratch, x, width * sizeof(float));
  for (int64_t i = 0; i < half; ++i) x[i] = scratch[i] * cos[i] + scratch[i + half] * sin[i];
  for (int64_t i = half; i < width; ++i) x[i] = scratch[i] * cos[i] + scratch[i - half] * sin[i];
}

// Columns of values [length, width] times weights, summed in registers; 16 each, split where registers are smaller.
typedef float Columns __attribute__((vector_size(64)));
constexpr int64_t COLUMNS = sizeof(Columns) / sizeof(float);

template <int together>
inline void mix(const float* weights, const float* values, int64_t length, int64_t width, float* out) {
  Columns sums[together] = {};
  for (int64_t t = 0; t < length; ++t) {
    repeat<together>([&](auto k) INLINED {
      Columns value;
      std::memcpy(&value, values + t * width + k * COLUMNS, sizeof value);
      sums[k] += weights[t] * value;
    });
  }
  std::memcpy(out, sums, sizeof sums);
}

// What a query sees, softmax(q k) v, of `length` positions; scores has room for them.
inline void attend(const float* query, const float* keys, const float* values, int64_t length, int64_t width, float* scores,
            float* out) {
  const float scale = 1.0f / std::sqrt(float(width));
  float largest = -INFINITY;
  for (int64_t t = 0; t < length; ++t) {
    scores[t] = sum_of_products(query, keys + t * width, width) * scale;
    largest = scores[t] > largest ? scores[t] : largest;
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t t = 0; t < length; ++t) total += scores[t] = exponential(scores[t] - largest);
#pragma omp simd
  for (int64_t t = 0; t < length; ++t) scores[t] /= total;
  int64_t i = 0;
  for (; i + 4 * COLUMNS <= width; i += 4 * COLUMNS) mix<4>(scores, values + i, length, width, out + i);
  for (; i + COLUMNS <= width; i += COLUMNS) mix<1>(scores, values + i, length, width, out + i);
  for (; i < width; ++i) {
    out[i] = 0;
    for (int64_t t = 0; t < length; ++t) out[i] = plus(out[i], scores[t], values[t * width + i]);
  }
}

// Heads [first, stop) of keys and values: store the new ones, then let the queries of each look.
inline void attend_heads(const Stack& stack, const Layer& layer, const Positions& at, float* qkv, int64_t first, int64_t stop,
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
        attend(query, layer.keys + start, layer.values + start, at.length[m], E, scores.data(),
               mixed + m * q_width + g * E);
      }
    }
  }
}

// x [M, D] through the whole stack, in place; new keys and values go into the cache.
inline void run(int n_threads, const Stack& stack, const Positions& at, float* x) {
  const int64_t M = at.n, D = stack.width, F = stack.ff_width, E = stack.head_width;
  const int64_t q_width = stack.n_heads * E, kv_width = stack.kv_heads * E, width = q_width + 2 * kv_width;
  std::vector<float> qkv(M * width), mixed(M * q_width), gated(M * F);
  Barrier barrier;
  in_threads(n_threads, [&](int thread, int n) {
    const Share of_q(q_width, thread, n), of_kv(kv_width, thread, n), of_width(D, thread, n), of_ff(F, thread, n);
    const int64_t first_head = stack.kv_heads * thread / n, stop_head = stack.kv_heads * (thread + 1) / n;
    Inputs inputs;
    const Output to_x{x, D, Into::ADD};
    for (int64_t l = 0; l < stack.n_layers; ++l) {
      const Layer& layer = stack.layers[l];
      normalize_all(x, layer.attention_norm, layer.q, M, stack.eps, inputs);
      multiply(layer.q, inputs, of_q, {qkv.data(), width});
      multiply(layer.k, inputs, of_kv, {qkv.data() + q_width, width});
      multiply(layer.v, inputs, of_kv, {qkv.data() + q_width + kv_width, width});
      barrier.wait(n);
      attend_heads(stack, layer, at, qkv.data(), first_head, stop_head, mixed.data());
      barrier.wait(n);
      inputs.take(mixed.data(), M, layer.out);
      multiply(layer.out, inputs, of_width, to_x);
      barrier.wait(n);
      normalize_all(x, layer.feed_forward_norm, layer.gate, M, stack.eps, inputs);
      multiply(layer.gate, inputs, of_ff, {gated.data(), F});
      for (int64_t m = 0; m < M; ++m) silu(gated.data() + m * F, of_ff);
      multiply(layer.up, inputs, of_ff, {gated.data(), F, Into::TIMES});
      barrier.wait(n);
      inputs.take(gated.data(), M, layer.down);
      multiply(layer.down, inputs, of_width, to_x);
      barrier.wait(n);
    }
  });
  for (int64_t m = 0; m < M; ++m) normalize(x + m * D, stack.norm, D, stack.eps, x + m * D);
}

}  // namespace unitok
