// SPDX-License-Identifier: Apache-2.0
//
// The order of locks: a wait out of order ends the process, whatever the luck of the moment. Builds without TARN_DCHECK
// record nothing.

#include "allocator/os/lock_rank.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <string>
#include <thread>
#include <type_traits>

#include "allocator/os/lock.h"
#include "tests/os/in_child.h"

namespace tarn {
namespace {

// Returns what the process says at its end; empty if it goes on.
template <typename Body>
std::string FailureOf(Body body) {
  const tarn_test::ChildEnd end = tarn_test::RunInChild(body);
  EXPECT_EQ(end.output.empty() ? 0 : SIGABRT, end.signal) << end.output;
  return end.output;
}

std::string Failure(const std::string& what) {
  return "tarn: fatal: check failed: a thread waits for " + what + " (the order is in os/lock_rank.h)\n";
}

class LockOrder : public testing::Test {
 protected:
  void SetUp() override {
    if (!RankOfLock::kRecorded) GTEST_SKIP() << "a build without TARN_DCHECK";
  }

  Lock registration_ = Lock(LockRank::kRegistration);
  Lock cycle_ = Lock(LockRank::kCycle);
  Lock drain_ = Lock(LockRank::kDrain);
  Lock central_ = Lock(LockRank::kCentralFreeList);
  Lock other_central_ = Lock(LockRank::kCentralFreeList);
  Lock page_heap_ = Lock(LockRank::kPageHeap);
};

TEST(LockOfARelease, HasNoRank) {
  if (RankOfLock::kRecorded) return;
  EXPECT_TRUE(std::is_empty_v<LockRecord>);
  EXPECT_EQ(sizeof(Lock), 4u);
}

TEST_F(LockOrder, AllowsLaterLocksUnderTheFirstThree) {
  EXPECT_EQ(FailureOf([this] {
              LockHolder registration(registration_);
              LockHolder cycle(cycle_);
              LockHolder drain(drain_);
              { LockHolder central(central_); }
              LockHolder page_heap(page_heap_);
            }),
            "");
}

TEST_F(LockOrder, IsThatOfTheRanks) {
  EXPECT_EQ(FailureOf([this] {
              LockHolder drain(drain_);
              LockHolder cycle(cycle_);
            }),
            Failure("the scavenger's cycle lock while it holds the drain lock"));
}

// A fork waits for all locks while it holds some, so nobody else may.
TEST_F(LockOrder, AllowsNoLockUnderAnyOther) {
  EXPECT_EQ(FailureOf([this] {
              LockHolder central(central_);
              LockHolder page_heap(page_heap_);
            }),
            Failure("the page heap's lock while it holds a central free list's lock"));
}

TEST_F(LockOrder, AllowsNoTwoOfOneRank) {
  EXPECT_EQ(FailureOf([this] {
              LockHolder central(central_);
              LockHolder other_central(other_central_);
            }),
            Failure("a central free list's lock while it holds a central free list's lock"));
}

TEST_F(LockOrder, IsOfEachThreadAlone) {
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "no threads in a forked child of it";
  EXPECT_EQ(FailureOf([this] {
              LockHolder page_heap(page_heap_);
              std::thread([this] { LockHolder central(central_); }).join();
            }),
            "");
}

TEST_F(LockOrder, AllowsAttemptsThatDoNotWait) {
  EXPECT_EQ(FailureOf([this] {
              LockHolder page_heap(page_heap_);
              if (cycle_.TryAcquire()) cycle_.Release();
            }),
            "");
}

TEST_F(LockOrder, CountsWhatAnAttemptAcquired) {
  EXPECT_EQ(FailureOf([this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              TARN_REQUIRE(central_.TryAcquire());
              page_heap_.Acquire();
            }),
            Failure("the page heap's lock while it holds a central free list's lock"));
}

TEST_F(LockOrder, KnowsALockThatIsGivenUpForAScope) {
  EXPECT_EQ(FailureOf([this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              LockHolder page_heap(page_heap_);
              {
                const Unlocked during_this(page_heap_);
                LockHolder central(central_);
              }
              dprintf(2, "Again. ");
              LockHolder central(central_);
            }),
            "Again. " + Failure("a central free list's lock while it holds the page heap's lock"));
}

TEST_F(LockOrder, KeepsALockThatAForkedChildAdopts) {
  LockHolder page_heap(page_heap_);
  EXPECT_EQ(FailureOf([this] {
              page_heap_.AdoptInForkedChild();
              LockHolder central(central_);
            }),
            Failure("a central free list's lock while it holds the page heap's lock"));
}

TEST_F(LockOrder, ForgetsALockThatAForkedChildResets) {
  LockHolder page_heap(page_heap_);
  EXPECT_EQ(FailureOf([this] {
              page_heap_.ResetInForkedChild();
              LockHolder central(central_);
            }),
            "");
}

// The other thread is not in the child, and what it held says nothing about this one.
TEST_F(LockOrder, IsUntouchedByTheResetOfALockOfAnother) {
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "no threads in a forked child of it";
  EXPECT_EQ(FailureOf([this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              std::thread([this]() TARN_NO_THREAD_SAFETY_ANALYSIS { central_.Acquire(); }).join();
              LockHolder page_heap(page_heap_);
              central_.ResetInForkedChild();
              LockHolder other_central(other_central_);
            }),
            Failure("a central free list's lock while it holds the page heap's lock"));
}

TEST_F(LockOrder, LetsAForkAcquireAllInTurn) {
  EXPECT_EQ(FailureOf([this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              // A signal handler that interrupted the holder forks.
              page_heap_.Acquire();
              thread_state.locks.BeginFork();
              cycle_.Acquire();
              central_.Acquire();
              other_central_.Acquire();
              other_central_.Release();
              central_.Release();
              cycle_.Release();
              thread_state.locks.EndFork();
              page_heap_.Release();
              LockHolder central(central_);
            }),
            "");
}

TEST_F(LockOrder, HoldsAForkToTheRanks) {
  EXPECT_EQ(FailureOf([this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              thread_state.locks.BeginFork();
              page_heap_.Acquire();
              central_.Acquire();
            }),
            Failure("a central free list's lock in a fork, after the page heap's lock"));
}

TEST_F(LockOrder, ForgetsTheSlowPathThatAJumpLeft) {
  EXPECT_EQ(FailureOf([this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              thread_state.locks.NoteAcquired(LockRank::kPageHeap);
              thread_state.locks.ForgetSlowPath();
              LockHolder central(central_);
            }),
            "");
}

TEST_F(LockOrder, KeepsTheLockOfRegistrationsWhenASlowPathIsLeft) {
  EXPECT_EQ(FailureOf([this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              registration_.Acquire();
              thread_state.locks.ForgetSlowPath();
              Lock other(LockRank::kRegistration);
              other.Acquire();
            }),
            Failure("the lock of registrations while it holds the lock of registrations"));
}

}  // namespace
}  // namespace tarn
