// SPDX-License-Identifier: Apache-2.0
//
// vfork, and clone with the flags of vfork, for cpu_cache/vfork_child.cc: the child has to withdraw its parent's slab
// before anything of it can allocate.
//
// vfork returns twice, the second time on a stack that the child has written over. So it cannot be a C function that
// calls libc's: the return address waits in a register, which the kernel keeps, and the parent puts it back. The
// functions that are called in between use the stack below, which is free on both sides. libc's way through a shadow
// stack is kept: the child of a process with one jumps back, because a return would take the entry that the parent
// still needs (glibc, sysdeps/unix/sysv/linux/x86_64/vfork.S).
//
// libc's posix_spawn, system and popen make their children by a clone of their own and allocate nothing there. A child
// by the bare system call is not seen; docs/fork-and-signals.md says so.
#include <cerrno>
#include <cstdarg>

#include "allocator/heap/process_heap.h"
#include "allocator/os/vfork_flags.h"

#define TARN_CALLED_FROM_ASSEMBLY __attribute__((used, visibility("hidden")))

extern "C" {

TARN_CALLED_FROM_ASSEMBLY void tarn_begin_vfork() { tarn::CpuCache::BeginVfork(); }
TARN_CALLED_FROM_ASSEMBLY void tarn_begin_vfork_child() { tarn::process_heap.cpu_cache.BeginVforkChild(); }
// `result` is the kernel's.
TARN_CALLED_FROM_ASSEMBLY int tarn_end_vfork(long result) {
  tarn::process_heap.cpu_cache.EndVfork();
  if (result >= 0) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}

// SYS_vfork is 58.
asm(".pushsection .text\n"
    ".balign 16\n"
    ".globl vfork\n"
    ".type vfork, @function\n"
    ".weak __vfork\n"
    ".set __vfork, vfork\n"
    "vfork:\n"
    ".cfi_startproc\n"
    "endbr64\n"
    "subq $8, %rsp\n"
    ".cfi_adjust_cfa_offset 8\n"
    "call tarn_begin_vfork\n"
    "addq $8, %rsp\n"
    ".cfi_adjust_cfa_offset -8\n"
    "popq %rdi\n"
    ".cfi_adjust_cfa_offset -8\n"
    ".cfi_register %rip, %rdi\n"
    "movl $58, %eax\n"
    "syscall\n"
    "pushq %rdi\n"
    ".cfi_adjust_cfa_offset 8\n"
    ".cfi_rel_offset %rip, 0\n"
    "subq $8, %rsp\n"
    ".cfi_adjust_cfa_offset 8\n"
    "testq %rax, %rax\n"
    "jz 1f\n"
    "movq %rax, %rdi\n"
    "call tarn_end_vfork\n"
    "addq $8, %rsp\n"
    ".cfi_adjust_cfa_offset -8\n"
    "ret\n"
    "1:\n"
    ".cfi_adjust_cfa_offset 8\n"
    "call tarn_begin_vfork_child\n"
    "addq $8, %rsp\n"
    ".cfi_adjust_cfa_offset -8\n"
    "xorl %eax, %eax\n"
    "xorl %esi, %esi\n"
    "rdsspq %rsi\n"
    "testq %rsi, %rsi\n"
    "jnz 2f\n"
    "ret\n"
    "2:\n"
    "popq %rdi\n"
    ".cfi_adjust_cfa_offset -8\n"
    ".cfi_register %rip, %rdi\n"
    "jmp *%rdi\n"
    ".cfi_endproc\n"
    ".size vfork, . - vfork\n"
    ".popsection\n");

int __clone(int (*function)(void*), void* stack, int flags, void* argument, ...);

namespace {

struct CloneCall {
  int (*function)(void*);
  void* argument;
};

// The parent waits, and its CloneCall stays on its stack.
int BeginCloneChild(void* argument) {
  const CloneCall call = *static_cast<const CloneCall*>(argument);
  tarn_begin_vfork_child();
  return call.function(call.argument);
}

}  // namespace

__attribute__((visibility("default"))) int clone(int (*function)(void*), void* stack, int flags, void* argument, ...) {
  va_list rest;
  va_start(rest, argument);
  auto* const parent_tid = va_arg(rest, int*);
  auto* const thread_pointer = va_arg(rest, void*);
  auto* const child_tid = va_arg(rest, int*);
  va_end(rest);
  // libc refuses a null.
  if (!tarn::MakesVforkChild(flags) || function == nullptr) {
    return __clone(function, stack, flags, argument, parent_tid, thread_pointer, child_tid);
  }
  CloneCall call = {function, argument};
  tarn_begin_vfork();
  const int result = __clone(&BeginCloneChild, stack, flags, &call, parent_tid, thread_pointer, child_tid);
  const int error = errno;
  tarn_end_vfork(0);
  if (result < 0) errno = error;
  return result;
}

}  // extern "C"
