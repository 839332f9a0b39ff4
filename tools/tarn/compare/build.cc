// A file of its own, because it is compiled again with every commit.
#include "tools/tarn/compare/build.h"

namespace tarn::tool {

#if defined(__clang__)
const std::string_view kBuildCompiler = "clang " __clang_version__;
#else
const std::string_view kBuildCompiler = "gcc " __VERSION__;
#endif
const std::string_view kBuildFlags = TARN_BUILD_FLAGS;
const std::string_view kBuildCommit = TARN_COMMIT;

}  // namespace tarn::tool
