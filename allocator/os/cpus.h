// What the machine has of CPUs.
#pragma once

#include <cstddef>

namespace tarn {

// An exclusive upper bound of the ids of CPUs on this machine, hot-plugged ones included. May change errno.
std::size_t CpuIdBound();

}  // namespace tarn
