#include "allocator/os/virtual_memory.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cerrno>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "allocator/os/stall.h"

namespace tarn {

namespace {

// Of linux/fcntl.h: PIDFD_SELF_THREAD (Linux 6.14), which stands for the caller; of linux/mman.h: MADV_POPULATE_WRITE (5.14);
// and a call's number, the same on all architectures but alpha. Older headers lack them.
constexpr int kPidfdSelf = -10000;
constexpr int kPopulateWrite = 23;
constexpr long kProcessMadvise = 440;

// The kernel does not know the call or the advice, so it is not asked again. Nothing else depends on these.
std::atomic<bool> no_ranges = false;
std::atomic<bool> no_populate = false;

static_assert(sizeof(MemoryRange) == sizeof(iovec));
static_assert(offsetof(MemoryRange, start) == offsetof(iovec, iov_base));
static_assert(offsetof(MemoryRange, bytes) == offsetof(iovec, iov_len));

void* MapReserved(std::size_t bytes) {
  NoteStall();
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
  NoteStall();
  // Cutting a mapping in two is refused when the process has no mappings left; then at least the memory goes.
  if (::munmap(start, bytes) != 0) static_cast<void>(Release(start, bytes));
}

bool Commit(void* start, std::size_t bytes) {
  NoteStall();
  return ::mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0;
}

bool Decommit(void* start, std::size_t bytes) {
  NoteStall();
  // A new mapping in the old one's place; mprotect alone leaves the charge as it is.
  return ::mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

bool Release(void* start, std::size_t bytes) {
  NoteStall();
  return ::madvise(start, bytes, MADV_DONTNEED) == 0;
}

std::size_t ReleaseRanges(const MemoryRange* ranges, std::size_t count) {
  std::size_t done = 0;
  if (count > 1 && !no_ranges.load(std::memory_order_relaxed)) {
    NoteStall();
    const long released = ::syscall(kProcessMadvise, kPidfdSelf, ranges, count, MADV_DONTNEED, 0);
    if (released < 0) {
      // Unknown (ENOSYS, EBADF), or not for this (EINVAL, EPERM: before 6.13 only advice that takes nothing away).
      if (errno != ENOMEM && errno != EAGAIN && errno != EINTR) no_ranges.store(true, std::memory_order_relaxed);
    } else {
      // What is left, after a range that the kernel refused, is tried one by one.
      auto left_bytes = static_cast<std::size_t>(released);
      while (done < count && ranges[done].bytes <= left_bytes) left_bytes -= ranges[done++].bytes;
    }
  }
  while (done < count && Release(ranges[done].start, ranges[done].bytes)) ++done;
  return done;
}

bool Populate(void* start, std::size_t bytes) {
  if (no_populate.load(std::memory_order_relaxed)) return false;
  NoteStall();
  if (::madvise(start, bytes, kPopulateWrite) == 0) return true;
  if (errno == EINVAL) no_populate.store(true, std::memory_order_relaxed);
  return false;
}

std::size_t MovePages(void* from, void* to, std::size_t bytes) {
  // linux/mman.h; older headers lack it.
  constexpr int kDontUnmap = 4;
  // What is not worth a system call. Chosen.
  constexpr std::size_t kCopyBytes = std::size_t{64} << 10;
  if (bytes > kCopyBytes) {
    NoteStall();
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

bool HasSpareMappings() {
  NoteStall();
  constexpr std::size_t kPages = 64;
  const std::size_t page_bytes = OsPageBytes();
  void* const start =
      ::mmap(nullptr, kPages * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return false;
  bool spare = true;
  // Neighbours of different protection are mappings of their own.
  for (std::size_t page = 1; spare && page < kPages; page += 2) {
    spare = ::mprotect(static_cast<char*>(start) + page * page_bytes, page_bytes, PROT_READ) == 0;
  }
  ::munmap(start, kPages * page_bytes);
  return spare;
}

bool WantHugePages(void* start, std::size_t bytes) {
  NoteStall();
  return ::madvise(start, bytes, MADV_HUGEPAGE) == 0;
}

bool RefuseHugePages(void* start, std::size_t bytes) {
  NoteStall();
  return ::madvise(start, bytes, MADV_NOHUGEPAGE) == 0;
}

bool BackByHugePage(void* start, std::size_t bytes) {
  if (!WantHugePages(start, bytes)) return false;
  // Nobody else uses this memory.
  *static_cast<volatile char*>(start) = 0;
  static_cast<void>(RefuseHugePages(start, bytes));
  const std::size_t os_page_bytes = OsPageBytes();
  unsigned char resident = 0;
  return ::mincore(static_cast<char*>(start) + bytes - os_page_bytes, os_page_bytes, &resident) == 0 &&
         (resident & 1) != 0;
}

void NameMemory(void* start, std::size_t bytes, const char* name) {
  // linux/prctl.h: PR_SET_VMA and PR_SET_VMA_ANON_NAME, which older headers lack.
  constexpr int kSetVma = 0x53564d41;
  constexpr unsigned long kAnonymousName = 0;
  static_cast<void>(::prctl(kSetVma, kAnonymousName, start, bytes, name));
}

}  // namespace tarn
