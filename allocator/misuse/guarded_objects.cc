// SPDX-License-Identifier: Apache-2.0

#include "allocator/misuse/guarded_objects.h"

#include <algorithm>
#include <cstring>

#include "allocator/base/mix_bits.h"
#include "allocator/os/clock.h"
#include "allocator/os/sanitizer.h"
#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/unwind/stack_walk.h"

namespace tarn {

namespace {

// Stands around an object in its pages. Chosen: neither zero nor a letter, which overflows mostly write.
constexpr unsigned char kPattern = 0xC5;

// Measured: a guarded object costs some 16 microseconds of CPU time in a process with one thread, for system calls,
// page faults, stacks and cold caches. So 250 in a second take half a percent of one CPU.
constexpr std::uint32_t kWindowMs = 64;
constexpr std::uint32_t kMostPerWindow = 16;

// The object whose faults the handler reports.
GuardedObjects* handled_objects;

bool OnProgramFault(const MemoryFault& fault) { return handled_objects->OnFault(fault); }

std::uint64_t Mix(std::uint64_t bits) { return MixBits(bits * kMixStep); }

// Counters are read without a lock, from other processes too.
void Add(std::uint64_t& counter, std::uint64_t by) {
  std::atomic_ref<std::uint64_t>(counter).fetch_add(by, std::memory_order_relaxed);
}
std::uint64_t Read(const std::uint64_t& counter) { return __atomic_load_n(&counter, __ATOMIC_RELAXED); }

// The bytes of the range that no longer hold the pattern: the first and the last one; null: all hold it.
struct Damage {
  const unsigned char* first = nullptr;
  const unsigned char* last = nullptr;
};
Damage FindDamage(const char* start, const char* end) {
  Damage damage;
  const auto* const stop = reinterpret_cast<const unsigned char*>(end);
  for (const auto* at = reinterpret_cast<const unsigned char*>(start); at < stop; ++at) {
    if (*at == kPattern) continue;
    if (damage.first == nullptr) damage.first = at;
    damage.last = at;
  }
  return damage;
}

const char* WordOf(MemoryFault::Access access) {
  switch (access) {
    case MemoryFault::Access::kRead:
      return "read";
    case MemoryFault::Access::kWrite:
      return "write";
    case MemoryFault::Access::kUnknown:
      break;
  }
  return "access";
}

}  // namespace

void GuardedPlace::Stack::Record() {
  // A reader that comes now finds nothing.
  count.store(0, std::memory_order_relaxed);
  thread = ThreadId();
  bool truncated;
  const std::size_t found = WalkStack(sites, StackHere::kMaxSites, &truncated);
  count.store(static_cast<std::uint32_t>(found), std::memory_order_release);
}

StackFacts GuardedPlace::Stack::facts() const {
  return {sites, std::min<std::size_t>(count.load(std::memory_order_acquire), StackHere::kMaxSites), thread};
}

void GuardedObjects::Init(PageHeap* page_heap, std::uint32_t most_objects, std::uint32_t rate, bool handle_faults) {
  page_heap_ = page_heap;
  most_objects_ = most_objects;
  handle_faults_ = handle_faults;
  rate_ = rate;
}

// With a rate of 1 every sample is guarded, whatever that costs. Otherwise objects that stay would take all places in
// time: so the more places are live, the rarer new ones are taken, by half with each eighth of the places.
bool GuardedObjects::DrawOne() {
  // The child of vfork has its parent's memory, but signal handlers of its own.
  if (thread_state.vfork_calls != 0) return false;
  if (region_.load(std::memory_order_relaxed) == Region::kRefused) return false;
  if (rate_ == 1) return true;
  const std::uint64_t draw = draws_.fetch_add(1, std::memory_order_relaxed);
  const std::uint64_t live_eighths = std::min<std::uint64_t>(Read(published_.live_objects) * 8 / most_objects_, 8);
  const std::uint64_t one_in = std::uint64_t{rate_} << live_eighths;
  // The address of a variable on the stack differs from run to run.
  const auto seed = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  return Mix(draw ^ seed) % one_in == 0 && IsWithinBudget();
}

// Not exact where several threads begin a window at once: a few objects more.
bool GuardedObjects::IsWithinBudget() {
  const std::uint32_t now_ms = CoarseMilliseconds();
  if (MillisecondsBetween(window_start_ms_.load(std::memory_order_relaxed), now_ms) >= kWindowMs) {
    window_start_ms_.store(now_ms, std::memory_order_relaxed);
    window_objects_.store(0, std::memory_order_relaxed);
  }
  return window_objects_.fetch_add(1, std::memory_order_relaxed) < kMostPerWindow;
}

// Not with the first guarded object, which may come late: a sandbox that allows what malloc needs does not allow
// sigaction(2), and may end the process for it.
void GuardedObjects::BeginHandlingFaults() {
  if (rate_ == 0 || !handle_faults_ || SanitizerServes() || handles_faults_.exchange(true, std::memory_order_relaxed))
    return;
  handled_objects = this;
  static_cast<void>(HandleMemoryFaults(&OnProgramFault));
}

// One thread makes the region; samples of others are not guarded before it is done.
bool GuardedObjects::MakeRegion() {
  Region expected = Region::kNone;
  if (!region_.compare_exchange_strong(expected, Region::kMaking, std::memory_order_acquire)) {
    return expected == Region::kReady;
  }
  const std::size_t bytes = kGuardBytes + most_objects_ * kStride;
  auto* const places = static_cast<GuardedPlace*>(page_heap_->AllocateMetadata(
      most_objects_ * sizeof(GuardedPlace), alignof(GuardedPlace), MetadataKind::kProfile));
  void* const start = places == nullptr ? nullptr : Reserve(bytes, std::max(kPageBytes, OsPageBytes()));
  if (start == nullptr) {
    region_.store(Region::kRefused, std::memory_order_relaxed);
    return false;
  }
  places_ = places;
  region_bytes_.store(bytes, std::memory_order_relaxed);
  region_start_.store(reinterpret_cast<std::uintptr_t>(start), std::memory_order_release);
  std::atomic_ref<std::uint64_t>(published_.places).store(most_objects_, std::memory_order_relaxed);
  region_.store(Region::kReady, std::memory_order_release);
  return true;
}

// A place that was never used, else the one that is held for the longest time.
GuardedPlace* GuardedObjects::Take() {
  // Others may take what was found; a few tries are enough.
  constexpr int kTries = 4;
  for (int i = 0; i < kTries; ++i) {
    GuardedPlace* best = nullptr;
    std::uint64_t best_since = UINT64_MAX;
    for (GuardedPlace* place = places_; place != places_ + most_objects_; ++place) {
      const GuardedPlace::State state = place->state.load(std::memory_order_relaxed);
      const std::uint64_t since = place->held_since.load(std::memory_order_relaxed);  // 0 of one that is unused
      if ((state != GuardedPlace::kUnused && state != GuardedPlace::kHeld) || since >= best_since) continue;
      best = place;
      best_since = since;
      if (state == GuardedPlace::kUnused) break;
    }
    if (best == nullptr) return nullptr;
    GuardedPlace::State expected = best_since == 0 ? GuardedPlace::kUnused : GuardedPlace::kHeld;
    // Acquire pairs with the release of the free.
    if (best->state.compare_exchange_strong(expected, GuardedPlace::kTaken, std::memory_order_acquire)) return best;
  }
  return nullptr;
}

// Where there are many places: the next one that can be taken, all around. So held ones are taken in about the order of
// their frees.
GuardedPlace* GuardedObjects::TakeNext() {
  if (Read(published_.live_objects) >= most_objects_) return nullptr;
  for (std::uint32_t tries = 0; tries < most_objects_; ++tries) {
    GuardedPlace* const place = places_ + next_place_.fetch_add(1, std::memory_order_relaxed) % most_objects_;
    GuardedPlace::State state = place->state.load(std::memory_order_relaxed);
    if (state != GuardedPlace::kUnused && state != GuardedPlace::kHeld) continue;
    // Acquire pairs with the release of the free.
    if (place->state.compare_exchange_strong(state, GuardedPlace::kTaken, std::memory_order_acquire)) return place;
  }
  return nullptr;
}

char* GuardedObjects::StartOf(const GuardedPlace& place) const {
  const std::uintptr_t region = region_start_.load(std::memory_order_relaxed);
  return reinterpret_cast<char*>(region + kGuardBytes + static_cast<std::size_t>(&place - places_) * kStride);
}

// The pages that hold the object of the place.
GuardedObjects::Pages GuardedObjects::PagesOf(const GuardedPlace& place) const {
  const std::size_t os_page = OsPageBytes();
  char* const start = StartOf(place);
  const std::uintptr_t object = place.start.load(std::memory_order_relaxed);
  const std::size_t end_bytes = object - reinterpret_cast<std::uintptr_t>(start) +
                                std::max<std::size_t>(place.bytes.load(std::memory_order_relaxed), 1);
  return {start, RoundUp(end_bytes, os_page)};
}

// Differs from run to run by the address.
bool GuardedObjects::PutsAtEnd() {
  if (guards_all_) return true;
  return Mix(draws_.fetch_add(1, std::memory_order_relaxed) ^ region_start_.load(std::memory_order_relaxed)) % 2 != 0;
}

GuardedPlace* GuardedObjects::Allocate(SizeClass size_class, std::size_t bytes, std::size_t alignment) {
  if (bytes > kPlaceBytes) return nullptr;
  const std::size_t page_bytes = RoundUp(std::max<std::size_t>(bytes, 1), OsPageBytes());
  if (page_bytes > kPlaceBytes) return nullptr;
  if (!has_region() && !MakeRegion()) return nullptr;
  GuardedPlace* const place = guards_all_ ? TakeNext() : Take();
  if (place == nullptr) return nullptr;
  char* const start = StartOf(*place);
  if (place->opened.load(std::memory_order_relaxed)) Close(place);
  if (!Commit(start, page_bytes)) {
    Add(published_.refused, 1);
    // The facts of the object that was here are whole.
    const bool was_held = place->held_since.load(std::memory_order_relaxed) != 0;
    place->state.store(was_held ? GuardedPlace::kHeld : GuardedPlace::kUnused, std::memory_order_release);
    return nullptr;
  }
  char* object = start;
  if (alignment <= OsPageBytes() && PutsAtEnd()) {
    object = start + page_bytes - RoundUp(std::max<std::size_t>(bytes, 1), std::max<std::size_t>(alignment, 16));
  }
  std::memset(start, kPattern, static_cast<std::size_t>(object - start));
  std::memset(object + bytes, kPattern, static_cast<std::size_t>(start + page_bytes - object) - bytes);
  place->size_class = size_class;
  place->sample = 0;
  place->start.store(reinterpret_cast<std::uintptr_t>(object), std::memory_order_relaxed);
  place->bytes.store(bytes, std::memory_order_relaxed);
  place->free.count.store(0, std::memory_order_relaxed);
  place->allocation.Record();
  if (place->held_since.exchange(0, std::memory_order_relaxed) != 0) Add(published_.held_objects, std::uint64_t(-1));
  Add(published_.live_objects, 1);
  Add(published_.live_bytes, page_bytes);
  Add(published_.allocations, 1);
  Add(published_.allocated_bytes, kSizeClasses[size_class].size_bytes);
  Add(published_.live_class_bytes, kSizeClasses[size_class].size_bytes);
  // Release: who sees the object as live sees its facts.
  place->state.store(GuardedPlace::kLive, std::memory_order_release);
  return place;
}

std::uint32_t GuardedObjects::Free(GuardedPlace* place, const char* call) {
  GuardedPlace::State expected = GuardedPlace::kLive;
  if (!place->state.compare_exchange_strong(expected, GuardedPlace::kFreeing, std::memory_order_acquire)) {
    CountReport();
    const void* const start = reinterpret_cast<const void*>(place->start.load(std::memory_order_relaxed));
    MisuseReport report = FactsOf(*place, GuardedPlace::kHeld, call, start, Misuse::kAlreadyFree);
    const StackHere here;
    report.here = here.facts();
    ReportAndAbort(report);
  }
  place->free.Record();
  CheckAround(*place, call);
  const Pages pages = PagesOf(*place);
  const std::uint32_t sample = place->sample;
  // First without access, so that nobody writes to the memory once it is gone. Where the kernel refuses, it is held
  // all the same, and accesses to it stay unseen. A single page stays resident: that spares its place a call and a page
  // fault, and all places together have no more than a small heap.
  static_cast<void>(Forbid(pages.start, pages.bytes));
  if (pages.bytes > OsPageBytes()) static_cast<void>(Release(pages.start, pages.bytes));
  place->held_since.store(frees_.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  Add(published_.live_objects, std::uint64_t(-1));
  Add(published_.live_bytes, 0 - pages.bytes);
  Add(published_.live_class_bytes, std::uint64_t{0} - kSizeClasses[place->size_class].size_bytes);
  Add(published_.held_objects, 1);
  place->state.store(GuardedPlace::kHeld, std::memory_order_release);
  return sample;
}

// Takes back the access that a report gave.
void GuardedObjects::Close(GuardedPlace* place) {
  static_cast<void>(Forbid(StartOf(*place) - kGuardBytes, kStride + kGuardBytes));
  place->opened.store(false, std::memory_order_relaxed);
}

void GuardedObjects::CheckAround(const GuardedPlace& place, const char* call) {
  const Pages pages = PagesOf(place);
  const auto* const object = reinterpret_cast<const char*>(place.start.load(std::memory_order_relaxed));
  const std::size_t bytes = place.bytes.load(std::memory_order_relaxed);
  const Damage behind = FindDamage(object + bytes, pages.start + pages.bytes);
  const Damage before = FindDamage(pages.start, object);
  if (behind.first == nullptr && before.first == nullptr) [[likely]]
    return;
  CountReport();
  const bool is_behind = behind.first != nullptr;
  MisuseReport report = FactsOf(place, GuardedPlace::kLive, call, is_behind ? behind.first : before.last,
                                is_behind ? Misuse::kEndOverwritten : Misuse::kStartOverwritten);
  report.here = report.free;
  report.free = {};
  ReportAndMayGoOn(report);
}

MisuseReport GuardedObjects::FactsOf(const GuardedPlace& place, GuardedPlace::State state, const char* call,
                                     const void* address, Misuse::Kind kind) const {
  MisuseReport report = {};
  report.misuse = {.call = call,
                   .address = address,
                   .kind = kind,
                   .start = reinterpret_cast<const void*>(place.start.load(std::memory_order_relaxed)),
                   .object_bytes = place.bytes.load(std::memory_order_relaxed)};
  report.state = state == GuardedPlace::kLive ? MisuseReport::ObjectState::kLive : MisuseReport::ObjectState::kFreed;
  report.guard = "guarded";
  report.free = place.free.facts();
  report.allocation = place.allocation.facts();
  return report;
}

void GuardedObjects::CountReport() { Add(published_.reports, 1); }

GuardedPlace* GuardedObjects::Resolve(const void* pointer, const char* call) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  const std::size_t offset = address - region_start_.load(std::memory_order_relaxed);
  if (offset < kGuardBytes) return nullptr;
  const std::size_t index = (offset - kGuardBytes) / kStride;
  if (index >= most_objects_ || (offset - kGuardBytes) % kStride >= kPlaceBytes) return nullptr;
  GuardedPlace& place = places_[index];
  const GuardedPlace::State state = place.state.load(std::memory_order_acquire);
  if (state == GuardedPlace::kUnused || state == GuardedPlace::kTaken) return nullptr;
  const bool is_start = place.start.load(std::memory_order_relaxed) == address;
  if (state == GuardedPlace::kLive && is_start) return &place;
  CountReport();
  MisuseReport report =
      FactsOf(place, state, call, pointer, is_start ? Misuse::kAlreadyFree : Misuse::kInteriorPointer);
  const StackHere here;
  report.here = here.facts();
  ReportAndAbort(report);
}

// The place of the object that is nearest to the address, which is in the region: its own, or one of its neighbours.
// Null: there is no object near.
const GuardedPlace* GuardedObjects::Nearest(std::uintptr_t address, GuardedPlace::State* state) const {
  const std::size_t index = (address - region_start_.load(std::memory_order_relaxed)) / kStride;
  const GuardedPlace* nearest = nullptr;
  std::size_t nearest_bytes = SIZE_MAX;
  const std::size_t first = index == 0 ? 0 : index - 1;
  for (std::size_t i = first; i < std::min<std::size_t>(index + 2, most_objects_); ++i) {
    const GuardedPlace& place = places_[i];
    const GuardedPlace::State its_state = place.state.load(std::memory_order_acquire);
    if (its_state == GuardedPlace::kUnused || its_state == GuardedPlace::kTaken) continue;
    const std::uintptr_t start = place.start.load(std::memory_order_relaxed);
    const std::uintptr_t end = start + place.bytes.load(std::memory_order_relaxed);
    const std::size_t distance = address < start ? start - address : address >= end ? address - end : 0;
    if (distance >= nearest_bytes) continue;
    nearest = &place;
    nearest_bytes = distance;
    *state = its_state;
  }
  return nearest;
}

bool GuardedObjects::OnFault(const MemoryFault& fault) {
  if (!Contains(fault.address)) return false;
  GuardedPlace::State state;
  const GuardedPlace* const place = Nearest(fault.address, &state);
  if (place == nullptr) return false;
  const std::uintptr_t start = place->start.load(std::memory_order_relaxed);
  const std::size_t bytes = place->bytes.load(std::memory_order_relaxed);
  Misuse::Kind kind = Misuse::kUseAfterFree;
  if (state == GuardedPlace::kLive) {
    // A part of a live object faults if the program has protected it, to see its own accesses.
    if (fault.address - start < bytes) return false;
    kind = fault.address < start ? Misuse::kBeforeStart : Misuse::kPastEnd;
  }
  CountReport();
  MisuseReport report =
      FactsOf(*place, state, WordOf(fault.access), reinterpret_cast<const void*>(fault.address), kind);
  std::uintptr_t sites[StackHere::kMaxSites];
  bool truncated;
  report.here = {sites, WalkInterruptedStack({fault.pc, fault.sp, fault.bp}, sites, StackHere::kMaxSites, &truncated),
                 ThreadId()};
  ReportAndMayGoOn(report);
  const std::size_t os_page = OsPageBytes();
  places_[place - places_].opened.store(true, std::memory_order_relaxed);
  return Commit(reinterpret_cast<void*>(fault.address / os_page * os_page), os_page);
}

}  // namespace tarn
