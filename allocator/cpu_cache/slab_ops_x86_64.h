// SPDX-License-Identifier: Apache-2.0
//
// The slab operations for x86-64 as restartable sequences.
//
// rseq/sequence_x86_64.h has the frame that all sequences share. Behind it, each one reads the id, table[id] and the
// header; decides; and commits with one store. An abort leaves nothing but values in slots above the top, which nobody
// reads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/rseq/sequence.h"

namespace tarn {

static_assert(offsetof(SlabHeader, word) == 0 && offsetof(SlabHeader, sample_due) == 8);
static_assert(offsetof(SlabHeader, begin) == 16 && offsetof(SlabHeader, end) == 18);
static_assert(sizeof(std::atomic<Slab*>) == 8);

// Loads the current slab into %[slab].
// clang-format off
#define TARN_SLAB_BEGIN                          \
  TARN_SEQUENCE_BEGIN("%[slab]")                 \
  "movslq %%fs:(%[id]), %[slab]\n"               \
  "movq %c[slabs](%[table], %[slab], 8), %[slab]\n"
// clang-format on

#define TARN_SLAB_INPUTS                                                                                       \
  TARN_SEQUENCE_INPUTS(slab_table.offsets), [table] "r"(&slab_table), [slabs] "i"(offsetof(SlabTable, slabs)), \
      [header] "r"(std::size_t{size_class} << kSlabHeaderShift)

TARN_ALWAYS_INLINE bool SlabTryPop(SizeClass size_class, void** result) {
  std::uintptr_t slab;
  std::uintptr_t object;
  asm goto volatile(TARN_SLAB_BEGIN
                    "movq (%[slab], %[header]), %[object]\n"
                    "cmpq 8(%[slab], %[header]), %[object]\n"
                    "jae %l[miss]\n"
                    "movzwl %w[object], %k[object]\n"
                    "cmpw 16(%[slab], %[header]), %w[object]\n"
                    "jbe %l[miss]\n"
                    "movq -8(%[slab], %[object], 8), %[object]\n"
                    "addq $0xFFFF, (%[slab], %[header])\n" TARN_SEQUENCE_COMMITTED
                    : [slab] "=&r"(slab), [object] "=&r"(object)
                    : TARN_SLAB_INPUTS
                    : "cc", "memory"
                    : miss);
  *result = reinterpret_cast<void*>(object);
  return true;
miss:
  return false;
}

// The slot below the top lies beside the one that is written. Of an empty stack it belongs to another class or to none;
// the miss that a match there causes takes the object to its span.
TARN_ALWAYS_INLINE bool SlabPush(SizeClass size_class, void* object) {
  std::uintptr_t slab;
  std::uintptr_t top;
  asm goto volatile(TARN_SLAB_BEGIN
                    "movzwl (%[slab], %[header]), %k[top]\n"
                    "cmpw 18(%[slab], %[header]), %w[top]\n"
                    "jae %l[miss]\n"
                    "cmpq %[object], -8(%[slab], %[top], 8)\n"
                    "je %l[miss]\n"
                    "movq %[object], (%[slab], %[top], 8)\n"
                    "incq (%[slab], %[header])\n" TARN_SEQUENCE_COMMITTED
                    : [slab] "=&r"(slab), [top] "=&r"(top)
                    : TARN_SLAB_INPUTS, [object] "r"(object)
                    : "cc", "memory"
                    : miss);
  return true;
miss:
  return false;
}

TARN_ALWAYS_INLINE std::size_t SlabPopBatch(SizeClass size_class, void** objects, std::size_t count) {
  std::uintptr_t slab;
  std::uintptr_t from;
  std::size_t taken;
  std::size_t left;
  std::uintptr_t object;
  volatile std::size_t result = 0;  // volatile: see the head of sequence_x86_64.h
  asm goto volatile(
      TARN_SLAB_BEGIN
      "movzwl (%[slab], %[header]), %k[from]\n"
      "movzwl 16(%[slab], %[header]), %k[left]\n"
      "movq %[from], %[taken]\n"
      "subq %[left], %[taken]\n"
      "cmpq %[count], %[taken]\n"
      "cmovaq %[count], %[taken]\n"
      "testq %[taken], %[taken]\n"
      "jz %l[miss]\n"
      // The objects go to the caller's memory, which a restart simply writes again.
      "subq %[taken], %[from]\n"
      "leaq (%[slab], %[from], 8), %[from]\n"
      "movq %[taken], %[left]\n"
      "15:\n"
      "movq -8(%[from], %[left], 8), %[object]\n"
      "movq %[object], -8(%[objects], %[left], 8)\n"
      "decq %[left]\n"
      "jnz 15b\n"
      // Adds `taken` pops, and lowers the top by as much.
      "movq %[taken], %[left]\n"
      "shlq $16, %[left]\n"
      "subq %[taken], %[left]\n"
      "addq %[left], (%[slab], %[header])\n" TARN_SEQUENCE_COMMITTED
      : [slab] "=&r"(slab), [from] "=&r"(from), [taken] "=&r"(taken), [left] "=&r"(left), [object] "=&r"(object)
      : TARN_SLAB_INPUTS, [objects] "r"(objects), [count] "r"(count)
      : "cc", "memory"
      : miss);
  result = taken;
miss:
  return result;
}

TARN_ALWAYS_INLINE std::size_t SlabPushBatch(SizeClass size_class, void* const* objects, std::size_t count) {
  std::uintptr_t slab;
  std::uintptr_t to;
  std::size_t pushed;
  std::size_t left;
  std::uintptr_t object;
  volatile std::size_t result = 0;  // volatile: see the head of sequence_x86_64.h
  asm goto volatile(
      TARN_SLAB_BEGIN
      "movzwl (%[slab], %[header]), %k[to]\n"
      "movzwl 18(%[slab], %[header]), %k[pushed]\n"
      "subq %[to], %[pushed]\n"
      "cmpq %[count], %[pushed]\n"
      "cmovaq %[count], %[pushed]\n"
      "testq %[pushed], %[pushed]\n"
      "jz %l[miss]\n"
      // Slots above the top belong to nobody until the commit.
      "leaq (%[slab], %[to], 8), %[to]\n"
      "movq %[pushed], %[left]\n"
      "15:\n"
      "movq -8(%[objects], %[left], 8), %[object]\n"
      "movq %[object], -8(%[to], %[left], 8)\n"
      "decq %[left]\n"
      "jnz 15b\n"
      "addq %[pushed], (%[slab], %[header])\n" TARN_SEQUENCE_COMMITTED
      : [slab] "=&r"(slab), [to] "=&r"(to), [pushed] "=&r"(pushed), [left] "=&r"(left), [object] "=&r"(object)
      : TARN_SLAB_INPUTS, [objects] "r"(objects), [count] "r"(count)
      : "cc", "memory"
      : miss);
  result = pushed;
miss:
  return result;
}

TARN_ALWAYS_INLINE bool SlabSetEnd(SizeClass size_class, const Slab* expected_slab, std::uint16_t old_end,
                                   std::uint16_t new_end) {
  std::uintptr_t slab;
  asm goto volatile(
      TARN_SLAB_BEGIN
      "cmpq %[expected_slab], %[slab]\n"
      "jne %l[miss]\n"
      "cmpw %w[old_end], 18(%[slab], %[header])\n"
      "jne %l[miss]\n"
      "cmpw %w[new_end], (%[slab], %[header])\n"
      "ja %l[miss]\n"
      "movw %w[new_end], 18(%[slab], %[header])\n" TARN_SEQUENCE_COMMITTED
      : [slab] "=&r"(slab)
      : TARN_SLAB_INPUTS, [expected_slab] "r"(expected_slab), [old_end] "r"(old_end), [new_end] "r"(new_end)
      : "cc", "memory"
      : miss);
  return true;
miss:
  return false;
}

// Two threads that found the same sample due on the same slab must not both take it, so claiming is one sequence too.
TARN_ALWAYS_INLINE bool SlabClaimSample(SizeClass size_class, const Slab* expected_slab, std::uint64_t distance,
                                        std::uint64_t* due) {
  std::uintptr_t slab;
  std::uint64_t was_due;
  std::uint64_t word;
  asm goto volatile(TARN_SLAB_BEGIN
                    "cmpq %[expected_slab], %[slab]\n"
                    "jne %l[miss]\n"
                    "movq 8(%[slab], %[header]), %[due]\n"
                    "movq (%[slab], %[header]), %[word]\n"
                    "cmpq %[due], %[word]\n"
                    "jb %l[miss]\n"
                    "xorw %w[word], %w[word]\n"
                    "addq %[distance], %[word]\n"
                    "movq %[word], 8(%[slab], %[header])\n" TARN_SEQUENCE_COMMITTED
                    : [slab] "=&r"(slab), [due] "=&r"(was_due), [word] "=&r"(word)
                    : TARN_SLAB_INPUTS, [expected_slab] "r"(expected_slab), [distance] "r"(distance)
                    : "cc", "memory"
                    : miss);
  *due = was_due;
  return true;
miss:
  return false;
}

#undef TARN_SLAB_BEGIN
#undef TARN_SLAB_INPUTS

}  // namespace tarn
