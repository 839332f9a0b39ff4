#include "allocator/os/stack_memory.h"

#include <errno.h>

#include "allocator/os/system_call.h"

namespace tarn {

// rt_sigprocmask with an operation that does not exist: the kernel copies the new mask in before it looks at the
// operation, so it answers EFAULT where it cannot read and EINVAL where it can, and changes nothing. No sandbox forbids
// the call. (The idea is that of abseil's AddressIsReadable.)
bool IsReadable(std::uintptr_t address) {
  constexpr int kNoSuchOperation = -1;
  constexpr unsigned long kKernelMaskBytes = 8;
  return SystemCall(SYS_rt_sigprocmask, kNoSuchOperation, address, nullptr, kKernelMaskBytes) != -EFAULT;
}

}  // namespace tarn
