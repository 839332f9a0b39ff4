// SPDX-License-Identifier: Apache-2.0
//
// tarn run: executes a command with libtarn.so preloaded, in place of this process.
#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "tools/tarn/console.h"
#include "tools/tarn/launch.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

int RunCommand(const LaunchOptions& options, const Invocation& invocation) {
  const std::string program = PrepareLaunch(options, invocation.command, "run");
  if (invocation.verbose) Message(fmt::format("LD_PRELOAD={}", getenv("LD_PRELOAD")));
  Execute(program, invocation.command);
  throw ToolError(fmt::format("cannot execute {}: {}", program, strerror(errno)), ExitCodeOfExecute(errno));
}

Prepared PrepareRun() {
  auto o = std::make_shared<LaunchOptions>();
  return {{{"--library", "PATH", "the libtarn.so to preload, instead of the one that belongs to the tool", &o->library},
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
