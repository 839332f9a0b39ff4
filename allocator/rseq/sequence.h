// SPDX-License-Identifier: Apache-2.0
//
// Lists all that an architecture supplies, and makes the choice between its files and the portable ones.
//
//   rseq/sequence_ARCH.h        the frame that all sequences share: entry, abort handler, descriptor.
//                               TARN_HAS_SEQUENCES is 1 then, and the two files below have to exist
//   cpu_cache/slab_ops_ARCH.h   the six operations on a slab; the contract is in cpu_cache/slab_ops.h
//   pools/cpu_stacks_ARCH.h     the operations of pools and concurrent arenas; the contract is in pools/cpu_stacks.h
//   rseq/registration.cc        kRseqSignature, the word in front of abort handlers
//
//   optional, each with a portable stand-in:
//   os/system_call_ARCH.h       system calls without libc's wrappers; system_call_portable.h calls syscall(2)
//   os/clone_ARCH.h, os/bare_thread.cc, os/thread_filter.cc      the scavenger's thread; bare_thread_none.cc has none,
//                               and the work is done in slow paths
//   unwind/stack_walk_ARCH.cc   the registers of a frame for the heap profile; stack_walk_none.cc records no stacks
//   entry/vfork_ARCH.cc         children of vfork. Without it they must not allocate in the CPU mode
//
// The rest is C++ for little-endian machines of 64 bits, whose page divides a page of tarn. Without sequences
// slabs belong to threads (docs/design.md, section 6).
#pragma once

#if defined(__x86_64__) && !defined(TARN_NO_RSEQ)
#define TARN_HAS_SEQUENCES 1
#include "allocator/rseq/sequence_x86_64.h"
#else
#define TARN_HAS_SEQUENCES 0
#endif
