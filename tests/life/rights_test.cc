// SPDX-License-Identifier: Apache-2.0
//
// Threads of tarn's at the default setting, in programs that are started without privileges and with those of another
// user. The program (background_program.cc) has threads, pools, and much to give back.

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/base/patience.h"

extern char** environ;

namespace {

constexpr uid_t kNobody = 65534;
constexpr uid_t kAnother = 65533;

struct Outcome {
  int status = -1;
  std::string said;
  bool Says(const char* line) const { return ("\n" + said).find(std::string("\n") + line + "\n") != std::string::npos; }
  int Threads() const {
    int count = 0;
    for (size_t at = 0; (at = said.find("thread ", at)) != std::string::npos; ++at) ++count;
    return count;
  }
};

// Without the TARN_BACKGROUND of the tests, and with what is added.
std::vector<std::string> EnvironmentWith(const std::vector<std::string>& added) {
  std::vector<std::string> all;
  for (char** word = environ; *word != nullptr; ++word) {
    if (strncmp(*word, "TARN_", 5) != 0 || strncmp(*word, "TARN_MODE=", 10) == 0) all.emplace_back(*word);
  }
  all.insert(all.end(), added.begin(), added.end());
  return all;
}

// Gives up all rights where there are some, and executes the program.
Outcome RunAs(uid_t user, std::vector<std::string> command, const std::vector<std::string>& added) {
  Outcome outcome;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return outcome;
  std::vector<std::string> environment = EnvironmentWith(added);
  std::vector<char*> arguments;
  std::vector<char*> words;
  for (std::string& argument : command) arguments.push_back(argument.data());
  for (std::string& word : environment) words.push_back(word.data());
  arguments.push_back(nullptr);
  words.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    if (geteuid() == 0 &&
        (setgroups(0, nullptr) != 0 || setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0)) {
      _exit(126);
    }
    alarm(tarn_test::kPatienceSeconds);
    execve(arguments[0], arguments.data(), words.data());
    _exit(127);
  }
  close(ends[1]);
  char text[1024];
  for (ssize_t length; (length = read(ends[0], text, sizeof text)) > 0;) {
    outcome.said.append(text, static_cast<size_t>(length));
  }
  close(ends[0]);
  waitpid(child, &outcome.status, 0);
  return outcome;
}

// A copy of the program, in a directory that everybody can read.
class Rights : public testing::Test {
 protected:
  void SetUp() override {
    const char* const base = getenv("TMPDIR");
    directory_ = std::string(base != nullptr ? base : "/tmp") + "/tarn_rights_XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
    copy_ = directory_ + "/program";
    ASSERT_EQ(system(("cp '" TARN_LIFE_BACKGROUND_PROGRAM "' '" + copy_ + "'").c_str()), 0);
    ASSERT_EQ(chmod(copy_.c_str(), 0755), 0);
  }
  void TearDown() override {
    unlink(copy_.c_str());
    rmdir(directory_.c_str());
  }
  std::string directory_;
  std::string copy_;
};

TEST_F(Rights, AnUnprivilegedProgramThatAsksForThreadsHasACaretakerForItsPools) {
  const Outcome outcome = RunAs(kNobody, {copy_, "tarn-caretaker"}, {"TARN_BACKGROUND=on", "TARN_MEMORY_LIMIT=5GiB"});
  if (outcome.status == 127 << 8) GTEST_SKIP() << "user 65534 cannot execute programs in " << directory_;
  EXPECT_EQ(outcome.status, 0) << outcome.said;
  EXPECT_TRUE(outcome.Says("AT_SECURE 0")) << outcome.said;
  EXPECT_TRUE(outcome.Says("limit of the environment")) << outcome.said;
  EXPECT_TRUE(outcome.Says("thread tarn-caretaker")) << outcome.said;
}

TEST_F(Rights, AnUnprivilegedProgramThatAsksForNoThreadHasNone) {
  const Outcome outcome = RunAs(kNobody, {copy_}, {});
  if (outcome.status == 127 << 8) GTEST_SKIP() << "user 65534 cannot execute programs in " << directory_;
  EXPECT_EQ(outcome.status, 0) << outcome.said;
  EXPECT_EQ(outcome.Threads(), 2) << outcome.said;
}

// Started by one user, with the rights of another one, neither of whom has capabilities.
TEST_F(Rights, AProgramWithTheRightsOfAnotherUserHasNoThreadWhateverTheEnvironmentAsksFor) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a set-user-id program of another user";
  ASSERT_EQ(chown(copy_.c_str(), kNobody, kNobody), 0);
  ASSERT_EQ(chmod(copy_.c_str(), 04755), 0);
  for (const bool asks : {false, true}) {
    std::vector<std::string> added;
    if (asks) added = {"TARN_BACKGROUND=on", "TARN_MEMORY_LIMIT=5GiB", "TARN_VERBOSE=1", "TARN_NO_SUCH_SETTING=1"};
    const Outcome outcome = RunAs(kAnother, {copy_}, added);
    if (outcome.status == 127 << 8) GTEST_SKIP() << "user 65533 cannot execute programs in " << directory_;
    EXPECT_EQ(outcome.status, 0) << outcome.said;
    if (outcome.Says("AT_SECURE 0")) GTEST_SKIP() << "the set-user-id bit counts for nothing in " << directory_;
    EXPECT_TRUE(outcome.Says("AT_SECURE 1")) << outcome.said;
    EXPECT_TRUE(outcome.Says("uid 65533 euid 65534")) << outcome.said;
    EXPECT_TRUE(outcome.Says("limit another")) << outcome.said;
    EXPECT_EQ(outcome.Threads(), 2) << outcome.said;
    EXPECT_EQ(outcome.said.find("tarn"), std::string::npos) << outcome.said;
  }
}

}  // namespace
