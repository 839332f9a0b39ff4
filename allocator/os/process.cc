// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/process.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <sys/auxv.h>
#include <sys/resource.h>

#include "allocator/os/futex.h"
#include "allocator/os/known_paths.h"
#include "allocator/os/small_file.h"
#include "allocator/os/system_call.h"

namespace tarn {

std::uint64_t ProcessId() { return static_cast<std::uint64_t>(SystemCall(SYS_getpid)); }

std::uint32_t KernelThreadId() { return static_cast<std::uint32_t>(SystemCall(SYS_gettid)); }

std::uintptr_t ProgramEntry() { return ::getauxval(AT_ENTRY); }

std::size_t ReadProgramPath(char* to, std::size_t most_bytes) {
  const long length = SystemCall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", to, most_bytes);
  return length < 0 ? 0 : static_cast<std::size_t>(length);
}

std::size_t CountThreads() {
  struct stat status = {};
  if (SystemCall(SYS_newfstatat, AT_FDCWD, kTasksPath, &status, 0) != 0 || status.st_nlink < 2) return 0;
  return static_cast<std::size_t>(status.st_nlink) - 2;
}

void SleepBriefly() {
  std::atomic<std::uint32_t> unchanged = 0;
  WaitOnWord(unchanged, 0, 1);
}

ResidentSize ReadResidentSize() {
  ResidentSize size;
  struct rusage usage = {};
  // In KiB.
  if (SystemCall(SYS_getrusage, RUSAGE_SELF, &usage) == 0)
    size.peak_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) << 10;
  // Pages: the whole size, then what is resident (proc(5), statm).
  const SmallFile<128> statm(kStatmPath);
  std::size_t at = statm.text().find(' ');
  if (at == std::string_view::npos) return size;
  for (++at; at < statm.text().size() && statm.text()[at] >= '0' && statm.text()[at] <= '9'; ++at) {
    size.now_bytes = size.now_bytes * 10 + static_cast<std::uint64_t>(statm.text()[at] - '0');
  }
  size.now_bytes *= ::getauxval(AT_PAGESZ);
  return size;
}

void ExitAtOnce(int status) {
  while (true) static_cast<void>(SystemCall(SYS_exit_group, status));
}

}  // namespace tarn
