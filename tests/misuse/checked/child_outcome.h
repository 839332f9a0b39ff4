// SPDX-License-Identifier: Apache-2.0
//
// A forked child, with the text that it writes to stderr and how it ends.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <functional>
#include <string>

namespace tarn_test {

struct ChildOutcome {
  int status = 0;
  std::string err;

  bool aborted() const { return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT; }
  bool ended_well() const { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
  bool says(const std::string& text) const { return err.find(text) != std::string::npos; }
};

// `body` ends the child.
inline ChildOutcome OutcomeOfChild(const std::function<void()>& body) {
  ChildOutcome outcome;
  int err[2];
  if (pipe(err) != 0) return outcome;
  const pid_t child = fork();
  if (child == 0) {
    dup2(err[1], 2);
    close(err[0]);
    close(err[1]);
    body();
    _exit(127);
  }
  close(err[1]);
  char part[4096];
  for (ssize_t length; (length = read(err[0], part, sizeof(part))) > 0;) {
    outcome.err.append(part, static_cast<std::size_t>(length));
  }
  close(err[0]);
  waitpid(child, &outcome.status, 0);
  return outcome;
}

}  // namespace tarn_test
