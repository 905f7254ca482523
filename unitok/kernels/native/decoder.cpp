// What Python calls, to generate a few positions at a time at the speed of the memory: whole Transformer stacks, matrices,
// and frames of several codebooks. Compiled for the machine it runs on, or in a wheel for kinds of them: AVX-512, AVX2, NEON, or plain C++.
//
//     threads.h      threads that share a call
//     products.h     matrices times vectors
//     exponential.h  e^x of many numbers
//     stack.h        Transformer stacks
//     drawing.h      ids drawn from logits
//     frame.h        codebooks of a frame, one after the other

#include "frame.h"

using namespace unitok;

extern "C" {

void run_stack(int32_t n_threads, const Stack* stack, const Positions* at, float* x) { run(n_threads, *stack, *at, x); }

void run_linear(int32_t n_threads, const Linear* matrix, int64_t M, const float* x, float* y) {
  run(n_threads, *matrix, M, x, y);
}

void run_draws(int32_t n_threads, const Draws* draws) { run(n_threads, *draws); }

void run_frame(int32_t n_threads, const Frame* frame) { run(n_threads, *frame); }

}  // extern "C"
