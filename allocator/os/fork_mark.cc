// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/fork_mark.h"

#include <sys/mman.h>

#include "allocator/base/attributes.h"
#include "allocator/os/process.h"
#include "allocator/os/system_call.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

TARN_IN_TOUCHED_DATA constinit ForkMark fork_mark;

namespace {

// Stands in where the kernel wipes nothing.
constinit std::atomic<std::uint32_t> never_wiped = 1;

}  // namespace

void ForkMark::Lay() {
  if (laid()) return;
  const std::size_t bytes = OsPageBytes();
  std::atomic<std::uint32_t>* word = &never_wiped;
  void* page = Reserve(bytes, bytes);
  if (page != nullptr) {
    // A child that is forked before the mark is written must not take it for wiped, so it becomes known last.
    if (Commit(page, bytes) && SystemCall(SYS_madvise, page, bytes, MADV_WIPEONFORK) == 0) {
      NameMemory(page, bytes, "tarn fork mark");
      word = static_cast<std::atomic<std::uint32_t>*>(page);
      word->store(kLaid, std::memory_order_relaxed);
    } else {
      Unreserve(page, bytes);
      page = nullptr;
    }
  }
  std::atomic<std::uint32_t>* expected = nullptr;
  // Release: the word is written before it is known.
  if (!word_.compare_exchange_strong(expected, word, std::memory_order_acq_rel) && page != nullptr) {
    Unreserve(page, bytes);
  }
}

bool ForkMark::BeginRepair() {
  std::atomic<std::uint32_t>* word = word_.load(std::memory_order_relaxed);
  std::uint32_t expected = 0;
  if (word->compare_exchange_strong(expected, kRepairs, std::memory_order_acquire)) return true;
  while (IsWiped()) SleepBriefly();
  return false;
}

void ForkMark::Renew() {
  generation_.fetch_add(1, std::memory_order_relaxed);
  std::atomic<std::uint32_t>* word = word_.load(std::memory_order_relaxed);
  if (word != nullptr) word->store(kLaid, std::memory_order_release);
}

}  // namespace tarn
