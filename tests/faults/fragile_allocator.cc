// SPDX-License-Identifier: Apache-2.0
//
// An allocator that does not look at what mmap returns, to prove that
// fault_injector finds such things.
//
// Preloaded into fault_workload in place of tarn. It is glibc's malloc (under the
// name that glibc exports for that), but for large objects it maps a page first
// and writes to it, whether it got one or not.

#include <sys/mman.h>

#include <cstddef>

extern "C" {

void* __libc_malloc(std::size_t size);

void* malloc(std::size_t size) {
  constexpr std::size_t kLargeBytes = 256 * 1024;
  constexpr std::size_t kPageBytes = 4096;
  if (size >= kLargeBytes) {
    void* const page = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *static_cast<volatile char*>(page) = 1;
    munmap(page, kPageBytes);
  }
  return __libc_malloc(size);
}

}  // extern "C"
