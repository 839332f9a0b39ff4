// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the sources of addresses, for objects and for metadata, and the metadata that is cut from these, over a
// simulated kernel that refuses calls. The oracle is a list of what was handed out: nothing overlaps, all of it is
// aligned and zero, and nothing that was reserved is lost.
#include "allocator/pages/address_source.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/huge_page.h"
#include "allocator/pages/metadata.h"
#include "allocator/pages/metadata_source.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/pages/simulated_memory.h"

namespace tarn {
namespace {

using tarn_test::memory;

constexpr std::size_t kBlockUnit = std::size_t{64} << 10;
constexpr std::size_t kMostHeld = 64;

struct Range {
  std::uintptr_t start;
  std::size_t bytes;
};

class Fuzzer {
 public:
  explicit Fuzzer(tarn_test::Input input) : input_(input) {}

  void Run() {
    while (!input_.empty()) {
      switch (input_.Byte() % 8) {
        case 0:
          ReserveForObjects();
          break;
        case 1:
          GiveBack();
          break;
        case 2:
          memory.refusals = input_.OneIn(2) ? 0 : 1 + input_.Below(6);
          break;
        case 3:
          AddBlock();
          break;
        case 4:
          NewSpan();
          break;
        case 5:
          DeleteSpan();
          break;
        default:
          Allocate();
      }
      FUZZ_REQUIRE(memory.reserved_bytes == object_bytes_ + metadata_source_.reserved_bytes());
    }
  }

 private:
  static void RequireApart(const std::vector<Range>& ranges, Range range) {
    for (const Range& other : ranges) {
      FUZZ_REQUIRE(range.start + range.bytes <= other.start || other.start + other.bytes <= range.start);
    }
  }

  void ReserveForObjects() {
    const std::size_t wanted = 1 + input_.Below(input_.OneIn(4) ? 2000 : 40);
    const std::size_t reserved = input_.Below(input_.OneIn(2) ? 100 : 3000);
    std::size_t count = 0;
    const std::size_t before_bytes = memory.reserved_bytes;
    void* const start = addresses_.ReserveAtLeast(wanted, reserved, &count);
    if (start == nullptr) {
      FUZZ_REQUIRE(memory.reserved_bytes == before_bytes);
      return;
    }
    const Range range = {reinterpret_cast<std::uintptr_t>(start), count * kHugePageBytes};
    FUZZ_REQUIRE(range.start % kHugePageBytes == 0 && count >= wanted);
    FUZZ_REQUIRE(count <= std::max(wanted, Reservation::kMaxHugePages));
    if (addresses_.IsLimited()) FUZZ_REQUIRE(count < std::max(wanted + 1, Reservation::kMaxHugePages));
    FUZZ_REQUIRE(IsServable(start, range.bytes));
    object_bytes_ += range.bytes;
    if (objects_.size() < kMostHeld) {
      RequireApart(objects_, range);
      RequireApart(blocks_, range);
      objects_.push_back(range);
    }
  }

  void GiveBack() {
    if (objects_.empty()) return;
    const std::size_t index = input_.Below(objects_.size());
    Unreserve(reinterpret_cast<void*>(objects_[index].start), objects_[index].bytes);
    object_bytes_ -= objects_[index].bytes;
    objects_.erase(objects_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  void AddBlock() {
    if (blocks_.size() == kMostHeld) return;
    const std::size_t bytes = kBlockUnit * (1 + input_.Below(input_.OneIn(8) ? 400 : 8));
    void* const start = metadata_source_.Take(bytes, input_.OneIn(2));
    if (start == nullptr) return;
    const Range range = {reinterpret_cast<std::uintptr_t>(start), bytes};
    RequireApart(objects_, range);
    RequireApart(blocks_, range);
    blocks_.push_back(range);
    metadata_.AddBlock(start, bytes);
    pieces_.clear();
    block_bytes_ += bytes;
    FUZZ_REQUIRE(metadata_.block_bytes() == block_bytes_);
    if (metadata_source_.needs_record()) {
      auto* const record = static_cast<MetadataReservation*>(Piece(sizeof(MetadataReservation), 8));
      FUZZ_REQUIRE(record != nullptr);
      metadata_source_.List(record);
      ++records_;
    }
    std::size_t records = 0;
    bool listed = false;
    for (const MetadataReservation* record = metadata_source_.first(); record != nullptr; record = record->next) {
      ++records;
      // With room for a guard at each end.
      listed |= record->start + kBlockUnit <= range.start && range.start + bytes + kBlockUnit <= record->end;
    }
    FUZZ_REQUIRE(records == records_ && listed);
  }

  // Zero, aligned, apart from all others, and within the block.
  void* Piece(std::size_t bytes, std::size_t alignment) {
    const bool fits = metadata_.Fits(bytes, alignment);
    void* const piece = metadata_.Allocate(bytes, alignment);
    FUZZ_REQUIRE(fits || piece == nullptr);
    // Whole pages come from the end, which may lie less well than the start.
    FUZZ_REQUIRE(piece != nullptr || !fits);
    return piece == nullptr ? nullptr : Took(piece, bytes, alignment);
  }

  void* Took(void* piece, std::size_t bytes, std::size_t alignment) {
    const Range range = {reinterpret_cast<std::uintptr_t>(piece), bytes};
    FUZZ_REQUIRE(range.start % alignment == 0);
    FUZZ_REQUIRE(!blocks_.empty());
    const Range& block = blocks_.back();
    FUZZ_REQUIRE(range.start >= block.start && range.start + bytes <= block.start + block.bytes);
    RequireApart(pieces_, range);
    if (pieces_.size() < kMostHeld) pieces_.push_back(range);
    auto* const at = static_cast<unsigned char*>(piece);
    for (std::size_t i = 0; i < bytes; ++i) FUZZ_REQUIRE(at[i] == 0);
    std::memset(piece, 0xEE, bytes);
    return piece;
  }

  void Allocate() {
    static_cast<void>(Piece(1 + input_.Below(input_.OneIn(4) ? 20'000 : 300), std::size_t{1} << input_.Below(13)));
  }

  void NewSpan() {
    const std::size_t objects = input_.Below(kMaxNewOnlyObjectsPerSpan + 1);
    const std::size_t used_bytes = metadata_.used_bytes();
    Span* const span = metadata_.NewSpan(objects);
    if (span == nullptr) return;
    FUZZ_REQUIRE(span->record_units == Span::RecordUnits(objects) && span->live_objects == 0);
    for (const Span* other : spans_) FUZZ_REQUIRE(other != span);
    const bool is_new = metadata_.used_bytes() != used_bytes;
    FUZZ_REQUIRE(is_new != (std::find(deleted_.begin(), deleted_.end(), span) != deleted_.end()));
    std::erase(deleted_, span);
    spans_.push_back(span);
    span_bytes_ += span->record_units * Span::kRecordUnitBytes;
    FUZZ_REQUIRE(metadata_.span_bytes() == span_bytes_);
    // The whole record is theirs.
    span->object_count = static_cast<std::uint16_t>(objects);
    std::fill(span->free_bits(), span->free_bits() + span->word_count(), ~std::uint64_t{0});
  }

  void DeleteSpan() {
    if (spans_.empty()) return;
    const std::size_t index = input_.Below(spans_.size());
    Span* const span = spans_[index];
    spans_.erase(spans_.begin() + static_cast<std::ptrdiff_t>(index));
    deleted_.push_back(span);
    span_bytes_ -= span->record_units * Span::kRecordUnitBytes;
    metadata_.DeleteSpan(span);
    FUZZ_REQUIRE(metadata_.span_bytes() == span_bytes_);
  }

  tarn_test::Input input_;
  AddressSource addresses_;
  MetadataSource metadata_source_;
  Metadata metadata_;
  std::vector<Range> objects_;
  std::vector<Range> blocks_;
  std::vector<Range> pieces_;  // of the last block
  std::vector<Span*> spans_;
  std::vector<Span*> deleted_;
  std::size_t object_bytes_ = 0;
  std::size_t block_bytes_ = 0;
  std::size_t span_bytes_ = 0;
  std::size_t records_ = 0;
};

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn_test::Input input(data, size);
  tarn_test::memory.ForgetAll(input.Byte());
  if (input.OneIn(3)) {
    tarn_test::memory.address_space_limit_bytes = (std::size_t{1} << 24) + (std::size_t{input.Byte()} << 28);
  }
  tarn::Fuzzer(input).Run();
  return 0;
}
