// SPDX-License-Identifier: Apache-2.0
//
// The reader of snapshots on a process that publishes anything: no number of it makes a loop long, and no text of it
// goes on behind its end.

#include "allocator/observe/snapshot_reader.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace tarn {
namespace {

// Memory of a process from address 0 on, which counts what is read.
struct CountedMemory {
  std::vector<unsigned char> bytes = std::vector<unsigned char>(1 << 16);
  std::uint64_t allowed_reads = 0;
  mutable std::uint64_t reads = 0;

  bool Read(std::uint64_t address, void* to, std::size_t count) const {
    // Ends a loop without a bound; the test sees the count.
    if (++reads > allowed_reads || address > bytes.size() || count > bytes.size() - address) return false;
    std::memcpy(to, bytes.data() + address, count);
    return true;
  }
  template <typename T>
  void Put(std::uint64_t address, const T& value) {
    std::memcpy(bytes.data() + address, &value, sizeof value);
  }
};

using Reader = SnapshotReader<CountedMemory>;

constexpr std::uint64_t kSomewhere = 4096;

tarn_snapshot_block ValidBlock() {
  tarn_snapshot_block block = {};
  std::memcpy(block.magic, TARN_SNAPSHOT_MAGIC, sizeof block.magic);
  block.version = TARN_SNAPSHOT_VERSION;
  block.bytes = sizeof block;
  block.started = 1;
  block.size_class_count = 2;
  block.size_classes_address = kSomewhere;
  return block;
}

TEST(SnapshotReader, SlabsThatHaveNoEnd) {
  CountedMemory memory;
  tarn_snapshot_block block = ValidBlock();
  // The same slab, four billion times.
  block.slab_entries_address = kSomewhere;
  block.slab_entry_count = UINT32_MAX;
  block.cache_mode = TARN_CACHES_PER_CPU;
  memory.Put(0, block);
  memory.Put(kSomewhere, std::uint64_t{8192});
  memory.allowed_reads = 10 + 3 * Reader::kMaxSlabs;
  Reader reader(memory);
  ASSERT_EQ(reader.Open(0), SnapshotError::kNone);
  std::uint32_t slabs = 0;
  EXPECT_TRUE(reader.ForEachSlab([&](std::uint32_t, const auto*, const auto*) { ++slabs; }));
  EXPECT_EQ(slabs, Reader::kMaxSlabs);
}

class Buckets : public testing::Test {
 protected:
  // Of a list of blocks that leads back to itself.
  std::uint64_t Count(std::uint64_t used_bytes, std::uint64_t allowed_reads) {
    tarn_snapshot_block block = ValidBlock();
    block.profile_address = 8192;
    memory_.Put(0, block);
    tarn_snapshot_profile profile = {};
    profile.first_block_address = 16384;
    memory_.Put(8192, profile);
    memory_.Put(16384, tarn_snapshot_bucket_block{.next_address = 16384, .used_bytes = used_bytes});
    memory_.allowed_reads = allowed_reads;
    Reader reader(memory_);
    EXPECT_EQ(reader.Open(0), SnapshotError::kNone);
    std::uint64_t buckets = 0;
    EXPECT_TRUE(reader.ForEachBucket([&](const tarn_snapshot_bucket&, const std::uint64_t*) {
      ++buckets;
      return true;
    }));
    return buckets;
  }

  CountedMemory memory_;
};

TEST_F(Buckets, InACircle) {
  constexpr std::uint64_t kMostBuckets = Reader::kMaxBucketBytes / sizeof(tarn_snapshot_bucket);
  const std::uint64_t buckets = Count(400 * sizeof(tarn_snapshot_bucket), 10'000'000);
  EXPECT_GT(buckets, 400u);
  EXPECT_LE(buckets, kMostBuckets);
}

TEST_F(Buckets, InACircleOfEmptyBlocks) { EXPECT_EQ(Count(0, 10'000), 0u); }

// The texts of the block are read as C strings.
TEST(SnapshotReader, AVersionWithoutAnEnd) {
  CountedMemory memory;
  memory.allowed_reads = 10;
  tarn_snapshot_block block = ValidBlock();
  std::memset(block.library_version, '9', sizeof block.library_version);
  memory.Put(0, block);
  Reader reader(memory);
  ASSERT_EQ(reader.Open(0), SnapshotError::kNone);
  EXPECT_EQ(strnlen(reader.block().library_version, sizeof block.library_version), sizeof block.library_version - 1);
}

}  // namespace
}  // namespace tarn
