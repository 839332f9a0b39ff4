#include "allocator/os/process.h"

#include <sched.h>
#include <unistd.h>

namespace tarn {

std::uint64_t ProcessId() { return static_cast<std::uint64_t>(::getpid()); }

void YieldCpu() { static_cast<void>(::sched_yield()); }

void ExitAtOnce(int status) { ::_exit(status); }

}  // namespace tarn
