// SPDX-License-Identifier: Apache-2.0
//
// The caretaker's rounds: which duties run again, and that none begins once the process ends. Each in a forked child,
// for a process has one caretaker.

#include "allocator/pools/caretaker.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <thread>

#include "allocator/heap/process_heap.h"
#include "tests/os/in_child.h"

namespace tarn {
namespace {

using tarn_test::ComplaintOfChild;

Caretaker& TheCaretaker() { return process_heap.caretaker; }

void Start(const char* background) {
  setenv("TARN_BACKGROUND", background, 1);
  process_heap.EnsureStarted();
  TheCaretaker().Prepare();
}

// A duty that is asked for while it runs, as often as `asks` says, and has nothing left by itself.
struct AskedAgain {
  static std::uint32_t Run(void* owner, bool) {
    auto* self = static_cast<AskedAgain*>(owner);
    ++self->runs;
    // As another thread would, that puts something into the pool behind the duty's last look.
    if (self->asks > 0) std::thread([self] { TheCaretaker().Ask(&self->duty); }).join();
    --self->asks;
    return self->answer_ms;
  }
  explicit AskedAgain(int asks_, std::uint32_t answer_ms_ = Duty::kNothingLeft) : asks(asks_), answer_ms(answer_ms_) {
    duty.run = &Run;
    duty.owner = this;
  }
  Duty duty;
  int asks;
  std::uint32_t answer_ms;
  int runs = 0;
};

TEST(Caretaker, ADutyThatIsAskedForWhileItRunsRunsOnceMore) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start("off");
              AskedAgain once(0);
              AskedAgain twice(1);
              AskedAgain thrice(2);
              for (AskedAgain* each : {&once, &twice, &thrice}) TheCaretaker().Ask(&each->duty);
              for (int round = 0; round < 6; ++round) static_cast<void>(TheCaretaker().RunDuties());
              TARN_REQUIRE(once.runs == 1 && twice.runs == 2 && thrice.runs == 3);
            }),
            "");
}

// One that has something left is on the list once, however many callers ask.
TEST(Caretaker, ADutyThatHasSomethingLeftRunsOnceInEachRound) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start("off");
              AskedAgain duty(3, 5);
              AskedAgain other(0, 5);
              TheCaretaker().Ask(&duty.duty);
              TheCaretaker().Ask(&duty.duty);
              TheCaretaker().Ask(&other.duty);
              for (int round = 1; round <= 6; ++round) {
                TARN_REQUIRE(TheCaretaker().RunDuties() == 5);
                TARN_REQUIRE(duty.runs == round && other.runs == round);
              }
              TARN_REQUIRE(TheCaretaker().Dismiss(&duty.duty) && TheCaretaker().Dismiss(&other.duty));
              TARN_REQUIRE(TheCaretaker().RunDuties() == Duty::kNothingLeft);
              TARN_REQUIRE(duty.runs == 6 && other.runs == 6);
            }),
            "");
}

std::atomic<int> g_runs = 0;

std::uint32_t CountRun(void*, bool) {
  ++g_runs;
  return Duty::kNothingLeft;
}

Duty g_duty;

// Functions that run at the exit may end what the program's functions rely on.
TEST(Caretaker, NoDutyBeginsOnceTheProcessEnds) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer's own functions run at the exit, too";
  EXPECT_EQ(ComplaintOfChild([] {
              Start("on");
              g_duty.run = &CountRun;
              // Runs behind the caretaker's function, which is registered later.
              TARN_REQUIRE(atexit([] {
                             const int before = g_runs;
                             TheCaretaker().Ask(&g_duty);
                             static_cast<void>(TheCaretaker().RunDuties());
                             TARN_REQUIRE(g_runs == before);
                             // The child's own exit code; other functions at the exit are of no interest.
                             _exit(0);
                           }) == 0);
              // The caretaker's thread has a place beside this one.
              std::atomic<bool> over = false;
              std::thread other([&] {
                while (!over) std::this_thread::yield();
              });
              TheCaretaker().Ask(&g_duty);
              TARN_REQUIRE(TheCaretaker().IsAtWork());
              while (g_runs == 0) std::this_thread::yield();
              over = true;
              other.join();
              exit(2);
            }),
            "");
}

}  // namespace
}  // namespace tarn
