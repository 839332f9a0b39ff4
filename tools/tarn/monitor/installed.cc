#include "tools/tarn/monitor/installed.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

namespace tarn::tool {

std::vector<std::string> InstalledFiles(std::string_view name) {
  const std::filesystem::path self = PathOfTool();
  std::vector<std::string> found;
  for (const char* directory : {"../lib", "../lib/tarn", "../" TARN_INSTALL_LIBDIR "/tarn"}) {
    const std::string path = (self.parent_path() / directory / name).lexically_normal();
    if (access(path.c_str(), R_OK) == 0) found.push_back(path);
  }
  return found;
}

std::string PathOfTool() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error);
}

}  // namespace tarn::tool
