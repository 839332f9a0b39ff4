// SPDX-License-Identifier: Apache-2.0
//
// fork at any moment in a process with threads. Every body runs in a child that is ended by force,
// and reported, when it hangs. The relatives of fork are in spawn_test.cc.

#include <gtest/gtest.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

// A fork that does not come to an end within this time hangs; a good one takes milliseconds.
constexpr double kChildSeconds = kPatienceSeconds;
constexpr double kBodySeconds = 2 * kPatienceSeconds;
// How long a storm lasts, if it has not done its number of forks before.
constexpr double kStormSeconds = 2;

// Uses, in a child, an allocator that other threads were using at the moment of the fork.
void LiveInChild(uint64_t seed, int depth) {
  // Should nobody be left to end it.
  alarm(static_cast<unsigned>(kBodySeconds));
  {
    Churn churn(seed, 300 * kKiB);
    churn.Steps(150);
    if (seed % 8 == 1) {
      std::thread first([] { Churn(1).Steps(200); });
      std::thread second([] { Churn(2).Steps(200); });
      churn.Steps(100);
      first.join();
      second.join();
    }
    if (seed % 16 == 2) malloc_trim(0);
    if (seed % 16 == 3) mallinfo2();
  }
  if (depth == 0) return;
  const pid_t child = fork();
  if (child == 0) {
    LiveInChild(seed + 1, depth - 1);
    _exit(0);
  }
  RequireGoodEnd(child, kChildSeconds * depth);
}

TEST(Fork, WhileThreadsAllocate) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(3);
    Churn own(77);
    const double end = Seconds() + 2 * kStormSeconds;
    uint64_t forks = 0;
    for (; forks < 2000 && (forks < 50 || Seconds() < end); ++forks) {
      own.Steps(20);
      void* inherited = malloc(forks % 5000 + 1);
      TARN_LIFE_REQUIRE(inherited != nullptr);
      const pid_t child = fork();
      if (child == 0) {
        own.Verify();
        inherited = realloc(inherited, 20000);
        TARN_LIFE_REQUIRE(inherited != nullptr);
        free(inherited);
        LiveInChild(forks, forks % 32 == 5 ? 3 : 0);
        own.Steps(50);
        _exit(0);
      }
      RequireGoodEnd(child, kChildSeconds);
      free(inherited);
    }
    own.Verify();
  });
}

TEST(Fork, ByManyThreadsAtOnce) {
  ExpectGoodEnd(kBodySeconds, [] {
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 4; ++i) {
      threads.emplace_back([i] {
        Churn own(i);
        const double end = Seconds() + kStormSeconds;
        for (int forks = 0; forks < 150 && (forks < 5 || Seconds() < end); ++forks) {
          own.Steps(200);
          const pid_t child = fork();
          if (child == 0) {
            own.Verify();
            LiveInChild(i * 1000, 0);
            own.Steps(50);
            _exit(0);
          }
          RequireGoodEnd(child, kChildSeconds);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
}

// glibc takes the locks of stdio after the handlers of pthread_atfork have run. An allocator whose
// handlers take locks waits here for a thread that allocates under a lock of stdio, while that
// thread waits for the allocator.
TEST(Fork, WhileThreadsAllocateUnderLocksOfStdio) {
  ExpectGoodEnd(kBodySeconds, [] {
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    // Opens and closes streams, which changes stdio's list of all streams.
    threads.emplace_back([&stop] {
      char* line = nullptr;
      size_t capacity = 0;
      while (!stop) {
        FILE* file = fopen("/proc/self/maps", "r");
        TARN_LIFE_REQUIRE(file != nullptr);
        while (getline(&line, &capacity, file) > 0) {
        }
        fclose(file);
        free(line);
        line = nullptr;
        capacity = 0;
      }
    });
    threads.emplace_back([&stop] {
      while (!stop) {
        char* text = nullptr;
        size_t length = 0;
        FILE* stream = open_memstream(&text, &length);
        TARN_LIFE_REQUIRE(stream != nullptr);
        for (int i = 0; i < 3000; ++i) fprintf(stream, "%d %s\n", i, "and some more text");
        fclose(stream);
        free(text);
      }
    });
    // Two threads write to one stream, which grows, so that they allocate under its lock. And a
    // third flushes all streams, under the lock of the list.
    char* shared_text = nullptr;
    size_t shared_length = 0;
    FILE* shared = open_memstream(&shared_text, &shared_length);
    TARN_LIFE_REQUIRE(shared != nullptr);
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&stop, shared] {
        for (int k = 0; !stop; ++k) {
          fprintf(shared, "%d %s\n", k, "text of two threads");
          if (k % 20000 == 0) fseek(shared, 0, SEEK_SET);
        }
      });
    }
    threads.emplace_back([&stop] {
      while (!stop) {
        fflush(nullptr);
        Sleep(50);
      }
    });
    const double end = Seconds() + 2 * kStormSeconds;
    for (int forks = 0; forks < 1500 && (forks < 30 || Seconds() < end); ++forks) {
      const pid_t child = fork();
      if (child == 0) {
        // The child opens streams of its own and allocates under their locks.
        char* text = nullptr;
        size_t length = 0;
        FILE* stream = open_memstream(&text, &length);
        TARN_LIFE_REQUIRE(stream != nullptr);
        for (int i = 0; i < 200; ++i) fprintf(stream, "%d,", i);
        fclose(stream);
        free(text);
        FILE* file = fopen("/proc/self/statm", "r");
        TARN_LIFE_REQUIRE(file != nullptr);
        char* line = nullptr;
        size_t capacity = 0;
        TARN_LIFE_REQUIRE(getline(&line, &capacity, file) > 0);
        free(line);
        fclose(file);
        LiveInChild(static_cast<uint64_t>(forks), 0);
        _exit(0);
      }
      RequireGoodEnd(child, kChildSeconds);
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    fclose(shared);
    free(shared_text);
  });
}

// Handlers of pthread_atfork that allocate. Some are registered before all others, when this
// program is loaded, some after; an allocator that holds its locks while they run hangs.
std::atomic<int> g_handler_calls = 0;

void AllocateInForkHandler() {
  g_handler_calls.fetch_add(1, std::memory_order_relaxed);
  Churn churn(5, 20 * kKiB);
  churn.Steps(40);
}

__attribute__((constructor(101))) void RegisterEarly() {
  pthread_atfork(
      [] {
        if (g_handler_calls > 0) AllocateInForkHandler();
      },
      [] {
        if (g_handler_calls > 0) AllocateInForkHandler();
      },
      [] {
        if (g_handler_calls > 0) AllocateInForkHandler();
      });
}

TEST(Fork, WithHandlersThatAllocate) {
  ExpectGoodEnd(kBodySeconds, [] {
    g_handler_calls = 1;  // The early handlers are active from here on.
    TARN_LIFE_REQUIRE(pthread_atfork(AllocateInForkHandler, AllocateInForkHandler, AllocateInForkHandler) == 0);
    const ChurnThreads threads(2);
    const double end = Seconds() + kStormSeconds;
    for (int forks = 0; forks < 300 && (forks < 20 || Seconds() < end); ++forks) {
      const int before = g_handler_calls;
      const pid_t child = fork();
      if (child == 0) {
        TARN_LIFE_REQUIRE(g_handler_calls == before + 4);
        LiveInChild(1, 0);
        _exit(0);
      }
      RequireGoodEnd(child, kChildSeconds);
    }
  });
}

// A fork by a signal handler that interrupted malloc.
constexpr int kHandlerForks = 150;
std::atomic<int> g_forked = 0;
pid_t g_children[kHandlerForks];
// Set in a child that goes on where the signal came; it then has few steps left.
volatile sig_atomic_t g_is_child = 0;

enum class ChildOf { kEndsInHandler, kAllocatesInHandler, kGoesOn };
ChildOf g_child_of;

void ForkInHandler(int) {
  const int number = g_forked.load();
  if (number >= kHandlerForks || g_is_child != 0) return;
  const int saved_errno = errno;
  const pid_t child = fork();
  if (child == 0) {
    if (g_child_of == ChildOf::kEndsInHandler) _exit(0);
    if (g_child_of == ChildOf::kAllocatesInHandler) {
      for (size_t size = 8; size <= 600 * kKiB; size += size / 2) {
        errno = 0;
        void* object = malloc(size);
        // The part that the interrupted malloc was just changing is unavailable here, and a null says so.
        TARN_LIFE_REQUIRE(object != nullptr || errno == ENOMEM);
        if (object == nullptr) continue;
        Fill(object, size, 0, size);
        TARN_LIFE_REQUIRE(Holds(object, size, 0, size));
        free(object);
      }
      _exit(0);
    }
    g_is_child = 1;
    errno = saved_errno;
    return;
  }
  g_children[number] = child;
  g_forked.store(number + 1);
  errno = saved_errno;
}

void ForkFromHandlers(ChildOf child_of, size_t thread_count) {
  ExpectGoodEnd(kBodySeconds, [child_of, thread_count] {
    g_child_of = child_of;
    struct sigaction action = {};
    action.sa_handler = ForkInHandler;
    action.sa_flags = SA_RESTART;
    TARN_LIFE_REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
    const ChurnThreads threads(thread_count);
    std::atomic<bool> stop = false;
    const pthread_t target = pthread_self();
    std::thread storm([&stop, target] {
      while (!stop) {
        pthread_kill(target, SIGUSR1);
        Sleep(300);
      }
    });
    // Enough memory at a time that the slow paths run often, and so are interrupted.
    std::vector<void*> objects(3000);
    const double end = Seconds() + kStormSeconds;
    int left_in_child = 30;
    for (size_t round = 1; g_forked < kHandlerForks && (g_forked < 10 || Seconds() < end); ++round) {
      const size_t size = 16 * (round % 40 + 1) * (round % 7 == 0 ? 40 : 1);
      for (void*& object : objects) {
        object = malloc(size);
        TARN_LIFE_REQUIRE(object != nullptr);
        *static_cast<size_t*>(object) = round;
      }
      for (void*& object : objects) {
        TARN_LIFE_REQUIRE(*static_cast<size_t*>(object) == round);
        free(object);
      }
      if (g_is_child != 0 && --left_in_child == 0) _exit(0);
    }
    if (g_is_child != 0) _exit(0);
    stop = true;
    storm.join();
    signal(SIGUSR1, SIG_IGN);
    const int forked = g_forked;
    for (int i = 0; i < forked; ++i) RequireGoodEnd(g_children[i], kChildSeconds);
  });
}

// glibc's own malloc hangs here: its fork waits for the arena that the interrupted malloc holds.
#define TARN_TEST_SKIP_ELSEWHERE() \
  if (!WhyNotOnTarn().empty()) GTEST_SKIP() << "not promised by other allocators"

TEST(ForkFromSignalHandler, ChildEndsThere) {
  TARN_TEST_SKIP_ELSEWHERE();
  ForkFromHandlers(ChildOf::kEndsInHandler, 2);
}

TEST(ForkFromSignalHandler, ChildAllocatesThere) {
  TARN_TEST_SKIP_ELSEWHERE();
  ForkFromHandlers(ChildOf::kAllocatesInHandler, 2);
}

TEST(ForkFromSignalHandler, ChildGoesOnWhereTheSignalCame) {
  TARN_TEST_SKIP_ELSEWHERE();
  ForkFromHandlers(ChildOf::kGoesOn, 2);
}

// The harness itself: a hang and a crash are reported as such.
TEST(Harness, ReportsHangsAndCrashes) {
  EXPECT_EQ(InChild(0.2,
                    [] {
                      while (true) pause();
                    })
                .compare(0, 5, "HANGS"),
            0);
  EXPECT_EQ(InChild(kPatienceSeconds, [] { raise(SIGSEGV); }), "ended by signal 11");
  EXPECT_EQ(InChild(kPatienceSeconds, [] { _exit(4); }), "exit code 4");
}

}  // namespace
}  // namespace tarn_test
