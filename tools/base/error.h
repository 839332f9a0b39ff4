// SPDX-License-Identifier: Apache-2.0
//
// How a verb or a page ends early: an exit code, and a message that says what to do next.
#pragma once

#include <stdexcept>
#include <string>

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

}  // namespace tarn::tool
