// SPDX-License-Identifier: Apache-2.0

#include "allocator/policy/limits.h"

#include <algorithm>

#include "allocator/os/clock.h"
#include "allocator/os/cpus.h"
#include "allocator/os/huge_page_setting.h"
#include "allocator/os/memory_facts.h"
#include "allocator/os/stack_memory.h"
#include "allocator/os/stall.h"
#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/policy/scavenger.h"

namespace tarn {

namespace {

// A limit that the system sets may change; reading it takes some 50 us. Chosen.
constexpr std::uint32_t kReadEveryMs = 1000;
// Of a container's limit, `auto` leaves a tenth for what tarn does not see: stacks, files, other processes. Chosen.
constexpr std::size_t kAutoPercent = 90;
// The first look, which reads the system's limits. It takes some 80 us, so the shortest programs do not come here. It
// is early, so that it is over when a program enters a sandbox. Chosen.
constexpr std::size_t kFactsAtBytes = std::size_t{128} << 10;
// Without a limit there is nothing to look at, but one may be set: so often is it looked for.
constexpr std::size_t kUnlimitedStepBytes = std::size_t{64} << 20;
// The distance of two looks near the limit, as its inverse, and at least. Each costs some ten microseconds, and the
// page faults of a MiB some hundred.
constexpr std::size_t kStepDivisor = 128;
constexpr std::size_t kLeastStepBytes = std::size_t{1} << 20;
// The share of time that goes into keeping the limit, as its inverse, and what may be saved up.
constexpr std::uint64_t kTimeDivisor = 10;
constexpr std::int64_t kMostCreditNs = 100'000'000;
// The most that one release is charged with: for itself, for each page released and for each huge page looked at. Where
// no processor is free, the clock counts other processes' time, too, and the limit would be given up for it. A page
// takes some 350 ns (measured by tests/life/limits_test.cc).
constexpr std::uint64_t kMostReleaseNs = 1'000'000;
constexpr std::uint64_t kMostPageNs = 2000;
constexpr std::uint64_t kMostLookNs = 2000;
// A drain restarts the sequences of all threads, so not at every look.
constexpr std::uint32_t kDrainEveryMs = 100;
// A callback is called again when the use has been so much lower.
constexpr unsigned kRearmPoints = 5;

constexpr unsigned kPlaceFree = 0;
constexpr unsigned kPlaceBusy = 1;

std::size_t Percent(std::size_t bytes, std::size_t percent) {
  return bytes / 100 * percent + bytes % 100 * percent / 100;
}

// `container_bytes` is the container's limit, SIZE_MAX where there is none.
std::size_t LimitBytes(LimitSetting::Kind kind, std::size_t value, std::size_t container_bytes) {
  switch (kind) {
    case LimitSetting::Kind::kNone:
      return SIZE_MAX;
    case LimitSetting::Kind::kBytes:
      return value;
    case LimitSetting::Kind::kPercent:
      return Percent(std::min(container_bytes, PhysicalMemoryBytes()), value);
    case LimitSetting::Kind::kAuto:
      return container_bytes == SIZE_MAX ? SIZE_MAX : Percent(container_bytes, kAutoPercent);
  }
  return SIZE_MAX;
}

bool NeedsReading(LimitSetting::Kind kind) {
  return kind == LimitSetting::Kind::kPercent || kind == LimitSetting::Kind::kAuto;
}

}  // namespace

void Limits::Init(const PolicyParts* parts, LimitSetting soft, LimitSetting hard, Lock* cycle_lock) {
  parts_ = parts;
  cycle_lock_ = cycle_lock;
  soft_kind_.store(soft.kind, std::memory_order_relaxed);
  soft_value_.store(soft.value, std::memory_order_relaxed);
  soft_asked_for_.store(soft.asked_for, std::memory_order_relaxed);
  if (soft.kind == LimitSetting::Kind::kBytes) Store(&tarn_snapshot_limits::not_soft_bytes, ~soft.value);
  if (hard.kind != LimitSetting::Kind::kNone) ApplyHard(hard);
  const bool at_once = soft.kind == LimitSetting::Kind::kBytes || soft.kind == LimitSetting::Kind::kPercent;
  parts_->page_heap->SetNextCheck(at_once ? 0 : kFactsAtBytes);
}

void Limits::SetSoft(LimitSetting setting) {
  SlowPathScope scope;
  soft_kind_.store(setting.kind, std::memory_order_relaxed);
  soft_value_.store(setting.value, std::memory_order_relaxed);
  soft_asked_for_.store(setting.asked_for, std::memory_order_relaxed);
  const std::size_t container_bytes = NeedsReading(setting.kind) ? ContainerLimitBytes() : SIZE_MAX;
  Store(&tarn_snapshot_limits::not_soft_bytes, ~LimitBytes(setting.kind, setting.value, container_bytes));
  read_again_.store(true, std::memory_order_relaxed);
  if (!scope.nested()) parts_->page_heap->SetNextCheck(0);
}

void Limits::SetHard(LimitSetting setting) {
  SlowPathScope scope;
  if (!scope.nested()) ApplyHard(setting);
}

void Limits::ApplyHard(LimitSetting setting) {
  hard_kind_.store(setting.kind, std::memory_order_relaxed);
  hard_value_.store(setting.value, std::memory_order_relaxed);
  const std::size_t container_bytes = NeedsReading(setting.kind) ? ContainerLimitBytes() : SIZE_MAX;
  const std::size_t bytes = LimitBytes(setting.kind, setting.value, container_bytes);
  Store(&tarn_snapshot_limits::not_hard_bytes, ~bytes);
  parts_->page_heap->SetHardLimit(bytes);
}

void Limits::ReadLimits() {
  const LimitSetting::Kind soft_kind = soft_kind_.load(std::memory_order_relaxed);
  const LimitSetting::Kind hard_kind = hard_kind_.load(std::memory_order_relaxed);
  container_bytes_ =
      soft_kind != LimitSetting::Kind::kNone || NeedsReading(hard_kind) ? ContainerLimitBytes() : SIZE_MAX;
  Store(&tarn_snapshot_limits::not_soft_bytes,
        ~LimitBytes(soft_kind, soft_value_.load(std::memory_order_relaxed), container_bytes_));
  if (NeedsReading(hard_kind)) {
    const std::size_t bytes = LimitBytes(hard_kind, hard_value_.load(std::memory_order_relaxed), container_bytes_);
    Store(&tarn_snapshot_limits::not_hard_bytes, ~bytes);
    parts_->page_heap->SetHardLimit(bytes);
  }
}

// All that a program which set no limit makes tarn read. Later it makes no call for it, for a sandbox may forbid that.
void Limits::ReadFacts() {
  static_cast<void>(KnownHugePageSetting());
  // For pools that are made later.
  if (parts_->cpu_cache->mode() == CacheMode::kCpu) static_cast<void>(ConfiguredCpus());
  EndNames();
  has_facts_ = true;
}

bool Limits::MayReadFiles() const {
  const LimitSetting::Kind soft_kind = soft_kind_.load(std::memory_order_relaxed);
  return soft_kind == LimitSetting::Kind::kBytes || soft_kind == LimitSetting::Kind::kPercent ||
         soft_asked_for_.load(std::memory_order_relaxed) || hard_bytes() != SIZE_MAX ||
         callbacks_.load(std::memory_order_relaxed) != 0;
}

std::size_t Limits::OwnBytes() const {
  const PageHeapStats pages = parts_->page_heap->Stats();
  return pages.in_use_bytes + pages.free_warm_bytes + pages.mapped_bytes + pages.metadata_used_bytes;
}

std::size_t Limits::UsedBytes() const {
  if (MayReadFiles()) {
    const std::size_t resident_bytes = ResidentBytes();
    if (resident_bytes != 0) return resident_bytes;
  }
  // Without /proc, what the page heap believes.
  return OwnBytes() - parts_->page_heap->Stats().untouched_bytes + other_bytes_;
}

// The page heap knows only its own memory, so its goals are the limits less what others have. The thread that takes
// memory keeps them, at once and without a file. A check is one thread's, which may have no CPU at the moment.
void Limits::SetGoals(std::size_t limit_bytes, std::int64_t others_bytes) {
  PageHeap::Goals goals;
  if (limit_bytes != SIZE_MAX && container_bytes_ != SIZE_MAX) {
    // Never 0, which stands for no goal.
    const auto of_own = [others_bytes](std::size_t bytes) {
      return static_cast<std::size_t>(std::max<std::int64_t>(static_cast<std::int64_t>(bytes) - others_bytes, 1));
    };
    const std::size_t soft_bytes = std::min(limit_bytes, container_bytes_);
    goals.soft_bytes = of_own(soft_bytes);
    goals.critical_bytes = of_own(soft_bytes + (container_bytes_ - soft_bytes) / 2);
    goals.most_bytes = of_own(container_bytes_);
  }
  if (goals == goals_) return;
  goals_ = goals;
  parts_->page_heap->SetGoals(goals);
}

void Limits::ReadWhatIsDue(std::uint32_t now_ms) {
  // tarn's bare thread may not open the files.
  if (thread_state.is_background) return;
  if (!has_facts_) ReadFacts();
  const bool needs_reading = NeedsReading(soft_kind_.load(std::memory_order_relaxed)) ||
                             NeedsReading(hard_kind_.load(std::memory_order_relaxed));
  const bool has_limit = soft_kind_.load(std::memory_order_relaxed) != LimitSetting::Kind::kNone;
  const bool due = !has_read_ || (MayReadFiles() && MillisecondsBetween(read_at_ms_, now_ms) >= kReadEveryMs);
  if (!read_again_.exchange(false, std::memory_order_relaxed) && !((needs_reading || has_limit) && due)) return;
  ReadLimits();
  if (!has_read_ && soft_bytes() != SIZE_MAX) {
    const std::size_t resident_bytes = ResidentBytes();
    other_bytes_ = resident_bytes - std::min(resident_bytes, OwnBytes());
  }
  has_read_ = true;
  read_at_ms_ = now_ms;
}

void Limits::CountExcess(std::uint64_t excess_bytes) {
  Add(&tarn_snapshot_limits::exceeded, 1);
  if (excess_bytes > Load(&tarn_snapshot_limits::peak_excess_bytes)) {
    Store(&tarn_snapshot_limits::peak_excess_bytes, excess_bytes);
  }
}

std::size_t Limits::Keep(std::size_t limit_bytes, std::uint64_t delta_bytes, std::uint32_t now_ms,
                         std::size_t* used_bytes) {
  const std::size_t step_bytes = std::max(limit_bytes / kStepDivisor, kLeastStepBytes);
  // Memory that was handed out last is not touched yet, which counts where it is much.
  const std::size_t ahead_bytes = delta_bytes > step_bytes ? delta_bytes - step_bytes : 0;
  const std::size_t goal_bytes = limit_bytes > step_bytes ? limit_bytes - step_bytes : 0;
  if (*used_bytes > limit_bytes) CountExcess(*used_bytes - limit_bytes);
  if (*used_bytes + ahead_bytes <= goal_bytes) {
    return std::max(step_bytes, (goal_bytes - *used_bytes - ahead_bytes) / 4);
  }
  const std::size_t wanted_bytes = *used_bytes + ahead_bytes - goal_bytes;
  const std::size_t released_bytes = Release(wanted_bytes, now_ms);
  // The rest is in use. Pools may have some that they can do without.
  if (released_bytes < wanted_bytes) parts_->report_pressure();
  *used_bytes -= std::min(*used_bytes, released_bytes);
  return step_bytes;
}

void Limits::Check(bool may_call_back) {
  std::size_t used_bytes = 0;
  {
    SlowPathScope scope;
    std::uint32_t nobody = 0;
    if (scope.nested() ||
        !checking_.compare_exchange_strong(nobody, ThreadId(), std::memory_order_acquire, std::memory_order_relaxed)) {
      return;
    }
    PageHeap& page_heap = *parts_->page_heap;
    const std::uint32_t now_ms = CoarseMilliseconds();
    ReadWhatIsDue(now_ms);
    const std::uint64_t fresh_bytes = page_heap.fresh_bytes();
    const std::uint64_t delta_bytes = fresh_bytes - fresh_bytes_at_check_;
    fresh_bytes_at_check_ = fresh_bytes;
    const std::size_t limit_bytes = soft_bytes();
    const bool has_callbacks = callbacks_.load(std::memory_order_relaxed) != 0;
    if (limit_bytes != SIZE_MAX || has_callbacks) {
      Add(&tarn_snapshot_limits::checks, 1);
      used_bytes = UsedBytes();
    }
    // Less than nothing where much of the page heap's memory was never touched.
    SetGoals(limit_bytes, MayReadFiles() ? static_cast<std::int64_t>(used_bytes) - static_cast<std::int64_t>(OwnBytes())
                                         : static_cast<std::int64_t>(other_bytes_));
    std::size_t next_bytes = kUnlimitedStepBytes;
    if (limit_bytes != SIZE_MAX) {
      next_bytes = Keep(limit_bytes, delta_bytes, now_ms, &used_bytes);
    } else if (hard_bytes() != SIZE_MAX && has_callbacks) {
      // Nothing is released for a hard limit, but callbacks want to see memory come near it.
      next_bytes = std::clamp(hard_bytes() / kStepDivisor, kLeastStepBytes, kUnlimitedStepBytes);
    }
    if (has_callbacks) {
      // The next thread that looks is to see a threshold soon after it is passed. One that is passed now is seen to
      // below, or, where this thread may not, by the next that takes memory.
      const std::size_t distance_bytes = DistanceToCallback(used_bytes);
      const std::size_t least_bytes = may_call_back || distance_bytes != 0 ? kLeastStepBytes : 0;
      next_bytes = std::min(next_bytes, std::max(distance_bytes, least_bytes));
    }
    page_heap.SetNextCheck(next_bytes);
    checking_.store(0, std::memory_order_release);
    if (!may_call_back) ForgetStall();
  }
  if (may_call_back && callbacks_.load(std::memory_order_relaxed) != 0) CallBack(used_bytes);
}

std::size_t Limits::Release(std::size_t bytes, std::uint32_t now_ms) {
  const std::uint64_t start_ns = MonotonicNanoseconds();
  const std::uint64_t passed_ns =
      checked_at_ns_ == 0 ? std::uint64_t{kMostCreditNs} * kTimeDivisor : start_ns - checked_at_ns_;
  checked_at_ns_ = start_ns;
  credit_ns_ = std::min(credit_ns_ + static_cast<std::int64_t>(passed_ns / kTimeDivisor), kMostCreditNs);
  if (credit_ns_ <= 0) {
    Add(&tarn_snapshot_limits::skipped, 1);
    return 0;
  }
  PageHeap& page_heap = *parts_->page_heap;
  std::size_t released_bytes = page_heap.ReleaseOldest(bytes);
  if (released_bytes < bytes && MillisecondsBetween(drained_at_ms_, now_ms) >= kDrainEveryMs) {
    drained_at_ms_ = now_ms;
    parts_->drain("memory limit");
    released_bytes += page_heap.ReleaseOldest(bytes - released_bytes);
  }
  // If the scavenger is at work just now, it does this itself.
  ProbeStack(Scavenger::kCycleStackBytes);
  if (released_bytes < bytes && cycle_lock_->TryAcquire()) {
    bool end = false;
    while (!end && released_bytes < bytes) {
      std::size_t step_bytes = 0;
      end = page_heap.ReleaseIdlePages(bytes - released_bytes, &step_bytes, PageHeap::Idle::kAnyFree);
      released_bytes += step_bytes;
    }
    cycle_lock_->Release();
  }
  const std::uint64_t spent_ns = MonotonicNanoseconds() - start_ns;
  const std::uint64_t most_ns =
      kMostReleaseNs + released_bytes / kPageBytes * kMostPageNs + OwnBytes() / kHugePageBytes * kMostLookNs;
  credit_ns_ -= static_cast<std::int64_t>(std::min(spent_ns, most_ns));
  Add(&tarn_snapshot_limits::release_ns, spent_ns);
  Add(&tarn_snapshot_limits::released_bytes, released_bytes);
  return released_bytes;
}

void Limits::CountHardFailure() {
  if (hard_bytes() == SIZE_MAX) return;
  Add(&tarn_snapshot_limits::hard_failures, 1);
  // Too late for this allocation.
  parts_->report_pressure();
}

// --- Callbacks -----------------------------------------------------------------------------------------------------

bool Limits::AddCallback(unsigned percent, Callback callback, void* argument) {
  for (CallbackPlace& place : callback_places_) {
    unsigned expected = kPlaceFree;
    if (!place.state.compare_exchange_strong(expected, kPlaceBusy, std::memory_order_acquire)) continue;
    place.callback.store(callback, std::memory_order_relaxed);
    place.argument.store(argument, std::memory_order_relaxed);
    place.armed.store(true, std::memory_order_relaxed);
    // Release pairs with the acquire in CallBack: a thread that sees the percentage sees the callback.
    place.state.store(percent + 1, std::memory_order_release);
    callbacks_.fetch_add(1, std::memory_order_relaxed);
    SlowPathScope scope;
    if (!scope.nested()) parts_->page_heap->SetNextCheck(0);
    return true;
  }
  return false;
}

bool Limits::RemoveCallback(Callback callback, void* argument) {
  for (CallbackPlace& place : callback_places_) {
    unsigned state = place.state.load(std::memory_order_acquire);
    if (state <= kPlaceBusy || place.callback.load(std::memory_order_relaxed) != callback ||
        place.argument.load(std::memory_order_relaxed) != argument) {
      continue;
    }
    if (!place.state.compare_exchange_strong(state, kPlaceFree, std::memory_order_acq_rel)) continue;
    callbacks_.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

std::size_t Limits::DistanceToCallback(std::size_t used_bytes) const {
  const std::size_t limit_bytes = std::min(soft_bytes(), hard_bytes());
  std::size_t distance_bytes = SIZE_MAX;
  if (limit_bytes == SIZE_MAX) return distance_bytes;
  for (const CallbackPlace& place : callback_places_) {
    const unsigned state = place.state.load(std::memory_order_acquire);
    if (state <= kPlaceBusy) continue;
    const std::size_t threshold_bytes = Percent(limit_bytes, state - 1);
    if (used_bytes < threshold_bytes) {
      distance_bytes = std::min(distance_bytes, threshold_bytes - used_bytes);
    } else if (place.armed.load(std::memory_order_relaxed)) {
      return 0;
    }
  }
  return distance_bytes;
}

void Limits::CallBack(std::size_t used_bytes) {
  const std::size_t limit_bytes = std::min(soft_bytes(), hard_bytes());
  if (limit_bytes == SIZE_MAX || limit_bytes == 0) return;
  for (CallbackPlace& place : callback_places_) {
    const unsigned state = place.state.load(std::memory_order_acquire);
    if (state <= kPlaceBusy) continue;
    const unsigned percent = state - 1;
    if (used_bytes >= Percent(limit_bytes, percent)) {
      // Disarmed before the call, which may come here again.
      if (!place.armed.exchange(false, std::memory_order_relaxed)) continue;
      place.callback.load(std::memory_order_relaxed)(percent, used_bytes, limit_bytes,
                                                     place.argument.load(std::memory_order_relaxed));
    } else if (percent <= kRearmPoints || used_bytes < Percent(limit_bytes, percent - kRearmPoints)) {
      place.armed.store(true, std::memory_order_relaxed);
    }
  }
}

tarn_snapshot_limits Limits::Stats() const {
  tarn_snapshot_limits stats;
  for (const Field field :
       {&tarn_snapshot_limits::not_soft_bytes, &tarn_snapshot_limits::not_hard_bytes, &tarn_snapshot_limits::checks,
        &tarn_snapshot_limits::exceeded, &tarn_snapshot_limits::peak_excess_bytes,
        &tarn_snapshot_limits::released_bytes, &tarn_snapshot_limits::release_ns, &tarn_snapshot_limits::skipped,
        &tarn_snapshot_limits::hard_failures}) {
    stats.*field = Load(field);
  }
  return stats;
}

}  // namespace tarn
