// SPDX-License-Identifier: Apache-2.0
//
// Memory goes back: in the slow paths of a program with one thread, and by tarn's background thread where it was asked
// for (TARN_BACKGROUND=on, which this test is started with). When the thread comes and goes, what it does in an idle
// process, and that it disturbs nobody. Every body runs in a child, for each process has one of its own.

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "allocator/include/tarn/limits.h"
#include "allocator/include/tarn/snapshot.h"
#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/parked_thread.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;

// Without allocating: what is looked at must not change by it.
size_t ResidentBytes() {
  char text[128] = {};
  const int file = open("/proc/self/statm", O_RDONLY);
  TARN_LIFE_REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
  close(file);
  return strtoul(strchr(text, ' '), nullptr, 10) * static_cast<size_t>(getpagesize());
}

size_t CountThreads() {
  struct stat tasks;
  TARN_LIFE_REQUIRE(stat("/proc/self/task", &tasks) == 0);
  // Two links are those of every directory.
  return tasks.st_nlink - 2;
}

// The id of the scavenger's thread, or 0: also for a moment at its start, before it has its name.
pid_t Scavenger() {
  pid_t found = 0;
  DIR* const tasks = opendir("/proc/self/task");
  TARN_LIFE_REQUIRE(tasks != nullptr);
  while (const dirent* task = readdir(tasks)) {
    char path[300];
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    char name[32] = {};
    const int file = open(path, O_RDONLY);
    if (file < 0) continue;
    if (read(file, name, sizeof name - 1) > 0 && strcmp(name, "tarn-scavenger\n") == 0) found = atoi(task->d_name);
    close(file);
  }
  closedir(tasks);
  return found;
}

template <typename Condition>
bool Await(const Condition& condition) {
  const double deadline = Seconds() + kPatienceSeconds;
  while (!condition()) {
    if (Seconds() > deadline) return false;
    Sleep(20000);
  }
  return true;
}

// Allocates that many bytes in objects of one size, touches them, frees them.
void Burst(size_t bytes, size_t object_bytes) {
  const size_t count = bytes / object_bytes;
  std::vector<char*> objects(count);
  for (char*& object : objects) {
    object = static_cast<char*>(malloc(object_bytes));
    TARN_LIFE_REQUIRE(object != nullptr);
    memset(object, 1, object_bytes);
  }
  for (size_t i = 0; i < count; ++i) std::swap(objects[i], objects[i * 7919 % count]);
  for (char* object : objects) free(object);
}

// Gives the scavenger something to do, and waits until it is there. Only a process with threads has one. On a busy
// machine it may have come and gone before it is seen, and then it is given more.
pid_t StartScavenger() {
  ParkAThread();
  pid_t found = 0;
  TARN_LIFE_REQUIRE(Await([&found] {
    Burst(40 * kMiB, 300000);
    for (int i = 0; i < 50 && (found = Scavenger()) == 0; ++i) Sleep(20000);
    return found != 0;
  }));
  return found;
}

class Scavenging : public testing::TestWithParam<size_t> {};

TEST_P(Scavenging, AnIdleProcessGivesItsMemoryBack) {
  ExpectGoodEnd(kBodySeconds, [] {
    ParkAThread();
    Burst(kMiB, GetParam());
    const size_t before = ResidentBytes();
    Burst(60 * kMiB, GetParam());
    TARN_LIFE_REQUIRE(Await([&] { return ResidentBytes() < before + 8 * kMiB; }));
  });
}

// A free that gives back stops after some time, and the next slow path goes on. A busy machine may take that time away
// at the last free, so there are several tries.
TEST_P(Scavenging, AProgramWithoutThreadsGivesItsMemoryBackItself) {
  std::string complaint = "not tried";
  for (int attempt = 0; attempt < 20 && !complaint.empty(); ++attempt) {
    complaint = InChild(kBodySeconds, [] {
      Burst(kMiB, GetParam());
      const size_t before = ResidentBytes();
      Burst(100 * kMiB, GetParam());
      TARN_LIFE_REQUIRE(Scavenger() == 0);
      TARN_LIFE_REQUIRE(ResidentBytes() < before + 8 * kMiB);
    });
  }
  EXPECT_EQ(complaint, "");
}

// A fall after which memory was wanted back is not answered again for a while, or each burst would pay for page faults.
TEST_P(Scavenging, ABurstThatComesAtOnceAgainFindsItsMemory) {
  ExpectGoodEnd(kBodySeconds, [] {
    const double start = Seconds();
    Burst(100 * kMiB, GetParam());
    Burst(100 * kMiB, GetParam());
    const uint64_t released = tarn::LimitStats().scavenger_released_bytes;
    Burst(100 * kMiB, GetParam());
    // The budget that was earned on a busy machine may allow for another fall.
    if (Seconds() - start < 1.5) TARN_LIFE_REQUIRE(tarn::LimitStats().scavenger_released_bytes < released + 50 * kMiB);
  });
}

// The thread may not end while free memory is left that its windows keep.
TEST(Scavenger, GivesBackWhatRepeatedPeaksLeft) {
  ExpectGoodEnd(2 * kBodySeconds, [] {
    StartScavenger();
    const size_t before = ResidentBytes();
    // Memory that came back after a gap is kept for three times as long. So the gaps grow, until memory is kept for
    // longer than the thread stays that has nothing to do (five seconds).
    for (const long gap_us : {1'300'000, 3'000'000}) {
      Burst(200 * kMiB, 400000);
      Sleep(gap_us);
    }
    Burst(200 * kMiB, 400000);
    TARN_LIFE_REQUIRE(Await([&] {
      // The first thread and the one that is parked.
      const bool has_ended = CountThreads() == 2;
      const bool is_back = ResidentBytes() < before + 20 * kMiB;
      TARN_LIFE_REQUIRE(is_back || !has_ended);
      return is_back;
    }));
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, Scavenging, testing::Values(64, 4096, 200000));

TEST(Scavenger, ComesWhenThereIsSomethingToReleaseAndGoesAgain) {
  ExpectGoodEnd(kBodySeconds, [] {
    Burst(2 * kMiB, 1000);
    TARN_LIFE_REQUIRE(Scavenger() == 0);
    StartScavenger();
    TARN_LIFE_REQUIRE(Await([] { return Scavenger() == 0; }));
    StartScavenger();
  });
}

TEST(Scavenger, BlocksAllSignals) {
  ExpectGoodEnd(kBodySeconds, [] {
    // The thread may end before the file is read.
    TARN_LIFE_REQUIRE(Await([] {
      char path[64];
      snprintf(path, sizeof path, "/proc/self/task/%d/status", StartScavenger());
      FILE* const file = fopen(path, "r");
      if (file == nullptr) return false;
      char line[256];
      bool found = false;
      while (!found && fgets(line, sizeof line, file) != nullptr) {
        found = strncmp(line, "SigBlk:", 7) == 0;
        // SIGKILL and SIGSTOP cannot be.
        if (found) TARN_LIFE_REQUIRE(strstr(line, "fffffffffffbfeff") != nullptr);
      }
      fclose(file);
      return found;
    }));
  });
}

TEST(Scavenger, IsNotInTheChildOfAForkWhichStartsItsOwn) {
  ExpectGoodEnd(kBodySeconds, [] {
    StartScavenger();
    const pid_t child = fork();
    if (child == 0) {
      TARN_LIFE_REQUIRE(Scavenger() == 0);
      const size_t before = ResidentBytes();
      StartScavenger();
      TARN_LIFE_REQUIRE(Await([&] { return ResidentBytes() < before + 8 * kMiB; }));
      _exit(0);
    }
    RequireGoodEnd(child, kPatienceSeconds);
  });
}

// libc does not know of the thread, so a fork must not believe that nobody holds a lock.
TEST(Scavenger, MayBeAtWorkDuringForks) {
  ExpectGoodEnd(kBodySeconds, [] {
    const double end = Seconds() + 2;
    for (int forks = 0; forks < 1000 && Seconds() < end; ++forks) {
      Burst(12 * kMiB, forks % 2 == 0 ? 400000 : 5000);
      if (forks % 16 == 0) malloc_trim(0);
      const pid_t child = fork();
      if (child == 0) {
        alarm(kPatienceSeconds);
        Churn(static_cast<uint64_t>(forks), 300 * kKiB).Steps(100);
        Burst(10 * kMiB, 100000);
        malloc_trim(0);
        _exit(0);
      }
      RequireGoodEnd(child, kPatienceSeconds);
    }
  });
}

TEST(Scavenger, WorksBesideThreadsThatAllocate) {
  ExpectGoodEnd(kBodySeconds, [] {
    const ChurnThreads threads(3);
    const double end = Seconds() + 1.5;
    while (Seconds() < end) {
      Burst(30 * kMiB, 3000);
      Sleep(50000);
    }
  });
}

// Credentials are per thread for the kernel, and libc changes only those of threads that it knows.
TEST(Scavenger, EndsWhenTheProcessGivesUpItsRights) {
  if (geteuid() != 0) GTEST_SKIP() << "there are no rights to give up";
  ExpectGoodEnd(kBodySeconds, [] {
    const pid_t privileged = StartScavenger();
    TARN_LIFE_REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
    TARN_LIFE_REQUIRE(Await([=] { return Scavenger() != privileged; }));
  });
}

TEST(Scavenger, LeavesTheViewOfTheFileSystemAlone) {
  ExpectGoodEnd(kBodySeconds, [] {
    char before[512];
    char after[512];
    TARN_LIFE_REQUIRE(chdir("/proc") == 0 && getcwd(before, sizeof before) != nullptr);
    StartScavenger();
    Sleep(100000);
    TARN_LIFE_REQUIRE(getcwd(after, sizeof after) != nullptr && strcmp(before, after) == 0);
  });
}

// A memory burst in each of many short processes: none waits for the thread at its end.
TEST(Scavenger, MayBeCutOffByExit) {
  for (int i = 0; i < 10; ++i) {
    ExpectGoodEnd(kBodySeconds, [] {
      Burst(20 * kMiB, 200000);
      exit(0);
    });
  }
}

// --- Requests from outside (tarn_snapshot_release); `tarn release` itself is tested in tests/tools -------------------

// The words of a request, written and read as another process would. By dlsym: a plain reference would have the linker
// make a copy of the block in the program.
class Words {
 public:
  Words() {
    const auto* block = static_cast<const tarn_snapshot_block*>(dlsym(RTLD_DEFAULT, "tarn_snapshot"));
    TARN_LIFE_REQUIRE(block != nullptr && block->release_address != 0);
    words_ = reinterpret_cast<tarn_snapshot_release*>(block->release_address);
  }
  void Write(uint64_t number) { __atomic_store_n(&words_->request, number, __ATOMIC_RELAXED); }
  // Returns the number.
  uint64_t Ask() {
    const uint64_t number = answered() + 1;
    Write(number);
    return number;
  }
  uint64_t request() const { return __atomic_load_n(&words_->request, __ATOMIC_RELAXED); }
  uint64_t begun() const { return __atomic_load_n(&words_->begun, __ATOMIC_RELAXED); }
  uint64_t answered() const { return __atomic_load_n(&words_->answered, __ATOMIC_ACQUIRE); }
  uint64_t answered_bytes() const { return __atomic_load_n(&words_->answered_bytes, __ATOMIC_RELAXED); }

 private:
  tarn_snapshot_release* words_;
};

// Too little for the thread to be started, and enough to be seen when it goes back.
void SmallBurst() {
  Burst(2 * kMiB, 1000);
  TARN_LIFE_REQUIRE(Scavenger() == 0);
}

void SlowPath() { free(malloc(300000)); }

TEST(ReleaseRequest, IsAnsweredByASlowPathWhereThereIsNoThread) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    SmallBurst();
    const size_t before = ResidentBytes();
    const uint64_t number = words.Ask();
    TARN_LIFE_REQUIRE(words.answered() == number - 1);
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == number && words.begun() == number);
    TARN_LIFE_REQUIRE(words.answered_bytes() > kMiB && ResidentBytes() < before - kMiB);
    // Only once.
    SmallBurst();
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == number && words.begun() == number);
  });
}

TEST(ReleaseRequest, IsAnsweredByTheThreadWhileTheProgramSleeps) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    bool answered = false;
    // The thread may end before the request is there.
    for (int attempt = 0; attempt < 20 && !answered; ++attempt) {
      StartScavenger();
      const uint64_t number = words.Ask();
      TARN_LIFE_REQUIRE(Await([&] {
        const bool ended = Scavenger() == 0;
        answered = words.answered() == number;
        return answered || ended;
      }));
      SlowPath();
    }
    TARN_LIFE_REQUIRE(answered);
  });
}

// Else a thread of the program would stand still for it.
TEST(ReleaseRequest, IsLeftToTheThreadByASlowPath) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    // The thread may look between the two.
    TARN_LIFE_REQUIRE(Await([&] {
      StartScavenger();
      const uint64_t number = words.Ask();
      SlowPath();
      const bool left = words.begun() != number;
      TARN_LIFE_REQUIRE(Await([&] { return words.answered() == number; }));
      return left;
    }));
  });
}

TEST(ReleaseRequest, IsAnsweredByATick) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    SmallBurst();
    const uint64_t number = words.Ask();
    tarn_background_tick();
    TARN_LIFE_REQUIRE(words.answered() == number && words.answered_bytes() > kMiB);
  });
}

// A write from outside may leave behind a number of one who read long ago, and one that is half written.
TEST(ReleaseRequest, MayHaveAnyNumber) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    for (int i = 0; i < 5; ++i) {
      words.Ask();
      SlowPath();
    }
    const uint64_t last = words.answered();
    for (const uint64_t old : {last, last - 1, last - 3, uint64_t{0}}) {
      words.Write(old);
      SlowPath();
      TARN_LIFE_REQUIRE(words.answered() == last && words.begun() == last);
    }
    words.Write(last + 0x100);
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == last + 0x100);
    // Numbers go round.
    for (const uint64_t step : {uint64_t{INT64_MAX}, uint64_t{INT64_MAX}}) {
      words.Write(words.answered() + step);
      SlowPath();
      TARN_LIFE_REQUIRE(words.answered() == words.request());
    }
    const uint64_t number = words.Ask();
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == number);
  });
}

TEST(ReleaseRequest, StaysWithTheParentOfAFork) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    SmallBurst();
    const uint64_t number = words.Ask();
    const pid_t child = fork();
    if (child == 0) {
      TARN_LIFE_REQUIRE(words.request() == number - 1 && words.begun() == number - 1);
      SlowPath();
      TARN_LIFE_REQUIRE(words.answered() == number - 1);
      // It has a protocol of its own.
      words.Ask();
      SlowPath();
      TARN_LIFE_REQUIRE(words.answered() == number && words.answered_bytes() > kMiB);
      _exit(0);
    }
    RequireGoodEnd(child, kPatienceSeconds);
    TARN_LIFE_REQUIRE(words.request() == number && words.answered() == number - 1);
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == number && words.answered_bytes() > kMiB);
  });
}

// Such children run no handlers, so they may lack what a service needs, or it is not their memory.
TEST(ReleaseRequest, IsNotAnsweredByChildrenThatTarnDoesNotKnowOf) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    SmallBurst();
    const uint64_t number = words.Ask();
    const pid_t child = _Fork();
    if (child == 0) {
      SlowPath();
      tarn_background_tick();
      TARN_LIFE_REQUIRE(words.answered() == number - 1 && words.begun() == number - 1);
      _exit(0);
    }
    RequireGoodEnd(child, kPatienceSeconds);
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == number);
  });
}

// With services under way by any of those who can.
TEST(ReleaseRequest, MayComeAtAnyMomentOfForksAndThreads) {
  ExpectGoodEnd(kBodySeconds, [] {
    Words words;
    const ChurnThreads threads(2);
    std::atomic<bool> over = false;
    std::thread asker([&] {
      while (!over) {
        const uint64_t number = words.Ask();
        while (!over && static_cast<int64_t>(words.answered() - number) < 0) Sleep(1000);
      }
    });
    const uint64_t first = words.answered();
    const double end = Seconds() + 2;
    for (int forks = 0; forks < 300 && Seconds() < end; ++forks) {
      Burst(6 * kMiB, forks % 2 == 0 ? 400000 : 5000);
      if (forks % 4 == 0) tarn_background_tick();
      const pid_t child = fork();
      if (child == 0) {
        alarm(kPatienceSeconds);
        TARN_LIFE_REQUIRE(words.request() == words.answered() && words.begun() == words.answered());
        const uint64_t number = words.Ask();
        TARN_LIFE_REQUIRE(Await([&] {
          SlowPath();
          return words.answered() == number;
        }));
        _exit(0);
      }
      RequireGoodEnd(child, kPatienceSeconds);
    }
    // On a busy machine the other thread may have had no turn yet.
    TARN_LIFE_REQUIRE(Await([&] {
      SlowPath();
      return words.answered() != first;
    }));
    over = true;
    asker.join();
  });
}

// --- Requests for another limit (tarn_snapshot_limit_request) --------------------------------------------------------

class LimitWords {
 public:
  LimitWords() {
    const auto* block = static_cast<const tarn_snapshot_block*>(dlsym(RTLD_DEFAULT, "tarn_snapshot"));
    TARN_LIFE_REQUIRE(block != nullptr && block->limit_request_address != 0);
    words_ = reinterpret_cast<tarn_snapshot_limit_request*>(block->limit_request_address);
  }
  void Write(uint64_t number, uint64_t bytes, uint64_t check) {
    __atomic_store_n(&words_->request_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&words_->check, check, __ATOMIC_RELAXED);
    __atomic_store_n(&words_->request, number, __ATOMIC_RELAXED);
  }
  uint64_t Ask(uint64_t bytes) {
    const uint64_t number = answered() + 1;
    Write(number, bytes, TARN_SNAPSHOT_LIMIT_CHECK(number, bytes));
    return number;
  }
  // In pieces of four bytes, as a write from outside may arrive.
  uint64_t AskInPieces(uint64_t bytes) {
    const uint64_t number = answered() + 1;
    const uint64_t words[] = {number, bytes, TARN_SNAPSHOT_LIMIT_CHECK(number, bytes)};
    uint32_t pieces[6];
    memcpy(pieces, words, sizeof pieces);
    auto* const to = reinterpret_cast<volatile uint32_t*>(words_);
    for (int i = 0; i < 6; ++i) {
      to[i] = pieces[i];
      // A processor may keep stores back until the last of them, otherwise.
      std::atomic_thread_fence(std::memory_order_seq_cst);
      for (volatile int delay = 0; delay < 50;) delay = delay + 1;
    }
    return number;
  }
  bool Has(uint64_t number, uint64_t bytes) const {
    return request() == number && __atomic_load_n(&words_->request_bytes, __ATOMIC_RELAXED) == bytes &&
           __atomic_load_n(&words_->check, __ATOMIC_RELAXED) == TARN_SNAPSHOT_LIMIT_CHECK(number, bytes);
  }
  uint64_t request() const { return __atomic_load_n(&words_->request, __ATOMIC_RELAXED); }
  uint64_t answered() const { return __atomic_load_n(&words_->answered, __ATOMIC_ACQUIRE); }
  uint64_t answered_bytes() const { return __atomic_load_n(&words_->answered_bytes, __ATOMIC_RELAXED); }
  uint64_t answered_request_bytes() const { return __atomic_load_n(&words_->answered_request_bytes, __ATOMIC_RELAXED); }

 private:
  tarn_snapshot_limit_request* words_;
};

TEST(LimitRequest, IsSetByASlowPathWhereThereIsNoThread) {
  ExpectGoodEnd(kBodySeconds, [] {
    LimitWords words;
    SmallBurst();
    for (const uint64_t bytes : {uint64_t{5} << 30, uint64_t{3} << 30, uint64_t{TARN_LIMIT_NONE}}) {
      const uint64_t number = words.Ask(bytes);
      TARN_LIFE_REQUIRE(words.answered() == number - 1);
      SlowPath();
      TARN_LIFE_REQUIRE(words.answered() == number && words.answered_request_bytes() == bytes);
      TARN_LIFE_REQUIRE(words.answered_bytes() == bytes && tarn_memory_limit() == bytes);
    }
    words.Ask(TARN_LIMIT_AUTO);
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered_request_bytes() == 0 && words.answered_bytes() == tarn_memory_limit());
    TARN_LIFE_REQUIRE(words.answered_bytes() != 0);
    // Once each.
    tarn_set_memory_limit(size_t{7} << 30);
    SlowPath();
    TARN_LIFE_REQUIRE(tarn_memory_limit() == size_t{7} << 30);
  });
}

TEST(LimitRequest, IsSetByTheThreadAndByATick) {
  ExpectGoodEnd(kBodySeconds, [] {
    LimitWords words;
    const uint64_t first = words.Ask(uint64_t{5} << 30);
    tarn_background_tick();
    TARN_LIFE_REQUIRE(words.answered() == first && tarn_memory_limit() == size_t{5} << 30);
    bool answered = false;
    // The thread may end before the request is there.
    for (int attempt = 0; attempt < 20 && !answered; ++attempt) {
      StartScavenger();
      const uint64_t second = words.Ask(uint64_t{6} << 30);
      TARN_LIFE_REQUIRE(Await([&] {
        const bool ended = Scavenger() == 0;
        answered = words.answered() == second;
        return answered || ended;
      }));
      SlowPath();
    }
    TARN_LIFE_REQUIRE(answered);
    TARN_LIFE_REQUIRE(tarn_memory_limit() == size_t{6} << 30);
  });
}

uint64_t SkippedChecks() {
  tarn_limit_stats stats;
  tarn_get_limit_stats(&stats);
  return stats.skipped;
}

// Memory goes back when the limit is set, not when more is wanted.
TEST(LimitRequest, IsKeptAtOnce) {
  ExpectGoodEnd(kBodySeconds, [] {
    LimitWords words;
    SmallBurst();
    // By a slow path, and by a tick.
    for (const bool tick : {false, true}) {
      bool kept = false;
      // Keeping the limit takes a tenth of the time at most, and a busy machine may use that up: such a try does not
      // count.
      for (bool skipped = true; !kept && skipped;) {
        tarn_set_memory_limit(TARN_LIMIT_NONE);
        SmallBurst();
        const uint64_t skipped_before = SkippedChecks();
        const size_t before = ResidentBytes();
        words.Ask(before - kMiB);
        tick ? static_cast<void>(tarn_background_tick()) : SlowPath();
        kept = ResidentBytes() < before - kMiB / 2;
        skipped = SkippedChecks() != skipped_before;
      }
      TARN_LIFE_REQUIRE(kept);
    }
  });
}

TEST(LimitRequest, IsLeftAloneWhileItsWordsDoNotBelongTogether) {
  ExpectGoodEnd(kBodySeconds, [] {
    LimitWords words;
    words.Ask(uint64_t{5} << 30);
    SlowPath();
    const uint64_t last = words.answered();
    const uint64_t bytes = uint64_t{3} << 30;
    const uint64_t check = TARN_SNAPSHOT_LIMIT_CHECK(last + 1, bytes);
    // A number with an older value or check; a value of somebody else; one that is half written.
    words.Write(last + 1, uint64_t{5} << 30, check);
    SlowPath();
    words.Write(last + 1, bytes, TARN_SNAPSHOT_LIMIT_CHECK(last, uint64_t{5} << 30));
    SlowPath();
    words.Write(last + 2, bytes, check);
    SlowPath();
    words.Write(last + 1, bytes + 1, check);
    SlowPath();
    // Old numbers.
    words.Write(last, bytes, TARN_SNAPSHOT_LIMIT_CHECK(last, bytes));
    SlowPath();
    words.Write(last - 1, bytes, TARN_SNAPSHOT_LIMIT_CHECK(last - 1, bytes));
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == last && tarn_memory_limit() == size_t{5} << 30);
    words.Write(last + 1, bytes, check);
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == last + 1 && tarn_memory_limit() == bytes);
  });
}

// Two who ask at once, again and again, each without a look at the other.
TEST(LimitRequest, IsNeverAMixtureOfTwo) {
  ExpectGoodEnd(kBodySeconds, [] {
    LimitWords words;
    constexpr uint64_t kOne = 0x0000111111111111;
    constexpr uint64_t kOther = 0x0000222222222222;
    words.Ask(kOne);
    SlowPath();
    std::atomic<bool> over = false;
    // Now and then it stays until it is answered, or somebody has written over it: else a busy machine would hardly
    // ever show whole words to this thread.
    const auto ask = [&] {
      for (int i = 0; !over; ++i) {
        const uint64_t bytes = i % 2 == 0 ? kOne : kOther;
        const uint64_t number = words.AskInPieces(bytes);
        while (i % 64 == 0 && !over && words.answered() < number && words.Has(number, bytes)) std::this_thread::yield();
      }
    };
    std::thread one(ask);
    std::thread other(ask);
    const uint64_t first = words.answered();
    const double start = Seconds();
    while (Seconds() < start + 0.5 || words.answered() <= first + 10) {
      SlowPath();
      TARN_LIFE_REQUIRE(tarn_memory_limit() == kOne || tarn_memory_limit() == kOther);
    }
    over = true;
    one.join();
    other.join();
  });
}

TEST(LimitRequest, StaysWithTheParentOfAFork) {
  ExpectGoodEnd(kBodySeconds, [] {
    LimitWords words;
    SmallBurst();
    const uint64_t number = words.Ask(uint64_t{5} << 30);
    const size_t before = tarn_memory_limit();
    const pid_t child = fork();
    if (child == 0) {
      SlowPath();
      TARN_LIFE_REQUIRE(words.answered() == number - 1 && tarn_memory_limit() == before);
      words.Ask(uint64_t{6} << 30);
      SlowPath();
      TARN_LIFE_REQUIRE(words.answered() == number && tarn_memory_limit() == size_t{6} << 30);
      _exit(0);
    }
    RequireGoodEnd(child, kPatienceSeconds);
    SlowPath();
    TARN_LIFE_REQUIRE(words.answered() == number && tarn_memory_limit() == size_t{5} << 30);
  });
}

}  // namespace
}  // namespace tarn_test
