// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/launch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "allocator/settings/settings.h"
#include "tools/tarn/console.h"
#include "tools/tarn/program.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

// ParseOptions wants a plain function, so the last complaint waits here.
std::string& LastComplaint() {
  static std::string complaint;
  return complaint;
}

// Puts one NAME=VALUE into the environment, after the library's own judgement of it.
void ApplySetting(const std::string& setting) {
  const std::size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0)
    throw UsageError(fmt::format("--set {}: expected NAME=VALUE, as in --set TARN_VERBOSE=on", setting));
  std::string name = setting.substr(0, equals);
  if (!name.starts_with("TARN_")) name = "TARN_" + name;
  const std::string value = setting.substr(equals + 1);
  const std::string entry = name + "=" + value;
  const char* const environment[] = {entry.c_str(), nullptr};
  Options options = kDefaultOptions;
  const int complaints = ParseOptions(
      environment, &options, [](const char* line, std::size_t length) { LastComplaint().assign(line, length); });
  if (complaints > 0) {
    // The library's line begins with its name and ends with a remark that does not apply here.
    std::string complaint = LastComplaint();
    if (complaint.starts_with("tarn: ")) complaint.erase(0, strlen("tarn: "));
    complaint.erase(std::min(complaint.find(" (TARN_STRICT"), complaint.size()));
    throw ToolError(complaint, kExitConfiguration);
  }
  setenv(name.c_str(), value.c_str(), 1);
}

}  // namespace

std::string PrepareLaunch(const LaunchOptions& options, const std::vector<std::string>& command, const char* verb) {
  const std::string library = options.library.empty() ? FindTarn() : options.library;
  if (!ReadElf(library).is_elf)
    throw ToolError(fmt::format("{} is not a shared library; --library names libtarn.so", library));
  char* absolute = realpath(library.c_str(), nullptr);
  // The loader splits LD_PRELOAD at blanks and colons and knows no way to quote them.
  if (absolute == nullptr || strpbrk(absolute, ": \t") != nullptr)
    throw ToolError(fmt::format("{} cannot be preloaded, because its path has a blank or a colon in it", library));
  for (const std::string& setting : options.settings) ApplySetting(setting);
  const std::string program = FindProgram(command.front());
  if (const std::string reason = WhyNoPreload(program); !reason.empty())
    Message(fmt::format("{}: it will not use tarn: {}", verb, reason));
  setenv("LD_PRELOAD", PreloadWith(absolute, getenv("LD_PRELOAD")).c_str(), 1);
  free(absolute);
  return program;
}

void Execute(const std::string& program, const std::vector<std::string>& command) {
  // The tool ignores SIGPIPE, and what is ignored stays so through exec.
  signal(SIGPIPE, SIG_DFL);
  execv(program.c_str(), Pointers(command).data());
  if (errno == ENOEXEC) {
    // A script without #!, which shells run all the same.
    std::vector<std::string> with_shell = command;
    with_shell.front() = program;
    with_shell.insert(with_shell.begin(), "sh");
    execv("/bin/sh", Pointers(with_shell).data());
  }
}

int ExitCodeOfExecute(int error) { return error == ENOENT ? kExitNotFound : kExitNotExecutable; }

}  // namespace tarn::tool
