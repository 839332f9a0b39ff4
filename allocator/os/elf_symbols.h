// SPDX-License-Identifier: Apache-2.0
//
// Reads the dynamic section of a loaded object, without the loader: no lock, no allocation, no libc.
//
// Sources: the ELF specification; "ELF: symbol lookup via DT_GNU_HASH" by flapenguin for the hash table's layout.
#pragma once

#include <link.h>

#include <cstdint>
#include <string_view>

namespace tarn {

// The address of the function `name` that the object defines; 0: it defines none. `base` is what the object's addresses
// were moved by when it was loaded.
std::uintptr_t FindElfFunction(std::uintptr_t base, const ElfW(Dyn) * dynamic_section, const char* name);

// The function of the object's dynamic symbols that the address lies in, and where it starts. Empty: none does, or its
// name is not among the dynamic symbols. Goes through all of them.
struct ElfFunction {
  std::string_view name;
  std::uintptr_t start = 0;
};
ElfFunction ElfFunctionAt(std::uintptr_t base, const ElfW(Dyn) * dynamic_section, std::uintptr_t address);

// The name that the object gives itself (DT_SONAME); empty: it gives none.
std::string_view ElfObjectName(std::uintptr_t base, const ElfW(Dyn) * dynamic_section);

}  // namespace tarn
