#include "allocator/os/small_file.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tarn {

std::size_t ReadSmallFile(const char* path, char* text, std::size_t capacity) {
  const long descriptor = ::syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return 0;
  const long length = ::syscall(SYS_read, descriptor, text, capacity);
  static_cast<void>(::syscall(SYS_close, descriptor));
  return length < 0 ? 0 : static_cast<std::size_t>(length);
}

}  // namespace tarn
