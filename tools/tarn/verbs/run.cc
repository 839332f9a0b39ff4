// SPDX-License-Identifier: Apache-2.0
//
// tarn run: executes a command with libtarn.so preloaded, in place of this process, or as a child that is checked.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "tools/inspect/report_symbols.h"
#include "tools/tarn/console.h"
#include "tools/tarn/launch.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct RunOptions {
  LaunchOptions launch;
  bool check = false;
};

[[noreturn]] void ExecuteOrThrow(const std::string& program, const Invocation& invocation) {
  Execute(program, invocation.command);
  throw ToolError(fmt::format("cannot execute {}: {}", program, strerror(errno)), ExitCodeOfExecute(errno));
}

// The file that the reports of a checked command go to, which all of its processes append to.
class ReportFile {
 public:
  ReportFile() {
    const char* directory = getenv("TMPDIR");
    path_ = std::string(directory != nullptr && *directory != '\0' ? directory : "/tmp") + "/tarn-check-XXXXXX";
    const int descriptor = mkstemp(path_.data());
    if (descriptor < 0) throw ToolError(fmt::format("cannot create {}: {}", path_, strerror(errno)));
    close(descriptor);
  }
  ~ReportFile() { unlink(path_.c_str()); }
  ReportFile(const ReportFile&) = delete;
  ReportFile& operator=(const ReportFile&) = delete;

  const std::string& path() const { return path_; }
  std::string Read() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

// Runs the command as a child, and shows its reports with functions and lines when it has ended.
int RunChecked(const std::string& program, const Invocation& invocation) {
  setenv("TARN_CHECK", "on", 0);
  const ReportFile reports;
  setenv("TARN_CHECK_LOG", reports.path().c_str(), 1);
  const pid_t child = fork();
  if (child < 0) throw ToolError(fmt::format("cannot start a process: {}", strerror(errno)));
  if (child == 0) ExecuteOrThrow(program, invocation);
  // Signals of the terminal are for the command.
  signal(SIGINT, SIG_IGN);
  signal(SIGQUIT, SIG_IGN);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (const std::string text = reports.Read(); !text.empty()) {
    ReportSymbols symbols;
    const std::string symbolized = symbols.Symbolize(text);
    for (const std::string& note : symbols.TakeNotes()) Note(invocation, fmt::format("run: {}", note));
    WriteStderr(symbolized);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int RunCommand(const RunOptions& options, const Invocation& invocation) {
  const std::string program = PrepareLaunch(options.launch, invocation.command, "run");
  if (invocation.verbose) Message(fmt::format("LD_PRELOAD={}", getenv("LD_PRELOAD")));
  if (options.check) return RunChecked(program, invocation);
  ExecuteOrThrow(program, invocation);
}

Prepared PrepareRun() {
  auto o = std::make_shared<RunOptions>();
  LaunchOptions* const launch = &o->launch;
  return {{{"--library", "PATH", "the libtarn.so to preload, instead of the one that belongs to the tool",
            &launch->library},
           {"--set", "NAME=VALUE", "a setting for the command, as TARN_VERBOSE=on; may be repeated", &launch->settings},
           {"--check", "", "look for misuse (TARN_CHECK=on), and show reports with functions and lines", &o->check}},
          [o](const Invocation& invocation) { return RunCommand(*o, invocation); }};
}

}  // namespace

extern const Verb kRunVerb;
const Verb kRunVerb = {
    .name = "run",
    .summary = "run a command on tarn",
    .examples = {{"tarn run -- ./server --port 8080", "run a program with tarn as its malloc"},
                 {"tarn run --set TARN_VERBOSE=on -- python3 job.py", "the same with a setting"},
                 {"tarn run --check -- ./tests", "in malloc's checked mode; parts: --set TARN_CHECK=guard"}},
    .details =
        "The library is preloaded (LD_PRELOAD), before whatever is preloaded already; children inherit it.\n"
        "The exit code is the command's own; 127 if it was not found, 126 if it cannot be executed, 78 for a "
        "wrong setting. A command that dies of signal N counts as 128+N in a shell.\n"
        "With --check the command runs as a child. When it has ended, the reports of it and of its children follow on "
        "stderr; the exit code is the command's, or 128+N.",
    .takes_command = true,
    .writes_result = false,
    .prepare = PrepareRun,
};

}  // namespace tarn::tool
