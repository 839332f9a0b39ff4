// SPDX-License-Identifier: Apache-2.0
//
// The threads that tarn starts: what they may and have, when there are none, and how a program gets rid of them.
//
// The test is started with TARN_BACKGROUND=on. Where the default is tested, a program is run again without it.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tarn/limits.h>
#include <tarn/pool.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/expect_child.h"
#include "tests/life/parked_thread.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;
// The exit code of a child that may not trace its parent on this machine.
constexpr int kNotPermitted = 77;
constexpr size_t kMiB = size_t{1} << 20;

template <typename Condition>
bool Await(const Condition& condition) {
  const double deadline = Seconds() + kPatienceSeconds;
  while (!condition()) {
    if (Seconds() > deadline) return false;
    Sleep(2000);
  }
  return true;
}

struct Task {
  pid_t id;
  std::string name;
  std::string status;
  bool Has(const char* line) const { return status.find(std::string("\n") + line) != std::string::npos; }
};

std::string ReadFile(const std::string& path) {
  std::string text(4096, '\0');
  const int file = open(path.c_str(), O_RDONLY);
  if (file < 0) return {};
  const ssize_t length = read(file, text.data(), text.size());
  close(file);
  text.resize(length < 0 ? 0 : static_cast<size_t>(length));
  return text;
}

// The threads of the process, as the kernel counts them.
std::vector<Task> Tasks() {
  std::vector<Task> all;
  DIR* const tasks = opendir("/proc/self/task");
  TARN_LIFE_REQUIRE(tasks != nullptr);
  while (const dirent* task = readdir(tasks)) {
    if (task->d_name[0] == '.') continue;
    const std::string path = std::string("/proc/self/task/") + task->d_name;
    Task found = {atoi(task->d_name), ReadFile(path + "/comm"), ReadFile(path + "/status")};
    if (!found.status.empty()) all.push_back(found);
  }
  closedir(tasks);
  return all;
}

bool HasThread(const char* name) {
  for (const Task& task : Tasks()) {
    if (task.name == name) return true;
  }
  return false;
}
bool HasScavenger() { return HasThread("tarn-scavenger\n"); }
bool HasCaretaker() { return HasThread("tarn-caretaker\n"); }

pid_t ScavengerId() {
  for (const Task& task : Tasks()) {
    if (task.name == "tarn-scavenger\n") return task.id;
  }
  return 0;
}

void Burst(size_t bytes) {
  constexpr size_t kObjectBytes = 3000;
  std::vector<char*> objects(bytes / kObjectBytes);
  for (char*& object : objects) {
    object = static_cast<char*>(malloc(kObjectBytes));
    TARN_LIFE_REQUIRE(object != nullptr);
    memset(object, 1, kObjectBytes);
  }
  for (char* object : objects) free(object);
}

void StartScavenger() {
  ParkAThread();
  TARN_LIFE_REQUIRE(Await([] {
    Burst(40 * kMiB);
    return HasScavenger();
  }));
}

// --- What the thread has -------------------------------------------------------------------------------------------

TEST(ScavengersThread, HasNothingThatIsWorthStealing) {
  ExpectGoodEnd(kBodySeconds, [] {
    StartScavenger();
    // Its name comes before the rest.
    TARN_LIFE_REQUIRE(Await([] {
      for (const Task& task : Tasks()) {
        if (task.name == "tarn-scavenger\n") {
          return task.Has("NoNewPrivs:\t1") && task.Has("Seccomp:\t2") && task.Has("CapEff:\t0000000000000000") &&
                 task.Has("CapPrm:\t0000000000000000") && task.Has("CapInh:\t0000000000000000");
        }
      }
      StartScavenger();
      return false;
    }));
    // The program keeps all of its own.
    for (const Task& task : Tasks()) {
      if (task.name != "tarn-scavenger\n") TARN_LIFE_REQUIRE(task.Has("NoNewPrivs:\t0"));
    }
    TARN_LIFE_REQUIRE(prctl(PR_GET_DUMPABLE) == 1);
    const int file = open("/dev/null", O_RDONLY);
    TARN_LIFE_REQUIRE(file >= 0);
    DIR* const tasks = opendir("/proc/self/task");
    while (const dirent* task = readdir(tasks)) {
      const std::string path = std::string("/proc/self/task/") + task->d_name;
      if (ReadFile(path + "/comm") != "tarn-scavenger\n") continue;
      DIR* const descriptors = opendir((path + "/fd").c_str());
      if (descriptors == nullptr) continue;
      int count = 0;
      while (const dirent* descriptor = readdir(descriptors)) count += descriptor->d_name[0] != '.' ? 1 : 0;
      closedir(descriptors);
      TARN_LIFE_REQUIRE(count == 0);
    }
    closedir(tasks);
  });
}

// --- When there is none --------------------------------------------------------------------------------------------

TEST(ScavengersThread, IsNotInAProgramWithoutThreads) {
  ExpectGoodEnd(kBodySeconds, [] {
    for (int i = 0; i < 5; ++i) Burst(40 * kMiB);
    TARN_LIFE_REQUIRE(Tasks().size() == 1);
  });
}

TEST(ScavengersThread, EndsWithTheLastThreadOfTheProgramThatIsNotItsFirst) {
  ExpectGoodEnd(kBodySeconds, [] {
    std::thread thread([] {
      TARN_LIFE_REQUIRE(Await([] {
        Burst(40 * kMiB);
        return HasScavenger();
      }));
    });
    thread.join();
    TARN_LIFE_REQUIRE(Await([] { return Tasks().size() == 1; }));
    // And none comes back, though libc still takes the process for one with threads.
    Burst(40 * kMiB);
    TARN_LIFE_REQUIRE(Await([] { return Tasks().size() == 1; }));
    // That holds back none where the program has threads again.
    StartScavenger();
  });
}

TEST(ScavengersThread, EndsWhenTheIdsOfTheProcessChange) {
  if (geteuid() != 0) GTEST_SKIP() << "there are no rights to give up";
  ExpectGoodEnd(kBodySeconds, [] {
    StartScavenger();
    TARN_LIFE_REQUIRE(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    TARN_LIFE_REQUIRE(Await([] {
      for (const Task& task : Tasks()) {
        if (task.Has("Uid:\t0")) return false;
      }
      return true;
    }));
  });
}

// --- By order ------------------------------------------------------------------------------------------------------

TEST(StopBackground, EndsTheThreadsForGood) {
  ExpectGoodEnd(kBodySeconds, [] {
    StartScavenger();
    static tarn::Pool<int> pool({.epoch_ms = 3'600'000});
    pool.Put(pool.Get());
    TARN_LIFE_REQUIRE(Await(HasCaretaker));
    errno = 77;
    tarn_stop_background();
    TARN_LIFE_REQUIRE(errno == 77);
    TARN_LIFE_REQUIRE(Tasks().size() == 2);
    Burst(40 * kMiB);
    pool.Put(pool.Get());
    TARN_LIFE_REQUIRE(Tasks().size() == 2);
    tarn::StopBackground();
    const pid_t child = fork();
    if (child == 0) {
      ParkAThread();
      Burst(40 * kMiB);
      TARN_LIFE_REQUIRE(Tasks().size() == 2);
      _exit(0);
    }
    RequireGoodEnd(child, kPatienceSeconds);
  });
}

TEST(StopBackground, MayBeCalledWhileThreadsComeAndGo) {
  for (int round = 0; round < 20; ++round) {
    ExpectGoodEnd(kBodySeconds, [round] {
      ParkAThread();
      std::vector<std::thread> threads;
      for (int i = 0; i < 3; ++i) {
        threads.emplace_back([i] {
          tarn::Pool<int> pool({.epoch_ms = 1});
          for (int burst = 0; burst < 4; ++burst) {
            Burst(6 * kMiB);
            pool.Put(pool.Get());
            if (i == 0) {
              const pid_t child = fork();
              if (child == 0) _exit(0);
              RequireGoodEnd(child, kPatienceSeconds);
            }
          }
        });
      }
      Sleep(round * 1500);
      std::thread other(tarn_stop_background);
      tarn_stop_background();
      other.join();
      TARN_LIFE_REQUIRE(!HasScavenger() && !HasCaretaker());
      for (std::thread& thread : threads) thread.join();
      TARN_LIFE_REQUIRE(!HasScavenger() && !HasCaretaker());
    });
  }
}

// A tracer keeps a thread that has ended in the kernel's count, as a busy machine does for a moment.
TEST(StopBackground, SeesAThreadOutWhoseSuccessorRuns) {
  ExpectGoodEnd(kBodySeconds, [] {
    StartScavenger();
    const pid_t first = ScavengerId();
    int traces[2];
    TARN_LIFE_REQUIRE(pipe(traces) == 0);
    const pid_t program = getpid();
    TARN_LIFE_REQUIRE(prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY) == 0 || errno == EINVAL);
    const pid_t tracer = _Fork();
    if (tracer == 0) {
      // No such thread: it has ended by itself, on a busy machine.
      if (ptrace(PTRACE_SEIZE, first, nullptr, nullptr) != 0) {
        _exit(errno == EPERM || errno == ESRCH ? kNotPermitted : 1);
      }
      TARN_LIFE_REQUIRE(write(traces[1], "", 1) == 1);
      // The thread has ended, and is waited for a while later.
      siginfo_t info;
      TARN_LIFE_REQUIRE(waitid(P_PID, static_cast<id_t>(first), &info, WEXITED | WNOWAIT | __WALL) == 0);
      Sleep(100'000);
      TARN_LIFE_REQUIRE(waitid(P_PID, static_cast<id_t>(first), &info, WEXITED | __WALL) == 0);
      _exit(getppid() == program ? 0 : 1);
    }
    TARN_LIFE_REQUIRE(close(traces[1]) == 0);
    char byte;
    if (read(traces[0], &byte, 1) != 1) {
      int status = 0;
      TARN_LIFE_REQUIRE(waitpid(tracer, &status, 0) == tracer && WIFEXITED(status));
      TARN_LIFE_REQUIRE(WEXITSTATUS(status) == kNotPermitted);
      _exit(0);
    }
    // A fork ends the thread and starts another.
    const pid_t child = fork();
    if (child == 0) _exit(0);
    RequireGoodEnd(child, kPatienceSeconds);
    tarn_stop_background();
    TARN_LIFE_REQUIRE(!HasScavenger());
    RequireGoodEnd(tracer, kPatienceSeconds);
  });
}

TEST(StopBackground, MayBeCalledByADestructorThatTheCaretakerRuns) {
  struct Stops {
    bool stops = true;
    ~Stops() {
      if (stops) tarn_stop_background();
    }
  };
  ExpectGoodEnd(kBodySeconds, [] {
    ParkAThread();
    auto* pool = new tarn::Pool<Stops>({.epoch_ms = 1});
    pool->Put(pool->Get());
    TARN_LIFE_REQUIRE(Await([] { return Tasks().size() == 2; }));
  });
}

// --- The caretaker -------------------------------------------------------------------------------------------------

TEST(Caretaker, IsNotInAProgramWithoutThreads) {
  ExpectGoodEnd(kBodySeconds, [] {
    tarn::Pool<int> pool({.epoch_ms = 1});
    for (int i = 0; i < 100; ++i) pool.Put(pool.Get());
    TARN_LIFE_REQUIRE(Tasks().size() == 1);
  });
}

TEST(Caretaker, EndsWhenTheFirstThreadGivesUpCapabilities) {
  if (geteuid() != 0) GTEST_SKIP() << "there are none";
  ExpectGoodEnd(kBodySeconds, [] {
    ParkAThread();
    tarn::Pool<int> pool({.epoch_ms = 20});
    // Used again and again: the caretaker of a pool that is empty ends, perhaps before it was seen.
    TARN_LIFE_REQUIRE(Await([&pool] {
      pool.Put(pool.Get());
      return HasCaretaker();
    }));
    struct {
      uint32_t version = 0x20080522;
      int id = 0;
    } header;
    const uint32_t none[6] = {};
    TARN_LIFE_REQUIRE(syscall(SYS_capset, &header, none) == 0);
    // One that comes back has no more than the first thread.
    TARN_LIFE_REQUIRE(Await([&pool] {
      pool.Put(pool.Get());
      for (const Task& task : Tasks()) {
        if (task.name == "tarn-caretaker\n" && !task.Has("CapEff:\t0000000000000000")) return false;
      }
      return true;
    }));
  });
}

// --- A program that gives up its rights (the default setting) ------------------------------------------------------

bool RefuseSocket() {
  const sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
                                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program = {4, const_cast<sock_filter*>(filter)};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Runs Burst on two threads, and returns when the kernel does not count them any more. It does so for a moment behind a
// join, and on a busy machine for longer.
void BurstOnThreads() {
  std::atomic<pid_t> ids[2] = {};
  std::thread threads[2];
  for (int i = 0; i < 2; ++i) {
    threads[i] = std::thread([&id = ids[i]] {
      id = gettid();
      Burst(8 * kMiB);
    });
  }
  for (int i = 0; i < 2; ++i) {
    threads[i].join();
    TARN_LIFE_REQUIRE(Await([&id = ids[i]] { return tgkill(getpid(), id, 0) != 0 && errno == ESRCH; }));
  }
}

void GiveUpRights(bool with_threads, bool stop) {
  const int lowest = open("/proc/self/status", O_RDONLY);
  TARN_LIFE_REQUIRE(lowest >= 0 && close(lowest) == 0);
  Burst(8 * kMiB);
  if (with_threads) {
    BurstOnThreads();
    Burst(8 * kMiB);
  }
  if (stop) tarn_stop_background();
  if (geteuid() == 0) {
    TARN_LIFE_REQUIRE(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
  }
  TARN_LIFE_REQUIRE(RefuseSocket());
  const int threads = static_cast<int>(Tasks().size());
  TARN_LIFE_REQUIRE(threads == 1);
  TARN_LIFE_REQUIRE(unshare(CLONE_NEWUSER) == 0 || errno != EINVAL);
  // Nor did a descriptor come into use.
  TARN_LIFE_REQUIRE(open("/proc/self/status", O_RDONLY) == lowest);
}

// TARN_TEST_TRIES: how often. The issue of this was a matter of microseconds.
int Tries() {
  const char* const tries = getenv("TARN_TEST_TRIES");
  return tries == nullptr ? 50 : atoi(tries);
}

TEST(GivingUpRights, WorksAtEachTryWithoutThreads) {
  for (int i = 0; i < Tries(); ++i) ExpectGoodEnd(kBodySeconds, [] { GiveUpRights(false, false); });
}

TEST(GivingUpRights, WorksAtEachTryBehindAStop) {
  for (int i = 0; i < Tries(); ++i) ExpectGoodEnd(kBodySeconds, [] { GiveUpRights(true, true); });
}

// In a program that asks for nothing (run with TARN_BACKGROUND=auto).
TEST(DefaultBackground, GivingUpRightsWorksAtEachTryBehindThreads) {
  for (int i = 0; i < Tries(); ++i) ExpectGoodEnd(kBodySeconds, [] { GiveUpRights(true, false); });
}

TEST(DefaultBackground, NoThreadOfTarnsIsInAProgramThatUsesPools) {
  for (const bool as_nobody : {false, true}) {
    ExpectGoodEnd(kBodySeconds, [as_nobody] {
      if (as_nobody && geteuid() == 0) TARN_LIFE_REQUIRE(setresuid(65534, 65534, 65534) == 0);
      ParkAThread();
      tarn::Pool<int> pool({.epoch_ms = 1});
      for (int i = 0; i < 100; ++i) pool.Put(pool.Get());
      for (int i = 0; i < 3; ++i) Burst(40 * kMiB);
      TARN_LIFE_REQUIRE(Tasks().size() == 2);
    });
  }
}

// Programs that put all of their threads into a sandbox at once. A thread with a filter of its own would be in the way.
TEST(DefaultBackground, AFilterForAllThreadsIsAccepted) {
  ExpectGoodEnd(kBodySeconds, [] {
    if (geteuid() == 0) TARN_LIFE_REQUIRE(setresuid(65534, 65534, 65534) == 0);
    ParkAThread();
    for (int i = 0; i < 3; ++i) Burst(40 * kMiB);
    const sock_filter filter[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program = {1, const_cast<sock_filter*>(filter)};
    TARN_LIFE_REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    TARN_LIFE_REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
  });
}

}  // namespace
}  // namespace tarn_test
