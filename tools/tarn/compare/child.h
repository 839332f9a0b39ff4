// SPDX-License-Identifier: Apache-2.0
//
// A child process of the engine: what it is started with.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace tarn::tool {

struct ChildStart {
  std::string program;               // path
  std::vector<std::string> command;  // argv
  std::vector<std::string> environment;
  std::vector<int> cpus;          // empty: as this process
  std::string working_directory;  // empty: that of this process
  std::string input = "/dev/null";
  std::string output;
  std::string error;
};

// The messages between parent and child, from fork to exec.
class ChildPipes {
 public:
  ChildPipes();  // check ok()
  ChildPipes(const ChildPipes&) = delete;
  ChildPipes& operator=(const ChildPipes&) = delete;
  ~ChildPipes();
  bool ok() const { return ok_; }
  // In the child. Waits for the parent's word, then executes.
  [[noreturn]] void Execute(const ChildStart& start);
  // In the parent. Lets the child go, and returns 0 once it executes the program, or the errno of what failed.
  int Release();

 private:
  int go_[2] = {-1, -1};
  int failed_[2] = {-1, -1};
  bool ok_ = false;
};

// Starts it in a process group of its own, so that an interrupt at the terminal comes to this process alone. `before`
// gets its process id while it waits, before it executes the program. Returns the process id, or -1 with errno. A
// program that cannot be executed leaves a child that has ended, and its errno in `exec_error`.
template <typename Before>
pid_t StartChild(const ChildStart& start, int* exec_error, Before before) {
  ChildPipes pipes;
  if (!pipes.ok()) return -1;
  const pid_t pid = fork();
  if (pid < 0) return -1;
  if (pid == 0) pipes.Execute(start);
  setpgid(pid, pid);
  before(pid);
  *exec_error = pipes.Release();
  return pid;
}

}  // namespace tarn::tool
