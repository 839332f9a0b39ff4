// Stands in for bare_thread.cc where there is no thread of our own: on architectures whose layout of thread-local memory
// nobody has written down yet, and in builds with a sanitizer, which must know of every thread.
#include "allocator/os/bare_thread.h"

namespace tarn {

BareThreadStart StartBareThread(void (*)(), const char*, std::ptrdiff_t, std::ptrdiff_t) {
  return BareThreadStart::kFailed;
}

bool BareThreadIsAlive() { return false; }

void ForgetBareThreadInForkedChild() {}

bool SharesCredentials() { return true; }

void SleepMilliseconds(std::uint32_t) {}

}  // namespace tarn
