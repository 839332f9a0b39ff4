// SPDX-License-Identifier: Apache-2.0
//
// The line that TARN_VERBOSE asks for.
#pragma once

#include "allocator/base/attributes.h"

namespace tarn {

struct ProcessHeap;

// Where the process's malloc comes from if it is not tarn's: the file, or an empty text for the program itself. Null:
// from tarn. Defined beside the exported functions (entry/process_malloc.cc); without them, in unit tests, there is
// none.
__attribute__((weak)) const char* OtherMalloc();

// In no slow path: it may allocate, from whatever malloc the process has.
TARN_COLD void WriteStartLine(const ProcessHeap& heap);

}  // namespace tarn
