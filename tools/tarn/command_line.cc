// SPDX-License-Identifier: Apache-2.0
//
// The only file that includes CLI11, which takes longer to compile than a verb does.
#include "tools/tarn/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "tools/base/suggestion.h"

namespace tarn::tool {

namespace {

// Says what is wrong with a value, for CLI11; empty if nothing is.
std::string Complaint(const Option& option, const std::string& value) {
  const std::vector<std::string> words = option.words();
  if (!words.empty() && std::ranges::find(words, value) == words.end())
    return fmt::format("{} is none of {}", value, fmt::join(words, ", "));
  double number = 0;
  if (!CLI::detail::lexical_cast(value, number)) return "";  // no number is wanted, or CLI11 will say that one is
  if (number < option.least) return fmt::format("{} is less than {:g}", value, option.least);
  if (number > option.most) return fmt::format("{} is more than {:g}", value, option.most);
  return std::isnan(number) ? fmt::format("{} is not a number", value) : "";
}

void Register(const Option& option, CLI::App* app) {
  std::string name(option.name);
  if (!option.is_required() && option.is_argument()) name = name.substr(1, name.size() - 2);
  const auto add = [&](auto target) {
    using Target = decltype(target);
    if constexpr (std::is_same_v<Target, std::monostate>) {
      app->set_help_flag(name);
    } else if constexpr (std::is_same_v<Target, bool*>) {
      app->add_flag(name, *target);
    } else {
      CLI::Option* added = app->add_option(name, *target)->required(option.is_required());
      added->type_name(std::string(option.value))->check([&option](const std::string& value) {
        return Complaint(option, value);
      });
      if constexpr (std::is_same_v<Target, std::vector<std::string>*>) {
        // An option takes one value each time, an argument all that come.
        if (!option.is_argument()) added->expected(1);
        added->take_all();
      }
    }
  };
  std::visit(add, option.target);
}

// A word that was not understood is a misspelt option, or one argument more than there is place for.
[[noreturn]] void RefuseExtra(const Verb& verb, const ReadyVerb& ready, const std::string& extra,
                              const std::string& see) {
  if (extra.starts_with("-")) {
    std::vector<std::string> names;
    for (const Option& option : ready.options) {
      for (const std::string& name : option.dashed_names()) {
        if (name.starts_with("--")) names.push_back(name);
      }
    }
    const std::string name = extra.substr(0, extra.find('='));
    throw UsageError(fmt::format("unknown option {}{} ({})", name,
                                 Suggestion(name, std::vector<std::string_view>(names.begin(), names.end())), see));
  }
  if (verb.takes_command && verb.needs_command)
    throw UsageError(fmt::format("the command goes behind --, as in: tarn {} -- {}", verb.name, extra));
  throw UsageError(fmt::format("one argument too many: {} ({})", extra, see));
}

}  // namespace

bool ParseCommandLine(const Verb& verb, const ReadyVerb& ready, std::vector<std::string> arguments) {
  // Split here, because behind `--` everything is the command's, also what looks like an option of ours.
  const auto separator = std::ranges::find(arguments, "--");
  if (verb.takes_command && separator != arguments.end()) {
    ready.invocation->command.assign(separator + 1, arguments.end());
    arguments.erase(separator, arguments.end());
  }
  const std::string see = fmt::format("see tarn {} --help", verb.name);
  CLI::App app;
  for (const Option& option : ready.options) Register(option, &app);
  try {
    // CLI11 takes them from the back.
    std::ranges::reverse(arguments);
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return false;
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> extras = app.remaining();
    RefuseExtra(verb, ready, extras.empty() ? "" : extras.front(), see);
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{} ({})", error.what(), see));
  }
  const CLI::Option* instead =
      verb.instead_of_command.empty() ? nullptr : app.get_option_no_throw(std::string(verb.instead_of_command));
  const bool needs_command = verb.needs_command && (instead == nullptr || instead->count() == 0);
  if (verb.takes_command && needs_command && ready.invocation->command.empty())
    throw UsageError(fmt::format("no command; it goes behind --, as in: {}", verb.examples.front().command));
  return true;
}

}  // namespace tarn::tool
