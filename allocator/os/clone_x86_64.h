// SPDX-License-Identifier: Apache-2.0
//
// clone(2) for a thread on a stack of its own. libc's function of that name may be interposed.
#pragma once

#include <sys/syscall.h>

namespace tarn {

// Starts a thread that runs `body` with the end of its stack at `stack_end`, a multiple of 16, and `thread_pointer` as
// its thread pointer. `body` must not return. Returns the thread's id, or a negative error. The new thread sees nothing
// of the caller's frame; a walk of its stack ends above `body`, at a return address of 0.
inline long CloneThread(long flags, void* stack_end, int* parent_id, int* child_id, void* thread_pointer,
                        void (*body)()) {
  register int* r10 asm("r10") = child_id;
  register void* r8 asm("r8") = thread_pointer;
  long result = SYS_clone;
  asm volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "pushq $0\n\t"
      "jmpq *%[body]\n"
      "1:"
      : "+a"(result)
      : "D"(flags), "S"(stack_end), "d"(parent_id), "r"(r10), "r"(r8), [body] "r"(body)
      : "rcx", "r11", "memory", "cc");
  return result;
}

}  // namespace tarn
