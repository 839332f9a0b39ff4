// SPDX-License-Identifier: Apache-2.0
//
// The proof that a process uses an allocator: the slots through which it calls malloc.
//
// A library in /proc/PID/maps is mapped, no more: Debian's redis-server is linked with libjemalloc, so that library is
// mapped there whatever malloc the process uses. The program, its libraries and libc call malloc, calloc, realloc and
// free through slots of the global offset table. The proof reads these slots and looks up where their addresses lead.
// Nothing runs in the process for it, and it is not stopped.
#pragma once

#include <sys/types.h>

#include <set>
#include <string>
#include <vector>

#include "tools/tarn/program.h"

namespace tarn::tool {

// The malloc of a process, as seen at one moment.
struct MallocUse {
  std::vector<std::string> mapped;  // paths of files mapped executable; empty: the process could not be seen
  std::string executable;
  // Files that the slots lead to. Empty: nothing was called yet, or the memory of the process may not be read.
  std::set<std::string> owners;
};

MallocUse LookAtMalloc(pid_t pid);

// The facts of a file, read once.
const ElfFacts& KnownElf(const std::string& path);

}  // namespace tarn::tool
