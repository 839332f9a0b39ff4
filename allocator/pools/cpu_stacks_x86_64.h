// SPDX-License-Identifier: Apache-2.0
//
// The operations of CpuStacks as restartable sequences; rseq/sequence_x86_64.h has the
// frame that all sequences share.
//
// Inside [start, commit): miss unless the thread is registered; read the id, compare it with the bound, find the stack,
// read its word; decide; commit with one store to the word. An abort leaves nothing but a value in a slot above the
// top, which nobody reads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/rseq/sequence.h"

namespace tarn {

// Leaves the address of the current stack in %[stack].
// clang-format off
#define TARN_STACK_BEGIN                         \
  TARN_SEQUENCE_BEGIN("%[stack]")                \
  "movl %%fs:(%[id]), %k[stack]\n"               \
  "cmpq %c[bound](%[stacks]), %[stack]\n"        \
  "jae %l[miss]\n"                               \
  "imulq %c[stride](%[stacks]), %[stack]\n"      \
  "addq %c[base](%[stacks]), %[stack]\n"
// clang-format on

#define TARN_STACK_INPUTS                                                                                  \
  TARN_SEQUENCE_INPUTS(slab_table.offsets), [stacks] "r"(stacks), [bound] "i"(offsetof(CpuStacks, bound)), \
      [stride] "i"(offsetof(CpuStacks, stride_bytes)), [base] "i"(offsetof(CpuStacks, stacks))

static_assert(offsetof(CpuStack, word) == 0 && offsetof(CpuStack, capacity) == 8 && offsetof(CpuStack, slots) == 16);

// The top pointer. False: there is none. (Why the answer is apart from the pointer: the head of sequence_x86_64.h.)
TARN_ALWAYS_INLINE bool StackPop(const CpuStacks* stacks, void** result) {
  std::uintptr_t stack;
  std::uintptr_t object;
  asm goto volatile(TARN_STACK_BEGIN
                    "movzwl (%[stack]), %k[object]\n"
                    "testl %k[object], %k[object]\n"
                    "jz %l[miss]\n"
                    "movq 8(%[stack], %[object], 8), %[object]\n"
                    "addq $0xFFFF, (%[stack])\n" TARN_SEQUENCE_COMMITTED
                    : [stack] "=&r"(stack), [object] "=&r"(object)
                    : TARN_STACK_INPUTS
                    : "cc", "memory"
                    : miss);
  *result = reinterpret_cast<void*>(object);
  return true;
miss:
  return false;
}

// False: full, or no stack.
TARN_ALWAYS_INLINE bool StackPush(const CpuStacks* stacks, void* object) {
  std::uintptr_t stack;
  std::uintptr_t top;
  asm goto volatile(TARN_STACK_BEGIN
                    "movzwl (%[stack]), %k[top]\n"
                    "cmpq 8(%[stack]), %[top]\n"
                    "jae %l[miss]\n"
                    "movq %[object], 16(%[stack], %[top], 8)\n"
                    "incq (%[stack])\n" TARN_SEQUENCE_COMMITTED
                    : [stack] "=&r"(stack), [top] "=&r"(top)
                    : TARN_STACK_INPUTS, [object] "r"(object)
                    : "cc", "memory"
                    : miss);
  return true;
miss:
  return false;
}

// Up to `count` of the top pointers, in the order of their slots; how many it were.
TARN_ALWAYS_INLINE std::size_t StackPopBatch(const CpuStacks* stacks, void** objects, std::size_t count) {
  std::uintptr_t stack;
  std::uintptr_t from;
  std::size_t taken;
  std::size_t left;
  std::uintptr_t object;
  volatile std::size_t result = 0;  // volatile: see the head of sequence_x86_64.h
  asm goto volatile(
      TARN_STACK_BEGIN
      "movzwl (%[stack]), %k[from]\n"
      "movq %[from], %[taken]\n"
      "cmpq %[count], %[taken]\n"
      "cmovaq %[count], %[taken]\n"
      "testq %[taken], %[taken]\n"
      "jz %l[miss]\n"
      "subq %[taken], %[from]\n"
      "leaq 16(%[stack], %[from], 8), %[from]\n"
      "movq %[taken], %[left]\n"
      "15:\n"
      "movq -8(%[from], %[left], 8), %[object]\n"
      "movq %[object], -8(%[objects], %[left], 8)\n"
      "decq %[left]\n"
      "jnz 15b\n"
      // Adds `taken` pops, and lowers the top by as much.
      "imulq $0xFFFF, %[taken], %[left]\n"
      "addq %[left], (%[stack])\n" TARN_SEQUENCE_COMMITTED
      : [stack] "=&r"(stack), [from] "=&r"(from), [taken] "=&r"(taken), [left] "=&r"(left), [object] "=&r"(object)
      : TARN_STACK_INPUTS, [objects] "r"(objects), [count] "r"(count)
      : "cc", "memory"
      : miss);
  result = taken;
miss:
  return result;
}

// Up to `count` pointers, the first ones; how many it were.
TARN_ALWAYS_INLINE std::size_t StackPushBatch(const CpuStacks* stacks, void* const* objects, std::size_t count) {
  std::uintptr_t stack;
  std::uintptr_t to;
  std::size_t pushed;
  std::size_t left;
  std::uintptr_t object;
  volatile std::size_t result = 0;  // volatile: see the head of sequence_x86_64.h
  asm goto volatile(
      TARN_STACK_BEGIN
      "movzwl (%[stack]), %k[to]\n"
      "movq 8(%[stack]), %[pushed]\n"
      "subq %[to], %[pushed]\n"
      // The capacity may not be stored yet.
      "jbe %l[miss]\n"
      "cmpq %[count], %[pushed]\n"
      "cmovaq %[count], %[pushed]\n"
      "testq %[pushed], %[pushed]\n"
      "jz %l[miss]\n"
      "leaq 16(%[stack], %[to], 8), %[to]\n"
      "movq %[pushed], %[left]\n"
      "15:\n"
      "movq -8(%[objects], %[left], 8), %[object]\n"
      "movq %[object], -8(%[to], %[left], 8)\n"
      "decq %[left]\n"
      "jnz 15b\n"
      "addq %[pushed], (%[stack])\n" TARN_SEQUENCE_COMMITTED
      : [stack] "=&r"(stack), [to] "=&r"(to), [pushed] "=&r"(pushed), [left] "=&r"(left), [object] "=&r"(object)
      : TARN_STACK_INPUTS, [objects] "r"(objects), [count] "r"(count)
      : "cc", "memory"
      : miss);
  result = pushed;
miss:
  return result;
}

// The bump of a concurrent arena: the stack is a BumpRegion's address (pools/concurrent_arena.cc), its first word is
// where the free part starts and its second one where it ends. The address of `bytes` bytes. False: there is no room.
TARN_ALWAYS_INLINE bool BumpAllocate(const CpuStacks* stacks, std::size_t bytes, void** result) {
  std::uintptr_t stack;
  std::uintptr_t object;
  std::uintptr_t next;
  asm goto volatile(TARN_STACK_BEGIN
                    "movq (%[stack]), %[stack]\n"
                    "movq (%[stack]), %[object]\n"
                    "leaq (%[object], %[bytes]), %[next]\n"
                    "cmpq 8(%[stack]), %[next]\n"
                    "ja %l[miss]\n"
                    "movq %[next], (%[stack])\n" TARN_SEQUENCE_COMMITTED
                    : [stack] "=&r"(stack), [object] "=&r"(object), [next] "=&r"(next)
                    : TARN_STACK_INPUTS, [bytes] "r"(bytes)
                    : "cc", "memory"
                    : miss);
  *result = reinterpret_cast<void*>(object);
  return true;
miss:
  return false;
}

// Stores `to` as the current CPU's pointer to its bump region if that is `from`. False: it is not, or there is no id.
TARN_ALWAYS_INLINE bool BumpReplace(const CpuStacks* stacks, const void* from, const void* to) {
  std::uintptr_t stack;
  asm goto volatile(TARN_STACK_BEGIN
                    "cmpq %[from], (%[stack])\n"
                    "jne %l[miss]\n"
                    "movq %[to], (%[stack])\n" TARN_SEQUENCE_COMMITTED
                    : [stack] "=&r"(stack)
                    : TARN_STACK_INPUTS, [from] "r"(from), [to] "r"(to)
                    : "cc", "memory"
                    : miss);
  return true;
miss:
  return false;
}

#undef TARN_STACK_BEGIN
#undef TARN_STACK_INPUTS

}  // namespace tarn
