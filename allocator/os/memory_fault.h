// SPDX-License-Identifier: Apache-2.0
//
// Faults of the program at memory that tarn has made inaccessible: a handler of SIGSEGV that others can live with.
//
// The handler looks at faults of mapped memory without access (SEGV_ACCERR) alone, and offers each to one function. All
// others, and those that the function refuses, it passes on to the action that was there before:
//
//   a handler     is called with the same arguments, as the kernel would: its mask and flags were taken over. Only
//                 SA_RESETHAND is imitated.
//   the default   is put back, and the handler returns. The access is repeated and ends the process by SIGSEGV, with
//                 the core dump that belongs to it. A signal that was sent is sent again.
//   ignored       a signal that was sent is dropped. A fault ends the process, as in the kernel.
//
// A handler that the program installs later replaces this one. If it passes on to what was there before, it reaches
// this one. A thread that blocks SIGSEGV is ended by the kernel at a fault, without any handler. The handler runs on
// the alternate stack where the thread has one, unless a handler was there before that did not.
#pragma once

#include <cstdint>

namespace tarn {

struct MemoryFault {
  enum class Access : std::uint8_t { kUnknown, kRead, kWrite };

  std::uintptr_t address;
  Access access;
  // Of the interrupted code; 0 on an architecture that is not known here.
  std::uintptr_t pc;
  std::uintptr_t sp;
  std::uintptr_t bp;
};

// Returns whether the access may be repeated. Async-signal-safe; keeps errno.
using OnMemoryFault = bool (*)(const MemoryFault& fault);

// Installs the handler; once in a process. False: the kernel refuses.
bool HandleMemoryFaults(OnMemoryFault on_fault);

}  // namespace tarn
