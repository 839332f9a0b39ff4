// SPDX-License-Identifier: Apache-2.0
//
// The frame of a restartable sequence on x86-64. Each sequence is
//
//   asm goto volatile(TARN_SEQUENCE_BEGIN("%[work]")
//                     "..."                              find the place by the index, read, decide, or jump to miss
//                     "addq ..." TARN_SEQUENCE_COMMITTED   one store commits
//                     : [work] "=&r"(work), ...
//                     : TARN_SEQUENCE_INPUTS(offsets), ...
//                     : "cc", "memory"
//                     : miss);
//
// The entry publishes the descriptor in rseq_cs. Inside [start, commit) the sequence misses unless the thread is
// registered, and reads the id. If the kernel preempts, migrates or signals the thread inside, or membarrier restarts
// it, it continues at the abort handler, which begins anew. So nothing may have been stored that others read. A jump to
// miss stores nothing either. rseq_cs is not cleared afterwards: the kernel ignores a descriptor whose range does not
// hold the instruction pointer, and the library is never unloaded (-z nodelete).
//
// The test for the registration. The kernel restarts sequences of registered threads only. When it ends a registration
// it writes -1 to cpu_id, but 0 to mm_cid (kernel/rseq.c, rseq_reset_rseq_cpu_node_id). So the sign of cpu_id decides,
// not that of the id. cpu_id lies 4 bytes before rseq_cs (linux/rseq.h), which costs no register. The branch is never
// taken in a healthy thread and stands outside of the chain of loads that leads to the data.
//
// The index and everything derived from it live only within the sequence; nothing of it is kept from one operation to
// the next.
//
// The abort handler must be preceded by the signature 0x53053053; it is written as the operand of an undefined
// instruction (ud1), so that disassemblers stay in step (linux/rseq.h, glibc's bits/rseq.h). The descriptors are also
// listed in __rseq_cs_ptr_array, for debuggers that step over sequences; R keeps it in a link with --gc-sections.
//
// A jump to `miss` that is taken must not return what the other end returned in a register: gcc 12 puts the value of
// the miss into the register of an output before the sequence, which then overwrites it (seen at -O1; bug 113921 of gcc
// is of this kind). So results that come from outputs lie in memory, as volatile, or are not looked at after a miss.
//
// Labels 10 to 14 are the frame's; a sequence uses others.
#pragma once

#include "allocator/rseq/current_index.h"

static_assert(tarn::kFromRseqCsToCpuId == 4, "written out in TARN_SEQUENCE_BEGIN");

// The descriptor, and the entry. `work` is the register that the entry uses first; afterwards it is free, until the
// sequence loads %[id]'s field.
// clang-format off
#define TARN_SEQUENCE_BEGIN(work)                              \
  ".pushsection __rseq_cs, \"aw\", @progbits\n"                \
  ".balign 32\n"                                               \
  "10:\n"                                                      \
  ".long 0, 0\n"                                               \
  ".quad 12f, 13f - 12f, 14f\n"                                \
  ".popsection\n"                                              \
  ".pushsection __rseq_cs_ptr_array, \"awR\", @progbits\n"     \
  ".quad 10b\n"                                                \
  ".popsection\n"                                              \
  "11:\n"                                                      \
  "leaq 10b(%%rip), " work "\n"                                \
  "movq " work ", %%fs:(%[rseq_cs])\n"                         \
  "12:\n"                                                      \
  "cmpl $0, %%fs:-4(%[rseq_cs])\n"                             \
  "js %l[miss]\n"

// Stands directly behind the committing store. Holds the abort handler.
#define TARN_SEQUENCE_COMMITTED                                \
  "13:\n"                                                      \
  ".pushsection .text.tarn_rseq_abort, \"ax\", @progbits\n"    \
  ".byte 0x0f, 0xb9, 0x3d\n"                                   \
  ".long 0x53053053\n"                                         \
  "14:\n"                                                      \
  "jmp 11b\n"                                                  \
  ".popsection\n"
// clang-format on

#define TARN_SEQUENCE_INPUTS(offsets) [rseq_cs] "r"((offsets).rseq_cs), [id] "r"((offsets).id)
