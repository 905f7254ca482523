// Ids drawn from logits, as `generation/sampling.py` and `generation/guidance.py` do it.
//
// Letters: V ids.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

namespace unitok {

struct Filter {
  float temperature, top_k, top_p, min_p;  // top_k is a whole number, 0 keeps all
};

inline void log_softmax(const float* logits, int64_t V, float* out) {
  const float largest = *std::max_element(logits, logits + V);
  double total = 0;
  for (int64_t i = 0; i < V; ++i) total += std::exp(logits[i] - largest);
  const float shift = largest + float(std::log(total));
  for (int64_t i = 0; i < V; ++i) out[i] = logits[i] - shift;
}

// Moves what is drawn from away from what the model says without some conditions: stages are the log-probabilities
// after the prompts with ever more of them, the whole one last.
inline void guide(const std::vector<std::vector<float>>& stages, const float* scales, const float* logits, int64_t V,
                  float* out) {
  for (int64_t i = 0; i < V; ++i) {
    float moved = stages[0][i];
    for (size_t s = 0; s + 1 < stages.size(); ++s) moved += scales[s] * (stages[s + 1][i] - stages[s][i]);
    out[i] = std::isinf(logits[i]) ? -INFINITY : moved;
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
inline int64_t draw(const float* logits, int64_t V, const Filter& filter, float uniform) {
  std::vector<float> scaled(logits, logits + V);
  for (float& one : scaled) one /= filter.temperature;
  const int64_t first = std::max_element(scaled.begin(), scaled.end()) - scaled.begin(), top_k = int64_t(filter.top_k);
  const float largest = scaled[first];
  if (top_k == 1) return first;
  if (top_k > 0 && top_k < V) {
    std::vector<float> sorted = scaled;
    std::nth_element(sorted.begin(), sorted.begin() + (top_k - 1), sorted.end(), std::greater<float>());
    for (float& one : scaled)
      if (one < sorted[top_k - 1]) one = -INFINITY;
  }
  if (filter.top_p < 1) keep_nucleus(scaled, largest, filter.top_p);
  if (filter.min_p > 0)
    for (float& one : scaled)
      if (one < largest + std::log(filter.min_p)) one = -INFINITY;
  double total = 0, sum = 0;
  for (float& one : scaled) total += one = std::exp(one - largest);
  std::vector<float> cumulative(V);
  for (int64_t i = 0; i < V; ++i) cumulative[i] = float(sum += float(scaled[i] / total));
  const float all = cumulative.back();
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), uniform * all);
  const auto last_possible = std::lower_bound(cumulative.begin(), cumulative.end(), all);
  return std::min(found, last_possible) - cumulative.begin();
}

}  // namespace unitok
