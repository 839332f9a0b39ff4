// What a verb of the tool is, and what it is given when it runs.
//
// Each verb is one file in tools/tarn/verbs/ that defines one constant of this type; verbs.cc lists them. Everything that
// a user reads about a verb (--help, the man page, the completions) is made from this and from the options that `declare`
// registers, so none of it can be out of date.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace tarn::tool {

enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,
  kExitUsage = 2,
  kExitFinding = 3,          // a leak, a regression, a difference
  kExitNotTarn = 4,          // the target does not use tarn
  kExitConfiguration = 78,   // as sysexits.h's EX_CONFIG, and as the library itself with TARN_STRICT
  kExitNotExecutable = 126,  // as shells have it
  kExitNotFound = 127,
  kExitInterrupted = 130,
};

// Ends a verb with a message on stderr, which says what to do next.
class ToolError : public std::runtime_error {
 public:
  explicit ToolError(const std::string& message, int exit_code = kExitError)
      : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

class UsageError : public ToolError {
 public:
  explicit UsageError(const std::string& message) : ToolError(message, kExitUsage) {}
};

struct Invocation {
  bool quiet = false;
  bool verbose = false;
  bool json = false;
  std::string output = "-";               // of -o; "-" is stdout
  std::vector<std::string> command;       // what stands behind `--`
  std::vector<std::string> command_line;  // everything, beginning with "tarn"
};

// Runs the verb with the values of the options that it declared; returns the exit code.
using Action = std::function<int(const Invocation&)>;

struct Example {
  std::string_view command;
  std::string_view meaning;
};

struct Verb {
  std::string_view name;
  std::string_view summary;    // one line, without a full stop
  std::string_view arguments;  // what follows the options in the synopsis
  std::vector<Example> examples;
  std::string_view details;          // paragraphs for --help and the man page; may be empty
  bool takes_command = false;        // `-- COMMAND [ARGUMENT...]` is required
  bool writes_result = true;         // has -o and --json
  Action (*declare)(CLI::App& app);  // registers the options; the action it returns owns their values
};

}  // namespace tarn::tool
