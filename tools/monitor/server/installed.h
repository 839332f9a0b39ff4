// SPDX-License-Identifier: Apache-2.0
//
// Files beside the tool, or beside libtarn_monitor.so where this code is part of it; in the build as after an install.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tarn::tool {

// The readable ones of this name, in the order in which they are to be tried.
std::vector<std::string> InstalledFiles(std::string_view name);

// The path of the tool, or of the library, for messages.
std::string PathOfTool();

}  // namespace tarn::tool
