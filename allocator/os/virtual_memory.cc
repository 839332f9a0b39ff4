#include "allocator/os/virtual_memory.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <cerrno>

#include <cstdint>
#include <cstring>

namespace tarn {

namespace {

void* MapReserved(std::size_t bytes) {
  void* start = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return start == MAP_FAILED ? nullptr : start;
}

}  // namespace

std::size_t OsPageBytes() { return ::getauxval(AT_PAGESZ); }

std::size_t AddressSpaceLimitBytes() {
  struct rlimit limit;
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
  return limit.rlim_cur;
}

void* Reserve(std::size_t bytes, std::size_t alignment) {
  // Kernels from 6.7 on align large anonymous mappings to huge pages by themselves, so the plain attempt often fits.
  void* start = MapReserved(bytes);
  if (start == nullptr) return nullptr;
  if (reinterpret_cast<std::uintptr_t>(start) % alignment == 0) return start;
  Unreserve(start, bytes);
  if (bytes > SIZE_MAX - alignment) return nullptr;
  start = MapReserved(bytes + alignment);
  if (start == nullptr) return nullptr;
  const std::size_t misaligned_bytes = reinterpret_cast<std::uintptr_t>(start) % alignment;
  const std::size_t head_bytes = misaligned_bytes == 0 ? 0 : alignment - misaligned_bytes;
  char* aligned = static_cast<char*>(start) + head_bytes;
  // Where the kernel refuses to cut (no mappings left) the margins stay reserved: addresses lost, nothing else.
  if (head_bytes != 0) Unreserve(start, head_bytes);
  if (head_bytes != alignment) Unreserve(aligned + bytes, alignment - head_bytes);
  return aligned;
}

void Unreserve(void* start, std::size_t bytes) {
  // Cutting a mapping in two is refused when the process has no mappings left; then at least the memory goes.
  if (::munmap(start, bytes) != 0) static_cast<void>(Release(start, bytes));
}

bool Commit(void* start, std::size_t bytes) { return ::mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0; }

bool Decommit(void* start, std::size_t bytes) {
  // A new mapping in the old one's place; mprotect alone leaves the charge as it is.
  return ::mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

bool Release(void* start, std::size_t bytes) { return ::madvise(start, bytes, MADV_DONTNEED) == 0; }

std::size_t MovePages(void* from, void* to, std::size_t bytes) {
  // linux/mman.h; older headers lack it.
  constexpr int kDontUnmap = 4;
  // What is not worth a system call. Chosen.
  constexpr std::size_t kCopyBytes = std::size_t{64} << 10;
  if (bytes > kCopyBytes) {
    if (::mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | kDontUnmap, to) != MAP_FAILED) return 0;
    // EFAULT: the range lies in more than one mapping of the kernel's, whose borders only it knows. Halving finds them.
    if (errno == EFAULT) {
      const std::size_t half = bytes / 2 / kCopyBytes * kCopyBytes;
      return MovePages(from, to, half) +
             MovePages(static_cast<char*>(from) + half, static_cast<char*>(to) + half, bytes - half);
    }
  }
  std::memcpy(to, from, bytes);
  return bytes;
}

void WantHugePages(void* start, std::size_t bytes) { static_cast<void>(::madvise(start, bytes, MADV_HUGEPAGE)); }

void NameMemory(void* start, std::size_t bytes, const char* name) {
  // linux/prctl.h: PR_SET_VMA and PR_SET_VMA_ANON_NAME, which older headers lack.
  constexpr int kSetVma = 0x53564d41;
  constexpr unsigned long kAnonymousName = 0;
  static_cast<void>(::prctl(kSetVma, kAnonymousName, start, bytes, name));
}

}  // namespace tarn
