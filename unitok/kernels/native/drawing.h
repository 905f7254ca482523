// Ids drawn from logits, as `generation/sampling.py` and `generation/guidance.py` do it.
//
// Letters: V ids, n rows, R rows and their shadows (the same after prompts without guided conditions).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "exponential.h"
#include "threads.h"

namespace unitok {

struct Filter {
  float temperature, top_k, top_p, min_p;  // top_k is a whole number, 0 keeps all
};

struct Draws {  // one for each row
  const float* logits;       // [R, V]: rows stand first, then the shadows of the first one, of the second ...
  const uint8_t* legal;      // [n, V], or null where all ids are
  const int64_t* n_shadows;  // [n]
  const float* scales;       // [R - n]: of guidance, one for each shadow
  const Filter* filters;     // [n]
  const float* uniform;      // [n]: from [0, 1)
  int64_t n, V;
  int64_t* ids;              // [n]
  float* log_probabilities;  // [n], of what was drawn, without guidance, filters and what is legal
};

inline float largest_of(const float* x, int64_t n) {
  float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

inline bool has_nan(const float* x, int64_t n) {
  int64_t found = 0;
#pragma omp simd reduction(+ : found)
  for (int64_t i = 0; i < n; ++i) found += x[i] != x[i];
  return found > 0;
}

// x becomes e^(x - largest), 0 where it is -inf; returns the sum.
inline float exponentials(float* x, int64_t n, float largest) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < n; ++i) {
    x[i] = x[i] == -INFINITY ? 0.0f : exponential(x[i] - largest);
    total += x[i];
  }
  return total;
}

// What log-probabilities lie below logits by.
inline float log_total(const float* logits, int64_t V, std::vector<float>& scratch) {
  const float largest = largest_of(logits, V);
  scratch.assign(logits, logits + V);
  return largest + std::log(exponentials(scratch.data(), V, largest));
}

// Moves what is drawn from away from what the model says without some conditions: stages are logits after the prompts
// with ever more of them, the whole one last.
inline void guide(const std::vector<const float*>& stages, const float* scales, int64_t V, float* out) {
  std::vector<float> below, scratch;
  for (const float* stage : stages) below.push_back(log_total(stage, V, scratch));
  const float* own = stages.back();
  for (int64_t i = 0; i < V; ++i) {
    float moved = stages[0][i] - below[0];
    for (size_t s = 0; s + 1 < stages.size(); ++s)
      moved += scales[s] * (stages[s + 1][i] - below[s + 1] - (stages[s][i] - below[s]));
    out[i] = std::isinf(own[i]) ? -INFINITY : moved;
  }
}

// Sets what is not among the likeliest that together reach top_p to -inf.
inline void keep_nucleus(std::vector<float>& scaled, float largest, float top_p) {
  std::vector<int64_t> order(scaled.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scaled[a] > scaled[b]; });
  double total = 0, before = 0;
  for (const float one : scaled) total += std::exp(one - largest);
  for (const int64_t i : order) {
    const float probability = float(std::exp(scaled[i] - largest) / total);
    if (float(before) >= top_p) scaled[i] = -INFINITY;
    before += probability;
  }
}

// Draws an id by one number from [0, 1).
inline int64_t draw(const float* logits, const uint8_t* legal, int64_t V, const Filter& filter, float uniform) {
  std::vector<float> scaled(logits, logits + V);
  for (float& one : scaled) one /= filter.temperature;
  for (int64_t i = 0; legal && i < V; ++i) scaled[i] = legal[i] ? scaled[i] : -INFINITY;
  const float largest = largest_of(scaled.data(), V);
  const int64_t top_k = int64_t(filter.top_k);
  if (top_k == 1) return std::find(scaled.begin(), scaled.end(), largest) - scaled.begin();
  if (top_k > 0 && top_k < V) {
    std::vector<float> sorted = scaled;
    std::nth_element(sorted.begin(), sorted.begin() + (top_k - 1), sorted.end(), std::greater<float>());
    const float smallest = sorted[top_k - 1];
    for (float& one : scaled) one = one < smallest ? -INFINITY : one;
  }
  if (filter.top_p < 1) keep_nucleus(scaled, largest, filter.top_p);
  if (filter.min_p > 0) {
    const float smallest = largest + std::log(filter.min_p);
    for (float& one : scaled) one = one < smallest ? -INFINITY : one;
  }
  const float total = exponentials(scaled.data(), V, largest);
  double sum = 0;
  for (float& one : scaled) one = float(sum += one / total);
  const float all = scaled.back();
  const auto found = std::upper_bound(scaled.begin(), scaled.end(), uniform * all);
  const auto last_possible = std::lower_bound(scaled.begin(), scaled.end(), all);
  return std::min(found, last_possible) - scaled.begin();
}

// Draws for rows [first, stop).
inline void run(const Draws& draws, int64_t first, int64_t stop) {
  const int64_t V = draws.V, n = draws.n;
  std::vector<float> guided(V), scratch;
  for (int64_t i = first, shadow = std::accumulate(draws.n_shadows, draws.n_shadows + first, int64_t(0)); i < stop;
       shadow += draws.n_shadows[i++]) {
    const float *own = draws.logits + i * V, *drawn_from = own;
    if (draws.n_shadows[i]) {
      std::vector<const float*> stages;
      for (int64_t s = shadow; s < shadow + draws.n_shadows[i]; ++s) stages.push_back(draws.logits + (n + s) * V);
      stages.push_back(own);
      guide(stages, draws.scales + shadow, V, guided.data());
      drawn_from = guided.data();
    }
    // Where the model returned NaN, and be it for one id, nothing can be drawn; the log-probability says so.
    const bool broken = has_nan(own, V) || has_nan(drawn_from, V);
    const uint8_t* legal = draws.legal ? draws.legal + i * V : nullptr;
    draws.ids[i] = broken ? 0 : draw(drawn_from, legal, V, draws.filters[i], draws.uniform[i]);
    draws.log_probabilities[i] = broken ? NAN : own[draws.ids[i]] - log_total(own, V, scratch);
  }
}

inline void run(int n_threads, const Draws& draws) {
  in_threads(n_threads, [&](int thread, int threads) {
    const Share share(draws.n, thread, threads);
    run(draws, share.first, share.stop);
  });
}

}  // namespace unitok
