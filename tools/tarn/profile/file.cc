#include "tools/tarn/profile/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "tools/tarn/profile/gzip.h"
#include "tools/tarn/profile/proto.h"

namespace tarn::tool {

namespace {

// Chosen: what is larger is no profile, but a disk image or a log that was named by mistake.
constexpr std::size_t kMaxFileBytes = std::size_t{1} << 30;

[[noreturn]] void Fail(const std::string& path, const std::string& what) {
  throw ProfileError((path == "-" ? std::string("standard input") : path) + ": " + what);
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() { Close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  // Some file systems tell only here that the disk is full.
  bool Close() {
    if (fd_ <= 2) return true;  // the standard ones are not ours
    return close(std::exchange(fd_, -1)) == 0;
  }

 private:
  int fd_;
};

std::string ReadAll(const std::string& path) {
  File file(path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd() < 0) Fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  std::string result;
  char chunk[std::size_t{64} << 10];
  while (true) {
    const ssize_t count = read(file.fd(), chunk, sizeof(chunk));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) Fail(path, std::string("cannot be read: ") + std::strerror(errno));
    if (count == 0) return result;
    result.append(chunk, static_cast<std::size_t>(count));
    if (result.size() > kMaxFileBytes) Fail(path, "is larger than 1 GiB, so it is no profile");
  }
}

}  // namespace

Profile ReadProfileFile(const std::string& path) {
  const std::string bytes = ReadAll(path);
  if (bytes.empty()) Fail(path, "is empty");
  try {
    return IsGzip(bytes) ? DecodeProfile(Decompress(bytes)) : DecodeProfile(bytes);
  } catch (const ProfileError& error) {
    Fail(path, error.what());
  }
}

void WriteProfileFile(const Profile& profile, const std::string& path) {
  const std::string bytes = Compress(EncodeProfile(profile));
  const std::string name = path == "-" ? "standard output" : path;
  File file(path == "-" ? STDOUT_FILENO : open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.fd() < 0) throw ProfileError(name + ": cannot be opened for writing: " + std::strerror(errno));
  std::string_view left = bytes;
  while (!left.empty()) {
    const ssize_t count = write(file.fd(), left.data(), left.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw ProfileError(name + ": cannot be written: " + std::strerror(errno));
    left.remove_prefix(static_cast<std::size_t>(count));
  }
  if (!file.Close()) throw ProfileError(name + ": cannot be written: " + std::strerror(errno));
}

}  // namespace tarn::tool
