// SPDX-License-Identifier: Apache-2.0
//
// The objects that the loader has loaded, in the order in which it searches them for symbols, and the functions that
// they define.
//
// The order holds for what was loaded at the program's start; later objects stand behind. The list is the one that the
// loader keeps for debuggers. It is read without a lock: what was loaded at the start stays. dlsym, which answers the
// same questions, takes the loader's lock and may allocate. A static program has no list.
#pragma once

#include <link.h>

#include <cstddef>
#include <cstdint>

namespace tarn {

// Null: there is no list, or not yet.
const link_map* FirstLoadedObject();

// The object that this code is part of. Null where it is not in the list.
const link_map* OwnLoadedObject();

// The C library among these objects; null: it is not there. Its file may have any name. Where none is called libc.so.6,
// it is the object with that name in its dynamic section (DT_SONAME), else the one that defines what only glibc
// defines. `own`, the object that this code is part of, may be null.
const link_map* FindLibc(const link_map* first, const link_map* own);

// The first object of each further namespace (dlmopen(3)), by number from 1 on; null: there is no such namespace. It
// may be unloaded at any time. Known from glibc 2.35 on.
const link_map* FirstObjectOfNamespace(std::size_t number);

// The C library that is loaded; null: there is no list of objects, or not yet.
const link_map* LoadedLibc();

// The address of a function that the object defines; 0: it defines none of that name.
std::uintptr_t FindFunction(const link_map& object, const char* name);

}  // namespace tarn
