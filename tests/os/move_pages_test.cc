// SPDX-License-Identifier: Apache-2.0
//
// Moves of memory: the contents arrive wherever the program made borders of mappings, whatever the kernel refuses, and
// whatever another thread maps during the move.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <string>
#include <vector>

#include "allocator/base/units.h"
#include "allocator/os/move_pages.h"
#include "allocator/os/virtual_memory.h"
#include "tests/os/in_child.h"
#include "tests/os/mapping_facts.h"
#include "tests/os/watched_thread.h"

// All tests of a room are one source for the compiler.
namespace tarn::move_pages_test {
namespace {

using tarn_test::HasMappingFlag;

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kBytes = 4 * kMiB;
constexpr std::size_t kStepBytes = 2048;

char Stamp(std::size_t offset) { return static_cast<char>(offset / kStepBytes * 31 + 1); }

void Write(char* memory) {
  for (std::size_t i = 0; i < kBytes; i += kStepBytes) memory[i] = Stamp(i);
}

std::size_t WrongBytes(const char* memory) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < kBytes; i += kStepBytes) wrong += memory[i] != Stamp(i) ? 1 : 0;
  return wrong;
}

bool IsZero(const char* memory) {
  for (std::size_t i = 0; i < kBytes; i += kStepBytes) {
    if (memory[i] != 0) return false;
  }
  return true;
}

// A committed and written source between two neighbours of the same mapping, and a reserved destination.
struct Ground {
  char* before;
  char* from;
  char* behind;
  char* to;
};

Ground MakeGround() {
  Ground ground;
  ground.before = static_cast<char*>(Reserve(kBytes + 4 * kMiB, kHugePageBytes));
  ground.from = ground.before + 2 * kMiB;
  ground.behind = ground.from + kBytes;
  ground.to = static_cast<char*>(Reserve(2 * kBytes, kHugePageBytes));
  TARN_REQUIRE(ground.before != nullptr && ground.to != nullptr);
  TARN_REQUIRE(Commit(ground.before, kBytes + 4 * kMiB));
  ground.before[0] = ground.behind[0] = 7;
  Write(ground.from);
  return ground;
}

// Borders at places that are no multiples of anything.
void MakeBorders(const Ground& ground) {
  const std::size_t page_bytes = OsPageBytes();
  TARN_REQUIRE(madvise(ground.from + 3 * page_bytes, 5 * page_bytes, MADV_DONTDUMP) == 0);
  TARN_REQUIRE(madvise(ground.from + 2 * kMiB + page_bytes, kMiB, MADV_DONTFORK) == 0);
  TARN_REQUIRE(madvise(ground.from + kBytes - page_bytes, page_bytes, MADV_DONTDUMP) == 0);
}

// Checks what holds after every move, however it ended.
void RequireIntact(const Ground& ground, MoveResult result) {
  TARN_REQUIRE(ground.before[0] == 7 && ground.behind[0] == 7);
  if (result == MoveResult::kFailed) {
    TARN_REQUIRE(WrongBytes(ground.from) == 0);
  } else {
    TARN_REQUIRE(WrongBytes(ground.to) == 0);
    for (std::size_t i = 0; i < kBytes; i += kMiB / 2) ground.to[i] = 1;
  }
  if (result == MoveResult::kMoved) {
    TARN_REQUIRE(IsZero(ground.from));
  }
  // Still there, and writable.
  for (std::size_t i = 0; i < kBytes; i += kMiB / 2) ground.from[i] = 2;
}

class MovePagesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer makes system calls of its own";
  }
};

TEST_F(MovePagesTest, WithinOneMappingNothingIsCopied) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const Ground ground = MakeGround();
              const MoveResult result = MovePages(ground.from, ground.to, kBytes, false);
              RequireIntact(ground, result);
              TARN_REQUIRE(result == MoveResult::kMoved);
            }),
            "");
}

TEST_F(MovePagesTest, AcrossBordersNothingIsCopiedAndPagesKeepTheirFlags) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const std::size_t page_bytes = OsPageBytes();
              const Ground ground = MakeGround();
              MakeBorders(ground);
              const bool says = HasMappingFlag(ground.from + 3 * page_bytes, "dd");
              const MoveResult result = MovePages(ground.from, ground.to, kBytes, false);
              TARN_REQUIRE(result == MoveResult::kMoved);
              if (says) {
                TARN_REQUIRE(HasMappingFlag(ground.to + 3 * page_bytes, "dd"));
                TARN_REQUIRE(HasMappingFlag(ground.to + 7 * page_bytes, "dd"));
                TARN_REQUIRE(!HasMappingFlag(ground.to + 2 * page_bytes, "dd"));
                TARN_REQUIRE(!HasMappingFlag(ground.to + 8 * page_bytes, "dd"));
                TARN_REQUIRE(HasMappingFlag(ground.to + 2 * kMiB + page_bytes, "dc"));
                TARN_REQUIRE(!HasMappingFlag(ground.to + 2 * kMiB, "dc"));
                TARN_REQUIRE(HasMappingFlag(ground.to + kBytes - page_bytes, "dd"));
                TARN_REQUIRE(!HasMappingFlag(ground.to, "rr") && !HasMappingFlag(ground.from, "rr"));
              }
              ForgetAdvice(ground.from, kBytes);
              TARN_REQUIRE(!HasMappingFlag(ground.from + 3 * page_bytes, "dd"));
              TARN_REQUIRE(!HasMappingFlag(ground.from + 2 * kMiB + page_bytes, "dc"));
              RequireIntact(ground, result);
            }),
            "");
}

// A part of the object that may not be read or written arrives as it was, and its old place serves others again.
TEST_F(MovePagesTest, ProtectedPagesMoveToo) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const std::size_t page_bytes = OsPageBytes();
              const Ground ground = MakeGround();
              TARN_REQUIRE(mprotect(ground.from + kMiB, page_bytes, PROT_NONE) == 0);
              const MoveResult result = MovePages(ground.from, ground.to, kBytes, false);
              TARN_REQUIRE(result == MoveResult::kMoved);
              ForgetAdvice(ground.from, kBytes);
              TARN_REQUIRE(mprotect(ground.to + kMiB, page_bytes, PROT_READ | PROT_WRITE) == 0);
              RequireIntact(ground, result);
            }),
            "");
}

// Every mremap of the series is refused once, and the pages that are left are copied.
TEST_F(MovePagesTest, AtEachStepARefusalIsFollowedByACopy) {
  std::size_t calls = 1;
  for (std::size_t refused = 1; refused <= calls; ++refused) {
    const std::string complaint = tarn_test::ComplaintOfChild([&] {
      const Ground ground = MakeGround();
      MakeBorders(ground);
      MoveResult result = MoveResult::kFailed;
      std::size_t seen = 0;
      const bool watched = tarn_test::RunWatched(
          SYS_mremap, [&] { result = MovePages(ground.from, ground.to, kBytes, false); },
          [&](const tarn_test::WatchedCall& call) {
            seen = call.number;
            return call.number == refused ? ENOMEM : 0;
          });
      if (!watched) return;
      TARN_REQUIRE(seen == refused && result == MoveResult::kCopied);
      RequireIntact(ground, result);
    });
    ASSERT_EQ(complaint, "") << "call " << refused;
    // Their number without a refusal.
    if (refused == 1) {
      const tarn_test::ChildEnd count = tarn_test::RunInChild([] {
        const Ground ground = MakeGround();
        MakeBorders(ground);
        int seen = 0;
        tarn_test::RunWatched(
            SYS_mremap, [&] { RequireIntact(ground, MovePages(ground.from, ground.to, kBytes, false)); },
            [&](const tarn_test::WatchedCall&) {
              ++seen;
              return 0;
            });
        _exit(seen);
      });
      ASSERT_LT(count.exit_code, 255);
      calls = static_cast<std::size_t>(count.exit_code);
      if (calls == 0) GTEST_SKIP() << "no notifications of system calls";
      EXPECT_GT(calls, 4u) << "there are borders to be found";
    }
  }
}

// Before each mremap of the series another thread's mapping lands in the destination. It stays as it is, and the object
// stays where it was.
TEST_F(MovePagesTest, AMappingOfAnotherThreadIsNeverTouched) {
  for (std::size_t disturbed = 1; disturbed <= 12; ++disturbed) {
    EXPECT_EQ(tarn_test::ComplaintOfChild([disturbed] {
                const Ground ground = MakeGround();
                MakeBorders(ground);
                MoveResult result = MoveResult::kMoved;
                char* others = nullptr;
                std::size_t others_bytes = 0;
                const bool watched = tarn_test::RunWatched(
                    SYS_mremap, [&] { result = MovePages(ground.from, ground.to, kBytes, false); },
                    [&](const tarn_test::WatchedCall& call) {
                      if (call.number != disturbed) return 0;
                      // In the middle of what is about to move.
                      others_bytes = OsPageBytes();
                      char* const place = reinterpret_cast<char*>(call.arguments[4]) +
                                          call.arguments[1] / 2 / others_bytes * others_bytes;
                      void* const mapped = mmap(place, others_bytes, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
                      TARN_REQUIRE(mapped == place);
                      others = place;
                      others[0] = 9;
                      return 0;
                    });
                if (!watched) return;
                TARN_REQUIRE(others != nullptr);
                TARN_REQUIRE(result == MoveResult::kFailed);
                // The one byte of the other thread, and nothing of the move around it.
                TARN_REQUIRE(others[0] == 9 && others[1] == 0);
                const std::size_t page_bytes = OsPageBytes();
                TARN_REQUIRE(others == ground.to || msync(others - page_bytes, page_bytes, MS_ASYNC) != 0);
                TARN_REQUIRE(others + page_bytes == ground.to + kBytes ||
                             msync(others + page_bytes, page_bytes, MS_ASYNC) != 0);
                RequireIntact(ground, result);
              }),
              "")
        << "call " << disturbed;
  }
}

// Nothing can be mapped in the place of what was not moved: the part that was moved goes back.
TEST_F(MovePagesTest, WithoutADestinationTheSourceKeepsItsContents) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const Ground ground = MakeGround();
              MakeBorders(ground);
              MoveResult result = MoveResult::kMoved;
              std::size_t maps = 0;
              bool watched = false;
              // Two threads deep: mmap is watched in the one that mremap is watched in.
              const bool outer = tarn_test::RunWatched(
                  SYS_mremap,
                  [&] {
                    watched = tarn_test::RefuseSystemCall(SYS_mmap, ENOMEM);
                    result = MovePages(ground.from, ground.to, kBytes, false);
                  },
                  [&](const tarn_test::WatchedCall& call) {
                    ++maps;
                    return call.number == 8 ? ENOMEM : 0;
                  });
              if (!outer || !watched) return;
              TARN_REQUIRE(maps == 8 && result == MoveResult::kFailed);
              TARN_REQUIRE(msync(ground.to, OsPageBytes(), MS_ASYNC) != 0);
              RequireIntact(ground, result);
            }),
            "");
}

TEST_F(MovePagesTest, WhateverIsRefusedAltogether) {
  for (const long refused : {long{SYS_mremap}, long{SYS_munmap}, long{SYS_madvise}}) {
    for (const int error : {ENOMEM, EINVAL, EFAULT, EAGAIN}) {
      EXPECT_EQ(tarn_test::ComplaintOfChild([=] {
                  const Ground ground = MakeGround();
                  MakeBorders(ground);
                  if (!tarn_test::RefuseSystemCall(refused, error)) return;
                  const MoveResult result = MovePages(ground.from, ground.to, kBytes, true);
                  TARN_REQUIRE(result != MoveResult::kMoved);
                  RequireIntact(ground, result);
                }),
                "")
          << "system call " << refused << ", error " << error;
    }
  }
}

// --- Locked memory -------------------------------------------------------------------------------------------------

bool MayLock(std::size_t bytes) {
  struct rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  return geteuid() == 0 || limit.rlim_cur >= bytes;
}

// All of the heap is locked, and stays so: the neighbours of the object, its old place, and its new one.
TEST_F(MovePagesTest, UnderMlockallAllStaysLocked) {
  constexpr std::size_t kLockedBytes = 256 * kMiB;
  if (!MayLock(kLockedBytes)) GTEST_SKIP() << "RLIMIT_MEMLOCK";
  for (const bool borders : {false, true}) {
    EXPECT_EQ(tarn_test::ComplaintOfChild([borders] {
                TARN_REQUIRE(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0);
                const Ground ground = MakeGround();
                if (borders) MakeBorders(ground);
                if (!HasMappingFlag(ground.from, "lo")) return;
                const MoveResult result = MovePages(ground.from, ground.to, kBytes, false);
                TARN_REQUIRE(result == MoveResult::kMoved);
                for (std::size_t i = 0; i < kBytes; i += kMiB / 2) {
                  TARN_REQUIRE(HasMappingFlag(ground.from + i, "lo") && HasMappingFlag(ground.to + i, "lo"));
                }
                TARN_REQUIRE(HasMappingFlag(ground.before, "lo") && HasMappingFlag(ground.behind, "lo"));
                RequireIntact(ground, result);
              }),
              "")
        << "borders " << borders;
  }
}

// Locked memory stays locked where it is then, and so do its neighbours that the program locked with it.
TEST_F(MovePagesTest, LockedPartsStayLocked) {
  if (!MayLock(4 * kBytes)) GTEST_SKIP() << "RLIMIT_MEMLOCK";
  for (const bool refused : {false, true}) {
    EXPECT_EQ(tarn_test::ComplaintOfChild([refused] {
                const std::size_t page_bytes = OsPageBytes();
                const Ground ground = MakeGround();
                // A secret, neither to be swapped nor dumped, and the end of the object with its neighbour.
                TARN_REQUIRE(mlock(ground.from + kMiB, page_bytes) == 0);
                TARN_REQUIRE(madvise(ground.from + kMiB, page_bytes, MADV_DONTDUMP) == 0);
                TARN_REQUIRE(mlock(ground.behind - kMiB, 2 * kMiB) == 0);
                if (!HasMappingFlag(ground.from + kMiB, "lo")) return;
                if (refused && !tarn_test::RefuseSystemCall(SYS_mremap, ENOMEM)) return;
                const MoveResult result = MovePages(ground.from, ground.to, kBytes, false);
                TARN_REQUIRE(result == (refused ? MoveResult::kCopied : MoveResult::kMoved));
                TARN_REQUIRE(HasMappingFlag(ground.to + kMiB, "lo"));
                TARN_REQUIRE(refused || HasMappingFlag(ground.to + kMiB, "dd"));
                TARN_REQUIRE(HasMappingFlag(ground.to + kBytes - page_bytes, "lo"));
                TARN_REQUIRE(HasMappingFlag(ground.behind, "lo"));
                RequireIntact(ground, result);
              }),
              "")
        << "refused " << refused;
  }
}

// A decommit whose mapping is gone half-way takes the place again before another thread can.
TEST_F(MovePagesTest, ADecommitThatIsRefusedHalfWayKeepsTheAddresses) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              auto* const start = static_cast<char*>(Reserve(kBytes, kHugePageBytes));
              TARN_REQUIRE(start != nullptr && Commit(start, kBytes));
              start[2 * kMiB] = 5;
              Decommitted end = Decommitted::kLost;
              const bool watched = tarn_test::RunWatched(
                  SYS_mmap, [&] { end = Decommit(start + 2 * kMiB, kMiB); },
                  [&](const tarn_test::WatchedCall& call) {
                    if (call.number != 1) return 0;
                    TARN_REQUIRE((call.arguments[3] & MAP_FIXED) != 0);
                    TARN_REQUIRE(munmap(start + 2 * kMiB, kMiB) == 0);
                    return ENOMEM;
                  });
              if (!watched) return;
              TARN_REQUIRE(end == Decommitted::kDone);
              TARN_REQUIRE(msync(start + 2 * kMiB, kMiB, MS_ASYNC) == 0);
              TARN_REQUIRE(Commit(start + 2 * kMiB, kMiB) && start[2 * kMiB] == 0);
            }),
            "");
}

// And one that is refused at once has changed nothing.
TEST_F(MovePagesTest, ADecommitThatIsRefusedAtOnceChangesNothing) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              auto* const start = static_cast<char*>(Reserve(kBytes, kHugePageBytes));
              TARN_REQUIRE(start != nullptr && Commit(start, kBytes));
              start[2 * kMiB] = 5;
              Decommitted end = Decommitted::kLost;
              const bool watched = tarn_test::RunWatched(
                  SYS_mmap, [&] { end = Decommit(start + 2 * kMiB, kMiB); },
                  [&](const tarn_test::WatchedCall& call) { return call.number == 1 ? ENOMEM : 0; });
              if (!watched) return;
              TARN_REQUIRE(end == Decommitted::kUnchanged && start[2 * kMiB] == 5);
            }),
            "");
}

// Another thread's mapping lands in the place before it can be taken again.
TEST_F(MovePagesTest, ADecommitThatLosesTheAddressesSaysSo) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              auto* const start = static_cast<char*>(Reserve(kBytes, kHugePageBytes));
              TARN_REQUIRE(start != nullptr && Commit(start, kBytes));
              Decommitted end = Decommitted::kDone;
              const bool watched = tarn_test::RunWatched(
                  SYS_mmap, [&] { end = Decommit(start + 2 * kMiB, kMiB); },
                  [&](const tarn_test::WatchedCall& call) {
                    if (call.number != 1) return 0;
                    TARN_REQUIRE(munmap(start + 2 * kMiB, kMiB) == 0);
                    void* const others = mmap(start + 2 * kMiB, OsPageBytes(), PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
                    TARN_REQUIRE(others == start + 2 * kMiB);
                    start[2 * kMiB] = 9;
                    return ENOMEM;
                  });
              if (!watched) return;
              TARN_REQUIRE(end == Decommitted::kLost && start[2 * kMiB] == 9);
            }),
            "");
}

}  // namespace
}  // namespace tarn::move_pages_test
