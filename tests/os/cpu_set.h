// SPDX-License-Identifier: Apache-2.0
//
// Sets of as many CPUs as a kernel may have. It refuses to fill in libc's cpu_set_t where more than 1024 are possible,
// and libc's macros leave out the CPUs beyond (sched_getaffinity(2), CPU_SET(3)). Allocates nothing.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/types.h>

#include <cstddef>
#include <vector>

namespace tarn_test {

class CpuSet {
 public:
  static constexpr std::size_t kMostCpus = 8192;  // CONFIG_NR_CPUS goes no higher

  CpuSet() = default;

  // The CPUs that the thread may run on; 0 is the calling one. Empty where the system does not say.
  static CpuSet Of(pid_t thread) {
    CpuSet set;
    if (sched_getaffinity(thread, sizeof(set.words_), set.set()) != 0) return {};
    return set;
  }
  static CpuSet One(std::size_t cpu) {
    CpuSet set;
    set.Add(cpu);
    return set;
  }

  void Add(std::size_t cpu) {
    if (cpu < kMostCpus) words_[cpu / kWordBits] |= 1ul << (cpu % kWordBits);
  }
  bool Has(std::size_t cpu) const { return cpu < kMostCpus && (words_[cpu / kWordBits] >> (cpu % kWordBits) & 1) != 0; }
  // kMostCpus: the set is empty.
  std::size_t First() const {
    std::size_t cpu = 0;
    while (cpu < kMostCpus && !Has(cpu)) ++cpu;
    return cpu;
  }
  std::vector<std::size_t> Cpus() const {
    std::vector<std::size_t> cpus;
    for (std::size_t cpu = 0; cpu < kMostCpus; ++cpu) {
      if (Has(cpu)) cpus.push_back(cpu);
    }
    return cpus;
  }
  // False: refused.
  [[nodiscard]] bool Apply(pid_t thread) const { return sched_setaffinity(thread, sizeof(words_), set()) == 0; }
  [[nodiscard]] bool ApplyTo(pthread_t thread) const {
    return pthread_setaffinity_np(thread, sizeof(words_), set()) == 0;
  }

 private:
  static constexpr std::size_t kWordBits = 8 * sizeof(unsigned long);

  cpu_set_t* set() { return reinterpret_cast<cpu_set_t*>(words_); }
  const cpu_set_t* set() const { return reinterpret_cast<const cpu_set_t*>(words_); }

  unsigned long words_[kMostCpus / kWordBits] = {};
};

// The calling thread runs on one CPU, the first that it may use, until the end of the scope.
class OnOneCpu {
 public:
  OnOneCpu() : before_(CpuSet::Of(0)), is_on_one_(CpuSet::One(before_.First()).Apply(0)) {}
  ~OnOneCpu() {
    if (is_on_one_) static_cast<void>(before_.Apply(0));
  }
  OnOneCpu(const OnOneCpu&) = delete;
  OnOneCpu& operator=(const OnOneCpu&) = delete;

  bool is_on_one() const { return is_on_one_; }

 private:
  const CpuSet before_;
  const bool is_on_one_;
};

}  // namespace tarn_test
