// SPDX-License-Identifier: Apache-2.0
//
// tarn/fixed_pool.h: a bounded number of blocks of one size.
//
//   tarn::FixedPool pool(256, 1000);             // 1000 blocks of 256 bytes
//   void* block = pool.Allocate();               // null when all are taken
//   pool.Free(block);
//   pool.Stats();                                // allocated, free, total
//
// For what must be bounded: connections, frames, requests under way. All addresses are reserved at once; a block takes
// memory from the first time that it is written. One bit per block, kept apart from the blocks, says which are free. So
// misuse is always seen at the call, and ends the process with a line on stderr: a second Free, a pointer from
// elsewhere, a pointer into the middle of a block.
//
// Threads: any, at the same time, without a lock (a bit is taken and given by one atomic instruction).
// Limits: blocks of 1 byte to 1 GiB, 1 to 2^32 blocks, together below 2^46 bytes.
//
// For C and C++. With TARN_C_INTERFACE_ONLY defined, a C++ program gets what a C program gets.
#ifndef TARN_FIXED_POOL_H
#define TARN_FIXED_POOL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tarn_fixed_pool tarn_fixed_pool;

// All zero but for the first two is a valid choice.
typedef struct tarn_fixed_pool_options {
  size_t block_bytes;
  size_t block_count;
  size_t alignment;  // of blocks, a power of two up to 2 MiB; 0: 16, or 8 for blocks of up to 8 bytes
  const char* name;  // null: the pool does not appear in statistics (tarn/registry.h)
  int checked;       // non-zero, or TARN_CHECK=on: the end of the pool reports blocks that are still allocated
} tarn_fixed_pool_options;

typedef struct tarn_fixed_pool_stats {
  size_t allocated;
  size_t free;
  size_t total;
} tarn_fixed_pool_stats;

// Null with errno EINVAL (a size, count or alignment out of range) or ENOMEM.
tarn_fixed_pool* tarn_fixed_pool_create(const tarn_fixed_pool_options* options);
// Also with blocks allocated: they are gone. Null is ignored.
void tarn_fixed_pool_destroy(tarn_fixed_pool* pool);
// Null when every block is taken; errno is not changed.
void* tarn_fixed_pool_allocate(tarn_fixed_pool* pool);
// Null is ignored.
void tarn_fixed_pool_free(tarn_fixed_pool* pool, void* block);
// True if the address lies in a block of the pool.
int tarn_fixed_pool_owns(const tarn_fixed_pool* pool, const void* address);
size_t tarn_fixed_pool_block_bytes(const tarn_fixed_pool* pool);
// Counted block by block: exact while no other call is under way.
tarn_fixed_pool_stats tarn_fixed_pool_get_stats(tarn_fixed_pool* pool);

#ifdef __cplusplus
}  // extern "C"
#endif

#if defined(__cplusplus) && !defined(TARN_C_INTERFACE_ONLY)

#include <cerrno>
#include <memory_resource>

#include <tarn/bad_alloc.h>
#include <tarn/poison.h>

namespace tarn {

using FixedPoolOptions = tarn_fixed_pool_options;

// Throws std::invalid_argument and std::bad_alloc when it is made, not later. As a std::pmr::memory_resource it serves
// requests that fit into a block, and throws std::bad_alloc for others and when every block is taken.
class FixedPool final : public std::pmr::memory_resource {
 public:
  FixedPool(std::size_t block_bytes, std::size_t block_count, const char* name = nullptr)
      : FixedPool(FixedPoolOptions{block_bytes, block_count, 0, name, 0}) {}
  explicit FixedPool(const FixedPoolOptions& options)
      : pool_(tarn_fixed_pool_create(&options)), alignment_(options.alignment) {
    if (pool_ != nullptr) return;
    if (errno == EINVAL) ThrowInvalidArgument("tarn::FixedPool: block size, count or alignment out of range");
    ThrowBadAlloc();
  }
  FixedPool(const FixedPool&) = delete;
  FixedPool& operator=(const FixedPool&) = delete;
  ~FixedPool() override { tarn_fixed_pool_destroy(pool_); }

  [[nodiscard]] void* Allocate() noexcept {
    void* block = tarn_fixed_pool_allocate(pool_);
    if (block != nullptr) UnpoisonMemory(block, tarn_fixed_pool_block_bytes(pool_));
    return block;
  }
  void Free(void* block) noexcept {
    // First poisoned, then free: another thread may have the block at once. A pointer from elsewhere is left alone.
    if (TARN_POISON_MEMORY && Owns(block)) PoisonMemory(block, tarn_fixed_pool_block_bytes(pool_));
    tarn_fixed_pool_free(pool_, block);
  }
  [[nodiscard]] bool Owns(const void* address) const noexcept { return tarn_fixed_pool_owns(pool_, address) != 0; }
  tarn_fixed_pool_stats Stats() noexcept { return tarn_fixed_pool_get_stats(pool_); }
  tarn_fixed_pool* c_pool() { return pool_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    const std::size_t block_alignment =
        alignment_ != 0 ? alignment_ : (tarn_fixed_pool_block_bytes(pool_) <= 8 ? 8 : 16);
    void* block = bytes <= tarn_fixed_pool_block_bytes(pool_) && alignment <= block_alignment ? Allocate() : nullptr;
    if (block == nullptr) ThrowBadAlloc();
    return block;
  }
  void do_deallocate(void* block, std::size_t, std::size_t) override { Free(block); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  tarn_fixed_pool* const pool_;
  const std::size_t alignment_;
};

}  // namespace tarn

#endif
#endif
