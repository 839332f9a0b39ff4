// SPDX-License-Identifier: Apache-2.0
//
// The functions that the kernel maps into each process, which answer some calls without entering it (vdso(7)).
//
// libc's own pointers to them are not for others, and its wrappers may be interposed (system_call.h).
#pragma once

#include <cstdint>

namespace tarn {

// The address of the function `name` of the vDSO; 0: there is none, or there is no vDSO.
std::uintptr_t FindVdsoFunction(const char* name);

// The same for a vDSO whose file lies at the address, as one piece.
std::uintptr_t FindImageFunction(std::uintptr_t image, const char* name);

}  // namespace tarn
