// The options of a verb, as --help, the man page and the completions need them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/tarn/verb.h"

namespace tarn::tool {

struct OptionInfo {
  std::string long_name;   // without dashes; empty for a positional argument
  std::string short_name;  // without the dash; may be empty
  std::string value;       // what stands for the value: N, FILE, bash|zsh|fish; empty for a switch
  std::string description;
  bool positional = false;
};

// A verb with its options registered: its own, and those that every verb has.
struct ReadyVerb {
  std::shared_ptr<CLI::App> app;
  std::shared_ptr<Invocation> invocation;
  Action action;
};
ReadyVerb Prepare(const Verb& verb);

std::vector<OptionInfo> DescribeOptions(const Verb& verb);

// "tarn run [OPTION...] -- COMMAND [ARGUMENT...]"
std::string Synopsis(const Verb& verb);

std::string ToolHelp();
std::string VerbHelp(const Verb& verb);

}  // namespace tarn::tool
