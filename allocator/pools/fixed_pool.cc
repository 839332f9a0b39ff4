// SPDX-License-Identifier: Apache-2.0
//
// tarn/fixed_pool.h: one region with the blocks, another one with the pool's record and the bits.
//
// Bits. Bit i of `free_bits` is set when block i is free; bit w of `summary` is set when word w of free_bits may have a
// set bit. Each block belongs to the thread that changed its bit, which one atomic instruction does: of two threads
// that clear the same bit one sees it set; of two that set it the second one sees it set, and that is a double free.
//
// The summary. Allocate clears a summary bit after it has seen its word empty. A Free that came between would be
// forgotten. So Allocate looks at the word once more after clearing, and sets the summary bit again if it is not
// empty. Free sets its bit first and the summary bit after, when it found the word empty. Both sides store, then
// load the other's word, so the two read-modify-writes and loads are sequentially consistent. In the moment between
// clear and repair a search may miss a block. So a search that finds nothing goes through all words before it
// returns null.
//
// Where CPUs look. Each goes on at the word where it took or gave a block last, whose line it has at hand. Two CPUs
// that meet at the same words would stay there, each taking what the other gives. Then the line goes to and fro. The
// sign is a bit that was lost to another CPU between look and take. The loser goes home, to its own part of the words,
// and for a while does not follow the blocks that it frees; searches begin at home, too.
//
// Acquire of the taking instruction pairs with the release of the giving one: what was written to the block before Free
// happens before what its next owner does. Nothing is ever half done, so a fork at any moment is safe.
#define TARN_C_INTERFACE_ONLY
#include "allocator/include/tarn/fixed_pool.h"

#include <errno.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/base/text.h"
#include "allocator/base/units.h"
#include "allocator/heap/regions.h"
#include "allocator/heap/shard.h"
#include "allocator/os/crash.h"
#include "allocator/pools/checked_mode.h"
#include "allocator/pools/handle.h"
#include "allocator/pools/registry.h"

// One place per shard. Relaxed, because any value is right.
constexpr std::size_t kShards = 16;
struct alignas(64) FixedPoolShard {
  std::atomic<std::uint32_t> word;            // where the last block of this CPU came from or went to
  std::atomic<std::uint32_t> frees_unheeded;  // this many more frees do not change it
};

struct tarn_fixed_pool {
  std::uintptr_t start;
  std::size_t stride_bytes;
  std::size_t bytes;  // of all blocks
  // ceil(2^64 / stride): the high half of offset * reciprocal is offset / stride while offset * stride < 2^64. 0 where
  // blocks and pool are too large for that.
  std::uint64_t reciprocal;
  std::atomic<std::uint64_t>* free_bits;
  std::atomic<std::uint64_t>* summary;
  std::size_t words;
  std::size_t block_count;
  std::size_t block_bytes;
  bool checked;
  tarn::Span* blocks;
  tarn::Span* record_region;
  tarn_registry_record* record;
  std::int64_t reported_objects;
  FixedPoolShard shards[kShards];
};

namespace tarn {

namespace {

constexpr std::size_t kMaxBlockBytes = std::size_t{1} << 30;
constexpr std::size_t kMaxBlocks = std::size_t{1} << 32;
constexpr std::size_t kMaxPoolBytes = std::size_t{1} << 46;
// Chosen: enough for a thread to get most of its blocks from its own words.
constexpr std::uint32_t kFreesUnheeded = 1000;
// The bits of a pool that has ended.
constinit std::atomic<std::uint64_t> no_bits = 0;

std::uint64_t Mask(std::size_t bit) { return std::uint64_t{1} << bit; }

bool TakeBit(tarn_fixed_pool* pool, std::size_t word, std::size_t bit) {
  return (pool->free_bits[word].fetch_and(~Mask(bit)) & Mask(bit)) != 0;
}

// The word before.
std::uint64_t GiveBit(tarn_fixed_pool* pool, std::size_t word, std::size_t bit) {
  return pool->free_bits[word].fetch_or(Mask(bit));
}

void* BlockAt(const tarn_fixed_pool* pool, std::size_t word, std::size_t bit) {
  return reinterpret_cast<void*>(pool->start + (word * 64 + bit) * pool->stride_bytes);
}

FixedPoolShard& ThisShard(tarn_fixed_pool* pool) { return pool->shards[ShardHint() % kShards]; }

std::size_t Home(const tarn_fixed_pool* pool, const FixedPoolShard& shard) {
  return pool->words * static_cast<std::size_t>(&shard - pool->shards) / kShards;
}

[[noreturn]] TARN_COLD void ReportInside(const tarn_fixed_pool* pool, const void* block, std::size_t index) {
  ReportMisuse({.call = "tarn_fixed_pool_free",
                .address = block,
                .kind = Misuse::kInteriorPointer,
                .start = reinterpret_cast<const void*>(pool->start + index * pool->stride_bytes),
                .object_bytes = pool->stride_bytes});
}

TARN_NOINLINE TARN_COLD void GoHome(tarn_fixed_pool* pool, FixedPoolShard& shard) {
  shard.word.store(static_cast<std::uint32_t>(Home(pool, shard)), std::memory_order_relaxed);
  shard.frees_unheeded.store(kFreesUnheeded, std::memory_order_relaxed);
}

// A block of this word, or null when it has none.
void* TakeFrom(tarn_fixed_pool* pool, FixedPoolShard& shard, std::size_t word) {
  while (const std::uint64_t bits = pool->free_bits[word].load(std::memory_order_relaxed)) {
    const auto bit = static_cast<std::size_t>(std::countr_zero(bits));
    if (TakeBit(pool, word, bit)) [[likely]]
      return BlockAt(pool, word, bit);
    GoHome(pool, shard);
  }
  return nullptr;
}

void ForgetWord(tarn_fixed_pool* pool, std::size_t word) {
  pool->summary[word / 64].fetch_and(~Mask(word % 64));
  if (pool->free_bits[word].load() != 0) pool->summary[word / 64].fetch_or(Mask(word % 64));
}

TARN_NOINLINE void* Search(tarn_fixed_pool* pool, FixedPoolShard& shard) {
  RequireHandle(pool, HandleKind::kFixedPool, "tarn_fixed_pool_allocate");
  const std::size_t summary_words = (pool->words + 63) / 64;
  const std::size_t home = Home(pool, shard);
  // The first word of the summary twice: from home on, and at the end what lies before home.
  for (std::size_t i = 0; i <= summary_words; ++i) {
    const std::size_t s = (home / 64 + i) % summary_words;
    const std::uint64_t from_home = ~std::uint64_t{0} << (home % 64);
    const std::uint64_t wanted = i == 0 ? from_home : i == summary_words ? ~from_home : ~std::uint64_t{0};
    while (const std::uint64_t words = pool->summary[s].load(std::memory_order_relaxed) & wanted) {
      const std::size_t word = s * 64 + static_cast<std::size_t>(std::countr_zero(words));
      if (void* block = TakeFrom(pool, shard, word)) {
        shard.word.store(static_cast<std::uint32_t>(word), std::memory_order_relaxed);
        return block;
      }
      ForgetWord(pool, word);
    }
  }
  for (std::size_t word = 0; word < pool->words; ++word) {
    if (void* block = TakeFrom(pool, shard, word)) return block;
  }
  if (pool->record != nullptr) CountUp(&pool->record->failures);
  return nullptr;
}

std::size_t IndexOf(const tarn_fixed_pool* pool, std::uint64_t offset) {
  if (pool->reciprocal == 0) return offset / pool->stride_bytes;
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::size_t>((static_cast<Wide>(offset) * pool->reciprocal) >> 64);
}

void Report(tarn_fixed_pool* pool, std::size_t allocated) {
  if (pool->record == nullptr) return;
  const auto objects = static_cast<std::int64_t>(allocated);
  const std::int64_t before = __atomic_exchange_n(&pool->reported_objects, objects, __ATOMIC_RELAXED);
  CountSigned(&pool->record->live_objects, objects - before);
  CountSigned(&pool->record->live_bytes, (objects - before) * static_cast<std::int64_t>(pool->stride_bytes));
}

struct Sizes {
  std::size_t alignment;
  std::size_t stride_bytes;
};

// False: out of range.
bool ComputeSizes(const tarn_fixed_pool_options& options, Sizes* sizes) {
  if (options.block_bytes == 0 || options.block_bytes > kMaxBlockBytes) return false;
  if (options.block_count == 0 || options.block_count > kMaxBlocks) return false;
  sizes->alignment = options.alignment != 0 ? options.alignment : (options.block_bytes <= 8 ? 8 : 16);
  if (!std::has_single_bit(sizes->alignment) || sizes->alignment > kHugePageBytes) return false;
  sizes->stride_bytes = RoundUp(options.block_bytes, sizes->alignment);
  return options.block_count <= kMaxPoolBytes / sizes->stride_bytes;
}

void FillBits(tarn_fixed_pool* pool) {
  for (std::size_t left = pool->block_count, word = 0; left != 0; ++word) {
    const std::size_t here = std::min<std::size_t>(left, 64);
    pool->free_bits[word].store(~std::uint64_t{0} >> (64 - here), std::memory_order_relaxed);
    left -= here;
  }
  for (std::size_t left = pool->words, word = 0; left != 0; ++word) {
    const std::size_t here = std::min<std::size_t>(left, 64);
    pool->summary[word].store(~std::uint64_t{0} >> (64 - here), std::memory_order_relaxed);
    left -= here;
  }
}

std::size_t CountAllocated(const tarn_fixed_pool* pool) {
  std::size_t free_blocks = 0;
  for (std::size_t word = 0; word < pool->words; ++word) {
    free_blocks += static_cast<std::size_t>(std::popcount(pool->free_bits[word].load(std::memory_order_relaxed)));
  }
  return pool->block_count - free_blocks;
}

}  // namespace

extern "C" {

TARN_EXPORT tarn_fixed_pool* tarn_fixed_pool_create(const tarn_fixed_pool_options* options) {
  Sizes sizes;
  if (options == nullptr || !ComputeSizes(*options, &sizes)) {
    errno = EINVAL;
    return nullptr;
  }
  const std::size_t bytes = options->block_count * sizes.stride_bytes;
  const std::size_t words = (options->block_count + 63) / 64;
  const std::size_t summary_words = (words + 63) / 64;
  const std::size_t record_bytes = sizeof(tarn_fixed_pool) + (words + summary_words) * sizeof(std::uint64_t);
  Span* blocks =
      NewRegion(PageCount::FromBytesCeil(bytes), std::max(PageCount::FromBytesCeil(sizes.alignment), PageCount(1)));
  Span* record_region = blocks == nullptr ? nullptr : NewRegion(PageCount::FromBytesCeil(record_bytes), PageCount(1));
  if (record_region == nullptr) {
    if (blocks != nullptr) FreeRegion(blocks);
    errno = ENOMEM;
    return nullptr;
  }
  auto* pool = ::new (record_region->start()) tarn_fixed_pool{};
  pool->start = blocks->start_address();
  pool->stride_bytes = sizes.stride_bytes;
  pool->bytes = bytes;
  __extension__ using Wide = unsigned __int128;
  if ((static_cast<Wide>(bytes) * sizes.stride_bytes) >> 64 == 0) {
    pool->reciprocal = UINT64_MAX / sizes.stride_bytes + 1;
  }
  pool->free_bits = reinterpret_cast<std::atomic<std::uint64_t>*>(pool + 1);
  pool->summary = pool->free_bits + words;
  pool->words = words;
  pool->block_count = options->block_count;
  pool->block_bytes = options->block_bytes;
  pool->checked = IsChecked(options->checked);
  pool->blocks = blocks;
  pool->record_region = record_region;
  FillBits(pool);
  // The CPUs begin far from each other.
  for (FixedPoolShard& shard : pool->shards) {
    shard.word.store(static_cast<std::uint32_t>(Home(pool, shard)), std::memory_order_relaxed);
  }
  pool->record = JoinRegistry(options->name, TARN_KIND_FIXED_POOL);
  if (pool->record != nullptr) CountSigned(&pool->record->capacity_bytes, static_cast<std::int64_t>(bytes));
  OpenHandle(record_region, HandleKind::kFixedPool);
  return pool;
}

TARN_EXPORT void tarn_fixed_pool_destroy(tarn_fixed_pool* pool) {
  if (pool == nullptr) return;
  BeginEnd(pool, HandleKind::kFixedPool, "tarn_fixed_pool_destroy");
  const std::size_t allocated = CountAllocated(pool);
  if (pool->checked && allocated != 0) {
    Text<256> line;
    line << "tarn: fixed pool " << (pool->record != nullptr ? pool->record->name : "without a name")
         << " destroyed with " << std::uint64_t{allocated} << " of " << std::uint64_t{pool->block_count}
         << " blocks allocated\n";
    WriteToStderr(line.view());
  }
  Report(pool, 0);
  if (pool->record != nullptr) CountSigned(&pool->record->capacity_bytes, -static_cast<std::int64_t>(pool->bytes));
  LeaveRegistry(pool->record);
  FreeRegion(pool->blocks);
  // A call that still uses the pool finds no block, and is reported.
  pool->bytes = 0;
  pool->free_bits = &no_bits;
  for (FixedPoolShard& shard : pool->shards) shard.word.store(0, std::memory_order_relaxed);
  FreeHandle(pool->record_region);
}

TARN_EXPORT void* tarn_fixed_pool_allocate(tarn_fixed_pool* pool) {
  FixedPoolShard& shard = ThisShard(pool);
  if (void* block = TakeFrom(pool, shard, shard.word.load(std::memory_order_relaxed))) [[likely]]
    return block;
  return Search(pool, shard);
}

TARN_EXPORT void tarn_fixed_pool_free(tarn_fixed_pool* pool, void* block) {
  if (block == nullptr) return;
  const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(block) - pool->start;
  if (offset >= pool->bytes) [[unlikely]] {
    RequireHandle(pool, HandleKind::kFixedPool, "tarn_fixed_pool_free");
    ReportMisuse("tarn_fixed_pool_free", block, Misuse::kWrongPool);
  }
  const std::size_t index = IndexOf(pool, offset);
  if (index * pool->stride_bytes != offset) [[unlikely]]
    ReportInside(pool, block, index);
  const std::size_t word = index / 64;
  const std::uint64_t before = GiveBit(pool, word, index % 64);
  if ((before & Mask(index % 64)) != 0) [[unlikely]]
    ReportMisuse("tarn_fixed_pool_free", block, Misuse::kAlreadyFree);
  if (before == 0) pool->summary[word / 64].fetch_or(Mask(word % 64));
  FixedPoolShard& shard = ThisShard(pool);
  const std::uint32_t unheeded = shard.frees_unheeded.load(std::memory_order_relaxed);
  if (unheeded == 0) [[likely]] {
    shard.word.store(static_cast<std::uint32_t>(word), std::memory_order_relaxed);
  } else {
    shard.frees_unheeded.store(unheeded - 1, std::memory_order_relaxed);
  }
}

TARN_EXPORT int tarn_fixed_pool_owns(const tarn_fixed_pool* pool, const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) - pool->start < pool->bytes ? 1 : 0;
}

TARN_EXPORT std::size_t tarn_fixed_pool_block_bytes(const tarn_fixed_pool* pool) { return pool->block_bytes; }

TARN_EXPORT tarn_fixed_pool_stats tarn_fixed_pool_get_stats(tarn_fixed_pool* pool) {
  RequireHandle(pool, HandleKind::kFixedPool, "tarn_fixed_pool_get_stats");
  const std::size_t allocated = CountAllocated(pool);
  Report(pool, allocated);
  return {allocated, pool->block_count - allocated, pool->block_count};
}

}  // extern "C"

}  // namespace tarn
