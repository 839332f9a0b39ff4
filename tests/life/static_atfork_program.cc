// SPDX-License-Identifier: Apache-2.0
//
// A registration of fork handlers that allocates while a fork is under way, in programs that libtarn.a is linked into:
// by the program, and by another file (static_atfork_library.cc), a shared library where the program has some.
//
// The worst moment is made to happen. The fork has some of tarn's locks and waits for a further one, which this test
// holds until the registration waits, too. Without a lock around libc's registration that thread waits for one of
// tarn's locks. It holds libc's lock of the list, which the fork takes next.
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "allocator/heap/process_heap.h"
#include "tests/life/process.h"

using Register = int(void (*prepare)(), void (*parent)(), void (*child)());

extern "C" Register tarn_test_register_atfork;

namespace {

constexpr double kSeconds = 2 * tarn_test::kPatienceSeconds;
constexpr double kChildSeconds = tarn_test::kPatienceSeconds;
// That many handlers make libc's list larger than the largest small object, so that each growth needs the page heap.
constexpr int kHandlersBefore = 8000;
constexpr int kMostHandlers = 30'000;

int RegisterByProgram(void (*prepare)(), void (*parent)(), void (*child)()) {
  return pthread_atfork(prepare, parent, child);
}

void RegisterInTheMiddleOfAFork(Register* register_handlers) {
  for (int i = 0; i < kHandlersBefore; ++i) TARN_LIFE_REQUIRE(register_handlers(nullptr, nullptr, nullptr) == 0);
  // The handlers take it after the page heap's.
  tarn::Lock& last = tarn::process_heap.profile.lock();
  tarn::Lock& heap = tarn::process_heap.page_heap.lock();
  std::atomic<bool> holds = false;
  std::atomic<bool> may_register = false;
  std::thread registers([&] {
    while (!may_register) sched_yield();
    // At one of them the list grows.
    for (int i = kHandlersBefore; i < kMostHandlers && may_register; ++i) {
      TARN_LIFE_REQUIRE(register_handlers(nullptr, nullptr, nullptr) == 0);
    }
  });
  std::thread holder([&] {
    const tarn::LockHolder lock(last);
    holds = true;
    while (!last.HasWaiters()) sched_yield();
    may_register = true;
    while (!heap.HasWaiters() && !tarn::ForkRegistrationLock().HasWaiters()) sched_yield();
  });
  while (!holds) sched_yield();
  const pid_t child = fork();
  if (child == 0) {
    TARN_LIFE_REQUIRE(register_handlers(nullptr, nullptr, nullptr) == 0);
    _exit(0);
  }
  may_register = false;
  tarn_test::RequireGoodEnd(child, kChildSeconds);
  holder.join();
  registers.join();
}

}  // namespace

int main() {
  for (Register* const register_handlers : {&RegisterByProgram, &tarn_test_register_atfork}) {
    const std::string what_happened =
        tarn_test::InChild(kSeconds, [=] { RegisterInTheMiddleOfAFork(register_handlers); });
    if (what_happened.empty()) continue;
    fprintf(stderr, "registered by %s: %s\n",
            register_handlers == &RegisterByProgram ? "the program" : "the other file", what_happened.c_str());
    return 1;
  }
  return 0;
}
