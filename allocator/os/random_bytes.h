// SPDX-License-Identifier: Apache-2.0
//
// Random bytes that the kernel makes.
#pragma once

#include <cstddef>

namespace tarn {

// getrandom(2), without waiting. Where that is refused: from the time, the number of the process, and what the kernel
// gave the process at its start (getauxval(3), AT_RANDOM).
void FillRandom(void* bytes, std::size_t count);

}  // namespace tarn
