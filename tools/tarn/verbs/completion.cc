// SPDX-License-Identifier: Apache-2.0
//
// tarn completion: completions for shells, from the table of verbs.
//
// A value with bars (bash|zsh|fish) is one of these words; FILE and PATH are file names; VERB is a verb.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "tools/tarn/console.h"
#include "tools/tarn/help.h"
#include "tools/tarn/verbs.h"

namespace tarn::tool {

namespace {

std::string VerbNames() {
  std::string names;
  for (const Verb* verb : Verbs()) names += (names.empty() ? "" : " ") + std::string(verb->name);
  return names;
}

bool IsFile(const Option& option) { return option.value == "FILE" || option.value == "PATH"; }

// The words that the value may be; empty where it is something else.
std::string Words(const Option& option) {
  return option.value == "VERB" ? VerbNames() : fmt::format("{}", fmt::join(option.words(), " "));
}

std::string Quoted(std::string_view text, std::string_view also = "") {
  std::string quoted;
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      if (also.find(c) != std::string_view::npos) quoted += '\\';
      quoted += c;
    }
  }
  return "'" + quoted + "'";
}

std::string Bash() {
  std::string text = fmt::format(
      "# Completion of tarn for bash.\n"
      "_tarn() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} i\n"
      "  COMPREPLY=()\n"
      "  if [[ $COMP_CWORD -eq 1 ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W '{} --help --version' -- \"$word\")\n"
      "    return\n"
      "  fi\n"
      "  # Behind -- stands a command of its own.\n"
      "  for ((i = 2; i < COMP_CWORD; ++i)); do\n"
      "    if [[ ${{COMP_WORDS[i]}} == -- ]]; then\n"
      "      if declare -F _command_offset >/dev/null; then _command_offset $((i + 1)); return; fi\n"
      "      mapfile -t COMPREPLY < <(compgen -c -f -- \"$word\")\n"
      "      return\n"
      "    fi\n"
      "  done\n"
      "  case ${{COMP_WORDS[1]}} in\n",
      VerbNames());
  for (const Verb* verb : Verbs()) {
    std::string names;
    std::string values;
    std::string positional = "";
    const ReadyVerb ready = MakeReady(*verb);
    for (const Option& option : ready.options) {
      const std::string words = Words(option);
      const std::string action = !words.empty()
                                     ? fmt::format("mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")", words)
                                 : IsFile(option) ? "mapfile -t COMPREPLY < <(compgen -f -- \"$word\")"
                                                  : "";
      if (option.is_argument()) {
        if (!action.empty()) positional = action;
        continue;
      }
      const std::vector<std::string> own_names = option.dashed_names();
      names += fmt::format(" {}", fmt::join(own_names, " "));
      if (!option.value.empty())
        values +=
            fmt::format("        {}) {}{}return ;;\n", fmt::join(own_names, " | "), action, action.empty() ? "" : "; ");
    }
    text += fmt::format("    {})\n      case $before in\n{}      esac\n", verb->name, values);
    if (!positional.empty()) text += fmt::format("      if [[ $word != -* ]]; then {}; return; fi\n", positional);
    text += fmt::format("      mapfile -t COMPREPLY < <(compgen -W '{}{}' -- \"$word\")\n      ;;\n", names.substr(1),
                        verb->takes_command ? " --" : "");
  }
  return text + "  esac\n}\ncomplete -o filenames -F _tarn tarn\n";
}

std::string Zsh() {
  std::string text = "#compdef tarn\n# Completion of tarn for zsh.\n_tarn() {\n  local -a verbs\n  verbs=(\n";
  for (const Verb* verb : Verbs())
    text += fmt::format("    {}\n", Quoted(fmt::format("{}:{}", verb->name, verb->summary)));
  text +=
      "  )\n  if (( CURRENT == 2 )); then\n    _describe -t verbs verb verbs\n    return\n  fi\n"
      "  local verb=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $verb in\n";
  for (const Verb* verb : Verbs()) {
    text += fmt::format("    {})\n      _arguments -s", verb->name);
    const ReadyVerb ready = MakeReady(*verb);
    for (const Option& option : ready.options) {
      const std::string words = Words(option);
      std::string value;
      if (!option.value.empty()) {
        value = fmt::format(":value:{}", !words.empty() ? "(" + words + ")" : IsFile(option) ? "_files" : " ");
      }
      if (option.is_argument()) {
        text += fmt::format(" \\\n        {}", Quoted("*" + value));
        continue;
      }
      // Repeated is allowed for all; the tool complains where it does not make sense.
      for (const std::string& name : option.dashed_names()) {
        std::string description;
        for (const char c : option.description) {
          if (c == '[' || c == ']' || c == ':') description += '\\';
          description += c;
        }
        text += fmt::format(" \\\n        {}", Quoted(fmt::format("*{}[{}]{}", name, description, value)));
      }
    }
    if (verb->takes_command) text += " \\\n        '(-)*::command:_normal'";
    text += "\n      ;;\n";
  }
  return text + "  esac\n}\n_tarn \"$@\"\n";
}

std::string Fish() {
  std::string text = "# Completion of tarn for fish.\ncomplete -c tarn -f\n";
  for (const Verb* verb : Verbs()) {
    text += fmt::format("complete -c tarn -n __fish_use_subcommand -a {} -d {}\n", verb->name, Quoted(verb->summary));
    const std::string condition = fmt::format("-n '__fish_seen_subcommand_from {}'", verb->name);
    const ReadyVerb ready = MakeReady(*verb);
    for (const Option& option : ready.options) {
      const std::string words = Words(option);
      std::string line = fmt::format("complete -c tarn {}", condition);
      for (const std::string& name : option.dashed_names())
        line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      if (!option.is_argument() && !option.value.empty()) line += " -x";
      if (!words.empty()) line += " -a " + Quoted(words);
      if (words.empty() && IsFile(option)) line += option.is_argument() ? " -F" : " -a '(__fish_complete_path)'";
      text += line + " -d " + Quoted(option.description) + "\n";
    }
    if (verb->takes_command) text += fmt::format("complete -c tarn {} -a '(__fish_complete_subcommand)'\n", condition);
  }
  return text;
}

Prepared PrepareCompletion() {
  auto shell = std::make_shared<std::string>();
  return {{{"bash|zsh|fish", "bash|zsh|fish", "the shell", shell.get()}}, [shell](const Invocation& invocation) {
            WriteResult(invocation, *shell == "bash" ? Bash() : *shell == "zsh" ? Zsh() : Fish());
            return static_cast<int>(kExitOk);
          }};
}

}  // namespace

extern const Verb kCompletionVerb;
const Verb kCompletionVerb = {
    .name = "completion",
    .summary = "print the completion for a shell",
    .examples = {{"source <(tarn completion bash)", "complete verbs and options in this shell"}},
    .details = "An install puts all three where the shells look for them.",
    .prepare = PrepareCompletion,
};

}  // namespace tarn::tool
