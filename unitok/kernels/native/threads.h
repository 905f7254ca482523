// Threads that work on one call together, and how things are shared out among them.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace unitok {

// Runs task(thread, n_threads) in each thread. They are OpenMP's, and so PyTorch's own where both use the same library:
// others would wait for a core while PyTorch's spin on it. Without OpenMP there is one.
template <typename Task>
void in_threads(int n_threads, const Task& task) {
#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads)
  task(omp_get_thread_num(), omp_get_num_threads());
#else
  task(0, 1);
#endif
}

// Where the threads of a call wait for each other; they are few and busy, so waiting is a short spin.
class Barrier {
 public:
  void wait(int n_threads) {
    const int turn = turn_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_threads) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
      if (spins > 20000) std::this_thread::yield();
  }

 private:
  std::atomic<int> arrived_{0}, turn_{0};
};

struct Share {  // of n things: [first, stop)
  int64_t of, first, stop;
  Share(int64_t n, int thread, int n_threads)
      : of(n), first(n * thread / n_threads), stop(n * (thread + 1) / n_threads) {}
};

}  // namespace unitok
