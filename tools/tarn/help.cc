#include "tools/tarn/help.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "tools/tarn/verbs.h"

namespace tarn::tool {

namespace {

constexpr std::size_t kColumns = 100;

// `text` in lines that end before kColumns, all but the first indented.
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

std::string Paragraphs(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    result += Wrapped(text.substr(0, length), 0) + "\n";
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return result;
}

std::string OptionColumn(const OptionInfo& option) {
  if (option.positional) return option.value;
  std::string column = option.short_name.empty() ? "    " : fmt::format("-{}, ", option.short_name);
  if (option.long_name.empty()) column = fmt::format("-{}", option.short_name);
  if (!option.long_name.empty()) column += fmt::format("--{}", option.long_name);
  if (!option.value.empty()) column += " " + option.value;
  return column;
}

}  // namespace

ReadyVerb Prepare(const Verb& verb) {
  ReadyVerb ready;
  ready.app = std::make_shared<CLI::App>(std::string(verb.summary), fmt::format("tarn {}", verb.name));
  ready.invocation = std::make_shared<Invocation>();
  ready.action = verb.declare(*ready.app);
  CLI::App& app = *ready.app;
  if (verb.writes_result) {
    app.add_option("-o,--output", ready.invocation->output, "write the result to FILE; - is stdout")->type_name("FILE");
    app.add_flag("--json", ready.invocation->json, "the result as JSON");
  }
  app.add_flag("-q,--quiet", ready.invocation->quiet, "no messages but errors");
  app.add_flag("-v,--verbose", ready.invocation->verbose, "say more");
  app.set_help_flag("-h,--help", "show this and exit");
  return ready;
}

std::vector<OptionInfo> DescribeOptions(const Verb& verb) {
  const ReadyVerb ready = Prepare(verb);
  std::vector<OptionInfo> options;
  const CLI::Option* help = ready.app->get_help_ptr();
  std::vector<const CLI::Option*> all;
  for (const CLI::Option* option : std::as_const(*ready.app).get_options()) {
    if (option != help) all.push_back(option);
  }
  all.push_back(help);
  for (const CLI::Option* option : all) {
    OptionInfo info;
    info.positional = option->get_positional();
    if (!option->get_lnames().empty()) info.long_name = option->get_lnames().front();
    if (!option->get_snames().empty()) info.short_name = option->get_snames().front();
    if (option->get_items_expected_max() > 0) info.value = option->get_type_name();
    info.description = option->get_description();
    options.push_back(info);
  }
  return options;
}

std::string Synopsis(const Verb& verb) {
  return fmt::format("tarn {} [OPTION...]{}{}{}", verb.name, verb.arguments.empty() ? "" : " ", verb.arguments,
                     verb.takes_command ? " -- COMMAND [ARGUMENT...]" : "");
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
  const std::vector<OptionInfo> options = DescribeOptions(verb);
  constexpr std::size_t kIndent = 30;
  for (const OptionInfo& option : options) {
    const std::string column = OptionColumn(option);
    text += fmt::format("  {:<{}}", column, kIndent - 2);
    if (column.size() + 3 > kIndent) text += "\n" + std::string(kIndent, ' ');
    text += Wrapped(option.description, kIndent) + "\n";
  }
  return text;
}

}  // namespace tarn::tool
