// SPDX-License-Identifier: Apache-2.0
//
// Address space and memory as states and transitions; the callers of mmap and its kin (pages move in move_pages.h).
//
//   (nothing) --Reserve--> Reserved --Commit----> Committed <--(touch)-- Released
//                             ^      <--Decommit-      |                     ^
//                             |                        +-------Release-------+
//   (nothing) <--Unreserve----+ (any state)
//
// Reserved: addresses are ours, no access, no memory, nothing counted against an overcommit limit. Committed: readable
// and writable; zero until first written. Released: as freshly committed, the kernel has taken the memory back; the
// next touch brings zeroes.
//
// All functions are thread-safe, take addresses and lengths in multiples of OsPageBytes(), leave errno alone, and say
// false or null when the kernel refuses; nothing has changed then (but that a part may be released). Decommit is the
// one that may leave less than there was.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

// The kernel's page size in bytes: a power of two, 4 KiB on x86-64, up to 64 KiB elsewhere.
std::size_t OsPageBytes();

// Asks for RLIMIT_AS in bytes; SIZE_MAX where there is no limit.
std::size_t AddressSpaceLimitBytes();

// `alignment` is a power of two of at least OsPageBytes().
[[nodiscard]] void* Reserve(std::size_t bytes, std::size_t alignment);
// The same at an address of its own, which follows from no other mapping's: a random one below those that the kernel
// chooses. Where something lies there, or the process runs without random addresses (setarch -R, gdb), the kernel
// chooses.
[[nodiscard]] void* ReserveApart(std::size_t bytes);
void Unreserve(void* start, std::size_t bytes);
[[nodiscard]] bool Commit(void* start, std::size_t bytes);
// From Committed or Released back to Reserved: what was charged to the process is not any more.
enum class Decommitted : std::uint8_t {
  kDone,
  kUnchanged,  // the kernel refuses
  kLost,       // the addresses are not ours any more; any thread's mapping may be there
};
[[nodiscard]] Decommitted Decommit(void* start, std::size_t bytes);
// Takes the access to committed memory away, its contents and its charge stay; Commit gives the access back.
[[nodiscard]] bool Forbid(void* start, std::size_t bytes);
// Locked memory (mlock, mlockall) is released from Linux 5.18 on and stays locked: the next touch brings a locked page.
[[nodiscard]] bool Release(void* start, std::size_t bytes);
// True if a part of the range is locked: then a commit brings all of its memory (MCL_ONFAULT: none). Before Linux 5.4
// the answer is always true. The range may be in any state. Asks by the one advice that locked memory refuses and that
// harms no contents (MADV_COLD).
bool IsLocked(void* start, std::size_t bytes);
// Makes committed memory at an address where nothing is mapped. False: something is, or the kernel refuses.
[[nodiscard]] bool CommitAt(void* start, std::size_t bytes);

// Releases many ranges by one system call where the kernel can (process_madvise on oneself, Linux 6.14), which
// costs a small part of one call each. Writes for each whether it is released.
struct MemoryRange {
  void* start;
  std::size_t bytes;
};
void ReleaseRanges(const MemoryRange* ranges, std::size_t count, bool* released);

// gcore dumps all private memory, the kernel all that was ever touched. These leave a range of any state out of core
// dumps, and take it in again. The kernel may refuse both where the process has no mappings left.
void LeaveOutOfDumps(void* start, std::size_t bytes);
void Dump(void* start, std::size_t bytes);

// Has the kernel provide the memory of a committed range now, as if each page were touched (MADV_POPULATE_WRITE, Linux
// 5.14): one call in place of a page fault for each. Contents do not change. False: it cannot, or not all of it; the
// first touch brings the rest as ever.
bool Populate(void* start, std::size_t bytes);

// THP advice, for ranges of whole aligned huge pages. Each returns false where the kernel has no THP, or no mapping
// left for the difference.
//
// Asks for them: the first touch of a huge page brings all of it (MADV_HUGEPAGE), and the kernel may make one of what
// is touched (khugepaged), released parts included.
bool WantHugePages(void* start, std::size_t bytes);
// The kernel makes no huge pages there from now on, where it has some they stay (MADV_NOHUGEPAGE). The state in which
// WantHugePages and BackByHugePage leave no more mappings behind than there were.
bool RefuseHugePages(void* start, std::size_t bytes);
// Populates one huge page, committed, refused and with nothing resident, as a THP. Contents do not change: they are
// zero. False: the kernel had none; then some small pages may be resident. Before Linux 6.1, small pages in its place
// count as one.
bool BackByHugePage(void* start, std::size_t bytes);

// Names memory in /proc/PID/maps, as [anon:<name>], where the kernel can (Linux 5.17 with CONFIG_ANON_VMA_NAME). `name`
// has at most 79 characters, none of them of \ ` $ [ ].
void NameMemory(void* start, std::size_t bytes, const char* name);
// Nothing is named any more, for a name takes a system call that a sandbox may forbid.
void EndNames();

}  // namespace tarn
