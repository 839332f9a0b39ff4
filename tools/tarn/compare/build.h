// SPDX-License-Identifier: Apache-2.0
//
// The part of a result document about the build of this tool.
#pragma once

#include <string_view>

namespace tarn::tool {

extern const std::string_view kBuildCompiler;
extern const std::string_view kBuildFlags;
extern const std::string_view kBuildCommit;  // as `git describe` has it; empty where there is no git

}  // namespace tarn::tool
