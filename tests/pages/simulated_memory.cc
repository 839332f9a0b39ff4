// SPDX-License-Identifier: Apache-2.0

#include "tests/pages/simulated_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <new>

#include "allocator/os/clock.h"
#include "allocator/os/huge_page_setting.h"
#include "allocator/os/move_pages.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_map.h"

namespace tarn_test {

SimulatedMemory memory;

namespace {

constexpr std::size_t kSpaceBytes = std::size_t{1} << 40;
constexpr std::size_t kGiB = std::size_t{1} << 30;

Random random_bits(0);
// Free addresses, as start and end.
std::map<std::uintptr_t, std::uintptr_t> free_ranges;
// The end of the addresses that were ever handed out.
std::uintptr_t highest = 0;

void MapSpace() {
  void* start = mmap(nullptr, kSpaceBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    std::puts("no address space for the simulation");
    std::exit(77);
  }
  memory.base = (reinterpret_cast<std::uintptr_t>(start) + kGiB - 1) / kGiB * kGiB;
  free_ranges.emplace(memory.base, reinterpret_cast<std::uintptr_t>(start) + kSpaceBytes);
}

void Empty(void* start, std::size_t bytes) {
  if (madvise(start, bytes, MADV_DONTNEED) != 0) std::abort();
}

void FreeAddresses(std::uintptr_t start, std::size_t bytes) {
  std::uintptr_t end = start + bytes;
  const auto next = free_ranges.lower_bound(start);
  if (next != free_ranges.end() && next->first == end) {
    end = next->second;
    free_ranges.erase(next);
  }
  const auto behind = free_ranges.lower_bound(start);
  if (behind != free_ranges.begin() && std::prev(behind)->second == start) {
    std::prev(behind)->second = end;
  } else {
    free_ranges.emplace(start, end);
  }
}

// Returns whether the kernel refuses this call.
bool Call(const char* name, const void* start, std::size_t bytes) {
  if (memory.during_call != nullptr) memory.during_call(name);
  const bool refused = memory.refusals != 0 && random_bits.OneIn(memory.refusals);
  for (const char* letter = name; *letter != '\0'; ++letter) memory.Note(static_cast<unsigned char>(*letter));
  memory.Note(start == nullptr ? 0 : reinterpret_cast<std::uintptr_t>(start) - memory.base);
  memory.Note(bytes);
  memory.Note(refused ? 1 : 0);
  return refused;
}

}  // namespace

void SimulatedMemory::Reset(std::uint64_t seed) {
  if (base == 0) MapSpace();
  random_bits = Random(seed);
  digest = seed;
  refusals = 0;
  address_space_limit_bytes = SIZE_MAX;
  has_huge_pages = true;
  now_ms = 1;
}

void SimulatedMemory::ForgetAll(std::uint64_t seed) {
  Reset(seed);
  if (highest != 0) Empty(reinterpret_cast<void*>(base), highest - base);
  free_ranges.clear();
  free_ranges.emplace(base, base + kSpaceBytes - kGiB);
  highest = 0;
  reserved_bytes = 0;
  ::new (&tarn::page_map) tarn::PageMap;
}

}  // namespace tarn_test

namespace tarn {

using tarn_test::Call;
using tarn_test::Empty;
using tarn_test::memory;

std::size_t OsPageBytes() { return 4096; }

std::size_t AddressSpaceLimitBytes() { return memory.address_space_limit_bytes; }

void* Reserve(std::size_t bytes, std::size_t alignment) {
  if (Call("reserve", nullptr, bytes)) return nullptr;
  for (const auto& [start, end] : tarn_test::free_ranges) {
    const std::uintptr_t first = (start + alignment - 1) / alignment * alignment;
    if (first + bytes > end) continue;
    const std::uintptr_t range_end = end;
    const std::uintptr_t range_start = start;
    tarn_test::free_ranges.erase(range_start);
    if (first != range_start) tarn_test::free_ranges.emplace(range_start, first);
    if (first + bytes != range_end) tarn_test::free_ranges.emplace(first + bytes, range_end);
    memory.Note(first - memory.base);
    memory.reserved_bytes += bytes;
    tarn_test::highest = std::max(tarn_test::highest, first + bytes);
    return reinterpret_cast<void*>(first);
  }
  return nullptr;
}

void* ReserveApart(std::size_t bytes) { return Reserve(bytes, OsPageBytes()); }

void Unreserve(void* start, std::size_t bytes) {
  static_cast<void>(Call("unreserve", start, bytes));
  Empty(start, bytes);
  memory.reserved_bytes -= bytes;
  tarn_test::FreeAddresses(reinterpret_cast<std::uintptr_t>(start), bytes);
}

bool Commit(void* start, std::size_t bytes) { return !Call("commit", start, bytes); }

bool Forbid(void* start, std::size_t bytes) { return !Call("forbid", start, bytes); }

Decommitted Decommit(void* start, std::size_t bytes) {
  if (!Call("decommit", start, bytes)) {
    Empty(start, bytes);
    return Decommitted::kDone;
  }
  if (!tarn_test::random_bits.OneIn(4)) return Decommitted::kUnchanged;
  // Never free again: they may be anybody's.
  memory.Note(2);
  return Decommitted::kLost;
}

bool Release(void* start, std::size_t bytes) {
  if (Call("release", start, bytes)) return false;
  Empty(start, bytes);
  return true;
}

void LeaveOutOfDumps(void* start, std::size_t bytes) { static_cast<void>(Call("no dump", start, bytes)); }
void Dump(void* start, std::size_t bytes) { static_cast<void>(Call("dump", start, bytes)); }

bool IsLocked(void* start, std::size_t bytes) { return Call("locked", start, bytes); }

bool CommitAt(void* start, std::size_t bytes) { return !Call("commit at", start, bytes); }

void ReleaseRanges(const MemoryRange* ranges, std::size_t count, bool* released) {
  for (std::size_t i = 0; i < count; ++i) released[i] = Release(ranges[i].start, ranges[i].bytes);
}

bool Populate(void* start, std::size_t bytes) { return !Call("populate", start, bytes); }
bool WantHugePages(void* start, std::size_t bytes) { return !Call("want", start, bytes); }
bool RefuseHugePages(void* start, std::size_t bytes) { return !Call("refuse", start, bytes); }
bool BackByHugePage(void* start, std::size_t bytes) { return !Call("back", start, bytes); }
void NameMemory(void* start, std::size_t bytes, const char*) { static_cast<void>(Call("name", start, bytes)); }
void EndNames() {}

MoveResult MovePages(void* from, void* to, std::size_t bytes, bool huge_pages) {
  memory.Note(huge_pages ? 1 : 0);
  memory.Note(reinterpret_cast<std::uintptr_t>(to) - memory.base);
  if (!Call("move", from, bytes)) {
    Empty(from, bytes);
    return MoveResult::kMoved;
  }
  if (tarn_test::random_bits.OneIn(2)) return MoveResult::kCopied;
  memory.Note(3);
  return MoveResult::kFailed;
}

void ForgetAdvice(void* start, std::size_t bytes) { static_cast<void>(Call("forget", start, bytes)); }

HugePageSetting ReadHugePageSetting() {
  return memory.has_huge_pages ? HugePageSetting::kMadvise : HugePageSetting::kNever;
}
HugePageSetting KnownHugePageSetting() { return ReadHugePageSetting(); }

std::uint32_t CoarseMilliseconds() { return memory.now_ms; }
std::uint64_t MonotonicNanoseconds() { return std::uint64_t{memory.now_ms} * 1'000'000; }
std::uint64_t RealtimeNanoseconds() { return MonotonicNanoseconds(); }
void EndStartOfClock() {}
std::uint64_t ThreadCpuNanoseconds() { return MonotonicNanoseconds(); }

}  // namespace tarn
