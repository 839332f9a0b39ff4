// SPDX-License-Identifier: Apache-2.0
//
// The help of the verbs: --help, and the options as the man page and the completions need them.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
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

// `text` in lines that end before column 100, all but the first indented.
std::string Wrapped(std::string_view text, std::size_t indent);

std::string ToolHelp();
std::string VerbHelp(const Verb& verb);

}  // namespace tarn::tool
