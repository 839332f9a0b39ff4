// SPDX-License-Identifier: Apache-2.0
//
// tarn release: asks a running process to give all free memory back to the kernel, and waits for the answer.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "tools/base/figures.h"
#include "tools/base/json_text.h"
#include "tools/inspect/requests.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct ReleaseOptions {
  std::string pid;
  double wait_s = 2;
};

int RunRelease(const ReleaseOptions& options, const Invocation& invocation) {
  const Target target(ParsePid(options.pid));
  const ReleaseAnswer answer = AskToRelease(target, {.seconds = options.wait_s});
  if (invocation.json) {
    WriteResult(invocation, JsonText(ToJson(target, answer)));
    return kExitOk;
  }
  const auto bytes = [](std::uint64_t count) { return FormatBytes(static_cast<double>(count)); };
  std::string text =
      fmt::format("process    {} ({})\nreleased   {}\nresident   {} before, {} after\n", target.pid(), target.name(),
                  bytes(answer.released_bytes), bytes(answer.rss_before_bytes), bytes(answer.rss_after_bytes));
  if (invocation.verbose) text += fmt::format("answered   after {:.3f} s\n", answer.waited_s);
  WriteResult(invocation, text);
  return kExitOk;
}

Prepared PrepareRelease() {
  auto o = std::make_shared<ReleaseOptions>();
  return {{{"PID", "PID", "a process that uses tarn", &o->pid},
           {"--wait", "SECONDS", "how long to wait for the process to begin (2)", &o->wait_s, 0, 86400}},
          [o](const Invocation& invocation) { return RunRelease(*o, invocation); }};
}

}  // namespace

extern const Verb kReleaseVerb;
const Verb kReleaseVerb = {
    .name = "release",
    .summary = "have a process give its free memory back to the kernel",
    .examples = {{"tarn release 4711", "all free memory, now; tells what went back"},
                 {"tarn release 4711 --wait 60", "of a program that rarely allocates"},
                 {"tarn release 4711 --json | jq .released_bytes", "for scripts"}},
    .details =
        "As malloc_trim(0) in the process: caches are drained, and all free pages go. The process pays for it with "
        "page "
        "faults when it needs memory again. The process does it itself, at the next allocation or free of any thread "
        "that misses the caches, or in tarn_background_tick. With TARN_BACKGROUND=on the scavenger's thread does it, "
        "if "
        "it is there, within half a second. A process that sleeps and has no such thread cannot answer (exit code 1). "
        "The request then stands, and is served when the process comes to it. Two requests at once have the same "
        "answer. As for a debugger, the caller needs the right to write to the process.",
    .prepare = PrepareRelease,
};

}  // namespace tarn::tool
