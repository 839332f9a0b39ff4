// The `tarn` command: finds the verb, parses its options, runs it, and turns errors into messages and exit codes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <exception>
#include <string>
#include <vector>

#include "tools/tarn/console.h"
#include "tools/tarn/help.h"
#include "tools/tarn/verbs.h"

namespace tarn::tool {

namespace {

int RunVerb(const Verb& verb, std::vector<std::string> arguments, std::vector<std::string> command_line) {
  ReadyVerb ready = Prepare(verb);
  Invocation& invocation = *ready.invocation;
  invocation.command_line = std::move(command_line);
  // Split here, because behind `--` everything is the command's, also what looks like an option of ours.
  const auto separator = std::ranges::find(arguments, "--");
  if (verb.takes_command && separator != arguments.end()) {
    invocation.command.assign(separator + 1, arguments.end());
    arguments.erase(separator, arguments.end());
  }
  const std::string see = fmt::format("see tarn {} --help", verb.name);
  try {
    // CLI11 takes them from the back.
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    ready.app->parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    WriteStdout(VerbHelp(verb));
    return kExitOk;
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> extras = ready.app->remaining();
    const std::string first = extras.empty() ? "" : extras.front();
    if (first.starts_with("-")) {
      std::vector<std::string> names;
      for (const OptionInfo& option : DescribeOptions(verb)) {
        if (!option.long_name.empty()) names.push_back("--" + option.long_name);
      }
      const std::string name = first.substr(0, first.find('='));
      throw UsageError(fmt::format("unknown option {}{} ({})", name,
                                   Suggestion(name, std::vector<std::string_view>(names.begin(), names.end())), see));
    }
    if (verb.takes_command)
      throw UsageError(fmt::format("the command goes behind --, as in: tarn {} -- {}", verb.name, first));
    throw UsageError(fmt::format("one argument too many: {} ({})", first, see));
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{} ({})", error.what(), see));
  }
  if (verb.takes_command && invocation.command.empty())
    throw UsageError(fmt::format("no command; it goes behind --, as in: {}", verb.examples.front().command));
  return ready.action(invocation);
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
