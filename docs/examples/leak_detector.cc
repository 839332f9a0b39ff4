// SPDX-License-Identifier: Apache-2.0
//
// The leak detector of the Go articles, without a server: it samples the heap's statistics, and says so when the heap
// has grown from sample to sample for a whole window. A program that only allocates and frees is none that leaks.
#include <tarn/memstats.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

class LeakDetector {
 public:
  LeakDetector(std::size_t samples, double least_mb) : samples_(samples), least_mb_(least_mb) {}

  // True when all of the last samples grew, by so much in all.
  bool Sample() {
    constexpr double kMiB = 1 << 20;
    heap_mb_.push_back(static_cast<double>(tarn::ReadMemStats().heap_alloc_bytes) / kMiB);
    if (heap_mb_.size() > samples_) heap_mb_.pop_front();
    return heap_mb_.size() == samples_ && std::is_sorted(heap_mb_.begin(), heap_mb_.end()) && growth_mb() >= least_mb_;
  }
  double growth_mb() const { return heap_mb_.back() - heap_mb_.front(); }

 private:
  const std::size_t samples_;
  const double least_mb_;
  std::deque<double> heap_mb_;
};

// Runs `work` between samples, until there seems to be a leak or the samples are over.
template <typename Work>
bool Leaks(int most_samples, Work work) {
  LeakDetector detector(10, 4);
  for (int i = 0; i < most_samples; ++i) {
    work();
    if (detector.Sample()) {
      std::printf("possible memory leak: the heap grew by %.1f MiB within 10 samples\n", detector.growth_mb());
      return true;
    }
    std::this_thread::sleep_for(10ms);
  }
  std::printf("no leak within %d samples\n", most_samples);
  return false;
}

int main() {
  std::vector<std::string> kept;
  const bool busy_leaks = Leaks(50, [] { std::vector<std::string>(100, std::string(10000, 'x')); });
  const bool leaking_leaks = Leaks(50, [&kept] { kept.push_back(std::string(std::size_t{1} << 20, 'x')); });

  const tarn::MemStats stats = tarn::ReadMemStats();
  std::printf(
      "HeapAlloc %llu, HeapObjects %llu, TotalAlloc %llu, Sys %llu\n",
      static_cast<unsigned long long>(stats.heap_alloc_bytes), static_cast<unsigned long long>(stats.heap_objects),
      static_cast<unsigned long long>(stats.total_alloc_bytes), static_cast<unsigned long long>(stats.sys_bytes));
  return !busy_leaks && leaking_leaks ? 0 : 1;
}
