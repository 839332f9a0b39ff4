// SPDX-License-Identifier: Apache-2.0
//
// The CPUs of the machine.
#pragma once

#include <cstddef>

namespace tarn {

// An exclusive upper bound of the ids of CPUs on this machine, hot-plugged ones included. May change errno.
std::size_t CpuIdBound();

// The number of CPUs that the machine is configured with; their ids usually are below that, but need not be. At least
// 1. Asks the kernel once. May change errno.
std::size_t ConfiguredCpus();

}  // namespace tarn
