// SPDX-License-Identifier: Apache-2.0
//
// Whole lives of processes: tests/life/program.cc preloaded and linked in every way, from the first
// constructor to the last destructor, under AT_SECURE and under a limit of the address space. And
// plug-ins that come and go.
//
// The build gives the paths of the programs and of libtarn.so.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/stat.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

// How tarn gets into the program.
struct Way {
  const char* name;
  const char* program;
  bool preload;
};

// Prints the name; without it googletest prints the bytes of the structure.
void PrintTo(const Way& way, std::ostream* stream) { *stream << way.name; }

const Way kWays[] = {
    {"Preloaded", TARN_LIFE_PLAIN_PROGRAM, true},
    {"LinkedShared", TARN_LIFE_SHARED_PROGRAM, false},
    {"LinkedStatic", TARN_LIFE_STATIC_PROGRAM, false},
    {"WhollyStatic", TARN_LIFE_WHOLLY_STATIC_PROGRAM, false},
};

class ProcessTest : public ::testing::TestWithParam<Way> {
 protected:
  // Runs the program and requires that tarn was really in it: its start line says so.
  Outcome RunProgram(const std::string& argument, RunOptions options = {}) {
    if (GetParam().preload) {
      options.environment.push_back(std::string("LD_PRELOAD=") + TARN_LIFE_LIBRARY);
    }
    options.environment.push_back("TARN_VERBOSE=1");
    const Outcome outcome = RunCommand({GetParam().program, argument}, options);
    EXPECT_TRUE(outcome.good()) << outcome.Describe();
    if (!any_allocator_allowed()) {
      EXPECT_NE(("\n" + outcome.err).find("\ntarn: "), std::string::npos)
          << "no start line, so tarn is not in it: " << outcome.Describe();
      EXPECT_EQ(outcome.err.find("tarn: fatal"), std::string::npos) << outcome.err;
    }
    return outcome;
  }

  // The phases of each group before those of the next, each exactly once, and no others. Within a
  // group the order is free.
  static void ExpectPhases(const Outcome& outcome, const std::vector<std::vector<std::string>>& groups) {
    size_t from = 0;
    size_t total = 0;
    const std::string text = "\n" + outcome.out;
    for (const std::vector<std::string>& group : groups) {
      size_t last = from;
      for (const std::string& phase : group) {
        const std::string line = "\n" + phase + "\n";
        const size_t at = text.find(line);
        EXPECT_NE(at, std::string::npos) << phase << " is missing: " << outcome.Describe();
        if (at == std::string::npos) continue;
        EXPECT_GE(at, from) << phase << " came too early: " << outcome.Describe();
        EXPECT_EQ(text.find(line, at + 1), std::string::npos) << phase << " came twice";
        if (at > last) last = at;
        total += phase.size() + 1;
      }
      from = last;
    }
    EXPECT_EQ(total, outcome.out.size()) << "other phases than expected: " << outcome.Describe();
  }
};

const std::vector<std::string> kBefore = {"constructor_101"};
const std::vector<std::string> kConstructors = {"constructor", "static_constructor"};
const std::vector<std::string> kDestructors = {"atexit", "static_destructor", "destructor"};

TEST_P(ProcessTest, MainReturns) {
  ExpectPhases(
      RunProgram("return"),
      {{"preinit"}, kBefore, kConstructors, {"main"}, {"thread_local_destructor"}, kDestructors, {"destructor_101"}});
}

TEST_P(ProcessTest, MainCallsExit) {
  ExpectPhases(
      RunProgram("exit"),
      {{"preinit"}, kBefore, kConstructors, {"main"}, {"thread_local_destructor"}, kDestructors, {"destructor_101"}});
}

TEST_P(ProcessTest, MainCallsQuickExitOrUnderscoreExit) {
  ExpectPhases(RunProgram("quick_exit"), {{"preinit"}, kBefore, kConstructors, {"main"}, {"at_quick_exit"}});
  ExpectPhases(RunProgram("_exit"), {{"preinit"}, kBefore, kConstructors, {"main"}});
}

TEST_P(ProcessTest, AThreadCallsExit) {
  ExpectPhases(RunProgram("exit_in_thread"),
               {{"preinit"}, kBefore, kConstructors, {"main"}, {"thread"}, kDestructors, {"destructor_101"}});
}

// The main thread ends first, with the destructors of its keys; the process ends with its last
// thread.
TEST_P(ProcessTest, MainCallsPthreadExit) {
  ExpectPhases(RunProgram("pthread_exit"), {{"preinit"},
                                            kBefore,
                                            kConstructors,
                                            {"main"},
                                            {"key_destructor"},
                                            {"thread_of_a_thread"},
                                            {"thread_after_main"},
                                            {"thread_local_destructor"},
                                            kDestructors,
                                            {"destructor_101"}});
}

TEST_P(ProcessTest, MainReturnsWhileThreadsAllocate) {
  for (int i = 0; i < 8; ++i) {
    ExpectPhases(
        RunProgram("busy_return"),
        {{"preinit"}, kBefore, kConstructors, {"main"}, {"thread_local_destructor"}, kDestructors, {"destructor_101"}});
  }
}

TEST_P(ProcessTest, AllKeysBelongToTheProgram) {
  const Outcome outcome = RunProgram("keys");
  EXPECT_NE(outcome.out.find("\nkeys 1024 destroyed 1024\n"), std::string::npos) << outcome.Describe();
}

TEST_P(ProcessTest, EightThreadsIn200MBOfAddressSpace) {
  RunOptions options;
  options.address_space = 200 * 1000 * 1000;
  const Outcome outcome = RunProgram("threads", options);
  EXPECT_NE(outcome.out.find("\neight_threads\n"), std::string::npos) << outcome.Describe();
}

INSTANTIATE_TEST_SUITE_P(All, ProcessTest, ::testing::ValuesIn(kWays),
                         [](const auto& test) { return std::string(test.param.name); });

// A program that runs with more rights than the one who started it must not be told anything by
// the environment. A copy that belongs to another user, with the set-user-id bit, is such a
// program; only root can make one.
TEST(AtSecure, IgnoresTheEnvironment) {
  const RunOptions loud = {.environment = {"TARN_VERBOSE=1", "TARN_STATS=1", "TARN_MODE=nonsense",
                                           "TARN_NO_SUCH_OPTION=1", "TARN_STRICT=1"}};
  const RunOptions verbose = {.environment = {"TARN_VERBOSE=1"}};
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a set-user-id program of another user";
  const struct passwd* nobody = getpwnam("nobody");
  if (nobody == nullptr) GTEST_SKIP() << "there is no user nobody";
  const char* base = getenv("TMPDIR");
  std::string directory = std::string(base != nullptr ? base : "/tmp") + "/tarn_at_secure_XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  ASSERT_EQ(chmod(directory.c_str(), 0755), 0);
  const std::string copy = directory + "/program";
  const std::string command = std::string("cp '") + TARN_LIFE_STATIC_PROGRAM + "' '" + copy + "'";
  ASSERT_EQ(system(command.c_str()), 0);
  ASSERT_EQ(chown(copy.c_str(), nobody->pw_uid, nobody->pw_gid), 0);
  ASSERT_EQ(chmod(copy.c_str(), 0755), 0);
  // First without the bit: the environment counts, so that the silence below means something.
  const Outcome ordinary = RunCommand({copy, "secure"}, verbose);
  ASSERT_EQ(chmod(copy.c_str(), 04755), 0);
  const Outcome secure = RunCommand({copy, "secure"}, loud);
  unlink(copy.c_str());
  rmdir(directory.c_str());
  EXPECT_TRUE(ordinary.good()) << ordinary.Describe();
  EXPECT_NE(ordinary.out.find("AT_SECURE 0"), std::string::npos) << ordinary.Describe();
  if (!any_allocator_allowed()) {
    EXPECT_NE(ordinary.err.find("tarn: "), std::string::npos) << ordinary.Describe();
  }
  EXPECT_TRUE(secure.good()) << secure.Describe();
  if (secure.out.find("AT_SECURE 1") == std::string::npos) {
    GTEST_SKIP() << "this file system does not honour the set-user-id bit";
  }
  EXPECT_EQ(secure.err, "") << "a setting from the environment was heeded";
}

// A plug-in that allocates in its constructors, in its functions and in its destructors.
TEST(Plugin, ComesAndGoes) {
  ExpectGoodEnd(2 * kPatienceSeconds, [] {
    Churn own(1);
    const size_t before = ResidentBytes();
    for (int i = 0; i < 300; ++i) {
      void* plugin = dlopen(TARN_LIFE_PLUGIN, RTLD_NOW | RTLD_LOCAL);
      if (plugin == nullptr) dprintf(2, "%s\n", dlerror());
      TARN_LIFE_REQUIRE(plugin != nullptr);
      const auto make = reinterpret_cast<void* (*)(size_t)>(dlsym(plugin, "PluginAllocate"));
      const auto drop = reinterpret_cast<void (*)(void*)>(dlsym(plugin, "PluginFree"));
      const auto work = reinterpret_cast<void (*)()>(dlsym(plugin, "PluginWork"));
      TARN_LIFE_REQUIRE(make != nullptr && drop != nullptr && work != nullptr);
      void* theirs = make(1000);
      TARN_LIFE_REQUIRE(theirs != nullptr);
      Fill(theirs, 1, 0, 1000);
      drop(malloc(100));
      work();
      // Threads of the host that work in the plug-in, with its thread-local objects.
      std::thread first(work);
      std::thread second(work);
      own.Steps(50);
      first.join();
      second.join();
      TARN_LIFE_REQUIRE(dlclose(plugin) == 0);
      // The object outlives the plug-in that made it.
      TARN_LIFE_REQUIRE(Holds(theirs, 1, 0, 1000));
      free(theirs);
    }
    TARN_LIFE_REQUIRE(ResidentBytes() < before + 32 * kMiB);
  });
}

}  // namespace
}  // namespace tarn_test
