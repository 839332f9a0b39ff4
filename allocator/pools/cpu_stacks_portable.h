// SPDX-License-Identifier: Apache-2.0
//
// The operations of CpuStacks without rseq, in plain C++: the stack belongs to the running thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/os/thread_state.h"

namespace tarn {

TARN_ALWAYS_INLINE CpuStack* OwnStack(const CpuStacks* stacks) {
  const auto id = static_cast<std::uint32_t>(thread_state.slab_index);
  return id < stacks->bound ? reinterpret_cast<CpuStack*>(stacks->stacks + id * stacks->stride_bytes) : nullptr;
}

// Statistics read the word from other threads; nothing but the owner depends on its order.
TARN_ALWAYS_INLINE void AddToWord(CpuStack* stack, std::uint64_t change) {
  __atomic_store_n(&stack->word, stack->word + change, __ATOMIC_RELAXED);
}

// The top pointer. False: there is none.
TARN_ALWAYS_INLINE bool StackPop(const CpuStacks* stacks, void** result) {
  CpuStack* stack = OwnStack(stacks);
  if (stack == nullptr || stack->top() == 0) return false;
  *result = stack->slots[stack->top() - 1];
  AddToWord(stack, 0xFFFF);
  return true;
}

// False: full, or no stack.
TARN_ALWAYS_INLINE bool StackPush(const CpuStacks* stacks, void* object) {
  CpuStack* stack = OwnStack(stacks);
  if (stack == nullptr || stack->top() >= stack->capacity) return false;
  stack->slots[stack->top()] = object;
  AddToWord(stack, 1);
  return true;
}

// Up to `count` of the top pointers, in the order of their slots; how many it were.
TARN_ALWAYS_INLINE std::size_t StackPopBatch(const CpuStacks* stacks, void** objects, std::size_t count) {
  CpuStack* stack = OwnStack(stacks);
  if (stack == nullptr) return 0;
  const std::size_t taken = std::min(count, stack->top());
  std::copy(stack->slots + stack->top() - taken, stack->slots + stack->top(), objects);
  AddToWord(stack, taken * 0xFFFF);
  return taken;
}

// Up to `count` pointers, the first ones; how many it were.
TARN_ALWAYS_INLINE std::size_t StackPushBatch(const CpuStacks* stacks, void* const* objects, std::size_t count) {
  CpuStack* stack = OwnStack(stacks);
  if (stack == nullptr || stack->top() >= stack->capacity) return 0;
  const std::size_t pushed = std::min<std::size_t>(count, stack->capacity - stack->top());
  std::copy(objects, objects + pushed, stack->slots + stack->top());
  AddToWord(stack, pushed);
  return pushed;
}

// As in cpu_stacks_x86_64.h.
TARN_ALWAYS_INLINE bool BumpAllocate(const CpuStacks* stacks, std::size_t bytes, void** result) {
  CpuStack* stack = OwnStack(stacks);
  if (stack == nullptr) return false;
  auto* region = reinterpret_cast<std::uintptr_t*>(stack->word);
  const std::uintptr_t object = region[0];
  if (object + bytes > region[1]) return false;
  region[0] = object + bytes;
  *result = reinterpret_cast<void*>(object);
  return true;
}

TARN_ALWAYS_INLINE bool BumpReplace(const CpuStacks* stacks, const void* from, const void* to) {
  CpuStack* stack = OwnStack(stacks);
  if (stack == nullptr || stack->word != reinterpret_cast<std::uint64_t>(from)) return false;
  stack->word = reinterpret_cast<std::uint64_t>(to);
  return true;
}

}  // namespace tarn
