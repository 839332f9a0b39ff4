// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the parts of the checked mode that know of no other: the quarantine as a queue, the table of stacks, the words
// of records, and the patterns in memory. Each has an oracle in plain containers.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "allocator/misuse/checked_record.h"
#include "allocator/misuse/freed_objects.h"
#include "allocator/misuse/patterns.h"
#include "allocator/misuse/stack_table.h"
#include "tests/fuzz/fuzzer.h"

namespace tarn {
namespace {

// First in, first out, within the bounds; each object leaves once.
class Quarantine {
 public:
  explicit Quarantine(tarn_test::Input* input) : input_(*input) { freed_.Init(places_, kPlaces, kMostBytes); }

  void Step() {
    if (input_.OneIn(3)) {
      Pop(input_.OneIn(2) ? kMostBytes : input_.Below(kMostBytes));
    } else {
      Push(input_.Below(kMostBytes));
    }
    FUZZ_REQUIRE(freed_.bytes() == bytes_);
  }

  void End() {
    while (bytes_ != 0) Pop(0);
    FUZZ_REQUIRE(freed_.Pop(0) == nullptr);
  }

 private:
  static constexpr std::size_t kPlaces = 16;
  static constexpr std::size_t kMostBytes = 1000;
  struct Held {
    void* object;
    std::size_t bytes;
  };

  void Push(std::size_t bytes) {
    FUZZ_REQUIRE(freed_.Takes(bytes) == (bytes <= kMostBytes / 4));
    if (!freed_.Takes(bytes)) return;
    void* const object = reinterpret_cast<void*>(++objects_ * 16);
    void* const leaving = freed_.Push(object, bytes);
    held_.push_back({object, bytes});
    bytes_ += bytes;
    if (leaving == nullptr) {
      FUZZ_REQUIRE(held_.size() <= kPlaces);
      return;
    }
    FUZZ_REQUIRE(held_.size() > kPlaces);
    Left(leaving);
  }

  void Pop(std::size_t most_bytes) {
    void* const object = most_bytes == kMostBytes ? freed_.PopExcess() : freed_.Pop(most_bytes);
    // Objects of no bytes are worth no pop.
    FUZZ_REQUIRE((object != nullptr) == (bytes_ > most_bytes));
    if (object != nullptr) Left(object);
  }

  void Left(void* object) {
    FUZZ_REQUIRE(!held_.empty() && held_.front().object == object);
    freed_.Leave(held_.front().bytes);
    bytes_ -= held_.front().bytes;
    held_.pop_front();
  }

  tarn_test::Input& input_;
  std::atomic<void*> places_[kPlaces] = {};
  FreedObjects freed_;
  std::deque<Held> held_;
  std::uintptr_t objects_ = 0;
  std::size_t bytes_ = 0;
};

// Each stack once, under a number that leads back to it, while there is room.
class Stacks {
 public:
  explicit Stacks(tarn_test::Input* input) : input_(*input), memory_(kWords) { table_.Init(memory_.data(), kBytes); }

  void Step() {
    std::uintptr_t frames[StackTable::kMaxFrames + 3];
    const std::size_t count = input_.Below(std::size(frames) + 1);
    for (std::size_t i = 0; i < count; ++i) frames[i] = 0x1000 + input_.Below(3);
    const std::uint32_t number = table_.Keep(frames, count);
    const std::vector<std::uintptr_t> stack(frames, frames + std::min(count, StackTable::kMaxFrames));
    if (stack.empty()) {
      FUZZ_REQUIRE(number == 0);
      return;
    }
    const auto known = numbers_.find(stack);
    if (known != numbers_.end()) {
      FUZZ_REQUIRE(number == known->second);
    } else if (number != 0) {
      for (const auto& [other, other_number] : numbers_) FUZZ_REQUIRE(other_number != number);
      numbers_.emplace(stack, number);
      words_left_ -= 2 + stack.size();
    } else {
      FUZZ_REQUIRE(words_left_ < 2 + stack.size());
      ++dropped_;
    }
    FUZZ_REQUIRE(table_.dropped() == dropped_);
  }

  void End() {
    for (const auto& [stack, number] : numbers_) {
      const StackTable::Stack found = table_.Find(number);
      FUZZ_REQUIRE(std::equal(stack.begin(), stack.end(), found.frames, found.frames + found.count));
    }
  }

 private:
  static constexpr std::size_t kRoomWords = 600;
  static constexpr std::size_t kBytes = StackTable::kHeadBytes + kRoomWords * sizeof(std::uint64_t);
  static constexpr std::size_t kWords = kBytes / sizeof(std::uint64_t);

  tarn_test::Input& input_;
  std::vector<std::uint64_t> memory_;
  StackTable table_;
  std::map<std::vector<std::uintptr_t>, std::uint32_t> numbers_;
  std::size_t words_left_ = kRoomWords;
  std::uint32_t dropped_ = 0;
};

void StepOfRecords(tarn_test::Input* input) {
  using State = CheckedRecord::State;
  CheckedRecord::Facts facts;
  facts.bytes = input->OneIn(4) ? CheckedRecord::kMaxBytes - input->Byte() : input->Number(6);
  facts.state = static_cast<State>(input->Below(5));
  facts.family = static_cast<Family>(input->Below(3));
  facts.generation = static_cast<std::uint16_t>(input->Below(CheckedRecord::kGenerations));
  const CheckedRecord::Facts read = CheckedRecord::FactsOf(facts.word());
  FUZZ_REQUIRE(read.bytes == facts.bytes && read.state == facts.state && read.family == facts.family &&
               read.generation == facts.generation);
  CheckedRecord record = {};
  record.Set(facts);
  const std::uint64_t seen = record.Load();
  CheckedRecord::Facts busy = facts;
  busy.state = State::kBusy;
  FUZZ_REQUIRE(!record.Change(seen ^ (1u + input->Byte()), busy) && record.Load() == seen);
  FUZZ_REQUIRE(record.Change(seen, busy) && CheckedRecord::FactsOf(record.Load()).state == State::kBusy);
}

// One byte is overwritten, or none, and it is found where it was filled.
void StepOfPatterns(tarn_test::Input* input) {
  const std::size_t bytes = input->Below(input->OneIn(2) ? 100 : 5000);
  std::vector<unsigned char> memory(bytes + 2, 0x11);
  unsigned char* const start = memory.data() + 1;
  FillEnds(start, bytes, kFreedByte);
  FUZZ_REQUIRE(memory.front() == 0x11 && memory.back() == 0x11);
  FUZZ_REQUIRE(FindOtherInEnds(start, bytes, kFreedByte) == bytes);
  std::size_t filled = 0;
  for (std::size_t i = 0; i < bytes; ++i) filled += start[i] == kFreedByte ? 1 : 0;
  FUZZ_REQUIRE(filled == std::min(bytes, 2 * kFilledEndBytes));
  if (bytes == 0) return;
  const std::size_t at = input->Below(bytes);
  const bool was_filled = start[at] == kFreedByte;
  start[at] = static_cast<unsigned char>(kFreedByte + 1 + input->Below(255));
  FUZZ_REQUIRE(FindOtherInEnds(start, bytes, kFreedByte) == (was_filled ? at : bytes));
  const std::size_t from = input->Below(at + 1);
  std::size_t expected = from;
  while (expected < bytes && start[expected] == kFreedByte) ++expected;
  FUZZ_REQUIRE(FindOther(start + from, bytes - from, kFreedByte) == expected - from);
}

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn_test::Input input(data, size);
  tarn::Quarantine quarantine(&input);
  tarn::Stacks stacks(&input);
  while (!input.empty()) {
    switch (input.Byte() % 8) {
      case 0:
        tarn::StepOfRecords(&input);
        break;
      case 1:
        tarn::StepOfPatterns(&input);
        break;
      case 2:
      case 3:
      case 4:
        stacks.Step();
        break;
      default:
        quarantine.Step();
    }
  }
  quarantine.End();
  stacks.End();
  return 0;
}
