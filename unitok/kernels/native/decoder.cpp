// What Python calls, to generate a few positions at a time at the speed of the memory: whole Transformer stacks, matrices,
// and frames of several codebooks. Compiled for the machine it runs on (-march=native): AVX-512, AVX2, NEON, or plain C++.
//
//     threads.h      threads that share a call
//     products.h     matrices times vectors
//     stack.h        Transformer stacks
//     drawing.h      ids drawn from logits
//     frame.h        codebooks of a frame, one after the other

#include "frame.h"

using namespace unitok;

extern "C" {

void* new_pool(int32_t n_threads) { return new Pool(n_threads); }

void run_stack(void* pool, const Stack* stack, const Positions* at, float* x) {
  run(*static_cast<Pool*>(pool), *stack, *at, x);
}

void run_linear(void* pool, const Linear* matrix, int64_t M, const float* x, float* y) {
  run(*static_cast<Pool*>(pool), *matrix, M, x, y);
}

void run_frame(void* pool, const Frame* frame) { run(*static_cast<Pool*>(pool), *frame); }

}  // extern "C"
