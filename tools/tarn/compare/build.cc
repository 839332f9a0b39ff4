// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/build.h"

namespace tarn::tool {

#if defined(__clang__)
const std::string_view kBuildCompiler = "clang " __clang_version__;
#else
const std::string_view kBuildCompiler = "gcc " __VERSION__;
#endif
const std::string_view kBuildFlags = TARN_BUILD_FLAGS;

}  // namespace tarn::tool
