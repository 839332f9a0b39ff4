// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/profile/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tools/inspect/profile/gzip.h"
#include "tools/inspect/profile/proto.h"

namespace tarn::tool {

namespace {

// Chosen: a larger file is not a profile, but a disk image or a log that was named by mistake.
constexpr std::size_t kMaxFileBytes = std::size_t{1} << 30;

[[noreturn]] void Fail(const std::string& path, const std::string& what) {
  throw ProfileError((path == "-" ? std::string("standard input") : path) + ": " + what);
}

std::string ReadAll(const std::string& path) {
  const int file = path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) Fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  std::string result;
  char chunk[std::size_t{64} << 10];
  ssize_t count = 0;
  do {
    count = read(file, chunk, sizeof(chunk));
    if (count > 0) result.append(chunk, static_cast<std::size_t>(count));
  } while ((count > 0 && result.size() <= kMaxFileBytes) || (count < 0 && errno == EINTR));
  const int error = count < 0 ? errno : 0;
  if (file != STDIN_FILENO) close(file);
  if (error != 0) Fail(path, std::string("cannot be read: ") + std::strerror(error));
  if (result.size() > kMaxFileBytes) Fail(path, "is larger than 1 GiB, so it is not a profile");
  return result;
}

}  // namespace

Profile ReadProfileFile(const std::string& path) {
  const std::string bytes = ReadAll(path);
  if (bytes.empty()) Fail(path, "is empty");
  try {
    return IsGzip(bytes) ? DecodeProfile(Decompress(bytes)) : DecodeProfile(bytes);
  } catch (const ProfileError& error) {
    Fail(path, std::string(error.what()) + "; tarn heap PID -o FILE writes a whole one");
  }
}

std::string ProfileFileBytes(const Profile& profile) { return Compress(EncodeProfile(profile)); }

}  // namespace tarn::tool
