// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/sanitizer.h"

namespace tarn {

bool HasSanitizerFunctions() { return false; }

void* SanitizerMalloc(std::size_t) { return nullptr; }
void* SanitizerCalloc(std::size_t) { return nullptr; }
void* SanitizerRealloc(void*, std::size_t) { return nullptr; }
void* SanitizerMemalign(std::size_t, std::size_t) { return nullptr; }
void SanitizerFree(void*) {}
std::size_t SanitizerUsableBytes(const void*) { return 0; }

}  // namespace tarn
