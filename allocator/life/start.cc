// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/process_heap.h"

#include "allocator/base/text.h"
#include "allocator/heap/checked_objects.h"
#include "allocator/heap/hardened_objects.h"
#include "allocator/heap/reclaim.h"
#include "allocator/life/start_line.h"
#include "allocator/misuse/report.h"
#include "allocator/observe/published.h"
#include "allocator/os/crash.h"
#include "allocator/os/environment.h"
#include "allocator/os/process.h"
#include "allocator/os/sanitizer.h"
#include "allocator/os/thread_state.h"
#include "allocator/policy/parts.h"
#include "allocator/rseq/registration.h"

namespace tarn {

constinit ProcessHeap process_heap;

namespace {

// A thread's slab gets this part of a CPU's budget: there are more threads than CPUs, but one thread's working set is
// as large as ever. Measured: with an eighth, the bench random_order, whose objects take 520 KiB, misses most of the
// time and takes 1.4 times glibc's time.
constexpr std::size_t kThreadBudgetDivisor = 2;
// With TARN_CHECK=guard. Each live one takes two mappings, of 65530 that a process has (vm.max_map_count). Chosen.
constexpr std::uint32_t kMostGuardedObjects = 1 << 14;
// sysexits.h: EX_CONFIG.
constexpr int kExitBadConfiguration = 78;

constexpr PolicyParts kPolicyParts = {
    .page_heap = &process_heap.page_heap,
    .cpu_cache = &process_heap.cpu_cache,
    .background = &process_heap.background,
    .limits = &process_heap.limits,
    .release_delay_ms = [] { return process_heap.release_delay_ms(); },
    .set_memory_limit = [](LimitSetting setting) { process_heap.SetMemoryLimit(setting); },
    .drain = [](const char* call) { return Reclaim(ReclaimDepth::kToPageHeap, call).drained_bytes; },
    .release_all = [](const char* call) { return Reclaim(ReclaimDepth::kToKernel, call).released_bytes; },
    .report_pressure = [] { process_heap.caretaker.ReportPressure(); },
};

void WriteLine(const char* line, std::size_t length) {
  WriteToStderr({line, length});
  WriteToStderr("\n");
}

}  // namespace

void ProcessHeap::Start() {
  SetUp();
  // One thread gets there, and not in the start: what the line says may need an allocation.
  if (line_due.exchange(false, std::memory_order_relaxed)) WriteStartLine(*this);
}

void ProcessHeap::SetUp() {
  SlowPathScope scope;
  State expected = State::kNotStarted;
  if (!state.compare_exchange_strong(expected, State::kStarting, std::memory_order_acquire)) {
    // Another thread is at it, which takes a few microseconds.
    while (!started()) SleepBriefly();
    return;
  }

  options = kDefaultOptions;
  int complaints = 0;
  if (!SecureExecution()) complaints = ParseOptions(Environment(), &options, &WriteLine);

  const RseqSupport rseq = DetectRseq(options.mode == ModeRequest::kThread);
  const CacheMode mode = rseq.index == RseqIndex::kNone ? CacheMode::kThread : CacheMode::kCpu;
  if (options.mode == ModeRequest::kCpu && mode != CacheMode::kCpu) {
    Text<256> line;
    line << "tarn: TARN_MODE=cpu cannot be used: " << rseq.reason << " (TARN_STRICT=1 makes this fatal)";
    WriteLine(line.view().data(), line.view().size());
    ++complaints;
  }
  if (complaints != 0 && options.strict) ExitAtOnce(kExitBadConfiguration);

  const std::size_t budget_bytes =
      mode == CacheMode::kCpu ? options.cpu_cache_bytes : options.cpu_cache_bytes / kThreadBudgetDivisor;
  cpu_cache.Init(mode, rseq, budget_bytes, transfer_caches, &page_heap);
  profile.Init(&page_heap, &cpu_cache.sampler());
  SetUpReports(options);
  guards.Init(&page_heap, options.guard_objects, options.guard_rate, options.guard_signal);
  if (!options.huge_pages) page_heap.AllowHugePages(false);
  if (options.release_delay_ms != kDefaultOptions.release_delay_ms) page_heap.SetReleaseDelay(options.release_delay_ms);
  limits.Init(&kPolicyParts, options.memory_limit, options.hard_limit, &scavenger.cycle_lock());
  // A sanitizer has to know of every thread.
  if (SanitizerServes()) options.background = BackgroundSetting::kOff;
  background.Init(options.background);
  scavenger.Init(&kPolicyParts, options.trace_scavenge);
  profile_dumps.Init(&options);
  if (options.verbose) line_due.store(true, std::memory_order_relaxed);
  if (options.stats || options.profile_at_exit) KeepStderr();
  DescribeOptions(options, described_options);
  PublishHeap({&page_heap, transfer_caches, sampled_lists, &cpu_cache, &profile, limits.published(),
               scavenger.published(), scavenger.release_words(), scavenger.limit_request_words(), described_options,
               kSettingCount, guards.published()},
              TARN_VERSION, &own_snapshot);
  if (!SanitizerServes()) {
    SetUpChecks(options);
    // A checked object's call takes its slow path, see heap/checked_objects.h.
    if (ChecksMalloc()) {
      EnsureSampledLists();
      if (Checks(kCheckGuard)) guards.GuardAll(kMostGuardedObjects);
    } else if (options.harden) {
      // So does a hardened one's, see heap/hardened_objects.h.
      BeginHardening(options.harden_quarantine_bytes);
      EnsureSampledLists();
    } else {
      slab_table.hit_limit_bytes = kSmallLookupMaxBytes + 1;
    }
  }
  state.store(State::kStarted, std::memory_order_release);
}

template <typename Change>
void ProcessHeap::ChangeSettings(Change change) {
  SlowPathScope scope;
  // A signal handler's call, which has interrupted a slow path: that may have a lock.
  if (scope.nested()) return;
  LockHolder holder(profile.lock());
  change();
}

void ProcessHeap::SetMemoryLimit(LimitSetting setting) {
  ChangeSettings([&] {
    options.memory_limit = setting;
    NoteProgramSetting("TARN_MEMORY_LIMIT", &options, described_options);
  });
  limits.SetSoft(setting);
}

void ProcessHeap::SetHardLimit(LimitSetting setting) {
  ChangeSettings([&] {
    options.hard_limit = setting;
    NoteProgramSetting("TARN_HARD_LIMIT", &options, described_options);
  });
  limits.SetHard(setting);
}

void ProcessHeap::SetProfileRate(std::size_t rate_bytes) {
  ChangeSettings([&] {
    options.profile_rate_bytes = rate_bytes;
    NoteProgramSetting("TARN_PROFILE_RATE", &options, described_options);
  });
  ApplyProfileRate(rate_bytes);
}

void ProcessHeap::ApplyProfileRate(std::size_t rate_bytes) {
  SlowPathScope scope;
  if (rate_bytes != 0) guards.BeginHandlingFaults();
  scope.nested() ? cpu_cache.sampler().SetRate(rate_bytes) : profile.SetRate(rate_bytes);
  cpu_cache.RestartSampling();
}

bool ProcessHeap::SetPreset(Preset preset) {
  {
    SlowPathScope scope;
    if (scope.nested()) return false;
  }
  Options next = kDefaultOptions;
  ChangeSettings([&] {
    next = options;
    ChangePreset(preset, &next);
    options.memory_limit = next.memory_limit;
    options.profile_rate_bytes = next.profile_rate_bytes;
    options.profile_limit_percent = next.profile_limit_percent;
    options.from_preset = next.from_preset;
    __atomic_store(&options.preset, &next.preset, __ATOMIC_RELAXED);
    __atomic_store_n(&options.check, next.check, __ATOMIC_RELAXED);
    __atomic_store_n(&options.stats, next.stats, __ATOMIC_RELAXED);
    __atomic_store_n(&options.pool_objects, next.pool_objects, __ATOMIC_RELAXED);
    __atomic_store_n(&options.release_delay_ms, next.release_delay_ms, __ATOMIC_RELAXED);
    DescribeOptions(options, described_options);
    NoteProgramSetting("TARN_PRESET", &options, described_options);
  });
  // The checks may want to see the sizes from now on. Where they do not, the next slow path opens the hit path again.
  __atomic_fetch_and(&slab_table.direct_operators, ~kDirectSizedDelete, __ATOMIC_RELAXED);
  limits.SetSoft(next.memory_limit);
  if (next.profile_rate_bytes != cpu_cache.sampler().rate_bytes()) ApplyProfileRate(next.profile_rate_bytes);
  {
    SlowPathScope scope;
    page_heap.SetReleaseDelay(next.release_delay_ms);
    profile_dumps.SetLimitShare(next.profile_limit_percent);
  }
  if (next.stats) KeepStderr();
  return true;
}

void ProcessHeap::SetUpSampledLists() {
  LockHolder holder(profile.lock());
  if (has_sampled_lists()) return;
  const SpanKind kind = ChecksMalloc() ? SpanKind::kChecked : SpanKind::kSampled;
  for (int c = 1; c < kSizeClassCount; ++c) {
    sampled_lists[c].Init(static_cast<SizeClass>(c), &page_heap, kind);
    if (Hardens()) sampled_lists[c].PlaceAtRandom(&hardened_mode.placement[c]);
  }
  // Release pairs with the acquire in has_sampled_lists(): a thread that sees the mark sees the lists. A thread that
  // frees a sampled object got it from one that saw the mark.
  sampled_lists_ready.store(true, std::memory_order_release);
}

}  // namespace tarn
