// SPDX-License-Identifier: Apache-2.0
//
// A thread such as the program itself would make, to run functions of the program.
//
// Unlike the bare thread (os/bare_thread.h) libc knows it: it may call anything. It is made by pthread_create, so only
// where a program could make a thread: not from a slow path, nor with a lock of tarn's held.
#pragma once

#include <cstdint>

namespace tarn {

// libc's handle of the thread (pthread_t).
using ProgramThread = unsigned long;

// Starts `body` on a thread with all signals blocked, to be joined or detached. False: refused. May change errno.
[[nodiscard]] bool StartProgramThread(void (*body)(), ProgramThread* thread);
// Returns when the thread has ended.
void JoinProgramThread(ProgramThread thread);
// On such a thread: nobody joins it.
void DetachThisThread();

// Names the calling thread for debuggers and /proc; at most 15 characters.
void NameThisThread(const char* name);

// Tells the calling thread from the others of its process; never 0, and the same in the child of a fork.
std::uintptr_t ThisThread();

// Has libc call the function when the process ends by exit or by the return of main. May allocate.
void CallAtExit(void (*function)());

}  // namespace tarn
