// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/checked_objects.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>

#include "allocator/base/text.h"
#include "allocator/central/span_objects.h"
#include "allocator/heap/deferred_frees.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"
#include "allocator/heap/slow_path.h"
#include "allocator/misuse/patterns.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

using Facts = CheckedRecord::Facts;
using State = CheckedRecord::State;

unsigned char* Bytes(void* start) { return static_cast<unsigned char*>(start); }

// A large object that realloc grows gets this share more, so that growing by small steps does not copy it each time.
constexpr std::size_t kGrowthShareDivisor = 8;
// The page heap gives large records a few words; see Span::checked_records.
constexpr std::size_t kLargeRecordObjects = Span::kCheckedRecordBytes * 8;
// As in entry/allocate.cc.
constexpr std::size_t kLeaveUntouchedBytes = std::size_t{4} << 20;

std::size_t SlackBytes() { return Checks(kCheckBounds) ? kSlackBytes : 0; }

// The class of a slot for the object; 0: a large one.
SizeClass ClassFor(std::size_t bytes, std::size_t alignment) {
  if (bytes > kMaxSmallBytes - kSlackBytes) return 0;
  return AlignedSizeClass(bytes + SlackBytes(), std::max(alignment, kMallocAlignmentBytes));
}

bool TakeSmall(SizeClass size_class, CheckedSlot* slot) {
  void* object;
  if (process_heap.sampled_lists[size_class].RemoveRange(&object, 1) == 0) return false;
  process_heap.cpu_cache.CountSampledAllocation(size_class);
  Span* span = page_map.SpanOf(PageId::Containing(object));
  *slot = SlotAt(span, static_cast<std::size_t>(FindObject(span, reinterpret_cast<std::uintptr_t>(object))));
  return true;
}

bool TakeLarge(std::size_t bytes, std::size_t alignment, bool prefer_zero, CheckedSlot* slot, bool* is_zero) {
  const PageCount pages = std::max(PageCount::FromBytesCeil(bytes + SlackBytes()), PageCount(1));
  const PageCount alignment_pages = std::max(PageCount::FromBytesCeil(alignment), PageCount(1));
  Span* span = process_heap.page_heap.AllocateLarge(pages, alignment_pages, is_zero, prefer_zero, kLargeRecordObjects);
  if (span == nullptr) return false;
  ::new (span->checked_records()) CheckedRecord{};
  span->bucket = Span::kCheckedBucket;
  *slot = SlotAt(span, 0);
  return true;
}

void WriteCanary(const CheckedSlot& slot, std::size_t bytes) {
  if (!Checks(kCheckBounds)) return;
  const std::size_t slack_bytes = slot.bytes - bytes;
  std::memset(slot.start + bytes, kCanaryByte, std::min(slack_bytes, kCanaryBytes));
  if (slack_bytes > kCanaryBytes) std::memset(slot.start + slot.bytes - kSlackBytes, kCanaryByte, kSlackBytes);
}

// Of the call's name, "operator delete[]" and so on.
Family FamilyOfFree(std::string_view call) {
  if (!StartsWith(call, "operator delete")) return Family::kMalloc;
  return call.back() == ']' ? Family::kNewArray : Family::kNew;
}

void LookForLateWrite(const CheckedSlot& slot, const Facts& facts, const char* call) {
  if (const char* byte = FindLateWrite(slot, facts)) {
    ReportChecked(slot, facts, call, byte, Misuse::kFreedOverwritten);
  }
}

void LookAtBounds(const CheckedSlot& slot, const Facts& facts, const char* call) {
  if (!Checks(kCheckBounds)) return;
  if (const char* byte = FindOverflow(slot, facts)) ReportChecked(slot, facts, call, byte, Misuse::kEndOverwritten);
  if (const char* byte = FindUnderflow(slot)) ReportChecked(slot, facts, call, byte, Misuse::kStartOverwritten);
}

// The slot becomes the program's: its contents and canary first, then the record.
void HandOut(const CheckedSlot& slot, std::size_t bytes, Family family, std::uint32_t stack, bool zero, bool is_zero) {
  const Facts before = CheckedRecord::FactsOf(slot.record->Load());
  if (before.state == State::kFree) LookForLateWrite(slot, before, "malloc");
  if (zero) {
    if (!is_zero &&
        !(bytes >= kLeaveUntouchedBytes && slot.bytes % OsPageBytes() == 0 && Release(slot.start, slot.bytes))) {
      std::memset(slot.start, 0, bytes);
    }
  } else if (Checks(kCheckFill)) {
    FillEnds(slot.start, bytes, kJunkByte);
  }
  WriteCanary(slot, bytes);
  slot.record->allocation_stack.store(stack, std::memory_order_relaxed);
  slot.record->free_stack.store(0, std::memory_order_relaxed);
  const auto generation = static_cast<std::uint16_t>((before.generation + 1) % CheckedRecord::kGenerations);
  slot.record->Set({bytes, State::kLive, family, generation});
}

void LetGoSlot(const CheckedSlot& slot, const char* call) {
  Facts facts = CheckedRecord::FactsOf(slot.record->Load());
  LookForLateWrite(slot, facts, call);
  facts.state = State::kFree;
  // Before the look at the sweeps, in the order of all threads: a sweep that counts itself after that look finds the
  // object free and leaves its memory alone.
  slot.record->word.store(facts.word(), std::memory_order_seq_cst);
  if (checked_mode.sweeps.load(std::memory_order_seq_cst) != 0) {
    facts.state = State::kQuarantined;
    slot.record->Set(facts);
    DeferFree(slot.start);
    return;
  }
  if (slot.is_large()) {
    process_heap.page_heap.Deallocate(slot.span);
    return;
  }
  void* start = slot.start;
  const SizeClass size_class = slot.span->size_class;
  process_heap.cpu_cache.CountSampledFree(size_class);
  process_heap.sampled_lists[size_class].InsertRange(&start, 1, call);
}

// Out of the quarantine's books.
CheckedSlot TakeOut(void* start) {
  const CheckedSlot slot = SlotOf(Resolve(start, "free"));
  checked_mode.freed.Leave(slot.bytes);
  return slot;
}

void Retire(const CheckedSlot& slot, bool nested, const char* call) {
  if (!checked_mode.freed.Takes(slot.bytes)) {
    nested ? DeferFree(slot.start) : LetGoSlot(slot, call);
    return;
  }
  if (void* out = checked_mode.freed.Push(slot.start, slot.bytes)) {
    const CheckedSlot leaving = TakeOut(out);
    nested ? DeferFree(out) : LetGoSlot(leaving, call);
  }
  if (nested) return;
  while (checked_mode.sweeps.load(std::memory_order_relaxed) == 0) {
    void* out = checked_mode.freed.PopExcess();
    if (out == nullptr) return;
    LetGoSlot(TakeOut(out), call);
  }
}

void EmptyQuarantine() {
  while (void* out = checked_mode.freed.Pop(0)) LetGoSlot(TakeOut(out), "malloc");
}

bool Take(std::size_t bytes, std::size_t alignment, bool prefer_zero, CheckedSlot* slot, bool* is_zero) {
  const SizeClass size_class = ClassFor(bytes, alignment);
  return size_class != 0 ? TakeSmall(size_class, slot) : TakeLarge(bytes, alignment, prefer_zero, slot, is_zero);
}

// On pages of its own, as far as places and mappings reach; else null.
void* AllocateGuarded(std::size_t bytes, std::size_t alignment, Family family, bool zero) {
  const SizeClass size_class = alignment == 0 && family != Family::kMalloc
                                   ? NewSizeClass(bytes)
                                   : AlignedSizeClass(bytes, std::max(alignment, kMallocAlignmentBytes));
  GuardedPlace* place = nullptr;
  if (size_class != 0) {
    place = process_heap.guards.Allocate(size_class, bytes, std::max(alignment, kMallocAlignmentBytes));
  }
  if (place == nullptr) {
    checked_mode.unguarded.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  if (zero) {
    std::memset(place->object(), 0, bytes);
  } else if (Checks(kCheckFill)) {
    FillEnds(place->object(), bytes, kJunkByte);
  }
  return place->object();
}

// `room_bytes`: a large object may get so much more, for its growth.
void* Allocate(std::size_t bytes, std::size_t room_bytes, std::size_t alignment, Family family, bool zero) {
  // Nothing has room for these, so nothing is given back in vain to make it.
  constexpr std::size_t kMostBytes = std::size_t{1} << (kAddressBits - 1);
  if (bytes > kMostBytes || alignment > kMostBytes) return nullptr;
  SlowPath path;
  if (path.nested()) return nullptr;
  if (Checks(kCheckGuard)) {
    if (void* object = AllocateGuarded(bytes, alignment, family, zero)) return object;
  }
  CheckedSlot slot;
  bool is_zero = false;
  const bool prefer_zero = zero && bytes >= kLeaveUntouchedBytes;
  if (!Take(bytes + room_bytes, alignment, prefer_zero, &slot, &is_zero)) {
    // The quarantine, the caches and the page heap may keep the missing memory.
    FreeDeferred();
    EmptyQuarantine();
    Reclaim(ReclaimDepth::kToKernel, "malloc");
    if (!Take(bytes, alignment, prefer_zero, &slot, &is_zero)) {
      process_heap.limits.CountHardFailure();
      return nullptr;
    }
  }
  HandOut(slot, bytes, family, checked_mode.CaptureStack(), zero, is_zero);
  return slot.start;
}

// A live object gets other bytes where it lies. False: it has no room, or another thread frees or resizes it.
bool ResizeInPlace(const CheckedSlot& slot, std::uint64_t word, std::size_t bytes) {
  if (bytes + SlackBytes() > slot.bytes) return false;
  Facts facts = CheckedRecord::FactsOf(word);
  const std::size_t old_bytes = facts.bytes;
  facts.state = State::kBusy;
  facts.generation = static_cast<std::uint16_t>((facts.generation + 1) % CheckedRecord::kGenerations);
  if (!slot.record->Change(word, facts)) return false;
  if (bytes > old_bytes && Checks(kCheckFill)) {
    FillEnds(slot.start + old_bytes, bytes - old_bytes, kJunkByte);
  }
  WriteCanary(slot, bytes);
  slot.record->allocation_stack.store(checked_mode.CaptureStack(), std::memory_order_relaxed);
  facts.bytes = bytes;
  facts.state = State::kLive;
  slot.record->Set(facts);
  return true;
}

}  // namespace

CheckedSlot SlotAt(Span* span, std::size_t index) {
  CheckedSlot slot;
  slot.span = span;
  slot.record = RecordOf(span, index);
  slot.index = index;
  const bool is_small = span->kind == SpanKind::kChecked;
  slot.bytes = is_small ? kSizeClasses[span->size_class].size_bytes : span->bytes();
  slot.start = static_cast<char*>(span->start()) + index * slot.bytes;
  return slot;
}

CheckedSlot SlotOf(const Object& object) {
  const auto address = reinterpret_cast<std::uintptr_t>(object.start);
  const bool is_small = object.span->kind == SpanKind::kChecked;
  return SlotAt(object.span, is_small ? static_cast<std::size_t>(FindObject(object.span, address)) : 0);
}

const char* FindOverflow(const CheckedSlot& slot, const Facts& facts) {
  const std::size_t slack_bytes = slot.bytes - facts.bytes;
  const std::size_t looked_at_bytes = std::min(slack_bytes, kCanaryBytes);
  std::size_t at = facts.bytes + FindOther(Bytes(slot.start) + facts.bytes, looked_at_bytes, kCanaryByte);
  if (at != facts.bytes + looked_at_bytes) return slot.start + at;
  if (slack_bytes <= kCanaryBytes) return nullptr;
  const std::size_t last = slot.bytes - kSlackBytes;
  at = last + FindOther(Bytes(slot.start) + last, kSlackBytes, kCanaryByte);
  return at == slot.bytes ? nullptr : slot.start + at;
}

// The slot before has its canary if it was ever handed out.
const char* FindUnderflow(const CheckedSlot& slot) {
  if (slot.index == 0) return nullptr;
  if (CheckedRecord::FactsOf((slot.record - 1)->Load()).state == State::kUnused) return nullptr;
  const std::size_t at = FindOther(Bytes(slot.start) - kSlackBytes, kSlackBytes, kCanaryByte);
  return at == kSlackBytes ? nullptr : slot.start - kSlackBytes + at;
}

const char* FindLateWrite(const CheckedSlot& slot, const Facts& facts) {
  if (!Checks(kCheckFill | kCheckQuarantine)) return nullptr;
  const std::size_t at = FindOtherInEnds(slot.start, facts.bytes, kFreedByte);
  if (at != facts.bytes) return slot.start + at;
  return Checks(kCheckBounds) ? FindOverflow(slot, facts) : nullptr;
}

void* AllocateChecked(std::size_t bytes, std::size_t alignment, Family family, bool zero) {
  return Allocate(bytes, 0, alignment, family, zero);
}

void FreeChecked(const Object& object, const char* call) {
  SlowPath path;
  const bool nested = path.nested();
  if (!nested) FreeDeferred();
  const CheckedSlot slot = SlotOf(object);
  const std::uint64_t word = slot.record->Load();
  const Facts facts = CheckedRecord::FactsOf(word);
  Facts freed = facts;
  freed.state = State::kBusy;
  if (facts.state != State::kLive || !slot.record->Change(word, freed)) {
    return ReportChecked(slot, CheckedRecord::FactsOf(slot.record->Load()), call, slot.start, Misuse::kAlreadyFree);
  }
  slot.record->free_stack.store(checked_mode.CaptureStack(), std::memory_order_relaxed);
  if (Checks(kCheckMismatch) && facts.family != FamilyOfFree(call)) {
    ReportChecked(slot, facts, call, slot.start, Misuse::kWrongFamily);
  }
  LookAtBounds(slot, facts, call);
  if (Checks(kCheckFill | kCheckQuarantine)) FillEnds(slot.start, facts.bytes, kFreedByte);
  // A damaged canary was reported; from here on it would look like a write after the free.
  WriteCanary(slot, facts.bytes);
  freed.state = State::kQuarantined;
  slot.record->Set(freed);
  Retire(slot, nested, call);
}

void* ReallocateChecked(const Object& object, std::size_t bytes) {
  constexpr char kCall[] = "realloc";
  const CheckedSlot slot = SlotOf(object);
  const std::uint64_t word = slot.record->Load();
  const Facts facts = CheckedRecord::FactsOf(word);
  if (facts.state != State::kLive) {
    ReportChecked(slot, facts, kCall, slot.start, Misuse::kUseAfterFree);
    return nullptr;
  }
  LookAtBounds(slot, facts, kCall);
  const bool stays = bytes >= slot.bytes / 2 || (!slot.is_large() && ClassFor(bytes, 0) == slot.span->size_class);
  if (stays && ResizeInPlace(slot, word, bytes)) return slot.start;
  const bool grows = slot.is_large() && bytes > facts.bytes;
  void* copy = Allocate(bytes, grows ? bytes / kGrowthShareDivisor : 0, 0, Family::kMalloc, false);
  if (copy == nullptr) return bytes <= facts.bytes && ResizeInPlace(slot, word, bytes) ? slot.start : nullptr;
  std::memcpy(copy, slot.start, std::min(bytes, facts.bytes));
  FreeChecked(object, kCall);
  return copy;
}

std::size_t CheckedBytes(const Object& object, const char* call) {
  const CheckedSlot slot = SlotOf(object);
  const Facts facts = CheckedRecord::FactsOf(slot.record->Load());
  if (facts.state == State::kLive) return facts.bytes;
  ReportChecked(slot, facts, call, slot.start, Misuse::kUseAfterFree);
  return 0;
}

std::size_t PeekCheckedBytes(const Object& object) {
  return CheckedRecord::FactsOf(SlotOf(object).record->Load()).bytes;
}

void LetGo(const Object& object, const char* call) { LetGoSlot(SlotOf(object), call); }

}  // namespace tarn
