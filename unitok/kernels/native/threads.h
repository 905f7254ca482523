// Threads that work on one call together, and how things are shared out among them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace unitok {

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

struct Share {  // of n things: [first, stop)
  int64_t first, stop;
  Share(int64_t n, int thread, int n_threads) : first(n * thread / n_threads), stop(n * (thread + 1) / n_threads) {}
};

}  // namespace unitok
