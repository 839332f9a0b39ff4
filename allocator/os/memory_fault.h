// SPDX-License-Identifier: Apache-2.0
//
// Faults of the program at memory that tarn has made inaccessible: a handler of SIGSEGV that others can live with.
//
// The handler looks at faults of mapped memory without access (SEGV_ACCERR) alone, and offers each to one function. All
// others, and those that the function refuses, it passes on to the program's action:
//
//   a handler     is called with the same arguments, as the kernel would: its mask and flags were taken over. Only
//                 SA_RESETHAND is imitated.
//   the default   is put back, and the handler returns. The access is repeated and ends the process by SIGSEGV, with
//                 the core dump that belongs to it. A signal that was sent is sent again.
//   ignored       this handler is not there, so that a program that is executed finds the signal ignored.
//
// Programs ask for the action, and do otherwise where a handler is there before theirs: the runtime of Rust then
// reports no stack overflow, the JVM writes no crash log, and Python's signal.getsignal has no answer. So tarn's
// sigaction and signal stand in front of libc's (entry/signal_action.cc), in the shared library. The program finds the
// action that it has set, and what it sets stands behind this handler.
//
// Code that goes past them, by the system call or another function of libc, replaces this handler, and may find it. A
// thread that blocks SIGSEGV is ended by the kernel at a fault, without any handler. The handler runs on the alternate
// stack where the thread has one, unless the program's own handler does not.
#pragma once

#include <signal.h>

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

// sigaction(2), of libc or of a library that stands in front of libc.
using SignalAction = int (*)(int number, const struct sigaction* action, struct sigaction* before);
// The call of a program for SIGSEGV. Async-signal-safe.
int SetFaultAction(SignalAction next, const struct sigaction* action, struct sigaction* before);

}  // namespace tarn
