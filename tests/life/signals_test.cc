// SPDX-License-Identifier: Apache-2.0
//
// Signals in the middle of malloc and free, and threads that are moved between CPUs there.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"
#include "tests/os/cpu_set.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;
constexpr double kStormSeconds = 3;

std::atomic<uint64_t> g_signals = 0;
// Allocations of handlers that were answered with null.
std::atomic<uint64_t> g_refusals = 0;

void QuietHandler(int) { g_signals.fetch_add(1, std::memory_order_relaxed); }

// Allocates, writes, checks and frees, in several classes and beyond them, so that the caches run
// empty and full under the handler, too.
void AllocatingHandler(int) {
  const int saved_errno = errno;
  const uint64_t number = g_signals.fetch_add(1, std::memory_order_relaxed);
  void* objects[6];
  const size_t sizes[6] = {24, 24 + number % 500, 100, 1000 + number % 3000, 20000, number % 50 == 0 ? 400000u : 8u};
  for (size_t i = 0; i < 6; ++i) {
    errno = 0;
    objects[i] = malloc(sizes[i]);
    if (objects[i] == nullptr) {
      TARN_LIFE_REQUIRE(errno == ENOMEM);
      g_refusals.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    Fill(objects[i], number + i, 0, sizes[i]);
  }
  for (size_t i = 0; i < 6; ++i) {
    if (objects[i] == nullptr) continue;
    TARN_LIFE_REQUIRE(Holds(objects[i], number + i, 0, sizes[i]));
    free(objects[i]);
  }
  errno = saved_errno;
}

// Sends signals, from a timer of the CPU time and from a thread as fast as it can, to threads that
// verify every object.
void Storm(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  // One at a time in a thread: a handler is not interrupted by another.
  sigaddset(&action.sa_mask, SIGPROF);
  sigaddset(&action.sa_mask, SIGUSR1);
  TARN_LIFE_REQUIRE(sigaction(SIGPROF, &action, nullptr) == 0);
  TARN_LIFE_REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  const struct itimerval timer = {{0, 1000}, {0, 1000}};
  TARN_LIFE_REQUIRE(setitimer(ITIMER_PROF, &timer, nullptr) == 0);
  {
    ChurnThreads threads(3);
    const double end = Seconds() + kStormSeconds;
    uint64_t sent = 0;
    // A slow machine handles few signals in that time.
    while (Seconds() < end || g_signals <= 100) {
      for (std::thread& thread : threads.threads()) {
        TARN_LIFE_REQUIRE(pthread_kill(thread.native_handle(), SIGUSR1) == 0);
      }
      if (++sent % 8 == 0) Sleep(30);
    }
    const struct itimerval none = {};
    TARN_LIFE_REQUIRE(setitimer(ITIMER_PROF, &none, nullptr) == 0);
  }
  dprintf(1, "signals handled: %lu\n", static_cast<unsigned long>(g_signals.load()));
}

TEST(Signals, HandlersThatDoNotAllocate) {
  ExpectGoodEnd(kBodySeconds, [] { Storm(QuietHandler); });
}

// With rseq an interrupted operation starts again, so that a handler that allocates finds the
// caches whole. No lock of the slow path may be waited for by its own holder: there the answer
// may be null, but no more than now and then. Caches that belong to threads do not promise this.
TEST(Signals, HandlersThatAllocate) {
  const char* mode = std::getenv("TARN_MODE");
  if (!WhyNotOnTarn().empty()) GTEST_SKIP() << "not promised by other allocators";
  if (mode == nullptr || std::strcmp(mode, "cpu") != 0) {
    GTEST_SKIP() << "only promised for caches that belong to CPUs";
  }
  ExpectGoodEnd(kBodySeconds, [] {
    Storm(AllocatingHandler);
    dprintf(1, "refusals: %lu\n", static_cast<unsigned long>(g_refusals.load()));
    TARN_LIFE_REQUIRE(g_refusals < g_signals * 6 / 2);
  });
}

// A signal that the program blocks stays blocked through its calls of malloc and free.
TEST(Signals, BlockedSignalsArriveLater) {
  ExpectGoodEnd(kBodySeconds, [] {
    signal(SIGUSR1, QuietHandler);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    Churn churn(1);
    for (int i = 0; i < 2000; ++i) {
      pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
      raise(SIGUSR1);
      churn.Steps(20);
      TARN_LIFE_REQUIRE(g_signals == static_cast<uint64_t>(i));
      pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
      TARN_LIFE_REQUIRE(g_signals == static_cast<uint64_t>(i) + 1);
    }
  });
}

TEST(Affinity, ThreadsAreMovedWhileTheyAllocate) {
  ExpectGoodEnd(kBodySeconds, [] {
    const std::vector<size_t> cpus = CpuSet::Of(0).Cpus();
    TARN_LIFE_REQUIRE(!cpus.empty());
    constexpr size_t kThreads = 4;
    std::atomic<pid_t> ids[kThreads] = {};
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([i, &ids, &stop] {
        ids[i] = static_cast<pid_t>(syscall(SYS_gettid));
        Churn churn(i);
        while (!stop) churn.Step();
      });
    }
    for (std::atomic<pid_t>& id : ids) {
      while (id == 0) sched_yield();
    }
    const double end = Seconds() + kStormSeconds;
    Churn own(50);
    size_t moves = 0;
    // Each takes as long as a busy CPU lets the mover wait.
    while (Seconds() < end || moves <= 100) {
      for (size_t i = 0; i <= kThreads; ++i) {
        const CpuSet one = CpuSet::One(cpus[(moves + i * 3 + moves / 7) % cpus.size()]);
        // The last one is the mover itself.
        const pid_t id = i < kThreads ? ids[i].load() : 0;
        TARN_LIFE_REQUIRE(one.Apply(id));
        own.Step();
        ++moves;
      }
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    own.Verify();
  });
}

// Threads are moved by themselves, at each of their steps.
TEST(Affinity, ThreadsMoveThemselves) {
  ExpectGoodEnd(kBodySeconds, [] {
    const std::vector<size_t> cpus = CpuSet::Of(0).Cpus();
    TARN_LIFE_REQUIRE(!cpus.empty());
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 3; ++i) {
      threads.emplace_back([i, &cpus] {
        Churn churn(i);
        for (int k = 0; k < 3000; ++k) {
          TARN_LIFE_REQUIRE(CpuSet::One(cpus[(i + static_cast<uint64_t>(k)) % cpus.size()]).Apply(0));
          churn.Steps(10);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
}

}  // namespace
}  // namespace tarn_test
