// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/virtual_memory.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "allocator/base/attributes.h"
#include "allocator/base/mix_bits.h"
#include "allocator/os/stall.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

// Of linux/fcntl.h: PIDFD_SELF_THREAD (Linux 6.14), which stands for the caller; of linux/mman.h: MADV_COLD (5.4),
// MADV_POPULATE_WRITE (5.14), MADV_DONTNEED_LOCKED (5.18) and MADV_COLLAPSE (6.1); and a call's number, the same on all
// architectures but alpha. Older headers lack them.
constexpr int kPidfdSelf = -10000;
constexpr int kCold = 20;
constexpr int kPopulateWrite = 23;
constexpr int kDontNeedLocked = 24;
constexpr int kCollapse = 25;
constexpr long kProcessMadvise = 440;

// The kernel does not know the call or the advice, so it is not asked again. Nothing else depends on these.
std::atomic<bool> no_ranges = false;
std::atomic<bool> no_populate = false;
std::atomic<bool> no_names = false;

static_assert(sizeof(MemoryRange) == sizeof(iovec));
static_assert(offsetof(MemoryRange, start) == offsetof(iovec, iov_base));
static_assert(offsetof(MemoryRange, bytes) == offsetof(iovec, iov_len));

constexpr int kReserve = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

void* MapReserved(std::size_t bytes, std::uintptr_t hint = 0) {
  NoteStall();
  const long start = SystemCall(SYS_mmap, hint, bytes, PROT_NONE, kReserve, -1, 0);
  return start < 0 ? nullptr : reinterpret_cast<void*>(start);
}

// Without random addresses the kernel puts the name of the program at the very end of those of the stack.
bool HasRandomAddresses() {
  constexpr std::uintptr_t kEndOfAddresses = std::uintptr_t{1} << 47;
  constexpr std::uintptr_t kNearBytes = std::uintptr_t{64} << 10;
  const std::uintptr_t name = ::getauxval(AT_EXECFN);
  return name < kEndOfAddresses - kNearBytes || name >= kEndOfAddresses;
}

// 0: the kernel is to choose. From the kernel's random bytes for this process (getauxval(3), AT_RANDOM), which libc
// makes its secrets of: mixed, so that an address does not tell them. Asks the
// kernel nothing, for a sandbox may forbid getrandom.
std::uintptr_t RandomAddress() {
  // 256 GiB that every sanitizer of x86-64 allows a program to map.
  constexpr std::uintptr_t kFirst = 0x7E80'0000'0000;
  constexpr std::uintptr_t kBytes = std::uintptr_t{256} << 30;
  static std::atomic<std::uint64_t> calls = 0;
  const auto* const random = reinterpret_cast<const void*>(::getauxval(AT_RANDOM));
  if (random == nullptr || !HasRandomAddresses()) return 0;
  std::uint64_t bits[2];
  std::memcpy(bits, random, sizeof bits);
  const std::uint64_t call = calls.fetch_add(1, std::memory_order_relaxed) + 1;
  const std::uint64_t mixed = MixBits(((bits[0] ^ std::rotl(bits[1], 29)) + call) * kMixStep);
  return kFirst + mixed % kBytes / OsPageBytes() * OsPageBytes();
}

TARN_COLD long TryAdvise(void* start, std::size_t bytes, int advice) {
  NoteStall();
  return SystemCall(SYS_madvise, start, bytes, advice);
}
bool Advise(void* start, std::size_t bytes, int advice) { return TryAdvise(start, bytes, advice) == 0; }

// Maps memory at this address, if nothing is mapped there.
bool MapAt(void* start, std::size_t bytes, int protection) {
  // asm-generic/mman-common.h: MAP_FIXED_NOREPLACE (Linux 4.17). Older kernels take the address for a hint.
  constexpr int kFixedNoReplace = 0x100000;
  const long mapped = SystemCall(SYS_mmap, start, bytes, protection, kReserve | kFixedNoReplace, -1, 0);
  if (mapped == reinterpret_cast<long>(start)) return true;
  if (mapped >= 0) Unreserve(reinterpret_cast<void*>(mapped), bytes);
  return false;
}

}  // namespace

std::size_t OsPageBytes() { return ::getauxval(AT_PAGESZ); }

std::size_t AddressSpaceLimitBytes() {
  struct {
    std::uint64_t current;
    std::uint64_t most;
  } limit;
  constexpr int kThisProcess = 0;
  constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};
  if (SystemCall(SYS_prlimit64, kThisProcess, RLIMIT_AS, nullptr, &limit) != 0 || limit.current == kNoLimit) {
    return SIZE_MAX;
  }
  return limit.current;
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

void* ReserveApart(std::size_t bytes) { return MapReserved(bytes, RandomAddress()); }

void Unreserve(void* start, std::size_t bytes) {
  NoteStall();
  // Cutting a mapping in two is refused when the process has no mappings left; then at least the memory goes.
  if (SystemCall(SYS_munmap, start, bytes) != 0) static_cast<void>(Release(start, bytes));
}

bool Commit(void* start, std::size_t bytes) {
  NoteStall();
  return SystemCall(SYS_mprotect, start, bytes, PROT_READ | PROT_WRITE) == 0;
}

bool Forbid(void* start, std::size_t bytes) {
  NoteStall();
  return SystemCall(SYS_mprotect, start, bytes, PROT_NONE) == 0;
}

Decommitted Decommit(void* start, std::size_t bytes) {
  NoteStall();
  // A new mapping in the old one's place; mprotect alone leaves the charge as it is.
  if (SystemCall(SYS_mmap, start, bytes, PROT_NONE, kReserve | MAP_FIXED, -1, 0) >= 0) return Decommitted::kDone;
  // The kernel unmaps the old mapping before it makes the new one, and may fail in between. Then the place is empty.
  if (MapAt(start, bytes, PROT_NONE)) return Decommitted::kDone;
  // All of it went at once or nothing. Advice that changes nothing fails where a part is not mapped.
  return Advise(start, bytes, MADV_NORMAL) ? Decommitted::kUnchanged : Decommitted::kLost;
}

bool CommitAt(void* start, std::size_t bytes) {
  NoteStall();
  return MapAt(start, bytes, PROT_READ | PROT_WRITE);
}

bool Release(void* start, std::size_t bytes) {
  const long result = TryAdvise(start, bytes, MADV_DONTNEED);
  // A part of it is locked. The lock is the mapping's and stays: what is touched there next is locked as it comes.
  return result == 0 || (result == -EINVAL && Advise(start, bytes, kDontNeedLocked));
}

void LeaveOutOfDumps(void* start, std::size_t bytes) { static_cast<void>(Advise(start, bytes, MADV_DONTDUMP)); }

void Dump(void* start, std::size_t bytes) { static_cast<void>(Advise(start, bytes, MADV_DODUMP)); }

bool IsLocked(void* start, std::size_t bytes) { return TryAdvise(start, bytes, kCold) == -EINVAL; }

void ReleaseRanges(const MemoryRange* ranges, std::size_t count, bool* released) {
  std::size_t done = 0;
  // A thread of the program may not be allowed the call.
  bool together = thread_state.is_background && !no_ranges.load(std::memory_order_relaxed);
  while (done < count) {
    long error = 0;
    if (together && count - done > 1) {
      NoteStall();
      const long bytes = SystemCall(kProcessMadvise, kPidfdSelf, ranges + done, count - done, kDontNeedLocked, 0);
      if (bytes < 0) error = bytes;
      auto left_bytes = static_cast<std::size_t>(std::max(bytes, 0L));
      while (done < count && ranges[done].bytes <= left_bytes) {
        left_bytes -= ranges[done].bytes;
        released[done++] = true;
      }
      if (done == count) break;
      // The next one was refused. What follows is tried one by one, too.
      together = false;
    }
    released[done] = Release(ranges[done].start, ranges[done].bytes);
    // Unknown (ENOSYS, EBADF), or not for this (EINVAL, EPERM: before 6.13 only advice that takes nothing away), unless
    // the range is the reason.
    if (error != 0 && released[done] && error != -ENOMEM && error != -EAGAIN && error != -EINTR) {
      no_ranges.store(true, std::memory_order_relaxed);
    }
    ++done;
  }
}

bool Populate(void* start, std::size_t bytes) {
  if (no_populate.load(std::memory_order_relaxed)) return false;
  NoteStall();
  const long result = SystemCall(SYS_madvise, start, bytes, kPopulateWrite);
  if (result == -EINVAL) no_populate.store(true, std::memory_order_relaxed);
  return result == 0;
}

bool WantHugePages(void* start, std::size_t bytes) { return Advise(start, bytes, MADV_HUGEPAGE); }

bool RefuseHugePages(void* start, std::size_t bytes) { return Advise(start, bytes, MADV_NOHUGEPAGE); }

bool BackByHugePage(void* start, std::size_t bytes) {
  if (!WantHugePages(start, bytes)) return false;
  // Nobody else uses this memory.
  *static_cast<volatile char*>(start) = 0;
  // Collapsing a huge page that is one already takes a look at its entry. Of no bytes it fails where the kernel does
  // not know the advice; then small pages are as good for the answer.
  const bool answers = SystemCall(SYS_madvise, start, 0, kCollapse) == 0;
  const bool backed = answers ? Advise(start, bytes, kCollapse) : Populate(start, bytes);
  static_cast<void>(RefuseHugePages(start, bytes));
  return backed;
}

void EndNames() { no_names.store(true, std::memory_order_relaxed); }

void NameMemory(void* start, std::size_t bytes, const char* name) {
  if (no_names.load(std::memory_order_relaxed)) return;
  // linux/prctl.h: PR_SET_VMA and PR_SET_VMA_ANON_NAME, which older headers lack.
  constexpr int kSetVma = 0x53564d41;
  constexpr unsigned long kAnonymousName = 0;
  static_cast<void>(SystemCall(SYS_prctl, kSetVma, kAnonymousName, start, bytes, name));
}

}  // namespace tarn
