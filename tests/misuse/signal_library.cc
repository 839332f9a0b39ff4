// SPDX-License-Identifier: Apache-2.0
//
// A library that stands between tarn and libc. As the JVM's libjsig does, it keeps the first handler of SIGSEGV, and
// does something else with those that come later.

#include <dlfcn.h>
#include <signal.h>

extern "C" int sigaction(int number, const struct sigaction* action, struct sigaction* before) noexcept {
  using Function = int (*)(int, const struct sigaction*, struct sigaction*);
  static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "sigaction"));
  static bool has_handler = false;
  if (number == SIGSEGV && action != nullptr) {
    if (has_handler) return 0;
    has_handler = true;
  }
  return next(number, action, before);
}
