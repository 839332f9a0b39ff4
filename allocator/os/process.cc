#include "allocator/os/process.h"

#include <sched.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

#include "allocator/os/small_file.h"

namespace tarn {

std::uint64_t ProcessId() { return static_cast<std::uint64_t>(::getpid()); }

std::uintptr_t ProgramEntry() { return ::getauxval(AT_ENTRY); }

void YieldCpu() { static_cast<void>(::sched_yield()); }

ResidentSize ReadResidentSize() {
  ResidentSize size;
  struct rusage usage = {};
  // In KiB.
  if (::getrusage(RUSAGE_SELF, &usage) == 0) size.peak_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) << 10;
  // Pages: the whole size, then what is resident (proc(5), statm).
  const SmallFile<128> statm("/proc/self/statm");
  std::size_t at = statm.text().find(' ');
  if (at == std::string_view::npos) return size;
  for (++at; at < statm.text().size() && statm.text()[at] >= '0' && statm.text()[at] <= '9'; ++at) {
    size.now_bytes = size.now_bytes * 10 + static_cast<std::uint64_t>(statm.text()[at] - '0');
  }
  size.now_bytes *= static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

void ExitAtOnce(int status) { ::_exit(status); }

}  // namespace tarn
