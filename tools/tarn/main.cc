// SPDX-License-Identifier: Apache-2.0
//
// The `tarn` command: finds the verb, parses its options, runs it, and turns errors into messages and exit codes.
#include <fmt/format.h>

#include <csignal>
#include <exception>
#include <string>
#include <vector>

#include "tools/base/suggestion.h"
#include "tools/tarn/command_line.h"
#include "tools/tarn/console.h"
#include "tools/tarn/help.h"
#include "tools/tarn/verbs.h"

namespace tarn::tool {

namespace {

int RunVerb(const Verb& verb, std::vector<std::string> arguments, std::vector<std::string> command_line) {
  const ReadyVerb ready = MakeReady(verb);
  ready.invocation->command_line = std::move(command_line);
  if (!ParseCommandLine(verb, ready, std::move(arguments))) {
    WriteStdout(VerbHelp(verb));
    return kExitOk;
  }
  return ready.action(*ready.invocation);
}

int Main(std::vector<std::string> command_line) {
  if (command_line.size() < 2) {
    fmt::print(stderr, "{}", ToolHelp());
    return kExitUsage;
  }
  const std::string first = command_line[1];
  if (first == "--help" || first == "-h" || (first == "help" && command_line.size() == 2)) {
    WriteStdout(ToolHelp());
    return kExitOk;
  }
  if (first == "--version" || first == "-V") {
    WriteStdout(fmt::format("tarn {}\n", TARN_VERSION));
    return kExitOk;
  }
  // `tarn help VERB` is what many type.
  const bool wants_help = first == "help";
  const std::string name = wants_help ? command_line[2] : first;
  const Verb* verb = FindVerb(name);
  if (verb == nullptr) {
    std::vector<std::string_view> names;
    for (const Verb* known : Verbs()) names.push_back(known->name);
    const char* what = name.starts_with("-") ? "option" : "verb";
    throw UsageError(fmt::format("unknown {} {}{} (tarn --help lists the verbs)", what, name, Suggestion(name, names)));
  }
  if (wants_help) {
    WriteStdout(VerbHelp(*verb));
    return kExitOk;
  }
  std::vector<std::string> arguments(command_line.begin() + 2, command_line.end());
  try {
    return RunVerb(*verb, std::move(arguments), std::move(command_line));
  } catch (const ToolError& error) {
    throw ToolError(fmt::format("{}: {}", verb->name, error.what()), error.exit_code());
  }
}

}  // namespace

}  // namespace tarn::tool

int main(int argc, char** argv) {
  using namespace tarn::tool;
  // A closed pipe is an error of write, not the end of the tool.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    std::vector<std::string> command_line(argv, argv + argc);
    if (command_line.empty()) command_line.emplace_back();
    command_line[0] = "tarn";
    return Main(std::move(command_line));
  } catch (const ToolError& error) {
    Message(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    Message(error.what());
    return kExitError;
  }
}
