// SPDX-License-Identifier: Apache-2.0
//
// sigaction and signal, in front of those in libc. A program does not see the handler of SIGSEGV here, and does not
// replace it (os/memory_fault.h says why). All other signals are passed on as they are.
//
// Only the shared library has these, and only where tarn knows a child of vfork (vfork_x86_64.cc).
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "allocator/os/load_order.h"
#include "allocator/os/memory_fault.h"

namespace tarn {

namespace {

using Signal = void (*(*)(int number, void (*handler)(int)))(int);

// The function that this library's stands in front of. A library behind this one may have its own, as the JVM's libjsig
// has. Any of several threads stores the same.
template <typename Function>
Function Next(const char* name, std::atomic<Function>* known) {
  Function next = known->load(std::memory_order_relaxed);
  if (next != nullptr) return next;
  const link_map* const own = OwnLoadedObject();
  for (const link_map* object = own == nullptr ? nullptr : own->l_next; object != nullptr && next == nullptr;
       object = object->l_next) {
    next = reinterpret_cast<Function>(FindFunction(*object, name));
  }
  known->store(next, std::memory_order_relaxed);
  return next;
}

constinit std::atomic<SignalAction> next_action = nullptr;
constinit std::atomic<Signal> next_signal = nullptr;

}  // namespace

}  // namespace tarn

extern "C" __attribute__((visibility("default"))) int sigaction(int number, const struct sigaction* action,
                                                                struct sigaction* before) noexcept {
  const tarn::SignalAction next = tarn::Next("sigaction", &tarn::next_action);
  if (next == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  return number == SIGSEGV ? tarn::SetFaultAction(next, action, before) : next(number, action, before);
}

extern "C" __attribute__((visibility("default"))) void (*signal(int number, void (*handler)(int)) noexcept)(int) {
  if (number != SIGSEGV || handler == SIG_ERR) {
    const tarn::Signal next = tarn::Next("signal", &tarn::next_signal);
    if (next != nullptr) return next(number, handler);
    errno = ENOSYS;
    return SIG_ERR;
  }
  // As BSD and glibc have it.
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  constexpr std::uint64_t kMask = std::uint64_t{1} << (SIGSEGV - 1);
  std::memcpy(&action.sa_mask, &kMask, sizeof kMask);
  struct sigaction before;
  return sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}
