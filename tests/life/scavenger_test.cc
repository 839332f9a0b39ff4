// The thread that gives memory back: when it comes and goes, what it does in an idle process, and that it disturbs
// nobody. Every body runs in a child, for each process has one of its own.

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstring>
#include <utility>
#include <vector>

#include "tests/entry/on_tarn.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 60;
// Long enough for a slow machine; a good one needs four.
constexpr double kPatienceSeconds = 40;

// Without allocating: what is looked at must not change by it.
size_t ResidentBytes() {
  char text[128] = {};
  const int file = open("/proc/self/statm", O_RDONLY);
  TARN_LIFE_REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
  close(file);
  return strtoul(strchr(text, ' '), nullptr, 10) * static_cast<size_t>(getpagesize());
}

// The id of the scavenger's thread, or 0.
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

// Allocates so many bytes in objects of one size, touches them, frees them.
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

// Gives the scavenger something to do, and waits until it is there.
pid_t StartScavenger() {
  Burst(40 * kMiB, 300000);
  TARN_LIFE_REQUIRE(Await([] { return Scavenger() != 0; }));
  return Scavenger();
}

class Scavenging : public testing::TestWithParam<size_t> {};

TEST_P(Scavenging, AnIdleProcessGivesItsMemoryBack) {
  ExpectGoodEnd(kBodySeconds, [] {
    Burst(kMiB, GetParam());
    const size_t before = ResidentBytes();
    Burst(60 * kMiB, GetParam());
    TARN_LIFE_REQUIRE(Await([&] { return ResidentBytes() < before + 8 * kMiB; }));
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
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", StartScavenger());
    FILE* const file = fopen(path, "r");
    TARN_LIFE_REQUIRE(file != nullptr);
    char line[256];
    bool found = false;
    while (fgets(line, sizeof line, file) != nullptr) {
      // SIGKILL and SIGSTOP cannot be.
      if (strncmp(line, "SigBlk:", 7) == 0) found = strstr(line, "fffffffffffbfeff") != nullptr;
    }
    fclose(file);
    TARN_LIFE_REQUIRE(found);
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
        alarm(20);
        Churn(static_cast<uint64_t>(forks), 300 * kKiB).Steps(100);
        Burst(10 * kMiB, 100000);
        malloc_trim(0);
        _exit(0);
      }
      RequireGoodEnd(child, 25);
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

}  // namespace
}  // namespace tarn_test
