// SPDX-License-Identifier: Apache-2.0
//
// The instruction. Arguments and clobbered registers: the psABI of x86-64, A.2.1, "Calling Conventions" of the kernel.
#pragma once

namespace tarn {

inline long SystemCallByWords(long number, long first = 0, long second = 0, long third = 0, long fourth = 0,
                              long fifth = 0, long sixth = 0) {
  register long r10 asm("r10") = fourth;
  register long r8 asm("r8") = fifth;
  register long r9 asm("r9") = sixth;
  long result;
  // The kernel reads and writes memory that the compiler sees no access to.
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

}  // namespace tarn
