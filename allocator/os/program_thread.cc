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

bool StartProgramThread(void (*body)()) {
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return false;
  static_cast<void>(::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED));
  // The new thread inherits the mask.
  SignalMask before = 0;
  pthread_t thread;
  bool started = false;
  if (BlockSignals(&before)) {
    started = ::pthread_create(&thread, &attributes, &RunBody, reinterpret_cast<void*>(body)) == 0;
    RestoreSignals(before);
  }
  static_cast<void>(::pthread_attr_destroy(&attributes));
  return started;
}

void NameThisThread(const char* name) { SystemCall(SYS_prctl, PR_SET_NAME, name, 0, 0, 0); }

std::uintptr_t ThisThread() { return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer()); }

void CallAtExit(void (*function)()) { static_cast<void>(::atexit(function)); }

}  // namespace tarn
