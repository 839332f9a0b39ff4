// SPDX-License-Identifier: Apache-2.0
//
// Limits on the memory of a process, by the environment and by tarn/limits.h; and memory given back on request. Every
// body runs in a child, for a limit stays for good.

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "allocator/include/tarn/limits.h"
#include "allocator/include/tarn/preset.h"
#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/expect_child.h"
#include "tests/life/parked_thread.h"
#include "tests/life/process.h"
#include "tests/os/stalled_call.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;

size_t ResidentBytes() {
  char text[128] = {};
  const int file = open("/proc/self/statm", O_RDONLY);
  TARN_LIFE_REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
  close(file);
  return strtoul(strchr(text, ' '), nullptr, 10) * static_cast<size_t>(getpagesize());
}

char* Touched(size_t bytes) {
  auto* object = static_cast<char*>(malloc(bytes));
  if (object != nullptr) memset(object, 1, bytes);
  return object;
}

// Free memory stays for so long in the preset "production", with the background thread. A busy machine may take longer
// for a test's steps, and then says nothing of what would be resident without a limit.
constexpr double kKeptSeconds = 4.5;

// Runs as a program with a limit that is hard to keep: half of its memory is free, but in pieces, and it asks for large
// blocks. Returns the most that was resident. 120 MiB are live, at the peak 220; or that part of it.
size_t FragmentAndGrow(size_t divisor = 1) {
  // With the background thread, which leaves free memory alone for a while. In the slow paths it would go back at once,
  // and on a busy machine this takes longer than the thread usually waits; here it does so for longer.
  ParkAThread();
  TARN_LIFE_REQUIRE(tarn::SetPreset("production"));
  size_t peak_bytes = 0;
  const auto look = [&peak_bytes] { peak_bytes = std::max(peak_bytes, ResidentBytes()); };
  std::vector<char*> objects(240 * kMiB / 4096 / divisor);
  for (char*& object : objects) TARN_LIFE_REQUIRE((object = Touched(4096)) != nullptr);
  for (size_t i = 0; i < objects.size(); ++i) {
    if (i / 64 % 2 == 0) continue;
    free(objects[i]);
    objects[i] = nullptr;
  }
  for (int wave = 0; wave < 3; ++wave) {
    std::vector<char*> blocks(100 / divisor);
    for (char*& block : blocks) {
      TARN_LIFE_REQUIRE((block = Touched(kMiB)) != nullptr);
      look();
    }
    for (char* block : blocks) free(block);
  }
  for (char* object : objects) free(object);
  return peak_bytes;
}

TEST(SoftLimit, IsKeptByGivingFreeMemoryBack) {
  ExpectGoodEnd(kBodySeconds, [] {
    tarn::SetMemoryLimit(256 * kMiB);
    TARN_LIFE_REQUIRE(tarn::MemoryLimit() == 256 * kMiB);
    TARN_LIFE_REQUIRE(FragmentAndGrow() <= 256 * kMiB / 100 * 105);
    const tarn_limit_stats stats = tarn::LimitStats();
    TARN_LIFE_REQUIRE(stats.checks != 0 && stats.released_bytes != 0 && stats.release_ns != 0);
    TARN_LIFE_REQUIRE(stats.peak_excess_bytes <= 256 * kMiB / 20);
  });
}

// On a busy machine a release takes long by the clock, since others have the processors. That must not use up the time
// that may go into keeping the limit.
TEST(SoftLimit, IsKeptWhereEachReleaseIsInterrupted) {
  ExpectGoodEnd(kBodySeconds, [] {
    tarn::StopBackground();
    tarn::SetMemoryLimit(256 * kMiB);
    StalledCalls calls;
    size_t peak_bytes = 0;
    std::thread worker([&] {
      calls.Stall({SYS_madvise, SYS_process_madvise});
      peak_bytes = FragmentAndGrow();
      calls.End();
    });
    while (calls.Await()) {
      if (calls.number() == SYS_process_madvise || calls.argument(2) == MADV_DONTNEED) Sleep(15'000);
      calls.LetGo();
    }
    worker.join();
    TARN_LIFE_REQUIRE(calls.refused() || tarn::LimitStats().release_ns >= 200'000'000);
    TARN_LIFE_REQUIRE(tarn::LimitStats().skipped == 0);
    TARN_LIFE_REQUIRE(peak_bytes <= 256 * kMiB / 100 * 105);
  });
}

// Phases of other sizes, each of which leaves its free memory in other classes: 30 MiB at once on top of 200 MiB that
// stay.
size_t ChurnAboveLiveObjects() {
  size_t peak_bytes = 0;
  std::vector<char*> live(200 * kMiB / 4096);
  for (char*& object : live) TARN_LIFE_REQUIRE((object = Touched(4096)) != nullptr);
  for (const size_t bytes : {size_t{64}, size_t{1000}, size_t{8000}, size_t{60'000}, size_t{200'000}, 5 * kMiB}) {
    for (int round = 0; round < 4; ++round) {
      std::vector<char*> objects(std::max<size_t>(30 * kMiB / bytes, 1));
      for (size_t i = 0; i < objects.size(); ++i) {
        TARN_LIFE_REQUIRE((objects[i] = Touched(bytes)) != nullptr);
        if (i % (objects.size() / 4 + 1) == 0) peak_bytes = std::max(peak_bytes, ResidentBytes());
      }
      peak_bytes = std::max(peak_bytes, ResidentBytes());
      for (char* object : objects) free(object);
    }
  }
  for (char* object : live) free(object);
  return peak_bytes;
}

TEST(SoftLimit, HoldsWhile600MiBAreChurnedAbove200MiB) {
  ExpectGoodEnd(kBodySeconds, [] {
    tarn::SetMemoryLimit(256 * kMiB);
    const size_t peak_bytes = ChurnAboveLiveObjects();
    TARN_LIFE_REQUIRE(peak_bytes >= 230 * kMiB && peak_bytes <= 256 * kMiB / 100 * 105);
  });
}

TEST(SoftLimit, WithoutItTheSameTakesMore) {
  ExpectGoodEnd(kBodySeconds, [] {
    tarn::SetMemoryLimit(tarn::kNoLimit);
    TARN_LIFE_REQUIRE(tarn::MemoryLimit() == tarn::kNoLimit);
    const double start = Seconds();
    const size_t peak_bytes = FragmentAndGrow();
    TARN_LIFE_REQUIRE(peak_bytes > 256 * kMiB / 100 * 105 || Seconds() - start > kKeptSeconds);
    TARN_LIFE_REQUIRE(tarn::LimitStats().released_bytes == 0);
  });
}

TEST(SoftLimit, ThatIsTooLowFailsNothing) {
  ExpectGoodEnd(kBodySeconds, [] {
    tarn::SetMemoryLimit(kMiB);
    TARN_LIFE_REQUIRE(FragmentAndGrow(4) > 50 * kMiB);
    TARN_LIFE_REQUIRE(tarn::LimitStats().exceeded != 0);
  });
}

void Record(unsigned percent, size_t used_bytes, size_t limit_bytes, void* argument) {
  TARN_LIFE_REQUIRE(limit_bytes == 100 * kMiB && used_bytes >= percent * kMiB);
  auto* calls = static_cast<std::vector<unsigned>*>(argument);
  // Allocates, as callbacks do.
  calls->push_back(percent);
  free(Touched(3 * kMiB));
}

TEST(SoftLimit, CallsBackAtThresholdsAndAgainAfterAFall) {
  ExpectGoodEnd(kBodySeconds, [] {
    std::vector<unsigned> calls;
    TARN_LIFE_REQUIRE(tarn_add_limit_callback(0, &Record, &calls) == -1);
    TARN_LIFE_REQUIRE(tarn_add_limit_callback(101, &Record, &calls) == -1);
    TARN_LIFE_REQUIRE(tarn_add_limit_callback(50, nullptr, &calls) == -1);
    tarn::SetMemoryLimit(100 * kMiB);
    TARN_LIFE_REQUIRE(tarn_add_limit_callback(50, &Record, &calls) == 0);
    TARN_LIFE_REQUIRE(tarn_add_limit_callback(80, &Record, &calls) == 0);
    const auto grow = [](size_t mib) {
      std::vector<char*> blocks(mib);
      for (char*& block : blocks) block = Touched(kMiB);
      for (char* block : blocks) free(block);
      tarn::ReleaseMemory();
    };
    grow(30);
    TARN_LIFE_REQUIRE(calls.empty());
    grow(65);
    TARN_LIFE_REQUIRE((calls == std::vector<unsigned>{50}));
    grow(30);
    grow(90);
    TARN_LIFE_REQUIRE((calls == std::vector<unsigned>{50, 50, 80}));
    TARN_LIFE_REQUIRE(tarn_remove_limit_callback(&Record, &calls) == 0);
    TARN_LIFE_REQUIRE(tarn_remove_limit_callback(&Record, &calls) == 0);
    TARN_LIFE_REQUIRE(tarn_remove_limit_callback(&Record, &calls) == -1);
    grow(90);
    TARN_LIFE_REQUIRE(calls.size() == 3);
  });
}

// The background thread looks, too, and may see a threshold passed first. It must not keep that from the program.
TEST(SoftLimit, CallsBackAlsoWhereTheBackgroundThreadLookedFirst) {
  ExpectGoodEnd(kBodySeconds, [] {
    ParkAThread();
    std::vector<unsigned> calls;
    tarn::SetMemoryLimit(100 * kMiB);
    TARN_LIFE_REQUIRE(tarn_add_limit_callback(50, &Record, &calls) == 0);
    std::vector<char*> blocks(32);
    for (char*& block : blocks) block = Touched(kMiB);
    // Memory that tarn does not see, until a look finds it.
    constexpr size_t kForeignBytes = 24 * kMiB;
    void* const foreign =
        mmap(nullptr, kForeignBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    TARN_LIFE_REQUIRE(foreign != MAP_FAILED);
    TARN_LIFE_REQUIRE(calls.empty());
    // Gives the thread something to do.
    const uint64_t checks = tarn::LimitStats().checks;
    for (int i = 0; i < 4; ++i) {
      free(blocks.back());
      blocks.pop_back();
    }
    while (tarn::LimitStats().checks == checks) usleep(10'000);
    TARN_LIFE_REQUIRE(calls.empty());
    // More than what became free, so that some of it is new.
    blocks.push_back(Touched(6 * kMiB));
    TARN_LIFE_REQUIRE((calls == std::vector<unsigned>{50}));
    for (char* block : blocks) free(block);
    munmap(foreign, kForeignBytes);
  });
}

TEST(HardLimit, EveryAllocationBeyondItFailsCleanlyAndTheProgramGoesOn) {
  ExpectGoodEnd(kBodySeconds, [] {
    tarn::SetHardLimit(64 * kMiB);
    TARN_LIFE_REQUIRE(tarn::HardLimit() == 64 * kMiB);
    for (const size_t size : {100ul, 5000ul, 100000ul, 300000ul, 3000000ul}) {
      // The list of objects lies in the same memory.
      std::vector<void*> objects;
      objects.reserve(64 * kMiB / size);
      size_t taken_bytes = 0;
      errno = 0;
      while (void* object = malloc(size)) {
        TARN_LIFE_REQUIRE(objects.size() < objects.capacity());
        objects.push_back(object);
        taken_bytes += size;
      }
      TARN_LIFE_REQUIRE(errno == ENOMEM);
      TARN_LIFE_REQUIRE(taken_bytes > 30 * kMiB);
      TARN_LIFE_REQUIRE(calloc(1, 64 * kMiB) == nullptr);
      TARN_LIFE_REQUIRE(aligned_alloc(1 << 20, 64 * kMiB) == nullptr);
      TARN_LIFE_REQUIRE(malloc(600 * kMiB) == nullptr);
      void* const kept = realloc(objects.back(), 64 * kMiB);
      TARN_LIFE_REQUIRE(kept == nullptr);
      bool thrown = false;
      try {
        ::operator delete(::operator new(64 * kMiB));
      } catch (const std::bad_alloc&) {
        thrown = true;
      }
      TARN_LIFE_REQUIRE(thrown);
      for (void* object : objects) free(object);
    }
    TARN_LIFE_REQUIRE(tarn::LimitStats().hard_failures != 0);
    tarn::SetHardLimit(tarn::kNoLimit);
    void* const large = malloc(200 * kMiB);
    TARN_LIFE_REQUIRE(large != nullptr);
    free(large);
  });
}

// In a memory cgroup of the first version, where one can be made.
TEST(ContainerLimit, KeepsAProgramAliveThatDiesWithoutIt) {
  const std::string group = "/sys/fs/cgroup/memory/tarn_test_" + std::to_string(getpid());
  if (mkdir(group.c_str(), 0755) != 0) GTEST_SKIP() << "no memory cgroup can be made here";
  const auto write_to = [&group](const char* file, const std::string& text) {
    const int descriptor = open((group + file).c_str(), O_WRONLY);
    const bool written =
        descriptor >= 0 && write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (descriptor >= 0) close(descriptor);
    return written;
  };
  if (write_to("/memory.limit_in_bytes", std::to_string(290 * kMiB))) {
    const auto run = [&](size_t limit_bytes) {
      return InChild(kBodySeconds, [&] {
        TARN_LIFE_REQUIRE(write_to("/cgroup.procs", std::to_string(getpid())));
        tarn::SetMemoryLimit(limit_bytes);
        FragmentAndGrow();
      });
    };
    EXPECT_EQ(run(tarn::kAutoLimit), "");
    const double start = Seconds();
    const bool lives = run(tarn::kNoLimit).empty();
    EXPECT_TRUE(!lives || Seconds() - start > kKeptSeconds);
  }
  rmdir(group.c_str());
}

TEST(ReleaseMemory, GivesBackWhatIsAskedForOrEverything) {
  ExpectGoodEnd(kBodySeconds, [] {
    ParkAThread();  // With its thread, tarn leaves free memory alone for a while.
    TARN_LIFE_REQUIRE(tarn::SetPreset("production"));
    const size_t before = ResidentBytes();
    double start = 0;
    size_t first_bytes = 0;
    size_t left_bytes = 0;
    size_t second_bytes = 0;
    int attempts = 0;
    do {
      std::vector<char*> blocks(60);
      for (char*& block : blocks) block = Touched(kMiB);
      start = Seconds();
      for (char* block : blocks) free(block);
      first_bytes = tarn::ReleaseMemory(10 * kMiB);
      left_bytes = ResidentBytes();
      second_bytes = tarn::ReleaseMemory();
    } while (Seconds() - start > kKeptSeconds && ++attempts < 10);
    TARN_LIFE_REQUIRE(ResidentBytes() < before + 8 * kMiB);
    TARN_LIFE_REQUIRE(tarn::ReleaseMemory(0) == 0);
    if (attempts == 10) return;
    TARN_LIFE_REQUIRE(first_bytes >= 10 * kMiB);
    TARN_LIFE_REQUIRE(left_bytes > before + 30 * kMiB);
    TARN_LIFE_REQUIRE(second_bytes >= 30 * kMiB);
  });
}

// --- After a jump --------------------------------------------------------------------------------------------------

sigjmp_buf g_back;
std::atomic<int> g_traps = 0;

// Has the next opening of a file jumped out of; later ones fail. False: the system has no such filters.
bool JumpOutOfAnOpening() {
  struct sigaction action = {};
  action.sa_handler = [](int) {
    if (g_traps.fetch_add(1) == 0) siglongjmp(g_back, 1);
  };
  TARN_LIFE_REQUIRE(sigaction(SIGSYS, &action, nullptr) == 0);
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// The slow path that was left holds no lock.
TEST(AfterAJump, LimitsAndPresetsAreSetAllTheSame) {
  ExpectGoodEnd(kBodySeconds, [] {
    free(Touched(kMiB));
    if (!JumpOutOfAnOpening()) return;
    if (sigsetjmp(g_back, 1) == 0) {
      // Reads the limit of the cgroup.
      tarn_set_memory_limit(TARN_LIMIT_AUTO);
      TARN_LIFE_REQUIRE(false);
    }
    TARN_LIFE_REQUIRE(g_traps == 1);
    tarn_set_hard_limit(size_t{1} << 40);
    TARN_LIFE_REQUIRE(tarn_hard_limit() == size_t{1} << 40);
    TARN_LIFE_REQUIRE(tarn_set_preset("development") == 0);
    TARN_LIFE_REQUIRE(strcmp(tarn_preset(), "development") == 0);
  });
}

TEST(BackgroundTick, DoesWhatTheThreadWouldDo) {
  ExpectGoodEnd(kBodySeconds, [] {
    const size_t before = ResidentBytes();
    std::vector<char*> blocks(40);
    for (char*& block : blocks) block = Touched(kMiB);
    for (char* block : blocks) free(block);
    const double deadline = Seconds() + kPatienceSeconds;
    while (ResidentBytes() > before + 8 * kMiB && Seconds() < deadline) {
      tarn::BackgroundTick();
      Sleep(50000);
    }
    TARN_LIFE_REQUIRE(ResidentBytes() <= before + 8 * kMiB);
    TARN_LIFE_REQUIRE(tarn::LimitStats().scavenger_cycles != 0);
  });
}

}  // namespace
}  // namespace tarn_test
