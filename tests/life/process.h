// SPDX-License-Identifier: Apache-2.0
//
// Processes for the tests of life in a process: a body in a child, or another program, with an end
// by force where it hangs. Only children of this process are ever ended, by their id.

#ifndef TARN_TESTS_LIFE_PROCESS_H_
#define TARN_TESTS_LIFE_PROCESS_H_

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/base/patience.h"

namespace tarn_test {

// For code that runs in children and in threads, where googletest's assertions do not reach.
#define TARN_LIFE_REQUIRE(condition)                                                                             \
  do {                                                                                                           \
    if (!(condition)) {                                                                                          \
      dprintf(2, "%s:%d: process %d: not so: %s (errno %d)\n", __FILE__, __LINE__, getpid(), #condition, errno); \
      _exit(1);                                                                                                  \
    }                                                                                                            \
  } while (false)

inline double Seconds() {
  struct timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

inline void Sleep(long microseconds) {
  const struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
  nanosleep(&time, nullptr);
}

// By this factor limits of time are longer, where something is known to be slower: TEST_PATIENCE in the environment.
inline double Patience() {
  const char* factor = getenv("TEST_PATIENCE");
  return factor == nullptr ? 1 : std::max(1.0, atof(factor));
}

// Waits for a child at most that many seconds. A child that hangs is ended and reaped, and the answer
// is false. Allocates nothing, so that it may be called in every state.
[[nodiscard]] inline bool WaitFor(pid_t child, double seconds, int* status) {
  const double deadline = Seconds() + seconds * Patience();
  long pause = 50;
  while (true) {
    const pid_t ended = waitpid(child, status, WNOHANG);
    if (ended == child) return true;
    TARN_LIFE_REQUIRE(ended >= 0 || errno == EINTR);
    if (Seconds() > deadline) break;
    Sleep(pause);
    if (pause < 5000) pause *= 2;
  }
  kill(child, SIGKILL);
  while (waitpid(child, status, 0) < 0 && errno == EINTR) {
  }
  return false;
}

// Requires that a child ends well, and says which way it did not.
inline void RequireGoodEnd(pid_t child, double seconds) {
  TARN_LIFE_REQUIRE(child > 0);
  int status = 0;
  const bool ended = WaitFor(child, seconds, &status);
  if (!ended) dprintf(2, "child %d HANGS\n", child);
  if (ended && WIFSIGNALED(status)) dprintf(2, "child %d: signal %d\n", child, WTERMSIG(status));
  TARN_LIFE_REQUIRE(ended && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// Runs the body in a child. Empty when it ended well, otherwise what happened.
template <typename Body>
[[nodiscard]] std::string InChild(double seconds, const Body& body) {
  fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return "fork failed";
  if (child == 0) {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    // Ends with the test that started it, whatever ends that.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    _exit(0);
  }
  int status = 0;
  if (!WaitFor(child, seconds, &status)) return "HANGS: not done after " + std::to_string(seconds * Patience());
  if (WIFSIGNALED(status)) return "ended by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return "exit code " + std::to_string(WEXITSTATUS(status));
  return "";
}

struct Outcome {
  bool hung = false;
  int status = 0;
  std::string out;
  std::string err;
  // Ended by itself with code 0.
  bool good() const { return !hung && WIFEXITED(status) && WEXITSTATUS(status) == 0; }
  std::string Describe() const {
    std::string text = hung ? "HANGS" : "";
    if (!hung && WIFEXITED(status)) text = "exit code " + std::to_string(WEXITSTATUS(status));
    if (!hung && WIFSIGNALED(status)) text = "signal " + std::to_string(WTERMSIG(status));
    return text + "\n--- stdout\n" + out + "--- stderr\n" + err;
  }
};

struct RunOptions {
  double seconds = kPatienceSeconds;
  // NAME=value, on top of what there is.
  std::vector<std::string> environment = {};
  // Bytes of RLIMIT_AS; 0: none.
  size_t address_space = 0;
};

// Runs a program and keeps what it wrote. Files in memory rather than pipes, so that nothing waits
// for a reader.
inline Outcome RunCommand(std::vector<std::string> arguments, const RunOptions& options = {}) {
  Outcome outcome;
  const int out = memfd_create("out", MFD_CLOEXEC);
  const int err = memfd_create("err", MFD_CLOEXEC);
  TARN_LIFE_REQUIRE(out >= 0 && err >= 0);
  fflush(nullptr);
  const pid_t child = fork();
  TARN_LIFE_REQUIRE(child >= 0);
  if (child == 0) {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    for (const std::string& setting : options.environment) {
      const size_t equals = setting.find('=');
      setenv(setting.substr(0, equals).c_str(), setting.substr(equals + 1).c_str(), 1);
    }
    dup2(out, 1);
    dup2(err, 2);
    if (options.address_space != 0) {
      const struct rlimit limit = {options.address_space, options.address_space};
      setrlimit(RLIMIT_AS, &limit);
    }
    execv(pointers[0], pointers.data());
    dprintf(2, "cannot run %s: errno %d\n", pointers[0], errno);
    _exit(127);
  }
  outcome.hung = !WaitFor(child, options.seconds, &outcome.status);
  const auto contents = [](int file) {
    std::string text(static_cast<size_t>(lseek(file, 0, SEEK_END)), '\0');
    const ssize_t length = pread(file, text.data(), text.size(), 0);
    text.resize(length < 0 ? 0 : static_cast<size_t>(length));
    close(file);
    return text;
  };
  outcome.out = contents(out);
  outcome.err = contents(err);
  return outcome;
}

}  // namespace tarn_test

#endif  // TARN_TESTS_LIFE_PROCESS_H_
