// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/program_thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "allocator/os/signals.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

void* RunBody(void* body) {
  reinterpret_cast<void (*)()>(body)();
  return nullptr;
}

}  // namespace

static_assert(sizeof(ProgramThread) == sizeof(pthread_t));

bool StartProgramThread(void (*body)(), ProgramThread* thread) {
  // The new thread inherits the mask.
  SignalMask before = 0;
  if (!BlockSignals(&before)) return false;
  const bool started = ::pthread_create(thread, nullptr, &RunBody, reinterpret_cast<void*>(body)) == 0;
  RestoreSignals(before);
  return started;
}

void JoinProgramThread(ProgramThread thread) { static_cast<void>(::pthread_join(thread, nullptr)); }

void DetachThisThread() { static_cast<void>(::pthread_detach(::pthread_self())); }

void NameThisThread(const char* name) { SystemCall(SYS_prctl, PR_SET_NAME, name, 0, 0, 0); }

std::uintptr_t ThisThread() { return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer()); }

void CallAtExit(void (*function)()) { static_cast<void>(::atexit(function)); }

}  // namespace tarn
