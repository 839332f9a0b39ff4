// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/cpus.h"

#include <atomic>
#include <bit>
#include <cstdint>
#include <string_view>

#include "allocator/base/attributes.h"
#include "allocator/os/small_file.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

constexpr std::size_t kLargestKernel = 8192;  // CONFIG_NR_CPUS goes no higher.

// A set of CPUs as the kernel fills it in. The raw call's result is the size of the kernel's set in bytes, whichever
// CPUs the process may use; the words behind that stay as they were.
struct CpuSet {
  std::uint64_t words[kLargestKernel / 64];
  long bytes = SystemCall(SYS_sched_getaffinity, 0, sizeof words, words);
};

// Takes a number off the start of the text. False: there is none, or it is too large.
bool TakeNumber(std::string_view* text, std::size_t* number) {
  std::size_t digits = 0;
  *number = 0;
  for (; digits < text->size() && (*text)[digits] >= '0' && (*text)[digits] <= '9'; ++digits) {
    *number = *number * 10 + static_cast<std::size_t>((*text)[digits] - '0');
    if (*number >= kLargestKernel) return false;
  }
  text->remove_prefix(digits);
  return digits != 0;
}

// The number of CPUs in a list such as "0-3,8,10-11\n"; 0 for anything else.
std::size_t CountCpuList(std::string_view text) {
  std::size_t count = 0;
  while (true) {
    std::size_t first = 0;
    if (!TakeNumber(&text, &first)) return 0;
    std::size_t last = first;
    if (text.starts_with('-')) {
      text.remove_prefix(1);
      if (!TakeNumber(&text, &last) || last < first) return 0;
    }
    count += last - first + 1;
    if (!text.starts_with(',')) return text == "\n" ? count : 0;
    text.remove_prefix(1);
  }
}

std::size_t CountConfiguredCpus() {
  const SmallFile<1024> possible("/sys/devices/system/cpu/possible");
  if (const std::size_t count = CountCpuList(possible.text()); count != 0) return count;
  // Without /sys: those that the process may use.
  CpuSet usable;
  std::size_t count = 0;
  for (long i = 0; i < usable.bytes / 8; ++i) count += static_cast<std::size_t>(std::popcount(usable.words[i]));
  return count == 0 ? 1 : count;
}

}  // namespace

std::size_t CpuIdBound() {
  CpuSet usable;
  return usable.bytes <= 0 ? kLargestKernel : static_cast<std::size_t>(usable.bytes) * 8;
}

std::size_t ConfiguredCpus() {
  TARN_IN_TOUCHED_DATA static constinit std::atomic<std::size_t> known = 0;
  std::size_t cpus = known.load(std::memory_order_relaxed);
  if (cpus == 0) {
    cpus = CountConfiguredCpus();
    // Two threads that ask at the same time get the same answer.
    known.store(cpus, std::memory_order_relaxed);
  }
  return cpus;
}

}  // namespace tarn
