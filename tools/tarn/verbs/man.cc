// tarn man: the manual pages, in roff, from the table of verbs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "tools/tarn/console.h"
#include "tools/tarn/help.h"
#include "tools/tarn/verbs.h"

namespace tarn::tool {

namespace {

// Backslashes and dashes are commands of roff, and so are a dot and a quote at the start of a line.
std::string Roff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      if ((c == '.' || c == '\'') && (escaped.empty() || escaped.back() == '\n')) escaped += "\\&";
      escaped += c;
    }
  }
  return escaped;
}

std::string Header(std::string_view page, std::string_view summary) {
  return fmt::format(".TH \"{}\" 1 \"\" \"tarn {}\" \"tarn\"\n.SH NAME\n{} \\- {}\n", page, TARN_VERSION, Roff(page),
                     Roff(summary));
}

std::string ExamplesSection(const std::vector<Example>& examples) {
  std::string text = ".SH EXAMPLES\n";
  for (const Example& example : examples)
    text += fmt::format(".TP\n.B {}\n{}\n", Roff(example.command), Roff(example.meaning));
  return text;
}

std::string ToolPage() {
  std::string text = Header("tarn", "run programs on the allocator tarn, and measure them");
  text += ".SH SYNOPSIS\n.B tarn\n.I VERB\n[\\fIOPTION\\fR...]\n";
  std::vector<Example> examples;
  for (const Verb* verb : Verbs()) {
    if (!verb->examples.empty()) examples.push_back(verb->examples.front());
  }
  text += ".SH VERBS\n";
  for (const Verb* verb : Verbs())
    text += fmt::format(".TP\n.BR tarn\\-{} (1)\n{}\n", Roff(verb->name), Roff(verb->summary));
  text += ExamplesSection(examples);
  text +=
      ".SH EXIT STATUS\n0 ok, 1 an error, 2 wrong usage, 3 a finding (a leak, a regression, a difference), 4 the "
      "target\n"
      "does not use tarn, 78 a wrong setting.\n.B tarn run\nexits as its command does.\n"
      ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nno colours\n";
  return text;
}

std::string VerbPage(const Verb& verb) {
  std::string text = Header(fmt::format("tarn-{}", verb.name), verb.summary);
  text += fmt::format(".SH SYNOPSIS\n{}\n", Roff(Synopsis(verb)));
  if (!verb.details.empty()) {
    text += ".SH DESCRIPTION\n";
    std::string_view rest = verb.details;
    while (!rest.empty()) {
      const std::size_t length = std::min(rest.find('\n'), rest.size());
      text += Roff(rest.substr(0, length)) + "\n.PP\n";
      rest.remove_prefix(std::min(length + 1, rest.size()));
    }
  }
  text += ".SH OPTIONS\n";
  for (const OptionInfo& option : DescribeOptions(verb)) {
    std::string names;
    if (!option.short_name.empty()) names += "\\fB\\-" + Roff(option.short_name) + "\\fR";
    if (!option.long_name.empty())
      names += (names.empty() ? "" : ", ") + ("\\fB\\-\\-" + Roff(option.long_name) + "\\fR");
    if (!option.value.empty()) names += (names.empty() ? "" : " ") + ("\\fI" + Roff(option.value) + "\\fR");
    text += fmt::format(".TP\n{}\n{}\n", names, Roff(option.description));
  }
  return text + ExamplesSection(verb.examples) + ".SH SEE ALSO\n.BR tarn (1)\n";
}

Action Declare(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  app.add_option("VERB", *name, "the verb; the page of the tool as a whole without it")->type_name("VERB");
  return [name](const Invocation& invocation) {
    const Verb* verb = name->empty() ? nullptr : FindVerb(*name);
    if (!name->empty() && verb == nullptr) {
      std::vector<std::string_view> names;
      for (const Verb* known : Verbs()) names.push_back(known->name);
      throw UsageError(fmt::format("unknown verb {}{}", *name, Suggestion(*name, names)));
    }
    WriteResult(invocation, verb == nullptr ? ToolPage() : VerbPage(*verb));
    return static_cast<int>(kExitOk);
  };
}

}  // namespace

extern const Verb kManVerb;
const Verb kManVerb = {
    .name = "man",
    .summary = "print the manual page of the tool or of a verb",
    .arguments = "[VERB]",
    .examples = {{"tarn man compare | man -l -", "read the page of a verb without an install"}},
    .details = "",
    .declare = Declare,
};

}  // namespace tarn::tool
