// What a stack walk needs of the system.
#pragma once

#include <cstdint>

namespace tarn {

// Whether eight bytes at the address, a multiple of eight, can be read now. Asks the kernel, in about 0.1 microseconds;
// keeps errno.
bool IsReadable(std::uintptr_t address);

}  // namespace tarn
