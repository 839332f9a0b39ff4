// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/file.h"

#include <fcntl.h>

#include <cerrno>

#include "allocator/os/system_call.h"

namespace tarn {

namespace {

// -1 and errno for a call that failed.
long Result(long result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

int Open(const char* path, int flags) {
  constexpr int kOwnerOnly = 0600;
  long descriptor;
  do {
    descriptor = SystemCall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, kOwnerOnly);
  } while (descriptor == -EINTR);
  return static_cast<int>(Result(descriptor));
}

}  // namespace

int CreateFile(const char* path) { return Open(path, O_WRONLY | O_CREAT | O_TRUNC); }
int CreateNewFile(const char* path) { return Open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW); }
int OpenToAppend(const char* path) { return Open(path, O_WRONLY | O_CREAT | O_APPEND); }
int OpenToRead(const char* path) { return Open(path, O_RDONLY); }

bool WriteAll(int descriptor, const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes != 0) {
    const long written = SystemCall(SYS_write, descriptor, at, bytes);
    if (written == -EINTR) continue;
    if (Result(written) < 0) return false;
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

std::ptrdiff_t ReadSome(int descriptor, void* data, std::size_t bytes) {
  long got;
  do {
    got = SystemCall(SYS_read, descriptor, data, bytes);
  } while (got == -EINTR);
  return Result(got);
}

// Linux has closed the descriptor even where it says EINTR.
bool CloseFile(int descriptor) {
  const long result = SystemCall(SYS_close, descriptor);
  return result == -EINTR || Result(result) == 0;
}

void RemoveFile(const char* path) { static_cast<void>(SystemCall(SYS_unlinkat, AT_FDCWD, path, 0)); }

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
