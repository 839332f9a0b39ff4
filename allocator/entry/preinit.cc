// SPDX-License-Identifier: Apache-2.0
//
// In a program that links tarn statically: the start before all constructors. Executables may have this section, shared
// libraries may not.
#include "allocator/entry/lifetime.h"

namespace {

__attribute__((section(".preinit_array"), used)) void (*const preinit)() = &tarn::Load;

}  // namespace
