// SPDX-License-Identifier: Apache-2.0
//
// The CPUs that a process may use, on machines of any size: libc's cpu_set_t ends at 1024 CPUs, and the kernel refuses
// to fill it in where more are possible (sched_getaffinity(2)).
#pragma once

#include <sched.h>

#include <cstddef>
#include <vector>

namespace tarn::tool {

class UsableCpus {
 public:
  // Those of this process. Empty where the system does not report them.
  UsableCpus() {
    if (sched_getaffinity(0, sizeof(words_), Set()) != 0) *this = UsableCpus(std::vector<int>());
  }
  explicit UsableCpus(const std::vector<int>& cpus) {
    for (const int cpu : cpus) {
      const auto number = static_cast<std::size_t>(cpu);
      if (number < kMostCpus) words_[number / kWordBits] |= 1ul << (number % kWordBits);
    }
  }

  bool Has(int cpu) const {
    const auto number = static_cast<std::size_t>(cpu);
    return number < kMostCpus && (words_[number / kWordBits] >> (number % kWordBits) & 1) != 0;
  }
  int count() const {
    int count = 0;
    for (const unsigned long word : words_) count += __builtin_popcountl(word);
    return count;
  }
  // Keeps this process to them. Async-signal-safe.
  bool Apply() const { return sched_setaffinity(0, sizeof(words_), reinterpret_cast<const cpu_set_t*>(words_)) == 0; }

 private:
  static constexpr std::size_t kMostCpus = 8192;  // CONFIG_NR_CPUS goes no higher
  static constexpr std::size_t kWordBits = 8 * sizeof(unsigned long);

  cpu_set_t* Set() { return reinterpret_cast<cpu_set_t*>(words_); }

  unsigned long words_[kMostCpus / kWordBits] = {};
};

}  // namespace tarn::tool
