// SPDX-License-Identifier: Apache-2.0
//
// Finds a function of libc by its name, past definitions that stand in front of it. Finds none where libc is linked
// into the program.
#pragma once

#include <cstdint>

namespace tarn {

// Its address; 0 where libc has none, or is not found.
std::uintptr_t FindLibcFunction(const char* name);

// libc is glibc, of this version or a later one.
bool LibcIsGlibcFrom(int major, int minor);

}  // namespace tarn
