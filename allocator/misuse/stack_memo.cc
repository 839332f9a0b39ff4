// SPDX-License-Identifier: Apache-2.0

#include "allocator/misuse/stack_memo.h"

#include <bit>

namespace tarn {

namespace {

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15;
constexpr std::uint64_t kAddressMask = (std::uint64_t{1} << 48) - 1;

// Words of frames that are not the reader's own, which a sanitizer need not see.
__attribute__((no_sanitize("address", "thread"))) inline std::uintptr_t WordAt(const std::uintptr_t* place) {
  return *reinterpret_cast<const volatile std::uintptr_t*>(place);
}

constexpr std::size_t StepOf(std::uintptr_t address) {
  return (address * kGolden) >> (64 - std::countr_zero(StackMemo::kSteps));
}

}  // namespace

void StackMemo::Init(void* memory, StackTable* table, std::size_t max_frames) {
  entries_ = static_cast<Entry*>(memory);
  table_ = table;
  max_frames_ = max_frames;
}

// The word behind the frame pointer is the return address. From there the steps lead over the allocator's own frames to
// the program's call site. A return address into a function says how large its frame is, so each step is exact.
std::size_t StackMemo::IndexOf(const std::uintptr_t* frame) const {
  const std::uintptr_t* place = frame + 1;
  std::uint64_t hash = (reinterpret_cast<std::uintptr_t>(frame) ^ WordAt(place) << 16) * kGolden;
  for (int i = 0; i < kMostSteps; ++i) {
    const std::uintptr_t address = WordAt(place);
    const std::uint64_t step = steps_[StepOf(address)].load(std::memory_order_relaxed);
    if (step >> kDistanceBits != address) break;
    place += step % (1u << kDistanceBits);
    hash = (hash ^ WordAt(place)) * kGolden;
  }
  return hash >> (64 - std::countr_zero(kEntries));
}

void StackMemo::NoteSteps(const std::uintptr_t* frame, const WalkPlaces& places) {
  for (std::size_t i = 0; i + 1 < places.own_count; ++i) {
    const auto* place = reinterpret_cast<const std::uintptr_t*>(places.places[i]);
    const auto* next = reinterpret_cast<const std::uintptr_t*>(places.places[i + 1]);
    const std::uintptr_t address = WordAt(place);
    if (place <= frame || next <= place || next - place >= 1 << kDistanceBits || address > kAddressMask) continue;
    steps_[StepOf(address)].store(std::uint64_t{address} << kDistanceBits | static_cast<std::uint64_t>(next - place),
                                  std::memory_order_relaxed);
  }
}

std::uint32_t StackMemo::Recall(const Entry& entry, const std::uintptr_t* frame) {
  const std::uint32_t sequence = entry.sequence.load(std::memory_order_acquire);
  if (sequence % 2 != 0 || entry.frame.load(std::memory_order_relaxed) != reinterpret_cast<std::uintptr_t>(frame)) {
    return 0;
  }
  // Copied, and known to be whole, before a place is looked at: places of two entries mixed may lie beyond the stack.
  std::uint64_t places[kMostPlaces];
  const std::size_t count = entry.count.load(std::memory_order_relaxed);
  if (count > kMostPlaces) return 0;
  for (std::size_t i = 0; i < count; ++i) places[i] = entry.places[i].load(std::memory_order_relaxed);
  const std::uint32_t stack = entry.stack.load(std::memory_order_relaxed);
  // Pairs with the release of the writer's odd number: a torn copy has another number.
  std::atomic_thread_fence(std::memory_order_acquire);
  if (entry.sequence.load(std::memory_order_relaxed) != sequence) return 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (WordAt(frame + (places[i] >> 48)) != (places[i] & kAddressMask)) return 0;
  }
  return stack;
}

void StackMemo::Remember(Entry* entry, const std::uintptr_t* frame, const WalkPlaces& places, std::uint32_t stack) {
  std::uint64_t words[kMostPlaces];
  std::size_t count = 0;
  const std::uintptr_t* last = frame;
  for (std::size_t i = 0; i < places.count; ++i) {
    const auto* place = reinterpret_cast<const std::uintptr_t*>(places.places[i]);
    // Of frames below, which were called for the walk.
    if (place <= frame) continue;
    if (place <= last || place - frame >= 1 << 16 || count == kMostPlaces) return;
    const std::uintptr_t word = WordAt(place);
    if (word > kAddressMask) return;
    words[count++] = static_cast<std::uint64_t>(place - frame) << 48 | word;
    last = place;
  }
  if (count == 0) return;
  std::uint32_t sequence = entry->sequence.load(std::memory_order_relaxed);
  if (sequence % 2 != 0 || !entry->sequence.compare_exchange_strong(sequence, sequence + 1, std::memory_order_acquire,
                                                                    std::memory_order_relaxed)) {
    return;
  }
  std::atomic_thread_fence(std::memory_order_release);
  entry->frame.store(reinterpret_cast<std::uintptr_t>(frame), std::memory_order_relaxed);
  entry->count.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
  entry->stack.store(stack, std::memory_order_relaxed);
  for (std::size_t i = 0; i < count; ++i) entry->places[i].store(words[i], std::memory_order_relaxed);
  entry->sequence.store(sequence + 2, std::memory_order_release);
}

std::uint32_t StackMemo::Walk(const std::uintptr_t* frame) {
  std::uintptr_t frames[StackTable::kMaxFrames];
  WalkPlaces places;
  bool truncated;
  const std::size_t count = WalkStack(frames, max_frames_, &truncated, &places);
  const std::uint32_t stack = table_->Keep(frames, count);
  if (stack == 0 || !places.known) return stack;
  // First, for the index goes by it.
  NoteSteps(frame, places);
  Remember(&entries_[IndexOf(frame)], frame, places, stack);
  return stack;
}

std::uint32_t StackMemo::Capture() {
  if (table_ == nullptr) return 0;
  const auto* frame = static_cast<const std::uintptr_t*>(__builtin_frame_address(0));
  const std::uint32_t stack = Recall(entries_[IndexOf(frame)], frame);
  return stack != 0 ? stack : Walk(frame);
}

}  // namespace tarn
