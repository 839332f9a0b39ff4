// SPDX-License-Identifier: Apache-2.0
//
// tarn man: the manual pages, in roff, from the table of verbs.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "allocator/settings/roff.h"
#include "tools/base/suggestion.h"
#include "tools/tarn/console.h"
#include "tools/tarn/help.h"
#include "tools/tarn/verbs.h"

namespace tarn::tool {

namespace {

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
  const ReadyVerb ready = MakeReady(verb);
  for (const Option& option : ready.options) {
    std::string names = option.is_argument() ? fmt::format("\\fI{}\\fR", Roff(option.name)) : "";
    for (const std::string& name : option.dashed_names())
      names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", Roff(name));
    if (!option.is_argument() && !option.value.empty()) names += fmt::format(" \\fI{}\\fR", Roff(option.value));
    text += fmt::format(".TP\n{}\n{}\n", names, Roff(option.description));
  }
  return text + ExamplesSection(verb.examples) + ".SH SEE ALSO\n.BR tarn (1)\n";
}

int RunMan(const std::string& name, const Invocation& invocation) {
  const Verb* verb = name.empty() ? nullptr : FindVerb(name);
  if (!name.empty() && verb == nullptr) {
    std::vector<std::string_view> names;
    for (const Verb* known : Verbs()) names.push_back(known->name);
    throw UsageError(fmt::format("unknown verb {}{}", name, Suggestion(name, names)));
  }
  WriteResult(invocation, verb == nullptr ? ToolPage() : VerbPage(*verb));
  return kExitOk;
}

Prepared PrepareMan() {
  auto name = std::make_shared<std::string>();
  return {{{"[VERB]", "VERB", "the verb; the page of the tool as a whole without it", name.get()}},
          [name](const Invocation& invocation) { return RunMan(*name, invocation); }};
}

}  // namespace

extern const Verb kManVerb;
const Verb kManVerb = {
    .name = "man",
    .summary = "print the manual page of the tool or of a verb",
    .examples = {{"tarn man compare | man -l -", "read the page of a verb without an install"}},
    .details = "",
    .prepare = PrepareMan,
};

}  // namespace tarn::tool
