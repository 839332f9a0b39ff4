// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/child.h"

#include <fcntl.h>

#include <cerrno>
#include <csignal>

#include "tools/tarn/program.h"
#include "tools/tarn/usable_cpus.h"

namespace tarn::tool {

ChildPipes::ChildPipes() { ok_ = pipe2(go_, O_CLOEXEC) == 0 && pipe2(failed_, O_CLOEXEC) == 0; }

ChildPipes::~ChildPipes() {
  for (const int end : {go_[0], go_[1], failed_[0], failed_[1]}) {
    if (end >= 0) close(end);
  }
}

void ChildPipes::Execute(const ChildStart& start) {
  close(go_[1]);
  close(failed_[0]);
  setpgid(0, 0);
  const auto open_as = [](const std::string& path, int flags, int target) {
    const int file = open(path.c_str(), flags | O_CLOEXEC, 0600);
    return file >= 0 && dup2(file, target) >= 0;
  };
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
  const bool ready = open_as(start.input, O_RDONLY, 0) && open_as(start.output, kWrite, 1) &&
                     open_as(start.error, kWrite, 2) &&
                     (start.working_directory.empty() || chdir(start.working_directory.c_str()) == 0);
  int error = errno;
  if (ready && !start.cpus.empty()) UsableCpus(start.cpus).Apply();
  std::vector<char*> arguments = Pointers(start.command);
  std::vector<char*> environment = Pointers(start.environment);
  for (const int number : {SIGPIPE, SIGINT, SIGTERM}) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  char byte;
  // Nothing to read: our parent has died.
  if (read(go_[0], &byte, 1) != 1) _exit(1);
  if (ready) {
    execve(start.program.c_str(), arguments.data(), environment.data());
    error = errno;
  }
  if (write(failed_[1], &error, sizeof(error)) < 0) _exit(1);
  _exit(1);
}

int ChildPipes::Release() {
  const auto close_end = [](int* end) {
    close(*end);
    *end = -1;
  };
  close_end(&go_[0]);
  close_end(&failed_[1]);
  const bool told = write(go_[1], "x", 1) == 1;
  close_end(&go_[1]);
  // Ends when exec has closed the other side, so that no look shows what is still a copy of this process.
  int error = told ? 0 : errno;
  while (told && read(failed_[0], &error, sizeof(error)) < 0 && errno == EINTR) continue;
  return error;
}

}  // namespace tarn::tool
