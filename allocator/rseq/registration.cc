// SPDX-License-Identifier: Apache-2.0

#include "allocator/rseq/registration.h"

#include <linux/membarrier.h>
#include <sys/auxv.h>

#include <cerrno>
#include <cstdint>

#include "allocator/os/cpus.h"
#include "allocator/os/process.h"
#include "allocator/os/stall.h"
#include "allocator/os/system_call.h"
#include "allocator/os/thread_state.h"

// glibc 2.35 and later register an area for every thread and say where (<sys/rseq.h>). Weak, so that the library loads
// with an older libc.
extern "C" {
extern __attribute__((weak)) const std::ptrdiff_t __rseq_offset;
extern __attribute__((weak)) const unsigned int __rseq_size;
}

namespace tarn {

namespace {

// linux/rseq.h: the word in front of every abort handler on x86.
constexpr std::uint32_t kRseqSignature = 0x53053053;
// elf.h of newer systems: how many bytes of the area the kernel fills in. 28 and more include mm_cid.
constexpr unsigned long kAuxRseqFeatureSize = 27;
constexpr unsigned long kFeatureSizeWithMmCid = offsetof(RseqArea, mm_cid) + sizeof(RseqArea::mm_cid);

// The area's cpu_id must be the CPU that the kernel names. A migration between the two looks may spoil a trial, so
// there are several; an area that nobody updates fails them all on every CPU but one. Returns why the area cannot be
// used, or null.
const char* DoubtOfCpuId(std::ptrdiff_t cpu_id_offset) {
  for (int trial = 0; trial < 8; ++trial) {
    unsigned int cpu = 0;
    const long result = SystemCall(SYS_getcpu, &cpu, nullptr, nullptr);
    if (result == -ENOSYS) return "rseq cannot be verified: the kernel has no getcpu, or a seccomp filter hides it";
    if (result != 0) return "rseq cannot be verified: a seccomp filter denies getcpu";
    if (ReadId(cpu_id_offset) == static_cast<std::int32_t>(cpu)) return nullptr;
  }
  return "rseq is registered but its CPU number is wrong";
}

// 0, or the kernel's refusal.
long RegisterArea() {
  thread_state.area.cpu_id_start = 0;
  return SystemCall(SYS_rseq, &thread_state.area, sizeof(RseqArea), 0, kRseqSignature);
}

bool RegisterMembarrier() {
  return SystemCall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0) == 0;
}

}  // namespace

bool RegisterThreadArea() { return RegisterArea() == 0; }

RseqSupport DetectRseq(bool by_thread) {
  RseqSupport support;
  std::ptrdiff_t area_offset = ThreadPointerOffset(&thread_state.area);
  support.offsets.id = ThreadPointerOffset(&thread_state.slab_index);
  const bool registered_by_libc = &__rseq_size != nullptr && __rseq_size != 0;
  if (registered_by_libc) area_offset = __rseq_offset;
  // Also where slabs belong to threads: in a registered area the kernel then restarts what a signal interrupts.
  support.offsets.rseq_cs = area_offset + static_cast<std::ptrdiff_t>(offsetof(RseqArea, rseq_cs));
  const auto cpu_id_offset = area_offset + static_cast<std::ptrdiff_t>(offsetof(RseqArea, cpu_id));
  if (by_thread) {
    support.reason = "by TARN_MODE";
    // The kernel restarts sequences of threads that libc has registered, by whatever index they go.
    support.remote_abort = registered_by_libc && DoubtOfCpuId(cpu_id_offset) == nullptr && RegisterMembarrier();
    return support;
  }
  if (!registered_by_libc) {
    if (const long result = RegisterArea(); result != 0) {
      support.reason = result == -ENOSYS ? "the kernel has no rseq" : "the kernel refused to register rseq";
      return support;
    }
    support.register_threads = true;
  }
  if (const char* doubt = DoubtOfCpuId(cpu_id_offset)) {
    support.reason = doubt;
    support.register_threads = false;
    // Nobody keeps the area up to date, so nothing in it may decide. In the area of our own the thread mode does.
    support.offsets.rseq_cs = ThreadPointerOffset(&thread_state.area.rseq_cs);
    return support;
  }
  support.offsets.id = cpu_id_offset;
  support.index = RseqIndex::kCpuId;
  const auto mm_cid_offset = area_offset + static_cast<std::ptrdiff_t>(offsetof(RseqArea, mm_cid));
  if (::getauxval(kAuxRseqFeatureSize) >= kFeatureSizeWithMmCid && ReadId(mm_cid_offset) >= 0 &&
      static_cast<std::size_t>(ReadId(mm_cid_offset)) < CpuIdBound()) {
    support.offsets.id = mm_cid_offset;
    support.index = RseqIndex::kMmCid;
  }
  support.remote_abort = RegisterMembarrier();
  return support;
}

bool AbortAllSequences() {
  // The program's only thread is in no sequence: it is here, and a signal that brought it here has restarted the one
  // that it interrupted. A thread of tarn's runs none, but may run beside that thread.
  if (HasOneThread() && !thread_state.is_background) return true;
  NoteStall();
  const long result = SystemCall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0);
  if (result == 0) return true;
  // A registration belongs to the address space; a child that was forked before has to make its own.
  return result == -EPERM && RegisterMembarrier() &&
         SystemCall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0) == 0;
}

}  // namespace tarn
