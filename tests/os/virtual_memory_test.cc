// SPDX-License-Identifier: Apache-2.0
//
// The states of address space and the transitions between them, as the kernel sees them.

#include "allocator/os/virtual_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "allocator/os/thread_state.h"
#include "tests/os/in_child.h"

namespace tarn {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// True where the kernel can read (write) a byte there. This process does not touch it.
bool Readable(const void* address) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const bool readable = write(ends[1], address, 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return readable;
}
bool Writable(void* address) {
  const int zeroes = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  const bool writable = read(zeroes, address, 1) == 1;
  close(zeroes);
  return writable;
}

bool Mapped(void* address) {
  unsigned char resident;
  return mincore(address, OsPageBytes(), &resident) == 0;
}
std::size_t ResidentOsPages(void* start, std::size_t bytes) {
  std::string resident(bytes / OsPageBytes(), '\0');
  EXPECT_EQ(mincore(start, bytes, reinterpret_cast<unsigned char*>(resident.data())), 0);
  std::size_t count = 0;
  for (const char c : resident) count += c & 1;
  return count;
}

TEST(VirtualMemory, TheOsPageIsAPowerOfTwo) {
  EXPECT_EQ(OsPageBytes(), static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(OsPageBytes() & (OsPageBytes() - 1), 0u);
}

TEST(VirtualMemory, ReservedIsOursButNotToBeTouched) {
  char* start = static_cast<char*>(Reserve(4 * kMiB, OsPageBytes()));
  ASSERT_NE(start, nullptr);
  for (const std::size_t offset : {std::size_t{0}, 2 * kMiB, 4 * kMiB - OsPageBytes()}) {
    EXPECT_TRUE(Mapped(start + offset));
    EXPECT_FALSE(Readable(start + offset));
    EXPECT_FALSE(Writable(start + offset));
  }
  Unreserve(start, 4 * kMiB);
  EXPECT_FALSE(Mapped(start));
}

TEST(VirtualMemory, ReservationsHaveTheirAlignmentAndLeaveNoMargins) {
  for (std::size_t alignment = OsPageBytes(); alignment <= std::size_t{64} << 30; alignment *= 4) {
    for (const std::size_t bytes : {OsPageBytes(), 2 * kMiB, 6 * kMiB + OsPageBytes()}) {
      const std::size_t before = tarn_test::AddressSpaceBytes();
      void* start = Reserve(bytes, alignment);
      ASSERT_NE(start, nullptr) << bytes << " aligned to " << alignment;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(start) % alignment, 0u);
      EXPECT_TRUE(Mapped(start));
      EXPECT_TRUE(Mapped(static_cast<char*>(start) + bytes - OsPageBytes()));
      // The measurement itself may allocate a little.
      EXPECT_LE(tarn_test::AddressSpaceBytes() - before, bytes + kMiB);
      Unreserve(start, bytes);
      EXPECT_LE(tarn_test::AddressSpaceBytes(), before + kMiB);
    }
  }
}

TEST(VirtualMemory, ReservedApartIsAsReservedAndNotInARow) {
  char* first = static_cast<char*>(ReserveApart(4 * kMiB));
  char* second = static_cast<char*>(ReserveApart(4 * kMiB));
  ASSERT_TRUE(first != nullptr && second != nullptr);
  for (char* start : {first, second}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(start) % OsPageBytes(), 0u);
    EXPECT_TRUE(Mapped(start) && Mapped(start + 4 * kMiB - OsPageBytes()));
    EXPECT_FALSE(Readable(start));
  }
  const bool has_random_addresses = (::personality(0xFFFFFFFF) & ADDR_NO_RANDOMIZE) == 0;
  EXPECT_FALSE(has_random_addresses && (Mapped(first - OsPageBytes()) || Mapped(first + 4 * kMiB)));
  Unreserve(first, 4 * kMiB);
  Unreserve(second, 4 * kMiB);
  EXPECT_FALSE(Mapped(first) || Mapped(second));
}

TEST(VirtualMemory, CommittedIsZeroAndCostsNothingUntilTouched) {
  char* start = static_cast<char*>(Reserve(2 * kMiB, OsPageBytes()));
  ASSERT_NE(start, nullptr);
  ASSERT_TRUE(Commit(start + OsPageBytes(), kMiB));
  EXPECT_EQ(ResidentOsPages(start, 2 * kMiB), 0u);
  EXPECT_FALSE(Writable(start));
  EXPECT_TRUE(Writable(start + OsPageBytes()));
  EXPECT_TRUE(Writable(start + kMiB));
  EXPECT_FALSE(Writable(start + OsPageBytes() + kMiB));
  for (std::size_t i = 0; i < kMiB; ++i) ASSERT_EQ(start[OsPageBytes() + i], 0);
  Unreserve(start, 2 * kMiB);
}

TEST(VirtualMemory, CommittingAgainKeepsTheContent) {
  char* start = static_cast<char*>(Reserve(kMiB, OsPageBytes()));
  ASSERT_NE(start, nullptr);
  ASSERT_TRUE(Commit(start, kMiB));
  std::memset(start, 0x5A, kMiB);
  ASSERT_TRUE(Commit(start, kMiB));
  for (std::size_t i = 0; i < kMiB; ++i) ASSERT_EQ(start[i], 0x5A);
  Unreserve(start, kMiB);
}

TEST(VirtualMemory, ReleasedIsZeroAndNotResident) {
  char* start = static_cast<char*>(Reserve(kMiB, OsPageBytes()));
  ASSERT_NE(start, nullptr);
  ASSERT_TRUE(Commit(start, kMiB));
  std::memset(start, 0x5A, kMiB);
  const std::size_t half = kMiB / 2;
  ASSERT_TRUE(Release(start, half));
  EXPECT_EQ(ResidentOsPages(start, half), 0u);
  EXPECT_EQ(ResidentOsPages(start + half, half), half / OsPageBytes());
  EXPECT_TRUE(Writable(start));
  for (std::size_t i = 0; i < half; ++i) ASSERT_EQ(start[i], 0);
  for (std::size_t i = half; i < kMiB; ++i) ASSERT_EQ(start[i], 0x5A);
  Unreserve(start, kMiB);
}

// Every second OS page of a MiB, all of it written.
std::vector<MemoryRange> EverySecondPage(char* start) {
  std::memset(start, 0x5A, kMiB);
  std::vector<MemoryRange> ranges;
  for (std::size_t i = 0; i < kMiB; i += 2 * OsPageBytes()) ranges.push_back({start + i, OsPageBytes()});
  return ranges;
}

// The number of released ones. These, and no others, are to be refused.
std::size_t CountReleased(const std::vector<MemoryRange>& ranges, const std::set<std::size_t>& refused) {
  const auto released = std::make_unique<bool[]>(ranges.size());
  // Only tarn's thread takes them together.
  thread_state.is_background = true;
  ReleaseRanges(ranges.data(), ranges.size(), released.get());
  thread_state.is_background = false;
  std::size_t count = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (released[i] == refused.contains(i)) return SIZE_MAX;
    count += released[i] ? 1 : 0;
  }
  return count;
}

TEST(VirtualMemory, ManyRangesAreReleasedAtOnce) {
  char* start = static_cast<char*>(Reserve(kMiB, OsPageBytes()));
  ASSERT_NE(start, nullptr);
  ASSERT_TRUE(Commit(start, kMiB));
  std::vector<MemoryRange> ranges = EverySecondPage(start);
  EXPECT_EQ(CountReleased(ranges, {}), ranges.size());
  EXPECT_EQ(ResidentOsPages(start, kMiB), kMiB / OsPageBytes() / 2);
  for (std::size_t i = 0; i < kMiB; ++i) ASSERT_EQ(start[i], i / OsPageBytes() % 2 == 0 ? 0 : 0x5A) << i;
  // A range that the kernel refuses is the only one that stays.
  ranges = EverySecondPage(start);
  void* const nowhere = Reserve(kMiB, OsPageBytes());
  Unreserve(nowhere, kMiB);
  ranges[10].start = nowhere;
  EXPECT_EQ(CountReleased(ranges, {10}), ranges.size() - 1);
  EXPECT_EQ(ResidentOsPages(start, kMiB), kMiB / OsPageBytes() / 2 + 1);
  Unreserve(start, kMiB);
}

// From Linux 5.18 on, one by one and together.
TEST(VirtualMemory, LockedMemoryIsReleasedAndStaysLocked) {
  char* start = static_cast<char*>(Reserve(kMiB, OsPageBytes()));
  ASSERT_TRUE(start != nullptr && Commit(start, kMiB));
  std::memset(start, 0x5A, kMiB);
  EXPECT_FALSE(IsLocked(start, kMiB));
  // By the system call, for sanitizers make nothing of libc's function.
  if (syscall(SYS_mlock, start + kMiB / 4, kMiB / 4) != 0) GTEST_SKIP() << "RLIMIT_MEMLOCK is too low";
  EXPECT_TRUE(IsLocked(start, kMiB));
  EXPECT_FALSE(IsLocked(start + kMiB / 2, kMiB / 2));
  if (!Release(start, kMiB)) GTEST_SKIP() << "the kernel keeps locked memory";
  EXPECT_EQ(ResidentOsPages(start, kMiB), 0u);
  const std::vector<MemoryRange> ranges = EverySecondPage(start);
  EXPECT_EQ(CountReleased(ranges, {}), ranges.size());
  EXPECT_EQ(ResidentOsPages(start, kMiB), kMiB / OsPageBytes() / 2);
  EXPECT_TRUE(IsLocked(start, kMiB));
  Unreserve(start, kMiB);
}

TEST(VirtualMemory, ManyRangesAreReleasedWhereTheKernelTakesThemOneByOne) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs system calls of its own";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              char* start = static_cast<char*>(Reserve(kMiB, OsPageBytes()));
              TARN_REQUIRE(start != nullptr && Commit(start, kMiB));
              const std::vector<MemoryRange> ranges = EverySecondPage(start);
              if (!tarn_test::RefuseSystemCall(SYS_process_madvise, EPERM)) return;
              TARN_REQUIRE(CountReleased(ranges, {}) == ranges.size());
              TARN_REQUIRE(ResidentOsPages(start, kMiB) == kMiB / OsPageBytes() / 2);
            }),
            "");
}

TEST(VirtualMemory, PopulatedIsResidentAndAsItWas) {
  char* start = static_cast<char*>(Reserve(kMiB, OsPageBytes()));
  ASSERT_NE(start, nullptr);
  ASSERT_TRUE(Commit(start, kMiB));
  start[kMiB / 2] = 7;
  if (!Populate(start, kMiB)) GTEST_SKIP() << "the kernel has no MADV_POPULATE_WRITE";
  EXPECT_EQ(ResidentOsPages(start, kMiB), kMiB / OsPageBytes());
  for (std::size_t i = 0; i < kMiB; ++i) ASSERT_EQ(start[i], i == kMiB / 2 ? 7 : 0) << i;
  Unreserve(start, kMiB);
}

TEST(VirtualMemory, DecommittedIsAsReserved) {
  char* start = static_cast<char*>(Reserve(2 * kMiB, OsPageBytes()));
  ASSERT_NE(start, nullptr);
  ASSERT_TRUE(Commit(start, 2 * kMiB));
  std::memset(start, 0x5A, 2 * kMiB);
  ASSERT_EQ(Decommit(start + kMiB, kMiB / 2), Decommitted::kDone);
  EXPECT_TRUE(Mapped(start + kMiB));
  EXPECT_FALSE(Readable(start + kMiB));
  EXPECT_FALSE(Writable(start + kMiB + kMiB / 2 - 1));
  EXPECT_EQ(ResidentOsPages(start + kMiB, kMiB / 2), 0u);
  EXPECT_EQ(start[kMiB - 1], 0x5A);
  EXPECT_EQ(start[kMiB + kMiB / 2], 0x5A);
  ASSERT_TRUE(Commit(start + kMiB, kMiB / 2));
  for (std::size_t i = 0; i < kMiB / 2; ++i) ASSERT_EQ(start[kMiB + i], 0);
  Unreserve(start, 2 * kMiB);
}

// RLIMIT_DATA counts what is writable, as strict overcommit does.
TEST(VirtualMemory, DecommittedIsNotChargedAnyMore) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer has more than any limit";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              char* start = static_cast<char*>(Reserve(256 * kMiB, OsPageBytes()));
              TARN_REQUIRE(start != nullptr);
              tarn_test::LimitFurtherData(128 * kMiB);
              TARN_REQUIRE(Commit(start, 96 * kMiB));
              TARN_REQUIRE(!Commit(start + 96 * kMiB, 96 * kMiB));
              TARN_REQUIRE(Release(start, 96 * kMiB));
              TARN_REQUIRE(!Commit(start + 96 * kMiB, 96 * kMiB));
              TARN_REQUIRE(Decommit(start, 96 * kMiB) == Decommitted::kDone);
              TARN_REQUIRE(Commit(start + 96 * kMiB, 96 * kMiB));
            }),
            "");
}

TEST(VirtualMemory, WhatTheKernelRefusesIsSaid) {
  void* start = Reserve(kMiB, OsPageBytes());
  ASSERT_NE(start, nullptr);
  Unreserve(start, kMiB);
  EXPECT_FALSE(Commit(start, kMiB));
  EXPECT_FALSE(Release(start, kMiB));
  Unreserve(start, kMiB);
  if (!tarn_test::kSanitized) {
    EXPECT_EQ(Reserve(std::size_t{1} << 60, OsPageBytes()), nullptr);
    EXPECT_EQ(Reserve(kMiB, std::size_t{1} << 62), nullptr);
    EXPECT_EQ(Reserve(SIZE_MAX - OsPageBytes() + 1, std::size_t{1} << 40), nullptr);
  }
}

TEST(VirtualMemory, AnAddressSpaceLimitIsSeenAndMet) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs terabytes of address space";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              tarn_test::LimitFurtherAddressSpace(64 * kMiB);
              struct rlimit limit;
              TARN_REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
              TARN_REQUIRE(AddressSpaceLimitBytes() == limit.rlim_cur);
              TARN_REQUIRE(Reserve(128 * kMiB, OsPageBytes()) == nullptr);
              void* start = Reserve(32 * kMiB, OsPageBytes());
              TARN_REQUIRE(start != nullptr);
              // There is room for the bytes but not for the margins that the alignment takes at first.
              TARN_REQUIRE(Reserve(16 * kMiB, std::size_t{1} << 30) == nullptr);
              // A refusal leaves nothing behind.
              void* rest = Reserve(24 * kMiB, OsPageBytes());
              TARN_REQUIRE(rest != nullptr);
              Unreserve(rest, 24 * kMiB);
              Unreserve(start, 32 * kMiB);
            }),
            "");
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              struct rlimit limit;
              TARN_REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
              TARN_REQUIRE((limit.rlim_cur == RLIM_INFINITY) == (AddressSpaceLimitBytes() == SIZE_MAX));
            }),
            "");
}

}  // namespace
}  // namespace tarn
