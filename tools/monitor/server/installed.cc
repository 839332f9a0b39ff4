// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/server/installed.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

namespace tarn::tool {

namespace {

// Of the shared library that this code is in; empty: it is in the program itself.
std::string LibraryPath() {
  Dl_info info;
  void* map = nullptr;
  // By the loader's list, for to dladdr a program is called as it was started, which may be a name without a directory.
  if (dladdr1(reinterpret_cast<void*>(&InstalledFiles), &info, &map, RTLD_DL_LINKMAP) == 0) return "";
  return static_cast<const link_map*>(map)->l_name;
}

}  // namespace

std::vector<std::string> InstalledFiles(std::string_view name) {
  const std::filesystem::path directory = std::filesystem::path(PathOfTool()).parent_path();
  std::vector<std::string> found;
  const auto look = [&](const char* where) {
    const std::string path = (directory / where / name).lexically_normal();
    if (access(path.c_str(), R_OK) == 0) found.push_back(path);
  };
  if (LibraryPath().empty()) {
    for (const char* where : {"../lib", "../lib/tarn", "../" TARN_INSTALL_LIBDIR "/tarn"}) look(where);
  } else {
    for (const char* where : {"tarn", "."}) look(where);
  }
  return found;
}

std::string PathOfTool() {
  if (std::string library = LibraryPath(); !library.empty()) return library;
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error);
}

}  // namespace tarn::tool
