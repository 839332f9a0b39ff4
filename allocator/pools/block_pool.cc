// SPDX-License-Identifier: Apache-2.0

#include "allocator/pools/block_pool.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "allocator/heap/process_heap.h"
#include "allocator/heap/regions.h"
#include "allocator/os/crash.h"
#include "allocator/os/thread_state.h"
#include "allocator/pages/page_map.h"
#include "allocator/pools/handle.h"
#include "allocator/pools/registry.h"
#include "allocator/pools/stack_count.h"

namespace tarn {

namespace {

// Chosen: what a CPU may keep of a pool, in bytes of blocks, and the bounds of it in blocks; 2046 make a stack of 16
// KiB. Measured (bench/pools, churn): 1000 blocks of 64 bytes that come and go take 25 ns each where a CPU keeps 126 of
// them: most pass through the regions.
constexpr std::size_t kStackBytes = std::size_t{128} << 10;
constexpr std::size_t kMinCapacity = 6;
constexpr std::size_t kMaxCapacity = 2046;
// Of all stacks of a pool, in bytes of pointers: on a machine of many CPUs each gets less. Untouched where unused.
constexpr std::size_t kAllStacksBytes = std::size_t{1} << 20;
// On the stack of the thread while they pass.
constexpr std::size_t kMaxBatch = 128;
// The bits of a span record, less the word of the owner.
constexpr std::size_t kMaxBlocksPerRegion = 1024;
// The mark of a region whose blocks are ended one by one.
constexpr std::uint8_t kRegionEnds = 1;

std::size_t RegionBytes(std::size_t stride_bytes, std::size_t alignment) {
  std::size_t bytes = std::bit_floor(stride_bytes * kMaxBlocksPerRegion);
  bytes = std::clamp(bytes, kPageBytes, BlockPool::kUsualRegionBytes);
  // Some blocks even where they are large, so that the page heap is not asked for each.
  if (bytes < stride_bytes * 8) bytes = std::clamp(std::bit_ceil(stride_bytes * 8), bytes, kHugePageBytes);
  return std::max({bytes, std::bit_ceil(stride_bytes), alignment});
}

}  // namespace

bool BlockBudget::Charge(std::size_t bytes) {
  const std::size_t before = __atomic_fetch_add(&used_bytes, bytes, __ATOMIC_RELAXED);
  if (limit_bytes != 0 && before + bytes > limit_bytes) {
    __atomic_fetch_sub(&used_bytes, bytes, __ATOMIC_RELAXED);
    return false;
  }
  if (record != nullptr) CountSigned(&record->capacity_bytes, static_cast<std::int64_t>(bytes));
  return true;
}

void BlockBudget::Discharge(std::size_t bytes) {
  __atomic_fetch_sub(&used_bytes, bytes, __ATOMIC_RELAXED);
  if (record != nullptr) CountSigned(&record->capacity_bytes, -static_cast<std::int64_t>(bytes));
}

BlockPool* BlockPool::Create(std::size_t block_bytes, std::size_t alignment, BlockBudget* budget, bool checked,
                             void* owner) {
  PrepareThread();
  const std::size_t stride_bytes = RoundUp(block_bytes, alignment);
  const std::size_t stacks = StackCount();
  const std::size_t most = std::clamp(kAllStacksBytes / stacks / sizeof(void*), kMinCapacity, kMaxCapacity);
  const std::size_t capacity = std::clamp(kStackBytes / stride_bytes, kMinCapacity, most);
  const std::size_t stack_bytes = CpuStacks::StrideBytes(capacity);
  constexpr std::size_t kFirstStack = (sizeof(BlockPool) + 63) / 64 * 64;
  bool zero;
  Span* own_region = NewRegion(PageCount::FromBytesCeil(kFirstStack + stacks * stack_bytes), PageCount(1), 0, &zero);
  if (own_region == nullptr) return nullptr;
  auto* pool = ::new (own_region->start()) BlockPool{};
  char* first_stack = static_cast<char*>(own_region->start()) + kFirstStack;
  if (!zero) {
    // Slots need not be zero.
    for (std::size_t i = 0; i < stacks; ++i) std::memset(first_stack + i * stack_bytes, 0, 2 * sizeof(std::uint64_t));
  }
  const std::uint64_t bound = checked ? 0 : stacks;
  pool->stacks_ = {bound, stack_bytes, first_stack, bound, capacity};
  pool->stride_bytes_ = stride_bytes;
  pool->region_bytes_ = RegionBytes(stride_bytes, alignment);
  pool->blocks_per_region_ = std::min(pool->region_bytes_ / stride_bytes, kMaxBlocksPerRegion);
  // offset * (reciprocal * stride - 2^32) < 2^32 for offsets below 2^21 and strides below 2^11.
  pool->reciprocal_ = stride_bytes < 2048 ? ((std::uint64_t{1} << 32) + stride_bytes - 1) / stride_bytes : 0;
  pool->budget_ = budget != nullptr ? budget : &pool->own_budget_;
  pool->owner_ = owner;
  pool->own_region_ = own_region;
  AddForkLock(&pool->lock_);
  OpenHandle(own_region, HandleKind::kBlockPool);
  return pool;
}

void BlockPool::BeginDestroy(const char* call) {
  BeginEnd(this, HandleKind::kBlockPool, call);
  if (is_ending_) ReportMisuse(call, this, Misuse::kPoolAtWork);
}

void BlockPool::Destroy(const char* call) {
  FreeAll(call);
  RemoveForkLock(&lock_);
  // A call that still uses the pool misses, and is reported on its slow path.
  stacks_.bound = 0;
  stacks_.ids = 0;
  FreeHandle(own_region_);
}

// --- Allocation ----------------------------------------------------------------------------------------------------

Span* BlockPool::AddRegion() {
  if (!budget_->Charge(region_bytes_)) return nullptr;
  const PageCount pages = PageCount::FromBytesCeil(region_bytes_);
  Span* region = NewRegion(pages, pages, blocks_per_region_);
  if (region == nullptr) {
    budget_->Discharge(region_bytes_);
    return nullptr;
  }
  region->object_count = static_cast<std::uint16_t>(blocks_per_region_);
  region->live_objects = 0;
  for (std::size_t left = blocks_per_region_, word = 0; left != 0; ++word) {
    const std::size_t here = std::min<std::size_t>(left, 64);
    RegionBits(region)[word] = ~std::uint64_t{0} >> (64 - here);
    left -= here;
  }
  *RegionOwner(region) = this;
  if (region_bytes_ <= kUsualRegionBytes) page_map.RegisterRest(region);
  return region;
}

std::size_t BlockPool::TakeBatch(void** blocks, std::size_t count) {
  std::size_t taken = 0;
  while (taken < count && !available_.empty()) {
    Span* region = available_.front();
    if (region == spare_) spare_ = nullptr;
    std::uint64_t* words = RegionBits(region);
    for (std::size_t word = 0; word < region->word_count() && taken < count; ++word) {
      while (words[word] != 0 && taken < count) {
        const auto bit = static_cast<std::size_t>(std::countr_zero(words[word]));
        words[word] &= words[word] - 1;
        blocks[taken++] = reinterpret_cast<void*>(region->start_address() + (word * 64 + bit) * stride_bytes_);
        ++region->live_objects;
      }
    }
    if (region->live_objects == region->object_count) {
      IntrusiveList<Span>::Remove(region);
      full_.PushFront(region);
    }
  }
  out_ += taken;
  return taken;
}

void BlockPool::ReportLive() {
  if (budget_->record == nullptr || out_ == reported_) return;
  const std::int64_t change = static_cast<std::int64_t>(out_) - static_cast<std::int64_t>(reported_);
  CountSigned(&budget_->record->live_objects, change);
  CountSigned(&budget_->record->live_bytes, change * static_cast<std::int64_t>(stride_bytes_));
  reported_ = out_;
}

void* BlockPool::Refill(IntrusiveList<Span>* empty) {
  void* blocks[kMaxBatch];
  const std::size_t wanted = stacks_.ids == 0 ? 1 : std::min<std::size_t>(stacks_.capacity / 2, kMaxBatch);
  LockHolder holder(lock_.lock);
  const std::size_t taken = TakeBatch(blocks, wanted);
  if (taken == 0) return nullptr;
  // The rest for the stack. Another thread may have filled it by now.
  const std::size_t pushed = StackPushBatch(&stacks_, blocks + 1, taken - 1);
  refilled_ += pushed;
  ++direct_allocations_;
  if (pushed + 1 < taken) ReturnBatch(blocks + 1 + pushed, taken - 1 - pushed, empty, "tarn");
  ReportLive();
  return blocks[0];
}

void* BlockPool::AllocateSlow() {
  PrepareThread();
  RequireHandle(this, HandleKind::kBlockPool, "tarn_object_pool_allocate");
  while (true) {
    IntrusiveList<Span> empty;
    void* block;
    {
      SlowPathScope scope;
      if (scope.nested()) return nullptr;
      EnableStack(&stacks_);
      block = Refill(&empty);
    }
    while (Span* region = empty.PopFront()) Release(region);
    if (block != nullptr) return block;
    // Made without the lock, because the page heap has one of its own. Of two threads each may bring one.
    Span* region = AddRegion();
    if (region == nullptr) {
      if (budget_->record != nullptr) CountUp(&budget_->record->failures);
      return nullptr;
    }
    SlowPathScope scope;
    LockHolder holder(lock_.lock);
    available_.PushFront(region);
    ++regions_;
  }
}

// --- Deallocation --------------------------------------------------------------------------------------------------

Span* BlockPool::RegionOf(void* block, std::size_t* index, const char* call) {
  const auto address = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t start = address & ~(region_bytes_ - 1);
  Span* region = page_map.SpanOf(PageId::Containing(start));
  if (region == nullptr || region->start_address() != start || !region->is_region() || *RegionOwner(region) != this) {
    ReportMisuse(call, block, Misuse::kWrongPool);
  }
  const std::size_t offset = address - start;
  *index = reciprocal_ != 0 ? (offset * reciprocal_) >> 32 : offset / stride_bytes_;
  if (*index * stride_bytes_ != offset || *index >= region->object_count) {
    ReportMisuse(call, block, Misuse::kNoObjectThere);
  }
  return region;
}

void BlockPool::ReturnBatch(void* const* blocks, std::size_t count, IntrusiveList<Span>* empty, const char* call) {
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t index;
    Span* region = RegionOf(blocks[i], &index, call);
    std::uint64_t& word = RegionBits(region)[index / 64];
    const std::uint64_t mask = std::uint64_t{1} << (index % 64);
    if ((word & mask) != 0) ReportMisuse(call, blocks[i], Misuse::kAlreadyFree);
    word |= mask;
    if (region->live_objects == region->object_count) {
      IntrusiveList<Span>::Remove(region);
      available_.PushFront(region);
    }
    if (--region->live_objects != 0) continue;
    if (spare_ == nullptr) {
      spare_ = region;
      continue;
    }
    IntrusiveList<Span>::Remove(region);
    empty->PushFront(region);
    --regions_;
  }
  out_ -= count;
}

void BlockPool::Release(Span* region) {
  // Marked as nobody's before its address can be met again.
  *RegionOwner(region) = nullptr;
  if (region_bytes_ <= kUsualRegionBytes) page_map.UnregisterRest(region);
  FreeRegion(region);
  budget_->Discharge(region_bytes_);
}

void BlockPool::FreeSlow(void* block, const char* call) {
  PrepareThread();
  RequireHandle(this, HandleKind::kBlockPool, call);
  IntrusiveList<Span> empty;
  {
    SlowPathScope scope;
    // A signal handler that interrupted tarn must not wait for the lock: the block stays out.
    if (scope.nested()) return;
    EnableStack(&stacks_);
    if (StackPush(&stacks_, block)) return;
    void* blocks[kMaxBatch + 1];
    const std::size_t flushed = StackPopBatch(&stacks_, blocks, std::min<std::size_t>(stacks_.capacity / 2, kMaxBatch));
    std::size_t count = flushed;
    blocks[count++] = block;
    LockHolder holder(lock_.lock);
    flushed_ += flushed;
    ++direct_frees_;
    ReturnBatch(blocks, count, &empty, call);
    ReportLive();
  }
  while (Span* region = empty.PopFront()) Release(region);
}

// --- The whole pool ------------------------------------------------------------------------------------------------

void BlockPool::FlushAllStacks() {
  IntrusiveList<Span> empty;
  {
    SlowPathScope scope;
    LockHolder holder(lock_.lock);
    for (std::size_t i = 0; i < stacks_.ids; ++i) {
      CpuStack* stack = stacks_.At(i);
      const std::size_t top = stack->top();
      if (top == 0) continue;
      ReturnBatch(stack->slots, top, &empty, "tarn_object_pool_free");
      stack->word += top * 0xFFFF;
      flushed_ += top;
    }
  }
  while (Span* region = empty.PopFront()) Release(region);
}

void BlockPool::FreeAll(const char* call) {
  RequireHandle(this, HandleKind::kBlockPool, call);
  if (is_ending_) ReportMisuse(call, this, Misuse::kPoolAtWork);
  const std::size_t live_objects = Stats().live_objects;
  IntrusiveList<Span> regions;
  {
    // Who frees at the same time is in the wrong, but no region goes back twice for it.
    SlowPathScope scope;
    LockHolder holder(lock_.lock);
    direct_frees_ += live_objects;
    for (std::size_t i = 0; i < stacks_.ids; ++i) {
      CpuStack* stack = stacks_.At(i);
      flushed_ += stack->top();
      stack->word += stack->top() * 0xFFFF;
    }
    out_ = 0;
    ReportLive();
    spare_ = nullptr;
    regions_ = 0;
    ForEachRegion([&regions](Span* region) {
      IntrusiveList<Span>::Remove(region);
      regions.PushFront(region);
    });
  }
  while (Span* region = regions.PopFront()) Release(region);
}

// --- Blocks with destructors ---------------------------------------------------------------------------------------

bool BlockPool::CollectToEnd() {
  for (IntrusiveList<Span>* list : {&available_, &full_}) {
    for (Span* region = list->front(); region != nullptr;) {
      Span* next = list->Next(region);
      if (region->live_objects != 0) {
        IntrusiveList<Span>::Remove(region);
        region->region_mark() = kRegionEnds;
        ending_.PushFront(region);
      }
      region = next;
    }
  }
  return !ending_.empty();
}

void BlockPool::CountEnded(Span* region) {
  --out_;
  ++direct_frees_;
  if (--region->live_objects != 0) return;
  IntrusiveList<Span>::Remove(region);
  ended_.PushFront(region);
}

void BlockPool::BeginEndOfObjects(const char* call) {
  RequireHandle(this, HandleKind::kBlockPool, call);
  SlowPathScope scope;
  LockHolder holder(lock_.lock);
  if (is_ending_) ReportMisuse(call, this, Misuse::kPoolAtWork);
  is_ending_ = true;
}

void* BlockPool::NextToEnd() {
  // A block in a stack counts as live in its region, so the stacks are flushed before regions are collected.
  bool flush;
  {
    SlowPathScope scope;
    LockHolder holder(lock_.lock);
    flush = ending_.empty();
  }
  if (flush) FlushAllStacks();
  SlowPathScope scope;
  LockHolder holder(lock_.lock);
  if (ending_.empty() && !CollectToEnd()) return nullptr;
  Span* region = ending_.front();
  std::uint64_t* words = RegionBits(region);
  std::size_t word = 0;
  // A region of this list has a live block. The zero bits behind the last block come after it.
  while (words[word] == ~std::uint64_t{0}) ++word;
  const auto bit = static_cast<std::size_t>(std::countr_one(words[word]));
  words[word] |= std::uint64_t{1} << bit;
  CountEnded(region);
  return reinterpret_cast<void*>(region->start_address() + (word * 64 + bit) * stride_bytes_);
}

BlockPool::ToEnd BlockPool::ClaimToEnd(void* block, const char* call) {
  SlowPathScope scope;
  LockHolder holder(lock_.lock);
  std::size_t index;
  Span* region = RegionOf(block, &index, call);
  if (region->region_mark() != kRegionEnds) return ToEnd::kOrdinary;
  std::uint64_t& word = RegionBits(region)[index / 64];
  const std::uint64_t mask = std::uint64_t{1} << (index % 64);
  if ((word & mask) != 0) return ToEnd::kEnded;
  word |= mask;
  CountEnded(region);
  return ToEnd::kClaimed;
}

void BlockPool::FinishEndOfObjects() {
  IntrusiveList<Span> empty;
  {
    SlowPathScope scope;
    LockHolder holder(lock_.lock);
    while (Span* region = ending_.PopFront()) {
      region->region_mark() = 0;
      (region->live_objects == region->object_count ? full_ : available_).PushFront(region);
    }
    while (Span* region = ended_.PopFront()) {
      region->region_mark() = 0;
      empty.PushFront(region);
      --regions_;
    }
    is_ending_ = false;
    ReportLive();
  }
  while (Span* region = empty.PopFront()) Release(region);
}

BlockPoolStats BlockPool::Stats() {
  BlockPoolStats stats;
  SlowPathScope scope;
  LockHolder holder(lock_.lock);
  std::uint64_t pops = 0;
  for (std::size_t i = 0; i < stacks_.ids; ++i) {
    CpuStack* stack = stacks_.At(i);
    const std::uint64_t word = __atomic_load_n(&stack->word, __ATOMIC_RELAXED);
    stats.cached_objects += word & 0xFFFF;
    pops += word >> 16;
  }
  const std::uint64_t pushes = pops + stats.cached_objects;
  stats.live_objects = out_ - std::min(out_, stats.cached_objects);
  stats.region_bytes = regions_ * region_bytes_;
  stats.allocations = pops - flushed_ + direct_allocations_;
  stats.frees = pushes - refilled_ + direct_frees_;
  return stats;
}

}  // namespace tarn
