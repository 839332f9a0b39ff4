// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/small_file.h"

#include <fcntl.h>

#include "allocator/os/system_call.h"

namespace tarn {

std::size_t ReadSmallFile(const char* path, char* text, std::size_t capacity) {
  const long descriptor = SystemCall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return 0;
  const long length = SystemCall(SYS_read, descriptor, text, capacity);
  static_cast<void>(SystemCall(SYS_close, descriptor));
  return length < 0 ? 0 : static_cast<std::size_t>(length);
}

}  // namespace tarn
