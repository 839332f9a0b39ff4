// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/process_memory.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

namespace tarn::tool {

namespace {

// True where a seccomp profile or the kernel has refused the call itself, for this process. Then /proc/self/mem does
// the same, and needs nothing but /proc.
bool IsRefusedForOurselves(pid_t pid, ssize_t count) {
  return count < 0 && (errno == ENOSYS || errno == EPERM) && pid == getpid();
}

template <typename Access>
ssize_t OwnMemory(int flags, const Access& access) {
  // Opened each time: a fork's child would have its parent's.
  const int file = open("/proc/self/mem", flags | O_CLOEXEC);
  if (file < 0) return -1;
  const ssize_t count = access(file);
  const int error = errno;
  close(file);
  errno = error;
  return count;
}

}  // namespace

bool ReadProcessMemory(pid_t pid, std::uint64_t address, void* to, std::size_t bytes) {
  iovec local{to, bytes};
  iovec remote{reinterpret_cast<void*>(address), bytes};
  ssize_t count = process_vm_readv(pid, &local, 1, &remote, 1, 0);
  if (IsRefusedForOurselves(pid, count))
    count = OwnMemory(O_RDONLY, [&](int file) { return pread(file, to, bytes, static_cast<off_t>(address)); });
  if (count >= 0 && count != static_cast<ssize_t>(bytes)) errno = EFAULT;
  return count == static_cast<ssize_t>(bytes);
}

bool WriteProcessMemory(pid_t pid, std::uint64_t address, const void* from, std::size_t bytes) {
  iovec local{const_cast<void*>(from), bytes};
  iovec remote{reinterpret_cast<void*>(address), bytes};
  ssize_t count = process_vm_writev(pid, &local, 1, &remote, 1, 0);
  if (IsRefusedForOurselves(pid, count))
    count = OwnMemory(O_WRONLY, [&](int file) { return pwrite(file, from, bytes, static_cast<off_t>(address)); });
  if (count >= 0 && count != static_cast<ssize_t>(bytes)) errno = EFAULT;
  return count == static_cast<ssize_t>(bytes);
}

}  // namespace tarn::tool
