// SPDX-License-Identifier: Apache-2.0
//
// What a user reads of the verbs: --help, and the options as the man page and the completions need them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/tarn/verb.h"

namespace tarn::tool {

// A verb that can be called: its own options, and those that every verb has.
struct ReadyVerb {
  std::vector<Option> options;
  Action action;
  std::unique_ptr<Invocation> invocation;
};
ReadyVerb MakeReady(const Verb& verb);

// "tarn run [OPTION...] -- COMMAND [ARGUMENT...]"
std::string Synopsis(const Verb& verb);

std::string ToolHelp();
std::string VerbHelp(const Verb& verb);

}  // namespace tarn::tool
