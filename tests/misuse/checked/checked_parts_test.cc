// SPDX-License-Identifier: Apache-2.0
//
// The parts of TARN_CHECK, each in a process of its own with other settings, and valid programs that must end without a
// report: threads, forks and signal handlers that allocate.

#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "allocator/include/tarn/check.h"
#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"
#include "tests/misuse/checked/child_outcome.h"

namespace tarn_test {
namespace {

using Outcome = ChildOutcome;
using Settings = std::map<std::string, std::string>;

Outcome RunSelf(const std::string& body, const Settings& settings) {
  return OutcomeOfChild([&] {
    for (const auto& [name, value] : settings) setenv(name.c_str(), value.c_str(), 1);
    execl("/proc/self/exe", "checked_parts_test", ("--run=" + body).c_str(), nullptr);
  });
}

// --- What the children do ------------------------------------------------------------------------------------------

void FreeTwice() {
  void* object = Opaque(malloc(100));
  free(Opaque(object));
  free(Opaque(object));
}

// Apart, so that a loop of calls has one call site.
__attribute__((noinline)) void Leak() { Opaque(malloc(12345)); }

// A worker of the storm: objects of all kinds and sizes, with contents that nobody else may write.
void Work(unsigned seed, int rounds) {
  std::minstd_rand random(seed);
  struct Held {
    unsigned char* object = nullptr;
    size_t size = 0;
    unsigned char byte = 0;
    int kind = 0;
  };
  std::vector<Held> held(200);
  const auto release = [](Held* one) {
    for (size_t i = 0; i < one->size; i += 97) {
      if (one->object[i] != one->byte) abort();
    }
    if (one->object == nullptr) return;
    if (one->kind == 1) {
      ::operator delete(one->object, one->size);
    } else if (one->kind == 2) {
      ::operator delete[](one->object);
    } else {
      free(one->object);
    }
    *one = {};
  };
  for (int i = 0; i < rounds; ++i) {
    Held& one = held[random() % held.size()];
    if (one.object != nullptr && one.kind == 0 && random() % 4 == 0) {
      const size_t size = 1 + random() % (random() % 50 == 0 ? 400000 : 2000);
      auto* object = static_cast<unsigned char*>(realloc(one.object, size));
      if (object == nullptr) abort();
      if (size > one.size) memset(object + one.size, one.byte, size - one.size);
      one.object = object;
      one.size = size;
      continue;
    }
    release(&one);
    one.size = random() % (random() % 100 == 0 ? 1000000 : 3000);
    one.byte = static_cast<unsigned char>(random());
    one.kind = static_cast<int>(random() % 5);
    void* object = nullptr;
    switch (one.kind) {
      case 1:
        object = ::operator new(one.size);
        break;
      case 2:
        object = ::operator new[](one.size);
        break;
      case 3:
        if (posix_memalign(&object, size_t{16} << random() % 9, one.size) != 0) abort();
        break;
      case 4:
        object = calloc(one.size, 1);
        for (size_t k = 0; k < one.size; k += 61) {
          if (static_cast<unsigned char*>(object)[k] != 0) abort();
        }
        break;
      default:
        object = malloc(one.size);
    }
    if (object == nullptr) abort();
    one.object = static_cast<unsigned char*>(object);
    memset(one.object, one.byte, one.size);
  }
  for (Held& one : held) release(&one);
}

void WorkInThreads(int threads, int rounds) {
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) running.emplace_back(Work, static_cast<unsigned>(i + 1), rounds);
  for (std::thread& thread : running) thread.join();
}

// Threads work while this one forks; the children work and end by exit, with its sweep.
void WorkAndFork() {
  std::atomic<bool> done = false;
  std::thread others([&done] {
    while (!done) WorkInThreads(2, 500);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      Work(static_cast<unsigned>(i), 300);
      if (tarn_check_heap() != 0) _exit(9);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) {
      dprintf(2, "a child ended with %#x\n", static_cast<unsigned>(status));
      _exit(8);
    }
  }
  done = true;
  others.join();
}

// A signal handler allocates and frees, while the program does.
std::atomic<int> g_handled = 0;
void OnTimer(int) {
  void* object = malloc(50 + static_cast<size_t>(g_handled) % 1000);
  if (object != nullptr) memset(object, 1, 50);
  free(object);
  ++g_handled;
}
void WorkUnderSignals() {
  struct sigaction action = {};
  action.sa_handler = &OnTimer;
  action.sa_flags = SA_RESTART;
  sigaction(SIGPROF, &action, nullptr);
  const struct itimerval timer = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_PROF, &timer, nullptr);
  while (g_handled < 100) Work(7, 2000);
  const struct itimerval none = {};
  setitimer(ITIMER_PROF, &none, nullptr);
}

// Sweeps while other threads allocate and free.
void WorkAndSweep() {
  std::atomic<bool> done = false;
  std::thread sweeper([&done] {
    while (!done) {
      if (tarn_check_heap() != 0) abort();
    }
  });
  WorkInThreads(2, 5000);
  done = true;
  sweeper.join();
}

struct Static {
  char* object = new char[100];
  ~Static() { delete[] object; }
};
Static g_static;

int RunBody(const std::string& body) {
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (body == "free_twice") FreeTwice();
  if (body == "free_10_twice") {
    for (int i = 0; i < 10; ++i) FreeTwice();
  }
  if (body == "malloc_delete") ::operator delete(Opaque(malloc(10)));
  if (body == "new_free") free(Opaque(::operator new(10)));
  if (body == "new_array_delete") ::operator delete(Opaque(::operator new[](10)));
  if (body == "new_delete_array") ::operator delete[](Opaque(::operator new(10)));
  if (body == "new_realloc") free(Opaque(realloc(Opaque(::operator new(10)), 5000)));
  if (body == "matched") {
    free(Opaque(malloc(10)));
    free(Opaque(realloc(Opaque(malloc(10)), 1000)));
    ::operator delete(Opaque(::operator new(10)));
    ::operator delete[](Opaque(::operator new[](10)));
    ::operator delete (Opaque(::operator new (10, std::align_val_t{64})), std::align_val_t{64});
    ::operator delete[](Opaque(::operator new[](10, std::align_val_t{64})), std::align_val_t{64});
    ::operator delete[](Opaque(::operator new[](10, std::nothrow)), std::nothrow);
    ::operator delete[](Opaque(::operator new[](10)), size_t{10});
  }
  if (body == "leak") {
    for (int i = 0; i < Opaque(3); ++i) Leak();
    free(Opaque(malloc(54321)));
  }
  if (body == "write_after_free") {
    char* object = static_cast<char*>(Opaque(malloc(100)));
    free(Opaque(object));
    *Opaque(object) = 1;
  }
  if (body == "read_after_free") {
    char* object = static_cast<char*>(Opaque(malloc(100)));
    free(Opaque(object));
    _exit(Opaque(object)[50] == 77);
  }
  if (body == "read_behind") {
    char* object = static_cast<char*>(Opaque(malloc(96)));
    _exit(Opaque(object)[96] == 77);
  }
  if (body == "threads") WorkInThreads(4, 4000);
  if (body == "forks") WorkAndFork();
  if (body == "signals") WorkUnderSignals();
  if (body == "sweeps") WorkAndSweep();
  return 0;
}

// --- The tests -----------------------------------------------------------------------------------------------------

class PartsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  }
};

TEST_F(PartsTest, MismatchSeesOtherFamilies) {
  for (const char* body : {"malloc_delete", "new_free", "new_array_delete", "new_delete_array", "new_realloc"}) {
    const Outcome outcome = RunSelf(body, {{"TARN_CHECK", "mismatch"}});
    EXPECT_TRUE(outcome.aborted()) << body << "\n" << outcome.err;
    EXPECT_TRUE(outcome.says("object was made by another family of functions")) << body << "\n" << outcome.err;
    EXPECT_TRUE(outcome.says("The allocation")) << body << "\n" << outcome.err;
    const Outcome usual = RunSelf(body, {{"TARN_CHECK", "on"}});
    EXPECT_TRUE(usual.ended_well()) << body << "\n" << usual.err;
    EXPECT_EQ(usual.err, "") << body;
  }
  const Outcome outcome = RunSelf("matched", {{"TARN_CHECK", "mismatch"}});
  EXPECT_TRUE(outcome.ended_well()) << outcome.err;
  EXPECT_EQ(outcome.err, "");
}

TEST_F(PartsTest, LeaksReportsWhatIsLive) {
  const Outcome outcome = RunSelf("leak", {{"TARN_CHECK", "leaks"}});
  EXPECT_TRUE(outcome.ended_well()) << outcome.err;
  EXPECT_TRUE(outcome.says("are allocated at the end")) << outcome.err;
  EXPECT_TRUE(outcome.says("37035 bytes in 3 objects, allocated at:")) << outcome.err;
  EXPECT_FALSE(outcome.says("54321")) << outcome.err;
}

TEST_F(PartsTest, FreeAloneLeavesContents) {
  const Outcome outcome = RunSelf("free_twice", {{"TARN_CHECK", "free"}});
  EXPECT_TRUE(outcome.aborted()) << outcome.err;
  EXPECT_TRUE(outcome.says("object is already free")) << outcome.err;
  // No part looks at the contents.
  EXPECT_TRUE(RunSelf("write_after_free", {{"TARN_CHECK", "free"}}).ended_well());
  EXPECT_TRUE(RunSelf("write_after_free", {{"TARN_CHECK", "bounds,quarantine"}}).aborted());
}

TEST_F(PartsTest, TheDepthOfStacksIsASetting) {
  const Outcome none = RunSelf("free_twice", {{"TARN_CHECK", "on"}, {"TARN_CHECK_FRAMES", "0"}});
  EXPECT_TRUE(none.aborted()) << none.err;
  EXPECT_FALSE(none.says("The allocation")) << none.err;
  const Outcome one = RunSelf("free_twice", {{"TARN_CHECK", "on"}, {"TARN_CHECK_FRAMES", "1"}});
  const size_t allocation = one.err.find("The allocation");
  ASSERT_NE(allocation, std::string::npos) << one.err;
  EXPECT_NE(one.err.find("#0", allocation), std::string::npos) << one.err;
  EXPECT_EQ(one.err.find("#1", allocation), std::string::npos) << one.err;
}

TEST_F(PartsTest, WithoutAQuarantineASecondFreeIsSeen) {
  const Outcome outcome = RunSelf("free_twice", {{"TARN_CHECK", "on"}, {"TARN_CHECK_QUARANTINE", "0"}});
  EXPECT_TRUE(outcome.aborted()) << outcome.err;
}

TEST_F(PartsTest, AReportMayLetTheProcessGoOn) {
  const Outcome outcome = RunSelf("free_10_twice", {{"TARN_CHECK", "on"}, {"TARN_CHECK_CONTINUE", "on"}});
  EXPECT_TRUE(outcome.ended_well()) << outcome.err;
  size_t reports = 0;
  for (size_t at = 0; (at = outcome.err.find("object is already free", at)) != std::string::npos; ++at) ++reports;
  EXPECT_EQ(reports, 10u) << outcome.err;
}

TEST_F(PartsTest, GuardSeesReads) {
  for (const auto& [body, what] :
       {std::pair{"read_after_free", "object was freed before"}, {"read_behind", "address is past the end"}}) {
    const Outcome outcome = RunSelf(body, {{"TARN_CHECK", "guard"}});
    EXPECT_TRUE(outcome.aborted()) << body << outcome.status << "\n" << outcome.err;
    EXPECT_TRUE(outcome.says("tarn: fatal: read(0x")) << body << "\n" << outcome.err;
    EXPECT_TRUE(outcome.says(what)) << body << "\n" << outcome.err;
    EXPECT_TRUE(outcome.says("The allocation")) << body << "\n" << outcome.err;
  }
  const Outcome twice = RunSelf("free_twice", {{"TARN_CHECK", "guard"}});
  EXPECT_TRUE(twice.aborted() && twice.says("object is already free")) << twice.err;
}

// Those that find no place are checked as with `free`, and the process says so once.
TEST_F(PartsTest, GuardSaysWhatItCannotGuard) {
  const Outcome outcome = RunSelf("threads", {{"TARN_CHECK", "guard"}});
  EXPECT_TRUE(outcome.ended_well()) << outcome.status << "\n" << outcome.err;
  EXPECT_EQ(outcome.err.compare(0, 24, "tarn: TARN_CHECK=guard: "), 0) << outcome.err;
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
}

TEST_F(PartsTest, AWrongWordIsReported) {
  const Outcome outcome = RunSelf("matched", {{"TARN_CHECK", "bounds,fil"}});
  EXPECT_TRUE(outcome.ended_well()) << outcome.err;
  EXPECT_TRUE(outcome.says("tarn: TARN_CHECK=bounds,fil cannot be used: expected on, off, or some of")) << outcome.err;
}

class ValidTest : public PartsTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(ValidTest, EndsWithoutAReport) {
  const std::string parts = "free,bounds,fill,quarantine,mismatch";
  for (const Settings& settings :
       {Settings{{"TARN_CHECK", parts}}, Settings{{"TARN_CHECK", parts}, {"TARN_CHECK_QUARANTINE", "64KiB"}}}) {
    const Outcome outcome = RunSelf(GetParam(), settings);
    EXPECT_TRUE(outcome.ended_well()) << outcome.status << "\n" << outcome.err;
    EXPECT_EQ(outcome.err, "");
  }
}

INSTANTIATE_TEST_SUITE_P(All, ValidTest, ::testing::Values("threads", "forks", "signals", "sweeps"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) {
  const std::string argument = argc == 2 ? argv[1] : "";
  if (argument.compare(0, 6, "--run=") == 0) return tarn_test::RunBody(argument.substr(6));
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
