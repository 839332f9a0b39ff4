// SPDX-License-Identifier: Apache-2.0
//
// Registrations of fork handlers by other threads while a thread forks.
//
// libc keeps the handlers in a list that grows by allocation, under a lock that fork takes, too. An allocator whose
// prepare handler holds its locks from before that waits for a thread that waits for it.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 60;
constexpr double kChildSeconds = 20;

// Enough handlers that the list grows several times while the other thread forks; from the middle on beyond 256 KiB.
TEST(RegistrationOfForkHandlers, WhileAnotherThreadForks) {
  ExpectGoodEnd(kBodySeconds, [] {
    for (int process = 0; process < 12; ++process) {
      const pid_t forks = fork();
      if (forks == 0) {
        std::atomic<bool> registered = false;
        std::thread registers([&registered] {
          for (int i = 0; i < 12000; ++i) TARN_LIFE_REQUIRE(pthread_atfork(nullptr, nullptr, nullptr) == 0);
          registered.store(true);
        });
        for (int i = 0; i < 20 || !registered.load(); ++i) {
          const pid_t child = fork();
          if (child == 0) _exit(0);
          RequireGoodEnd(child, kChildSeconds);
        }
        registers.join();
        _exit(0);
      }
      RequireGoodEnd(forks, 3 * kChildSeconds);
    }
  });
}

std::atomic<int> g_registered_by_handler = 0;

void RegisterAnother() {
  if (g_registered_by_handler.fetch_add(1) < 200) {
    TARN_LIFE_REQUIRE(pthread_atfork(nullptr, nullptr, nullptr) == 0);
  }
}

// In every phase of a fork, by a handler of it.
TEST(RegistrationOfForkHandlers, ByHandlersOfAFork) {
  ExpectGoodEnd(kBodySeconds, [] {
    std::atomic<bool> stop = false;
    std::thread company([&stop] {
      while (!stop.load()) Sleep(100);
    });
    TARN_LIFE_REQUIRE(pthread_atfork(RegisterAnother, RegisterAnother, RegisterAnother) == 0);
    for (int i = 0; i < 60; ++i) {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      RequireGoodEnd(child, kChildSeconds);
    }
    TARN_LIFE_REQUIRE(g_registered_by_handler.load() >= 120);
    stop = true;
    company.join();
  });
}

}  // namespace
}  // namespace tarn_test
