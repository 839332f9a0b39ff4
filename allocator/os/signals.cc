// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/signals.h"

#include <signal.h>

#include "allocator/base/text.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

struct NamedSignal {
  char name[5];
  int number;
};
constexpr NamedSignal kNamedSignals[] = {{"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"HUP", SIGHUP}, {"PROF", SIGPROF}};

// The two signals below are libc's own. (SIGRTMIN would be the same, by a call.)
constexpr int kFirstRealTime = 34;
constexpr int kLastRealTime = 64;

constexpr SignalMask kLibcSignals = SignalMask{3} << (kFirstRealTime - 2 - 1);

bool SetMask(SignalMask mask, SignalMask* before) {
  return SystemCall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, before, sizeof mask) == 0;
}

}  // namespace

bool BlockSignals(SignalMask* before) { return SetMask(~kLibcSignals, before); }

void RestoreSignals(SignalMask before) { static_cast<void>(SetMask(before, nullptr)); }

int SignalNumber(std::string_view name) {
  if (StartsWith(name, "SIG")) name.remove_prefix(3);
  for (const NamedSignal& signal : kNamedSignals) {
    if (name == signal.name) return signal.number;
  }
  if (name.size() != 2 || name.find_first_not_of("0123456789") != std::string_view::npos) return 0;
  const int number = (name[0] - '0') * 10 + (name[1] - '0');
  return number >= kFirstRealTime && number <= kLastRealTime ? number : 0;
}

std::string_view SignalName(int number) {
  for (const NamedSignal& signal : kNamedSignals) {
    if (number == signal.number) return signal.name;
  }
  return {};
}

bool HandleSignalIfDefault(int number, void (*handler)(int)) {
  struct sigaction action = {};
  if (::sigaction(number, nullptr, &action) != 0) return false;
  if ((action.sa_flags & SA_SIGINFO) != 0 || action.sa_handler != SIG_DFL) return false;
  action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  return ::sigaction(number, &action, nullptr) == 0;
}

}  // namespace tarn
