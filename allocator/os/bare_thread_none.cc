// SPDX-License-Identifier: Apache-2.0
//
// Stands in for bare_thread.cc where there is no thread of our own: on architectures whose layout of thread-local
// memory nobody has written down yet, and in builds with a sanitizer, which must know of every thread.
#include "allocator/os/bare_thread.h"

namespace tarn {

BareThreadStart StartBareThread(void (*)(BareThreadBegin), const char*, bool, std::ptrdiff_t, std::ptrdiff_t) {
  return BareThreadStart::kFailed;
}

bool BareThreadIsAlive() { return false; }

void ForgetBareThreadInForkedChild() {}

void HoldBareThread() {}

void LetBareThread() {}

void AwaitEndOfBareThread() {}

bool BareThreadIsHeld() { return false; }

bool FirstThreadHasSameIds() { return true; }

bool ProcessIsAsItWas() { return true; }

void SleepUnlessHeld(std::uint32_t) {}

}  // namespace tarn
