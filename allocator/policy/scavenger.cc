// SPDX-License-Identifier: Apache-2.0

#include "allocator/policy/scavenger.h"

#include <algorithm>

#include "allocator/base/text.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/os/bare_thread.h"
#include "allocator/os/clock.h"
#include "allocator/os/crash.h"
#include "allocator/os/process.h"
#include "allocator/os/stack_memory.h"
#include "allocator/os/stall.h"
#include "allocator/os/thread_state.h"
#include "allocator/policy/limits.h"

namespace tarn {

namespace {

// How long the thread stays beyond the second pass, before which it cannot know that there is nothing to do.
constexpr std::uint32_t kLingerMs = 2000;
// A cycle that did less was not worth a thread: an idle cache is drained and filled again at its next use for ever.
constexpr std::size_t kWorthwhileBytes = std::size_t{256} << 10;
constexpr std::uint32_t kTryAgainMs = 60'000;
// A cycle's share of time, as its inverse.
constexpr std::uint64_t kSleepPerCpu = 100;
// So that even a large release comes in pieces: some 100 MiB of 4 KiB pages each.
constexpr std::uint64_t kLongestCycleNs = 20'000'000;
constexpr std::uint64_t kLongestInlineCycleNs = 1'000'000;
constexpr std::size_t kReleaseStepBytes = std::size_t{4} << 20;
// Caches are emptied for a fall when what they hold may keep as much. Chosen: less than the smallest fall.
constexpr std::size_t kPinnedBytes = std::size_t{1} << 20;

// Whose the thread is, for a bare thread gets no argument. Stored before its start, by the one that starts it.
constinit Scavenger* thread_owner = nullptr;

}  // namespace

void Scavenger::Init(const PolicyParts* parts, bool trace) {
  parts_ = parts;
  trace_ = trace;
  process_id_ = ProcessId();
}

void Scavenger::Attend() {
  SlowPathScope scope;
  if (scope.nested()) return;
  if (StartsThread()) return;
  ProbeStack(kCycleStackBytes);
  PageHeap& page_heap = *parts_->page_heap;
  if ((page_heap.attention() & PageHeap::kFallen) != 0 && cycle_lock_.TryAcquire()) {
    GiveBack();
    cycle_lock_.Release();
  }
  if ((page_heap.attention() & PageHeap::kScavengerWanted) != 0 && IsTimeForCycle() && cycle_lock_.TryAcquire()) {
    static_cast<void>(RunCycle(kLongestInlineCycleNs));
    cycle_lock_.Release();
  }
}

// --- A fall of the use ---------------------------------------------------------------------------------------------

void Scavenger::GiveBack() {
  PageHeap& page_heap = *parts_->page_heap;
  const std::uint64_t start_ns = MonotonicNanoseconds();
  const PageHeap::Fall fall = page_heap.BeginGivingBack();
  Cycle cycle;
  // By halves: a program that frees all it has empties its caches a few times, not at every step.
  if (!page_heap.falling() || fall.in_use_bytes <= drained_at_bytes_ / 2) {
    if (std::min(parts_->cpu_cache->PinnedBytes(), fall.in_use_bytes) >= kPinnedBytes) {
      cycle.drained_bytes = parts_->drain("free");
      page_heap.SetFalling(true);
      drained_at_bytes_ = fall.in_use_bytes;
    }
  }
  PageHeap::Excess excess;
  std::uint64_t passed_ns;
  do {
    std::size_t released_bytes = 0;
    excess = page_heap.ReleaseExcess(kReleaseStepBytes, &released_bytes);
    cycle.released_bytes += released_bytes;
    passed_ns = MonotonicNanoseconds() - start_ns;
  } while (excess == PageHeap::Excess::kMore &&
           (passed_ns < kLongestInlineCycleNs || cycle.released_bytes < fall.freed_bytes));
  page_heap.EndGivingBack(cycle.released_bytes, passed_ns, excess);
  cycle.cpu_ns = passed_ns;
  Count(cycle);
}

// --- The thread ----------------------------------------------------------------------------------------------------

bool Scavenger::StartsThread() {
  if (!parts_->background->MayHaveThreads()) return false;
  if (BareThreadIsAlive()) return true;
  if (refused_.load(std::memory_order_relaxed)) {
    if (MillisecondsBetween(refused_at_ms_.load(std::memory_order_relaxed), CoarseMilliseconds()) < kTryAgainMs) {
      return false;
    }
    refused_.store(false, std::memory_order_relaxed);
  }
  // A child of _Fork or vfork is another process, with memory that is not its own or threads that it lost.
  if (ProcessId() != process_id_) return false;
  // Without another thread it would end at once. The kernel is asked once in each tick of the clock, and soon enough:
  // one that was refused for longer would be missing where a thread comes, works, and falls silent.
  const std::uint32_t now_ms = CoarseMilliseconds();
  if (alone_at_ms_.load(std::memory_order_relaxed) == now_ms) return false;
  if (CountThreads() < 2) {
    alone_at_ms_.store(now_ms, std::memory_order_relaxed);
    return false;
  }
  std::uint32_t nobody = 0;
  if (!starting_.compare_exchange_strong(nobody, ThreadId(), std::memory_order_acquire, std::memory_order_relaxed)) {
    return true;
  }
  StartThread();
  starting_.store(0, std::memory_order_release);
  return true;
}

void Scavenger::StartThread() {
  if (BareThreadIsAlive()) return;
  thread_owner = this;
  // Before the start, for the thread says when it is over.
  parts_->page_heap->BeginScavenging();
  switch (StartBareThread(&RunThread, "tarn-scavenger", trace_, slab_table.offsets.id, slab_table.offsets.rseq_cs)) {
    case BareThreadStart::kStarted:
      Add(&tarn_snapshot_scavenger::starts, 1);
      break;
    case BareThreadStart::kAlive:
      // One that ends just now, or somebody wants none.
      parts_->page_heap->EndScavenging(false);
      break;
    case BareThreadStart::kFailed:
      parts_->page_heap->EndScavenging(false);
      Refuse(CoarseMilliseconds());
      break;
  }
}

void Scavenger::RunThread(BareThreadBegin begin) {
  Scavenger& self = *thread_owner;
  const PolicyParts& parts = *self.parts_;
  bool wanted = begin == BareThreadBegin::kStripped && ProcessIsAsItWas();
  std::uint32_t busy_at_ms = CoarseMilliseconds();
  bool finished = false;
  // A start that was refused once would be refused again. Not so where another thread was missing: the next may come at
  // any time.
  if (begin != BareThreadBegin::kStripped || !FirstThreadHasSameIds()) self.Refuse(busy_at_ms);
  for (; wanted && !BareThreadIsHeld(); wanted = ProcessIsAsItWas()) {
    Cycle cycle;
    {
      LockHolder holder(self.cycle_lock_);
      self.ServeReleaseRequest();
      cycle = self.RunCycle(kLongestCycleNs);
    }
    self.ServeLimitRequest(false);
    // A limit may have been lowered from outside.
    if (parts.limits->soft_bytes() != SIZE_MAX) parts.limits->Check(false);
    const std::uint32_t now_ms = CoarseMilliseconds();
    if (cycle.released_bytes + cycle.drained_bytes >= kWorthwhileBytes || cycle.warm_bytes != 0) busy_at_ms = now_ms;
    if (MillisecondsBetween(busy_at_ms, now_ms) >= 2 * parts.release_delay_ms() + kLingerMs) {
      finished = true;
      break;
    }
    const auto least_ms = static_cast<std::uint32_t>(cycle.cpu_ns * kSleepPerCpu / 1'000'000);
    self.SleepUnlessAsked(std::max(std::min(cycle.next_ms, kLookEveryMs), least_ms));
  }
  parts.page_heap->EndScavenging(finished);
}

void Scavenger::Refuse(std::uint32_t now_ms) {
  refused_at_ms_.store(now_ms, std::memory_order_relaxed);
  refused_.store(true, std::memory_order_relaxed);
}

void Scavenger::StopThread() {
  HoldBareThread();
  AwaitEndOfBareThread();
}

void Scavenger::HoldThread() {
  if (BareThreadIsAlive()) start_again_.store(true, std::memory_order_relaxed);
  HoldBareThread();
}

void Scavenger::LetThread() {
  LetBareThread();
  // It may have had something left to do, and the program may come by no slow path any more. Of several threads that
  // fork, the last one starts it.
  if (BareThreadIsHeld() || !start_again_.exchange(false, std::memory_order_relaxed)) return;
  SlowPathScope scope;
  if (!scope.nested()) static_cast<void>(StartsThread());
}

void Scavenger::SleepUnlessAsked(std::uint32_t milliseconds) {
  do {
    const std::uint32_t step_ms = std::min(milliseconds, kLookEveryMs);
    SleepUnlessHeld(step_ms);
    milliseconds -= step_ms;
  } while (milliseconds != 0 && !requested() && !BareThreadIsHeld());
}

std::uint32_t Scavenger::Tick() {
  std::uint32_t next_ms = kLookEveryMs;
  {
    SlowPathScope scope;
    if (scope.nested()) return next_ms;
    ProbeStack(kCycleStackBytes);
    if (cycle_lock_.TryAcquire()) {
      ServeReleaseRequest();
      next_ms = RunCycle(kLongestCycleNs).next_ms;
      cycle_lock_.Release();
      ForgetStall();
    }
  }
  ServeLimitRequest(true);
  return next_ms;
}

// --- Requests from outside -----------------------------------------------------------------------------------------

void Scavenger::AnswerRequests() {
  {
    SlowPathScope scope;
    // The process id before the lock: a child of vfork that ends while it holds the lock would hold it for ever.
    if (scope.nested() || ThreadIsAlive() || ProcessId() != process_id_) return;
    ProbeStack(kCycleStackBytes);
    if (cycle_lock_.TryAcquire()) {
      ServeReleaseRequest();
      cycle_lock_.Release();
      ForgetStall();
    }
  }
  ServeLimitRequest(true);
}

void Scavenger::ServeReleaseRequest() {
  // Read once: it may change at any time.
  const std::uint64_t request = __atomic_load_n(&release_.request, __ATOMIC_RELAXED);
  if (!IsUnanswered(request, &release_.answered) || ProcessId() != process_id_) return;
  __atomic_store_n(&release_.begun, request, __ATOMIC_RELAXED);
  const std::size_t released_bytes = parts_->release_all("tarn release");
  __atomic_store_n(&release_.answered_bytes, released_bytes, __ATOMIC_RELAXED);
  // Release: a reader of the number, in another process too, and then of the bytes, gets those of this answer or a
  // later.
  __atomic_store_n(&release_.answered, request, __ATOMIC_RELEASE);
}

void Scavenger::ServeLimitRequest(bool may_call_back) {
  // The process id before the mark, as before the lock above. Acquire pairs with the release below: one sets after the
  // other.
  std::uint32_t nobody = 0;
  if (!IsUnanswered(__atomic_load_n(&limit_.request, __ATOMIC_RELAXED), &limit_.answered) ||
      ProcessId() != process_id_ ||
      !setting_limit_.compare_exchange_strong(nobody, ThreadId(), std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
    return;
  }
  // Each read once: they may change at any time.
  const std::uint64_t request = __atomic_load_n(&limit_.request, __ATOMIC_RELAXED);
  const std::uint64_t request_bytes = __atomic_load_n(&limit_.request_bytes, __ATOMIC_RELAXED);
  const std::uint64_t check = __atomic_load_n(&limit_.check, __ATOMIC_RELAXED);
  const bool is_whole =
      IsUnanswered(request, &limit_.answered) && check == TARN_SNAPSHOT_LIMIT_CHECK(request, request_bytes);
  if (is_whole) {
    parts_->set_memory_limit(SoftLimitSetting(request_bytes));
    __atomic_store_n(&limit_.answered_request_bytes, request_bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&limit_.answered_bytes, parts_->limits->soft_bytes(), __ATOMIC_RELAXED);
    // Release: a reader of the number and then of the bytes gets those of this answer or a later.
    __atomic_store_n(&limit_.answered, request, __ATOMIC_RELEASE);
  }
  setting_limit_.store(0, std::memory_order_release);
  if (is_whole) parts_->limits->Check(may_call_back);
}

// --- Cycles --------------------------------------------------------------------------------------------------------

Scavenger::Cycle Scavenger::RunCycle(std::uint64_t longest_ns) {
  PageHeap& page_heap = *parts_->page_heap;
  // The clock of the CPU time is a system call, which the program's threads may not be allowed.
  const auto now_ns = thread_state.is_background ? &ThreadCpuNanoseconds : &MonotonicNanoseconds;
  const std::uint64_t start_ns = now_ns();
  const std::uint64_t end_ns = start_ns + longest_ns;
  const std::uint32_t now_ms = CoarseMilliseconds();
  last_cycle_ms_.store(now_ms, std::memory_order_relaxed);
  Cycle cycle;

  if (MillisecondsBetween(last_look_ms_, now_ms) >= kLookEveryMs - kLookEveryMs / 10) {
    last_look_ms_ = now_ms;
    const CpuCache::IdleDrain drain = parts_->cpu_cache->DrainIdle("scavenger");
    cycle.drained_bytes = drain.drained_bytes;
    if (drain.pending_bytes != 0) cycle.next_ms = kLookEveryMs;
  }

  ScavengeResult result;
  do {
    result = page_heap.ReleaseUnwanted(now_ms, kReleaseStepBytes);
    cycle.released_bytes += result.released_bytes;
  } while (result.next_ms == 0 && now_ns() < end_ns);
  cycle.warm_bytes = result.warm_huge_bytes;
  cycle.next_ms = std::min(cycle.next_ms, result.next_ms);

  // A page that was free for so long, and up to twice as long, goes.
  const std::uint32_t pass_every_ms = parts_->release_delay_ms();
  if (!in_pass_ && MillisecondsBetween(last_pass_ms_, now_ms) >= pass_every_ms) {
    in_pass_ = true;
    last_pass_ms_ = now_ms;
  }
  while (in_pass_ && now_ns() < end_ns) {
    std::size_t released_bytes = 0;
    in_pass_ = !page_heap.ReleaseIdlePages(kReleaseStepBytes, &released_bytes);
    cycle.idle_page_bytes += released_bytes;
  }
  cycle.released_bytes += cycle.idle_page_bytes;
  if (in_pass_) cycle.next_ms = 0;

  cycle.cpu_ns = now_ns() - start_ns;
  Count(cycle);
  return cycle;
}

void Scavenger::Count(const Cycle& cycle) {
  Add(&tarn_snapshot_scavenger::cycles, 1);
  Add(&tarn_snapshot_scavenger::cpu_ns, cycle.cpu_ns);
  Add(&tarn_snapshot_scavenger::released_bytes, cycle.released_bytes);
  Add(&tarn_snapshot_scavenger::drained_bytes, cycle.drained_bytes);
  if (trace_) Trace(cycle);
}

void Scavenger::Trace(const Cycle& cycle) {
  const PageHeapStats pages = parts_->page_heap->Stats();
  Text<256> line;
  line << "tarn: scavenge " << Load(&tarn_snapshot_scavenger::cycles) << ": released ";
  line.Mebibytes(cycle.released_bytes) << " (in-use huge pages ";
  line.Mebibytes(cycle.idle_page_bytes) << "), drained ";
  line.Mebibytes(cycle.drained_bytes) << ", kept ";
  line.Mebibytes(pages.free_warm_bytes) << " (whole ";
  line.Mebibytes(cycle.warm_bytes) << "), in use ";
  line.Mebibytes(pages.in_use_bytes + pages.mapped_bytes) << ", " << cycle.cpu_ns / 1000 << " us\n";
  WriteToStderr(line.view());
}

tarn_snapshot_scavenger Scavenger::Stats() const {
  tarn_snapshot_scavenger stats;
  for (const Field field :
       {&tarn_snapshot_scavenger::cycles, &tarn_snapshot_scavenger::starts, &tarn_snapshot_scavenger::cpu_ns,
        &tarn_snapshot_scavenger::released_bytes, &tarn_snapshot_scavenger::drained_bytes}) {
    stats.*field = Load(field);
  }
  return stats;
}

bool Scavenger::ThreadIsAlive() { return BareThreadIsAlive(); }

void Scavenger::ForgetThreadInForkedChild() {
  ForgetBareThreadInForkedChild();
  start_again_.store(false, std::memory_order_relaxed);
  starting_.store(0, std::memory_order_relaxed);
  process_id_ = ProcessId();
  // The requests were made to the parent.
  __atomic_store_n(&release_.request, release_.answered, __ATOMIC_RELAXED);
  __atomic_store_n(&release_.begun, release_.answered, __ATOMIC_RELAXED);
  __atomic_store_n(&limit_.request, limit_.answered, __ATOMIC_RELAXED);
  setting_limit_.store(0, std::memory_order_relaxed);
}

void Scavenger::RepairAfterJump() {
  for (std::atomic<std::uint32_t>* mark : {&starting_, &setting_limit_}) {
    std::uint32_t thread_id = ThreadId();
    mark->compare_exchange_strong(thread_id, 0, std::memory_order_release, std::memory_order_relaxed);
  }
}

}  // namespace tarn
