// Codebooks 1 ... Kc-1 of frames, one after the other, in one call: what `model/local.py` computes and the engine draws.
//
// Letters: n rows, R rows and their shadows (the same after prompts without guided conditions), D width of the model,
// d width of the local Transformer, Kc codebooks.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "drawing.h"
#include "stack.h"

namespace unitok {

struct Frame {
  const Stack* stack;
  Linear projection;     // D -> d
  const Linear* heads;   // [Kc - 1], d -> codes
  const float* embedding;                // [V, D]
  const int64_t* const* tokens_of_code;  // [Kc - 1]: of each code its joint id
  const float *cos, *sin;                // [Kc, E]
  int64_t n_codebooks, width;            // Kc, D
  int64_t n_rows, n_states;              // n, R: rows stand first, then the shadows of the first one, of the second ...
  const int64_t* n_shadows;              // [n]
  const float* scales;                   // [R - n]: of guidance, one for each shadow
  const float* hidden;                   // [R, D]: the states that chose codebook 0
  const Filter* filters;                 // [Kc - 1, n]
  const float* uniform;                  // [Kc - 1, n]: from [0, 1)
  int64_t* tokens;                       // [n, Kc], the first is there
  float* log_probabilities;              // [Kc - 1, n], of what was drawn, without guidance and filters
};

inline void run(int n_threads, const Frame& frame) {
  const int64_t n = frame.n_rows, R = frame.n_states, D = frame.width, Kc = frame.n_codebooks;
  const int64_t d = frame.projection.rows;
  std::vector<int64_t> owner(R), row, position, length, codes(n);
  for (int64_t i = 0, s = n; i < n; ++i) {
    owner[i] = i;
    for (int64_t j = 0; j < frame.n_shadows[i]; ++j) owner[s++] = i;
  }
  std::vector<float> inputs, x, states(R * d), logits;
  for (int64_t k = 1; k < Kc; ++k) {
    const int64_t M = k == 1 ? 2 : 1;  // the state comes along with codebook 0
    inputs.resize(R * M * D), x.resize(R * M * d), row.clear(), position.clear(), length.clear();
    for (int64_t r = 0; r < R; ++r) {
      if (M == 2) std::memcpy(inputs.data() + 2 * r * D, frame.hidden + r * D, D * sizeof(float));
      const float* embedded = frame.embedding + frame.tokens[owner[r] * Kc + k - 1] * D;
      std::memcpy(inputs.data() + (r * M + M - 1) * D, embedded, D * sizeof(float));
      for (int64_t m = 0; m < M; ++m) {
        row.push_back(r), position.push_back(M == 2 ? m : k), length.push_back(position.back() + 1);
      }
    }
    run(n_threads, frame.projection, R * M, inputs.data(), x.data());
    run(n_threads, *frame.stack, Positions{R * M, Kc, row.data(), position.data(), length.data(), frame.cos, frame.sin}, x.data());
    for (int64_t r = 0; r < R; ++r)
      std::memcpy(states.data() + r * d, x.data() + (r * M + M - 1) * d, d * sizeof(float));
    const Linear& head = frame.heads[k - 1];
    logits.resize(R * head.rows);
    run(n_threads, head, R, states.data(), logits.data());
    const int64_t place = (k - 1) * n;
    const Draws draws{logits.data(), nullptr, frame.n_shadows, frame.scales, frame.filters + place,
                      frame.uniform + place, n, head.rows, codes.data(), frame.log_probabilities + place};
    run(n_threads, draws);
    for (int64_t i = 0; i < n; ++i) frame.tokens[i * Kc + k] = frame.tokens_of_code[k - 1][codes[i]];
  }
}

}  // namespace unitok
