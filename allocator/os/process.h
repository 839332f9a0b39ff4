// The process and the scheduler, as far as the start of the heap needs them.
#pragma once

#include <cstdint>

namespace tarn {

std::uint64_t ProcessId();

// Lets another thread run.
void YieldCpu();

// Ends the process without running its destructors.
[[noreturn]] void ExitAtOnce(int status);

}  // namespace tarn
