#include "allocator/os/cpus.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace tarn {

std::size_t CpuIdBound() {
  // The raw call answers with the size of the kernel's own mask, whatever the process may use of it.
  alignas(8) unsigned char mask[8192];
  const long bytes = ::syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);
  constexpr std::size_t kLargestKernel = 8192;  // CONFIG_NR_CPUS goes no higher.
  return bytes <= 0 ? kLargestKernel : static_cast<std::size_t>(bytes) * 8;
}

std::size_t ConfiguredCpus() {
  static constinit std::atomic<std::size_t> known = 0;
  std::size_t cpus = known.load(std::memory_order_relaxed);
  if (cpus == 0) {
    const long configured = ::sysconf(_SC_NPROCESSORS_CONF);
    cpus = configured <= 0 ? 1 : static_cast<std::size_t>(configured);
    // Two threads that ask at the same time get the same answer.
    known.store(cpus, std::memory_order_relaxed);
  }
  return cpus;
}

}  // namespace tarn
