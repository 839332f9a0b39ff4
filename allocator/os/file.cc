#include "allocator/os/file.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace tarn {

namespace {

int Open(const char* path, int flags) {
  constexpr int kOwnerOnly = 0600;
  long descriptor;
  do {
    descriptor = ::syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, kOwnerOnly);
  } while (descriptor < 0 && errno == EINTR);
  return static_cast<int>(descriptor);
}

}  // namespace

int CreateFile(const char* path) { return Open(path, O_WRONLY | O_CREAT | O_TRUNC); }
int CreateNewFile(const char* path) { return Open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW); }
int OpenToRead(const char* path) { return Open(path, O_RDONLY); }

bool WriteAll(int descriptor, const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes != 0) {
    const long written = ::syscall(SYS_write, descriptor, at, bytes);
    if (written < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

std::ptrdiff_t ReadSome(int descriptor, void* data, std::size_t bytes) {
  long got;
  do {
    got = ::syscall(SYS_read, descriptor, data, bytes);
  } while (got < 0 && errno == EINTR);
  return got;
}

// Linux has closed the descriptor even where it says EINTR.
bool CloseFile(int descriptor) { return ::syscall(SYS_close, descriptor) == 0 || errno == EINTR; }

void RemoveFile(const char* path) {
  const int saved_errno = errno;
  static_cast<void>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0));
  errno = saved_errno;
}

std::string_view FileErrorText(int error) {
  switch (error) {
    case EACCES:
    case EPERM:
      return "permission denied";
    case ENOENT:
    case ENOTDIR:
      return "there is no such directory";
    case ENOSPC:
    case EDQUOT:
      return "no space left";
    case EROFS:
      return "the file system is read-only";
    case ENAMETOOLONG:
      return "the name is too long";
    case EMFILE:
    case ENFILE:
      return "too many open files";
    case ENOMEM:
      return "not enough memory";
    case EEXIST:
      return "the names that could be used are all taken";
    default:
      return {};
  }
}

}  // namespace tarn
