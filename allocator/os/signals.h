// SPDX-License-Identifier: Apache-2.0
//
// Signals: blocking all of them for a while, those that a setting may name, and a handler for one of these.
#pragma once

#include <cstdint>
#include <string_view>

namespace tarn {

// The calling thread's signal mask, as the kernel has it.
using SignalMask = std::uint64_t;

// Blocks all signals but the two that libc uses between threads, which setuid(2) and pthread_cancel(3) wait for. Says
// what was blocked before. False: the kernel refused, and nothing has changed.
[[nodiscard]] bool BlockSignals(SignalMask* before);
void RestoreSignals(SignalMask before);

// USR1, USR2, HUP or PROF, with or without SIG before it, or the number of a real-time signal; 0 for anything else. The
// others have a meaning that nobody should take from them.
int SignalNumber(std::string_view name);
// The name that SignalNumber takes; empty for a real-time signal.
std::string_view SignalName(int number);

// Installs the handler if nobody has installed one, or ignores the signal. It runs on the alternate stack where the
// thread has one; what it interrupts goes on. False: the signal is taken, or the kernel refuses.
bool HandleSignalIfDefault(int number, void (*handler)(int));

}  // namespace tarn
