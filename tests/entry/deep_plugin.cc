// SPDX-License-Identifier: Apache-2.0
//
// A library for next_owner_test, which loads it with RTLD_DEEPBIND.
#include <cstdlib>

extern "C" void* MakeObject(std::size_t size) { return std::malloc(size); }
