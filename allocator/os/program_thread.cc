#include "allocator/os/program_thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

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
  sigset_t all;
  sigset_t signals;
  ::sigfillset(&all);
  pthread_t thread;
  bool started = false;
  if (::pthread_sigmask(SIG_SETMASK, &all, &signals) == 0) {
    started = ::pthread_create(&thread, &attributes, &RunBody, reinterpret_cast<void*>(body)) == 0;
    static_cast<void>(::pthread_sigmask(SIG_SETMASK, &signals, nullptr));
  }
  static_cast<void>(::pthread_attr_destroy(&attributes));
  return started;
}

void NameThisThread(const char* name) { ::prctl(PR_SET_NAME, name, 0, 0, 0); }

std::uintptr_t ThisThread() { return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer()); }

void CallAtExit(void (*function)()) { static_cast<void>(::atexit(function)); }

}  // namespace tarn
