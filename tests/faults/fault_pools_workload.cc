// SPDX-License-Identifier: Apache-2.0
//
// A program that fault_injector runs: uses pools, arenas and heaps in all ways, takes null and std::bad_alloc for an
// answer, and sees to it that nothing else goes wrong.
//
// Between the two marks any memory system call may fail, and an allocation may be refused. What was handed out is
// aligned and nobody else's. A failed reallocation leaves its object as it was. All that was handed out can be given
// back. After the second mark nothing fails any more: every allocation must succeed, and nothing may have been lost on
// the way (no pool counts an object that nobody has).
//
// Linked with libtarn.so. Exit code 0 if all of that holds. Bookkeeping is in static arrays, because a container's
// memory may be refused as well.
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "tests/faults/marker.h"

namespace tarn_test {
namespace {

bool faults_possible = false;
std::size_t refused = 0;
std::size_t served = 0;

[[noreturn]] void Fail(const char* where, const char* what) {
  char line[256];
  const int length = std::snprintf(line, sizeof line, "fault_pools_workload: FAILED: %s: %s\n", where, what);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, static_cast<std::size_t>(length));
  std::abort();
}

void CountRefusal(const char* where) {
  if (!faults_possible) Fail(where, "refused, though no system call fails");
  ++refused;
}

struct Piece {
  unsigned char* address = nullptr;
  std::size_t bytes = 0;
};
std::array<Piece, 1000> pieces;
unsigned char next_stamp = 1;

// The first byte tells the others.
void Stamp(Piece& piece, void* address, std::size_t bytes) {
  piece = {static_cast<unsigned char*>(address), bytes};
  std::memset(address, next_stamp++, bytes);
  ++served;
}
void Verify(const char* where, const Piece& piece, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) {
    if (piece.address[i] != piece.address[0]) Fail(where, "somebody else wrote into the object");
  }
}

std::size_t SizeOf(std::size_t i) { return i % 97 == 0 ? 300'000 : 1 + i * 37 % 1500; }

// Makes the object, or counts that there is no memory for it.
template <typename T, typename... Arguments>
bool Make(const char* where, std::optional<T>& object, const Arguments&... arguments) {
  try {
    object.emplace(arguments...);
    return true;
  } catch (const std::bad_alloc&) {
    CountRefusal(where);
    return false;
  }
}

template <typename AnArena>
void UseArena(const char* where, AnArena& arena) {
  for (int round = 0; round < 3; ++round) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < 250; ++i) {
      const std::size_t alignment = std::size_t{1} << (i % 13);
      void* object = nullptr;
      if (i % 2 == 0) {
        object = arena.TryAllocate(SizeOf(i), alignment);
      } else {
        try {
          object = arena.Allocate(SizeOf(i), alignment);
        } catch (const std::bad_alloc&) {
        }
      }
      if (object == nullptr) {
        CountRefusal(where);
        continue;
      }
      if (reinterpret_cast<std::uintptr_t>(object) % alignment != 0) Fail(where, "misaligned");
      Stamp(pieces[count++], object, SizeOf(i));
    }
    for (std::size_t i = 0; i < count; ++i) Verify(where, pieces[i], pieces[i].bytes);
    round == 1 ? arena.Release() : arena.Reset();
  }
}

void UseObjectPool() {
  struct Object {
    unsigned char bytes[200];
  };
  std::optional<tarn::ObjectPool<Object>> pool;
  if (!Make("ObjectPool", pool)) return;
  std::size_t live = 0;
  for (int round = 0; round < 3; ++round) {
    for (Piece& piece : pieces) {
      if (piece.address != nullptr) continue;
      try {
        Stamp(piece, pool->Create(), sizeof(Object));
        ++live;
      } catch (const std::bad_alloc&) {
        CountRefusal("ObjectPool");
      }
    }
    // The last time all.
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].address == nullptr || (round != 2 && i % 10 == 0)) continue;
      Verify("ObjectPool", pieces[i], pieces[i].bytes);
      pool->Destroy(reinterpret_cast<Object*>(pieces[i].address));
      pieces[i] = {};
      --live;
    }
    if (pool->Stats().live_objects != live) Fail("ObjectPool", "counts other objects than there are");
  }
  pool->DestroyAll();
}

void UseFixedPool() {
  std::optional<tarn::FixedPool> pool;
  if (!Make("FixedPool", pool, std::size_t{500}, pieces.size())) return;
  for (Piece& piece : pieces) {
    void* block = pool->Allocate();
    // All of its memory is there from the start.
    if (block == nullptr) Fail("FixedPool", "has lost a block");
    Stamp(piece, block, 500);
  }
  for (Piece& piece : pieces) {
    Verify("FixedPool", piece, piece.bytes);
    pool->Free(piece.address);
    piece = {};
  }
}

void UseHeap() {
  std::optional<tarn::Heap> heap;
  if (!Make("Heap", heap)) return;
  for (int round = 0; round < 3; ++round) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (void* object = heap->TryAllocate(SizeOf(i))) {
        Stamp(pieces[i], object, SizeOf(i));
      } else {
        CountRefusal("Heap");
      }
    }
    for (std::size_t i = 0; i < pieces.size(); i += 3) {
      Piece& piece = pieces[i];
      if (piece.address == nullptr) continue;
      const std::size_t kept = std::min(piece.bytes, piece.bytes / 2 * 3);
      void* moved = heap->TryReallocate(piece.address, piece.bytes / 2 * 3);
      if (moved == nullptr) CountRefusal("Heap, reallocation");
      if (moved != nullptr) piece = {static_cast<unsigned char*>(moved), kept};
      Verify("Heap, after a reallocation", piece, piece.bytes);
    }
    for (Piece& piece : pieces) {
      if (piece.address == nullptr) continue;
      Verify("Heap", piece, piece.bytes);
      if (round != 1) heap->Free(piece.address);
      piece = {};
    }
    if (round == 1) heap->FreeAll();
    if (heap->Stats().live_objects != 0) Fail("Heap", "counts objects that nobody has");
  }
}

struct Recycled {
  Recycled() { ++live; }
  ~Recycled() { --live; }
  static inline std::atomic<int> live = 0;
};

void UsePool() {
  {
    // Its epochs end by a thread, or by calls where the system refuses one.
    std::optional<tarn::Pool<Recycled>> pool;
    if (!Make("Pool", pool, tarn::PoolOptions<Recycled>{.epoch_ms = 1})) return;
    std::array<Recycled*, 100> some = {};
    for (int round = 0; round < 20; ++round) {
      for (Recycled*& object : some) {
        try {
          object = pool->Get();
          ++served;
        } catch (const std::bad_alloc&) {
          CountRefusal("Pool");
        }
      }
      for (Recycled*& object : some) pool->Put(std::exchange(object, nullptr));
      if (round % 5 == 0) pool->Tick();
    }
  }
  if (Recycled::live != 0) Fail("Pool", "has lost objects");
}

void DoRound() {
  for (const int checked : {0, 1}) {
    tarn::Arena arena(tarn::ArenaOptions{nullptr, 0, nullptr, 0, checked});
    UseArena("Arena", arena);
    std::optional<tarn::ConcurrentArena> concurrent;
    if (Make("ConcurrentArena", concurrent, tarn::ConcurrentArenaOptions{nullptr, 0, checked})) {
      UseArena("ConcurrentArena", *concurrent);
    }
  }
  pieces = {};
  UseObjectPool();
  pieces = {};
  UseFixedPool();
  UseHeap();
  UsePool();
}

int Main() {
  faults_possible = true;
  SetMark(Mark::kBegin);
  DoRound();
  SetMark(Mark::kEnd);
  faults_possible = false;
  const std::size_t refused_meanwhile = refused;
  DoRound();
  std::printf("fault_pools_workload: ok: %zu served, %zu refused\n", served, refused_meanwhile);
  return 0;
}

}  // namespace
}  // namespace tarn_test

int main() { return tarn_test::Main(); }
