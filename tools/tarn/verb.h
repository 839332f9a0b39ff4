// SPDX-License-Identifier: Apache-2.0
//
// A verb of the tool, and what it is given when it runs.
//
// Each verb is one file in tools/tarn/verbs/ that defines one constant of this type; verbs.cc lists them. Its options
// are data, too. So --help, the man page and the completions are made from it, and cannot be out of date.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tools/base/error.h"

namespace tarn::tool {

struct Invocation {
  bool quiet = false;
  bool verbose = false;
  bool json = false;
  std::string output = "-";               // of -o; "-" is stdout
  std::vector<std::string> command;       // the words behind `--`
  std::vector<std::string> command_line;  // everything, beginning with "tarn"
};

// An option of a verb, or an argument that is known by its place.
struct Option {
  // The variable that it sets. A bool is a switch, without a value; a vector takes one value each time; none: shows
  // help.
  using Target = std::variant<std::monostate, bool*, int*, std::uint64_t*, std::optional<std::uint64_t>*, double*,
                              std::string*, std::vector<std::string>*>;

  std::string_view name;   // "--top", "-o,--output"; "PID": an argument; "[VERB]": one that may be left out
  std::string_view value;  // its name in texts: N; FILE, PATH and VERB are completed; a|b: one of these words
  std::string_view description;
  Target target;
  // Of a number.
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();

  bool is_argument() const { return name[0] != '-'; }
  bool is_required() const { return is_argument() && name[0] != '['; }
  // {"-o", "--output"}; none for an argument.
  std::vector<std::string> dashed_names() const;
  // Of a value that is one of a few words.
  std::vector<std::string> words() const;
};

// Runs the verb with the values of its options; returns the exit code.
using Action = std::function<int(const Invocation&)>;

// The options of one use of a verb, and the action, which owns what they set.
struct Prepared {
  std::vector<Option> options;
  Action action;
};

struct Example {
  std::string_view command;
  std::string_view meaning;
};

struct Verb {
  std::string_view name;
  std::string_view summary;  // one line, without a full stop
  std::vector<Example> examples;
  std::string_view details;                  // paragraphs for --help and the man page; may be empty
  bool takes_command = false;                // `-- COMMAND [ARGUMENT...]` follows
  bool needs_command = true;                 // of one that takes a command: it must
  std::string_view instead_of_command = {};  // an option with which it need not
  bool writes_result = true;                 // has -o and --json
  Prepared (*prepare)();
};

}  // namespace tarn::tool
