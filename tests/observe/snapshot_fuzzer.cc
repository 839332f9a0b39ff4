// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the reader of snapshots by a process that publishes anything. The input is its memory, which repeats at all
// addresses of the lower half; the upper half cannot be read. Reading ends after as many reads as a whole heap takes,
// and gives to its callbacks what the bounds promise.
#include "allocator/observe/snapshot_reader.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/fuzz/fuzzer.h"

namespace {

class HostileMemory {
 public:
  HostileMemory(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool Read(std::uint64_t address, void* to, std::size_t bytes) const {
    FUZZ_REQUIRE(++reads_ <= most_reads_);
    if (size_ == 0 || address + bytes < address || (address + bytes) >> 63 != 0) return false;
    auto* out = static_cast<std::uint8_t*>(to);
    std::size_t at = static_cast<std::size_t>(address % size_);
    while (bytes > 0) {
      const std::size_t part = std::min(bytes, size_ - at);
      std::memcpy(out, data_ + at, part);
      out += part;
      bytes -= part;
      at = 0;
    }
    return true;
  }
  // Counts anew, to this bound.
  void Allow(std::uint64_t most_reads) {
    reads_ = 0;
    most_reads_ = most_reads;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  mutable std::uint64_t reads_ = 0;
  std::uint64_t most_reads_ = 10;
};

using Reader = tarn::SnapshotReader<HostileMemory>;

// Three for each slab, two for each bucket, and those for classes, names and blocks.
constexpr std::uint64_t kMostBuckets = Reader::kMaxBucketBytes / sizeof(tarn_snapshot_bucket);
constexpr std::uint64_t kMostReads = std::uint64_t{3} * Reader::kMaxSlabs + 2 * kMostBuckets + 20'000;

void ReadAll(Reader& reader, HostileMemory* memory) {
  tarn_memstats_t stats;
  memory->Allow(kMostReads);
  if (reader.ReadMemStats(&stats)) {
    FUZZ_REQUIRE(stats.class_count < Reader::kMaxClasses);
    for (const tarn_memstats_class& of_class : stats.by_size) FUZZ_REQUIRE(of_class.frees <= of_class.mallocs);
  }
  std::uint64_t buckets = 0;
  memory->Allow(kMostReads);
  reader.ForEachBucket([&](const tarn_snapshot_bucket& bucket, const std::uint64_t*) {
    FUZZ_REQUIRE(bucket.frames <= Reader::kMaxFrames);
    return ++buckets <= kMostBuckets;
  });
  FUZZ_REQUIRE(buckets <= kMostBuckets);
  memory->Allow(TARN_REGISTRY_RECORDS);
  reader.ForEachNamedPool([](const tarn_registry_record& record) {
    FUZZ_REQUIRE(std::memchr(record.name, '\0', sizeof record.name) != nullptr);
  });
  std::uint32_t cpus = 0;
  memory->Allow(std::uint64_t{3} * Reader::kMaxSlabs);
  reader.ForEachCpu([&](const tarn_memstats_cpu&) { ++cpus; });
  FUZZ_REQUIRE(cpus <= Reader::kMaxSlabs);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < sizeof(tarn_snapshot_block)) return 0;
  // Most inputs would end at the magic.
  static std::uint8_t bytes[1 << 16];
  size = std::min(size, sizeof bytes);
  std::memcpy(bytes, data, size);
  tarn_snapshot_block block;
  std::memcpy(&block, bytes, sizeof block);
  std::memcpy(block.magic, TARN_SNAPSHOT_MAGIC, sizeof block.magic);
  block.version = TARN_SNAPSHOT_VERSION;
  block.bytes = sizeof block;
  block.started = 1;
  block.size_class_count = 2 + block.size_class_count % (Reader::kMaxClasses - 1);
  std::memcpy(bytes, &block, sizeof block);

  HostileMemory memory(bytes, size);
  Reader reader(memory);
  if (reader.Open(0) != tarn::SnapshotError::kNone) return 0;
  ReadAll(reader, &memory);
  return 0;
}
