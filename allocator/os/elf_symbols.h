// SPDX-License-Identifier: Apache-2.0
//
// Looking up a function in the dynamic symbols of a loaded object, without the loader: no lock, no allocation, no libc.
//
// Sources: the ELF specification; "ELF: symbol lookup via DT_GNU_HASH" by flapenguin for the hash table's layout.
#pragma once

#include <link.h>

#include <cstdint>

namespace tarn {

// The address of the function `name` that the object defines; 0: it defines none. `base` is what the object's addresses
// were moved by when it was loaded.
std::uintptr_t FindElfFunction(std::uintptr_t base, const ElfW(Dyn) * dynamic_section, const char* name);

}  // namespace tarn
