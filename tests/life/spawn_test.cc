// The relatives of fork, in a process with threads that allocate: _Fork, vfork, clone, posix_spawn.
// Every body runs in a child that is ended by force, and reported, when it hangs.

#include <gtest/gtest.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

#include <memory>
#include <thread>
#include <vector>

#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

extern char** environ;

namespace tarn_test {
namespace {

// A child that does not come to an end within this time hangs; a good one takes milliseconds.
constexpr double kChildSeconds = 20;
constexpr double kBodySeconds = 60;
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
