// tarn run: executes a command with libtarn.so preloaded, in place of this process.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "allocator/heap/options.h"
#include "tools/tarn/console.h"
#include "tools/tarn/program.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct RunOptions {
  std::string library;
  std::vector<std::string> settings;
};

// ParseOptions wants a plain function, so the last complaint waits here.
std::string& LastComplaint() {
  static std::string complaint;
  return complaint;
}

// Puts one NAME=VALUE into the environment, after the library's own judgement of it.
void Apply(const std::string& setting) {
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

int RunCommand(const RunOptions& options, const Invocation& invocation) {
  const std::string library = options.library.empty() ? FindTarn() : options.library;
  if (!ReadElf(library).is_elf)
    throw ToolError(fmt::format("{} is not a shared library; --library names libtarn.so", library));
  char* absolute = realpath(library.c_str(), nullptr);
  // The loader splits LD_PRELOAD at blanks and colons and knows no way to quote them.
  if (absolute == nullptr || strpbrk(absolute, ": \t") != nullptr)
    throw ToolError(fmt::format("{} cannot be preloaded, because its path has a blank or a colon in it", library));
  for (const std::string& setting : options.settings) Apply(setting);
  const std::string program = FindProgram(invocation.command.front());
  if (const std::string reason = WhyNoPreload(program); !reason.empty())
    Message(fmt::format("run: it will not use tarn: {}", reason));
  setenv("LD_PRELOAD", PreloadWith(absolute, getenv("LD_PRELOAD")).c_str(), 1);
  free(absolute);
  if (invocation.verbose) Message(fmt::format("LD_PRELOAD={}", getenv("LD_PRELOAD")));
  // The tool ignores SIGPIPE, and what is ignored stays so through exec.
  signal(SIGPIPE, SIG_DFL);
  execv(program.c_str(), Pointers(invocation.command).data());
  if (errno == ENOEXEC) {
    // A script without #!, which shells run all the same.
    std::vector<std::string> command = invocation.command;
    command.front() = program;
    command.insert(command.begin(), "sh");
    execv("/bin/sh", Pointers(command).data());
  }
  throw ToolError(fmt::format("cannot execute {}: {}", program, strerror(errno)),
                  errno == ENOENT ? kExitNotFound : kExitNotExecutable);
}

Prepared PrepareRun() {
  auto o = std::make_shared<RunOptions>();
  return {{{"--library", "PATH", "the libtarn.so to preload, instead of the tool's own", &o->library},
           {"--set", "NAME=VALUE", "a setting for the command, as TARN_VERBOSE=on; may be repeated", &o->settings}},
          [o](const Invocation& invocation) { return RunCommand(*o, invocation); }};
}

}  // namespace

extern const Verb kRunVerb;
const Verb kRunVerb = {
    .name = "run",
    .summary = "run a command on tarn",
    .examples = {{"tarn run -- ./server --port 8080", "run a program with tarn as its malloc"},
                 {"tarn run --set TARN_VERBOSE=on -- python3 job.py", "the same with a setting"}},
    .details =
        "The library is preloaded (LD_PRELOAD), before whatever is preloaded already; children inherit it.\n"
        "The exit code is the command's own; 127 if it was not found, 126 if it cannot be executed, 78 for a "
        "wrong setting. A command that dies of signal N counts as 128+N in a shell.",
    .takes_command = true,
    .writes_result = false,
    .prepare = PrepareRun,
};

}  // namespace tarn::tool
