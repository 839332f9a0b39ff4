// SPDX-License-Identifier: Apache-2.0
//
// The relatives of fork, in a process with threads that allocate: _Fork, vfork, clone, posix_spawn.
// Every body runs in a child that is ended by force, and reported, when it hangs.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

extern char** environ;

namespace tarn_test {
namespace {

// A child that does not come to an end within this time hangs; a good one takes milliseconds.
constexpr double kChildSeconds = kPatienceSeconds;
constexpr double kBodySeconds = 2 * kPatienceSeconds;
// How long a storm lasts, if it has not done its number of children before.
constexpr double kStormSeconds = 3;

TEST(UnderscoreFork, ChildOfAProcessWithThreadsEndsOrExecs) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(3);
    Churn own(3);
    const double end = Seconds() + kStormSeconds;
    for (int forks = 0; forks < 300 && (forks < 20 || Seconds() < end); ++forks) {
      own.Steps(50);
      const pid_t child = _Fork();
      if (child == 0) {
        if (forks % 3 == 0) {
          char* const arguments[] = {const_cast<char*>("true"), nullptr};
          execve("/bin/true", arguments, environ);
          _exit(127);
        }
        _exit(0);
      }
      RequireGoodEnd(child, kChildSeconds);
    }
  });
}

// Without threads nobody else can have held a lock, so the child may do everything.
TEST(UnderscoreFork, ChildOfAProcessWithoutThreadsAllocates) {
  ExpectGoodEnd(kBodySeconds, [] {
    Churn own(4);
    for (int forks = 0; forks < 100; ++forks) {
      own.Steps(100);
      const pid_t child = _Fork();
      if (child == 0) {
        own.Verify();
        own.Steps(200);
        Churn(9, 2 * kMiB).Steps(100);
        _exit(0);
      }
      RequireGoodEnd(child, kChildSeconds);
    }
    own.Verify();
  });
}

// A child that finds locks of threads that are no more, and what these were changing.
template <typename Fork>
void AllocateInChildren(const Fork& make_child) {
  ExpectGoodEnd(kBodySeconds, [&make_child] {
    const ChurnThreads threads(3, 400 * kKiB);
    Churn own(10, 400 * kKiB);
    const double end = Seconds() + kStormSeconds;
    for (int forks = 0; forks < 1000 && (forks < 30 || Seconds() < end); ++forks) {
      own.Steps(50);
      const pid_t child = make_child();
      if (child == 0) {
        own.Verify();
        own.Steps(300);
        if (forks % 8 == 0) malloc_trim(0);
        if (forks % 8 == 1) {
          std::thread other([] { Churn(1).Steps(200); });
          own.Steps(200);
          other.join();
        }
        Churn(9, 2 * kMiB).Steps(100);
        own.Verify();
        _exit(0);
      }
      RequireGoodEnd(child, kChildSeconds);
    }
    own.Verify();
  });
}

// The first thread that comes to a slow path repairs what is left of others. It may be one that the child started. Then
// the cache of the thread that forked is in use.
TEST(UnderscoreFork, AThreadOfTheChildDoesNotGetTheCacheOfTheForker) {
  if (!WhyNotOnTarn().empty()) GTEST_SKIP() << "not promised by other allocators";
  const char* const mode = getenv("TARN_MODE");
  if (mode == nullptr || std::string_view(mode) != "thread") GTEST_SKIP() << "caches are of CPUs";
  ExpectGoodEnd(kBodySeconds, [] {
    constexpr std::size_t kBytes = 48;
    constexpr std::size_t kOtherBytes = 3000;
    // Its stack serves the thread of the child, so that the forker does not allocate one.
    std::thread([] {}).join();
    void* objects[16];
    for (int round = 0; round < 4; ++round) {
      for (void*& object : objects) object = malloc(kBytes);
      for (void* object : objects) free(object);
    }
    const pid_t child = _Fork();
    if (child == 0) {
      static std::atomic<void*> others = nullptr;
      static std::atomic<bool> is_done = false;
      pthread_t thread;
      const auto run = [](void*) -> void* {
        free(malloc(kOtherBytes));
        void* const object = malloc(kBytes);
        free(object);
        others = object;
        while (!is_done) sched_yield();
        return nullptr;
      };
      if (pthread_create(&thread, nullptr, run, nullptr) != 0) _exit(3);
      while (others == nullptr) sched_yield();
      void* const own = malloc(kBytes);
      if (own == others) _exit(4);
      is_done = true;
      pthread_join(thread, nullptr);
      _exit(0);
    }
    RequireGoodEnd(child, kChildSeconds);
  });
}

TEST(UnderscoreFork, ChildOfAProcessWithThreadsAllocates) {
  if (!WhyNotOnTarn().empty()) GTEST_SKIP() << "not promised by other allocators";
  AllocateInChildren([] { return _Fork(); });
}

TEST(Clone, ChildOfAProcessWithThreadsAllocates) {
  if (!WhyNotOnTarn().empty()) GTEST_SKIP() << "not promised by other allocators";
  AllocateInChildren(
      [] { return static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr)); });
}

char* const kTrueArguments[] = {const_cast<char*>("true"), nullptr};

TEST(Vfork, ChildThatExecs) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(3);
    Churn own(5);
    const double end = Seconds() + kStormSeconds;
    for (int i = 0; i < 200 && (i < 10 || Seconds() < end); ++i) {
      own.Steps(50);
      const pid_t child = vfork();
      if (child == 0) {
        execve("/bin/true", kTrueArguments, environ);
        _exit(127);
      }
      RequireGoodEnd(child, kChildSeconds);
    }
    own.Verify();
  });
}

TEST(Vfork, ChildThatFailsToExec) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(2);
    Churn own(6);
    for (int i = 0; i < 100; ++i) {
      own.Steps(50);
      const pid_t child = vfork();
      if (child == 0) {
        execve("/does/not/exist", kTrueArguments, environ);
        _exit(0);
      }
      RequireGoodEnd(child, kChildSeconds);
    }
  });
}

// Objects that are held for a moment, each with its holder's stamp.
class Holder {
 public:
  explicit Holder(long number) : number_(number) {}
  void Round() {
    long* objects[8];
    for (long*& object : objects) {
      object = static_cast<long*>(malloc(64));
      TARN_LIFE_REQUIRE(object != nullptr);
      __atomic_store_n(object, number_, __ATOMIC_RELAXED);
    }
    for (long* object : objects) TARN_LIFE_REQUIRE(__atomic_load_n(object, __ATOMIC_RELAXED) == number_);
    for (long* object : objects) free(object);
  }

 private:
  const long number_;
};

// Threads that use the same class of objects as the children do, until the object goes.
class Holders {
 public:
  explicit Holders(int count) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this, i] {
        Holder holder(i + 1);
        while (!stop_.load(std::memory_order_relaxed)) holder.Round();
      });
    }
  }
  ~Holders() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

void AllocateInVforkChild() {
  Holder holder(99);
  for (int i = 0; i < 2000; ++i) holder.Round();
  // And what comes by slow paths.
  Churn(5, 300 * kKiB).Steps(50);
}

// The child runs under ids that the kernel does not keep true, beside threads that have the same ones.
TEST(Vfork, ChildThatAllocatesLeavesItsParentsHeapAlone) {
  ExpectGoodEnd(kBodySeconds, [] {
    const Holders holders(2);
    Churn own(9);
    const double end = Seconds() + kStormSeconds;
    for (int i = 0; i < 100 && (i < 10 || Seconds() < end); ++i) {
      own.Steps(20);
      errno = 4711;
      const pid_t child = vfork();
      if (child == 0) {
        AllocateInVforkChild();
        // A child of its own, as of a shell's helper.
        const pid_t grandchild = i % 4 == 0 ? vfork() : -1;
        if (grandchild == 0) {
          AllocateInVforkChild();
          _exit(0);
        }
        if (grandchild > 0) waitpid(grandchild, nullptr, 0);
        AllocateInVforkChild();
        if (i % 2 == 0) execve("/bin/true", kTrueArguments, environ);
        _exit(0);
      }
      TARN_LIFE_REQUIRE(child > 0);
      RequireGoodEnd(child, kChildSeconds);
    }
    own.Verify();
  });
}

TEST(Vfork, ThatFailsSaysWhy) {
  ExpectGoodEnd(kBodySeconds, [] {
    const struct rlimit none = {0, 0};
    // The limit does not hold for who may exceed it.
    if (setrlimit(RLIMIT_NPROC, &none) != 0 || setgid(65534) != 0 || setuid(65534) != 0) _exit(0);
    errno = 0;
    const pid_t child = vfork();
    if (child == 0) _exit(0);
    TARN_LIFE_REQUIRE(child == -1 && errno == EAGAIN);
  });
}

TEST(Clone, ChildThatSharesMemoryAndAllocatesLeavesItsParentsHeapAlone) {
  ExpectGoodEnd(kBodySeconds, [] {
    const Holders holders(2);
    const std::unique_ptr<char[]> stack = std::make_unique<char[]>(256 * kKiB);
    const double end = Seconds() + kStormSeconds;
    for (int i = 0; i < 60 && (i < 6 || Seconds() < end); ++i) {
      int answer = 0;
      const pid_t child = clone(
          [](void* argument) {
            AllocateInVforkChild();
            *static_cast<int*>(argument) = 42;
            return 7;
          },
          stack.get() + 256 * kKiB, CLONE_VM | CLONE_VFORK | SIGCHLD, &answer);
      TARN_LIFE_REQUIRE(child > 0 && answer == 42);
      int status = 0;
      TARN_LIFE_REQUIRE(WaitFor(child, kChildSeconds, &status) && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
  });
}

// Calls that have nothing to do with vfork go to libc as they are.
TEST(Clone, PassesOtherCallsOn) {
  ExpectGoodEnd(kBodySeconds, [] {
    errno = 0;
    TARN_LIFE_REQUIRE(clone(nullptr, nullptr, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr) == -1 && errno == EINVAL);
    const std::unique_ptr<char[]> stack = std::make_unique<char[]>(64 * kKiB);
    pid_t parent_tid = 0;
    const pid_t child = clone([](void*) { return 5; }, stack.get() + 64 * kKiB, CLONE_PARENT_SETTID | SIGCHLD, nullptr,
                              &parent_tid, nullptr, nullptr);
    TARN_LIFE_REQUIRE(child > 0 && parent_tid == child);
    int status = 0;
    TARN_LIFE_REQUIRE(WaitFor(child, kChildSeconds, &status) && WIFEXITED(status) && WEXITSTATUS(status) == 5);
  });
}

TEST(Clone, ChildThatSharesMemoryAndExecs) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(3);
    Churn own(7);
    const std::unique_ptr<char[]> stack = std::make_unique<char[]>(64 * kKiB);
    const double end = Seconds() + kStormSeconds;
    for (int i = 0; i < 200 && (i < 10 || Seconds() < end); ++i) {
      own.Steps(50);
      const pid_t child = clone(
          [](void*) {
            execve("/bin/true", kTrueArguments, environ);
            return 127;
          },
          stack.get() + 64 * kKiB, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);
      RequireGoodEnd(child, kChildSeconds);
    }
    own.Verify();
  });
}

// A raw clone without CLONE_VM is a fork that nobody but the kernel knows of.
TEST(Clone, ChildWithItsOwnMemoryAllocatesWhenThereAreNoThreads) {
  ExpectGoodEnd(kBodySeconds, [] {
    Churn own(8);
    const std::unique_ptr<char[]> stack = std::make_unique<char[]>(256 * kKiB);
    for (int i = 0; i < 50; ++i) {
      own.Steps(100);
      const pid_t child = clone(
          [](void* inherited) {
            static_cast<Churn*>(inherited)->Verify();
            static_cast<Churn*>(inherited)->Steps(300);
            _exit(0);
            return 0;
          },
          stack.get() + 256 * kKiB, SIGCHLD, &own);
      RequireGoodEnd(child, kChildSeconds);
    }
    own.Verify();
  });
}

TEST(PosixSpawn, StormByThreadsThatAllocate) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(2);
    std::vector<std::thread> spawners;
    for (uint64_t i = 0; i < 2; ++i) {
      spawners.emplace_back([i] {
        Churn own(i);
        const double end = Seconds() + kStormSeconds;
        for (int k = 0; k < 250 && (k < 10 || Seconds() < end); ++k) {
          own.Steps(20);
          pid_t child = 0;
          TARN_LIFE_REQUIRE(posix_spawn(&child, "/bin/true", nullptr, nullptr, kTrueArguments, environ) == 0);
          RequireGoodEnd(child, kChildSeconds);
        }
        own.Verify();
      });
    }
    for (std::thread& spawner : spawners) spawner.join();
  });
}

TEST(PosixSpawn, SystemAndPopen) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(2);
    for (int i = 0; i < 20; ++i) {
      TARN_LIFE_REQUIRE(system("exit 0") == 0);
      FILE* stream = popen("echo some output", "r");
      TARN_LIFE_REQUIRE(stream != nullptr);
      char* line = nullptr;
      size_t capacity = 0;
      TARN_LIFE_REQUIRE(getline(&line, &capacity, stream) == 12);
      free(line);
      TARN_LIFE_REQUIRE(pclose(stream) == 0);
    }
  });
}

}  // namespace
}  // namespace tarn_test
