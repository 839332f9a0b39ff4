// SPDX-License-Identifier: Apache-2.0
//
// Starting a command with libtarn.so preloaded, for the verbs that do (run, serve).
#pragma once

#include <string>
#include <vector>

namespace tarn::tool {

struct LaunchOptions {
  std::string library;                // empty: the tool's own
  std::vector<std::string> settings;  // NAME=VALUE, with or without TARN_
};

// Puts the preload and the settings into the environment of this process, and returns the path of the program. Throws
// ToolError: exit code 78 for a wrong setting, 126 or 127 for a program that cannot be executed. `verb` names whose
// message it is that a program will not use tarn.
std::string PrepareLaunch(const LaunchOptions& options, const std::vector<std::string>& command, const char* verb);

// Executes it in place of this process. Returns only if that fails, with errno.
void Execute(const std::string& program, const std::vector<std::string>& command);

// The exit code of `run` where executing has failed so.
int ExitCodeOfExecute(int error);

}  // namespace tarn::tool
