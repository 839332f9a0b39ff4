// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/help.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/tarn/verbs.h"

namespace tarn::tool {

namespace {

constexpr std::size_t kColumns = 100;

std::string Paragraphs(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    result += Wrapped(text.substr(0, length), 0) + "\n";
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return result;
}

std::string OptionColumn(const Option& option) {
  if (option.is_argument()) return std::string(option.name);
  const std::vector<std::string> names = option.dashed_names();
  // Long names stand below each other.
  const std::string_view indent = names.front().starts_with("--") ? "    " : "";
  return fmt::format("{}{}{}{}", indent, fmt::join(names, ", "), option.value.empty() ? "" : " ", option.value);
}

// The parts of a text between `separator`s.
std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t length = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, length));
    if (length == text.size()) return parts;
    text.remove_prefix(length + 1);
  }
}

}  // namespace

std::string Wrapped(std::string_view text, std::size_t indent) {
  std::string lines;
  std::size_t column = indent;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find(' '), text.size());
    if (column > indent && column + length + 1 > kColumns) {
      lines += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      lines += ' ';
      ++column;
    }
    lines += text.substr(0, length);
    column += length;
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return lines;
}

std::vector<std::string> Option::dashed_names() const {
  return is_argument() ? std::vector<std::string>() : Split(name, ',');
}

std::vector<std::string> Option::words() const {
  return value.find('|') == std::string_view::npos ? std::vector<std::string>() : Split(value, '|');
}

ReadyVerb MakeReady(const Verb& verb) {
  Prepared prepared = verb.prepare();
  ReadyVerb ready{std::move(prepared.options), std::move(prepared.action), std::make_unique<Invocation>()};
  Invocation& invocation = *ready.invocation;
  const auto add = [&ready](const Option& option) { ready.options.push_back(option); };
  if (verb.writes_result) {
    add({"-o,--output", "FILE", "write the result to FILE; - is stdout", &invocation.output});
    add({"--json", "", "the result as JSON", &invocation.json});
  }
  add({"-q,--quiet", "", "no messages but errors", &invocation.quiet});
  add({"-v,--verbose", "", "say more", &invocation.verbose});
  add({"-h,--help", "", "show this and exit", {}});
  return ready;
}

std::string Synopsis(const Verb& verb) {
  std::string text = fmt::format("tarn {} [OPTION...]", verb.name);
  const Prepared prepared = verb.prepare();
  for (const Option& option : prepared.options) {
    if (option.is_argument()) text += fmt::format(" {}", option.name);
  }
  if (!verb.takes_command) return text;
  return text + (verb.needs_command ? " -- COMMAND [ARGUMENT...]" : " [-- COMMAND [ARGUMENT...]]");
}

std::string ToolHelp() {
  std::string text = "Examples:\n";
  // The first example of each verb that one meets early.
  std::vector<Example> examples;
  for (const Verb* verb : Verbs()) {
    if (verb->examples.empty() || verb->name == "completion" || verb->name == "man") continue;
    examples.push_back(verb->examples.front());
  }
  std::size_t width = 0;
  for (const Example& example : examples) width = std::max(width, example.command.size());
  for (const Example& example : examples)
    text += fmt::format("  {:{}}   {}\n", example.command, std::min<std::size_t>(width, 52), example.meaning);
  text += "\nUsage: tarn VERB [OPTION...]\n\n";
  for (const Verb* verb : Verbs()) text += fmt::format("  {:<14} {}\n", verb->name, verb->summary);
  text +=
      "\n  tarn VERB --help tells a verb's options; tarn --version the version.\n"
      "\nExit codes: 0 ok, 1 error, 2 wrong usage, 3 a finding, 4 the target does not use tarn, 78 a wrong\n"
      "setting; of run: the command's own.\n";
  return text;
}

std::string VerbHelp(const Verb& verb) {
  std::string text = "Examples:\n";
  for (const Example& example : verb.examples) {
    text += fmt::format("  {}\n      {}\n", example.command, Wrapped(example.meaning, 6));
  }
  text += fmt::format("\nUsage: {}\n\nTo {}.\n", Synopsis(verb), verb.summary);
  if (!verb.details.empty()) text += "\n" + Paragraphs(verb.details);
  text += "\nOptions:\n";
  const ReadyVerb ready = MakeReady(verb);
  constexpr std::size_t kIndent = 30;
  for (const Option& option : ready.options) {
    const std::string column = OptionColumn(option);
    text += fmt::format("  {:<{}}", column, kIndent - 2);
    if (column.size() + 3 > kIndent) text += "\n" + std::string(kIndent, ' ');
    text += Wrapped(option.description, kIndent) + "\n";
  }
  return text;
}

}  // namespace tarn::tool
