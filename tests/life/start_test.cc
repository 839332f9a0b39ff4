// SPDX-License-Identifier: Apache-2.0
//
// The start of the heap of the process: once, by the settings, in whatever thread comes first. Each in a forked child,
// for a process has only one.
//
// Runs twice, with libc's registration of rseq and (with the environment that CMakeLists.txt sets) with ours.

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "allocator/entry/allocate.h"
#include "allocator/entry/free.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/thread_state.h"
#include "tests/os/in_child.h"

namespace tarn {
namespace {

using tarn_test::ChildEnd;
using tarn_test::RunInChild;

#if defined(TARN_NO_RSEQ)
constexpr bool kBuiltWithRseq = false;
#else
constexpr bool kBuiltWithRseq = true;
#endif

void ClearSettings() {
  for (const char* name : {"TARN_MODE", "TARN_VERBOSE", "TARN_STATS", "TARN_STRICT", "TARN_CPU_CACHE"}) unsetenv(name);
}

struct Setting {
  const char* name;
  const char* value;
};

template <typename Body>
ChildEnd StartWith(std::vector<Setting> settings, Body body) {
  return RunInChild([&] {
    ClearSettings();
    for (const Setting& setting : settings) setenv(setting.name, setting.value, 1);
    TARN_REQUIRE(!process_heap.started());
    process_heap.EnsureStarted();
    TARN_REQUIRE(process_heap.started());
    body();
  });
}

TEST(Start, IsSilentByDefaultAndOpensTheHitPath) {
  const ChildEnd end = StartWith({}, [] {
    TARN_REQUIRE(slab_table.hit_limit_bytes == kSmallLookupMaxBytes + 1);
    TARN_REQUIRE(process_heap.cpu_cache.budget_bytes() != 0);
    process_heap.EnsureStarted();
    void* object = AllocateSlow(100, Request::kMalloc);
    TARN_REQUIRE(object != nullptr);
    FreeSlow(object, "free");
  });
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.output, "");
}

TEST(Start, BeforeItNothingIsThere) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              TARN_REQUIRE(!process_heap.started());
              TARN_REQUIRE(slab_table.hit_limit_bytes == 0);
            }),
            "");
}

TEST(Start, TheModeCanBeChosen) {
  const ChildEnd end = StartWith({{"TARN_MODE", "thread"}, {"TARN_VERBOSE", "1"}}, [] {
    TARN_REQUIRE(process_heap.cpu_cache.mode() == CacheMode::kThread);
    TARN_REQUIRE(process_heap.options.verbose);
  });
  EXPECT_EQ(end.exit_code, 0) << end.output;
  EXPECT_EQ(end.output.rfind("tarn: ", 0), 0u) << end.output;
  EXPECT_NE(end.output.find("per-thread caches"), std::string::npos) << end.output;
  EXPECT_EQ(end.output.find('\n'), end.output.size() - 1) << "more than one line: " << end.output;
}

TEST(Start, TheLineTellsTheMode) {
  const ChildEnd end = StartWith({{"TARN_VERBOSE", "1"}}, [] {
    // The body's own line follows that of the start.
    dprintf(2, "%s\n", process_heap.cpu_cache.mode() == CacheMode::kCpu ? "cpu" : "thread");
  });
  EXPECT_EQ(end.exit_code, 0);
  const bool cpu = end.output.find("\ncpu\n") != std::string::npos;
  EXPECT_EQ(end.output.find("per-CPU caches (rseq, ") != std::string::npos, cpu) << end.output;
  EXPECT_EQ(end.output.find("per-thread caches (") != std::string::npos, !cpu) << end.output;
  EXPECT_TRUE(kBuiltWithRseq || !cpu);
}

TEST(Start, TheBudgetIsTheOneThatWasSet) {
  const ChildEnd end = StartWith({{"TARN_CPU_CACHE", "64KiB"}}, [] {
    TARN_REQUIRE(process_heap.options.cpu_cache_bytes == 65536);
    if (process_heap.cpu_cache.mode() == CacheMode::kCpu) TARN_REQUIRE(process_heap.cpu_cache.budget_bytes() == 65536);
  });
  EXPECT_EQ(end.exit_code, 0) << end.output;
  // Without caches all of it works too.
  for (const char* mode : {"auto", "thread"}) {
    const ChildEnd off = StartWith({{"TARN_CPU_CACHE", "0"}, {"TARN_MODE", mode}}, [] {
      for (int i = 0; i < 1000; ++i) {
        void* object = AllocateSlow(64, Request::kMalloc);
        TARN_REQUIRE(object != nullptr);
        FreeSlow(object, "free");
      }
      TARN_REQUIRE(process_heap.cpu_cache.populated_slabs() == 0);
    });
    EXPECT_EQ(off.exit_code, 0) << mode << ": " << off.output;
  }
}

TEST(Start, AWrongSettingIsSaidAndStrictMakesItFatal) {
  const ChildEnd end = StartWith({{"TARN_STATZ", "1"}}, [] {});
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.output, "tarn: unknown option TARN_STATZ; did you mean TARN_STATS? (TARN_STRICT=1 makes this fatal)\n");
  const ChildEnd strict = StartWith({{"TARN_STATZ", "1"}, {"TARN_STRICT", "1"}}, [] {});
  EXPECT_EQ(strict.exit_code, 78);
  EXPECT_EQ(strict.output, end.output);
  const ChildEnd fine = StartWith({{"TARN_STATS", "1"}, {"TARN_STRICT", "1"}}, [] {});
  EXPECT_EQ(fine.exit_code, 0);
  EXPECT_EQ(fine.output, "");
}

TEST(Start, AModeThatCannotBeHadIsAWrongSetting) {
  if (kBuiltWithRseq) GTEST_SKIP() << "it can be had";
  const ChildEnd end = StartWith({{"TARN_MODE", "cpu"}}, [] {});
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.output, "tarn: TARN_MODE=cpu cannot be used: built without rseq (TARN_STRICT=1 makes this fatal)\n");
  EXPECT_EQ(StartWith({{"TARN_MODE", "cpu"}, {"TARN_STRICT", "1"}}, [] {}).exit_code, 78);
}

TEST(Start, ErrnoIsKept) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              ClearSettings();
              errno = ERANGE;
              process_heap.EnsureStarted();
              TARN_REQUIRE(errno == ERANGE);
            }),
            "");
}

TEST(Start, ManyThreadsMayBeTheFirst) {
  for (const char* mode : {"auto", "thread"}) {
    const ChildEnd end = RunInChild([mode] {
      ClearSettings();
      setenv("TARN_MODE", mode, 1);
      setenv("TARN_VERBOSE", "1", 1);
      constexpr int kThreads = 8;
      std::atomic<int> ready = 0;
      std::vector<std::thread> threads;
      for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&ready] {
          ready.fetch_add(1);
          while (ready.load() < kThreads) sched_yield();
          for (int i = 0; i < 100; ++i) {
            void* object = AllocateSlow(200, Request::kMalloc);
            TARN_REQUIRE(object != nullptr);
            FreeSlow(object, "free");
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
    });
    EXPECT_EQ(end.exit_code, 0) << end.output;
    // It was started once.
    EXPECT_EQ(end.output.find('\n'), end.output.size() - 1) << end.output;
  }
}

TEST(Start, AThreadsSlabIsGivenBackAtItsExit) {
  const ChildEnd end = StartWith({{"TARN_MODE", "thread"}}, [] {
    for (int i = 0; i < 20; ++i) {
      std::thread([] {
        void* object = AllocateSlow(64, Request::kMalloc);
        TARN_REQUIRE(object != nullptr && thread_state.slab_index >= 0);
        FreeSlow(object, "free");
      }).join();
    }
    TARN_REQUIRE(process_heap.cpu_cache.populated_slabs() == 1);
    TARN_REQUIRE(process_heap.cpu_cache.ClassStats(MallocSizeClass(64)).cached_objects == 0);
    TARN_REQUIRE(process_heap.cpu_cache.ClassStats(MallocSizeClass(64)).allocations == 20);
    TARN_REQUIRE(process_heap.cpu_cache.ClassStats(MallocSizeClass(64)).frees == 20);
  });
  EXPECT_EQ(end.exit_code, 0) << end.output;
}

TEST(Start, AThreadKeepsItsOwnSlabInTheThreadMode) {
  // With an area of ours that the kernel writes ids into, a thread would find itself on another one's slab.
  const ChildEnd end = StartWith({{"TARN_MODE", "thread"}}, [] {
    constexpr int kThreads = 6;
    const auto stay = [] {
      void* object = AllocateSlow(64, Request::kMalloc);
      TARN_REQUIRE(object != nullptr);
      const std::int32_t index = thread_state.slab_index;
      TARN_REQUIRE(index >= 0);
      for (int i = 0; i < 300; ++i) {
        sched_yield();
        usleep(50);
        TARN_REQUIRE(thread_state.slab_index == index);
      }
      FreeSlow(object, "free");
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) threads.emplace_back(stay);
    // The thread that started the heap as well, which comes last and so has the highest index.
    usleep(5000);
    stay();
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_EQ(end.exit_code, 0) << end.output;
}

}  // namespace
}  // namespace tarn
