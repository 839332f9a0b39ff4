// SPDX-License-Identifier: Apache-2.0
//
// tarn limit: shows the memory limits of a running process, or has it keep another soft one.
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

struct LimitOptions {
  std::string pid;
  std::string size;
  double wait_s = 2;
};

int RunLimit(const LimitOptions& options, const Invocation& invocation) {
  const auto wanted = ParseLimit(options.size);
  if (!options.size.empty() && !wanted)
    throw UsageError(fmt::format("{} is not a limit; expected {}", options.size, kLimitForms));
  const Target target(ParsePid(options.pid));
  LimitAnswer answer;
  if (wanted) {
    answer = AskForLimit(target, *wanted, {.seconds = options.wait_s});
  } else {
    answer.limit_bytes = answer.before_bytes = target.Stats().next_gc_bytes;
  }
  if (invocation.json) {
    WriteResult(invocation, JsonText(ToJson(target, answer)));
    return kExitOk;
  }
  const std::uint64_t hard_bytes = target.Stats().hard_limit_bytes;
  std::string text =
      fmt::format("process    {} ({})\nlimit      {}", target.pid(), target.name(), LimitText(answer.limit_bytes));
  if (wanted) text += fmt::format(" (before: {})", LimitText(answer.before_bytes));
  text += fmt::format("\nhard limit {}\nresident   {}\n", LimitText(hard_bytes),
                      FormatBytes(static_cast<double>(target.ResidentBytes())));
  if (wanted && invocation.verbose) text += fmt::format("answered   after {:.3f} s\n", answer.waited_s);
  WriteResult(invocation, text);
  return kExitOk;
}

Prepared PrepareLimit() {
  auto o = std::make_shared<LimitOptions>();
  return {{{"PID", "PID", "a process that uses tarn", &o->pid},
           {"[SIZE]", "SIZE", "the new soft limit: bytes, as 256MiB; off; auto, which follows the container", &o->size},
           {"--wait", "SECONDS", "how long to wait for the process to begin (2)", &o->wait_s, 0, 86400}},
          [o](const Invocation& invocation) { return RunLimit(*o, invocation); }};
}

}  // namespace

extern const Verb kLimitVerb;
const Verb kLimitVerb = {
    .name = "limit",
    .summary = "show the memory limits of a process, or set the soft one",
    .examples = {{"tarn limit 4711", "the limits in force"},
                 {"tarn limit 4711 2GiB", "resident memory is to stay below"},
                 {"tarn limit 4711 off", "no limit any more"}},
    .details =
        "As tarn_set_memory_limit in the process, until that is called again or the process ends: above the limit free "
        "memory goes back to the kernel, and no allocation fails for it. The process does it itself, at the moments at "
        "which it answers tarn release, and one that runs no code of tarn's cannot answer (exit code 1); the request "
        "then stands. As for a debugger, the caller needs the right to write to the process.",
    .prepare = PrepareLimit,
};

}  // namespace tarn::tool
