// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/debug_files.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <cstddef>
#include <string_view>

namespace tarn::tool {

namespace {

// True of the very file that was split off, false of one of another build.
bool HasCrc(int fd, std::uint32_t crc) {
  unsigned char chunk[std::size_t{64} << 10];
  uLong sum = crc32(0, nullptr, 0);
  ssize_t count = 0;
  while ((count = read(fd, chunk, sizeof(chunk))) > 0) sum = crc32(sum, chunk, static_cast<uInt>(count));
  return count == 0 && sum == crc && lseek(fd, 0, SEEK_SET) == 0;
}

}  // namespace

int OpenDebugFile(const std::string& path, const std::string& build_id, const std::vector<std::string>& directories,
                  const char* link, std::uint32_t crc) {
  if (build_id.size() > 2) {
    for (const std::string& directory : directories) {
      const std::string file = directory + "/.build-id/" + build_id.substr(0, 2) + "/" + build_id.substr(2) + ".debug";
      if (const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC); fd >= 0) return fd;
    }
  }
  if (link == nullptr || std::string_view(link).find('/') != std::string_view::npos) return -1;
  const std::string directory = path.substr(0, path.rfind('/') + 1);
  std::vector<std::string> places = {directory, directory + ".debug/"};
  for (const std::string& debug_directory : directories) places.push_back(debug_directory + directory);
  for (const std::string& place : places) {
    const int fd = open((place + link).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    if (HasCrc(fd, crc)) return fd;
    close(fd);
  }
  return -1;
}

}  // namespace tarn::tool
