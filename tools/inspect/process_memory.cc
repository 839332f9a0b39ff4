// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/process_memory.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <string>

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

// All of it, or errno says why not. An end means that the memory has gone with its program.
bool IsWhole(ssize_t count, std::size_t bytes) {
  if (count == static_cast<ssize_t>(bytes)) return true;
  if (count >= 0 || errno == EIO || errno == EINVAL) errno = EFAULT;
  return false;
}

}  // namespace

ProcessMemory::ProcessMemory(pid_t pid) : pid_(pid) {
  if (pid == getpid()) return;
  const std::string path = "/proc/" + std::to_string(pid) + "/mem";
  file_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
  writes_ = file_ >= 0;
  if (file_ < 0) file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
}

ProcessMemory::~ProcessMemory() {
  if (file_ >= 0) close(file_);
}

bool ProcessMemory::Read(std::uint64_t address, void* to, std::size_t bytes) const {
  if (file_ >= 0) return IsWhole(pread(file_, to, bytes, static_cast<off_t>(address)), bytes);
  iovec local{to, bytes};
  iovec remote{reinterpret_cast<void*>(address), bytes};
  ssize_t count = process_vm_readv(pid_, &local, 1, &remote, 1, 0);
  if (IsRefusedForOurselves(pid_, count))
    count = OwnMemory(O_RDONLY, [&](int file) { return pread(file, to, bytes, static_cast<off_t>(address)); });
  return IsWhole(count, bytes);
}

bool ProcessMemory::Write(std::uint64_t address, const void* from, std::size_t bytes) const {
  if (writes_) return IsWhole(pwrite(file_, from, bytes, static_cast<off_t>(address)), bytes);
  iovec local{const_cast<void*>(from), bytes};
  iovec remote{reinterpret_cast<void*>(address), bytes};
  ssize_t count = process_vm_writev(pid_, &local, 1, &remote, 1, 0);
  if (IsRefusedForOurselves(pid_, count))
    count = OwnMemory(O_WRONLY, [&](int file) { return pwrite(file, from, bytes, static_cast<off_t>(address)); });
  return IsWhole(count, bytes);
}

}  // namespace tarn::tool
