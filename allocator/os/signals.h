// Signals that a setting may name, and a handler for one of them.
#pragma once

#include <string_view>

namespace tarn {

// USR1, USR2, HUP or PROF, with or without SIG before it, or the number of a real-time signal; 0 for anything else. The
// others have a meaning that nobody should take from them.
int SignalNumber(std::string_view name);
// The name that SignalNumber takes; empty for a real-time signal.
std::string_view SignalName(int number);

// Installs the handler if nobody has installed one, or ignores the signal. It runs on the alternate stack where the
// thread has one; what it interrupts goes on. False: the signal is taken, or the kernel refuses.
bool HandleSignalIfDefault(int number, void (*handler)(int));

}  // namespace tarn
