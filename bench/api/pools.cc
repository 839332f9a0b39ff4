// SPDX-License-Identifier: Apache-2.0
//
// Pools and arenas against their peers, by google-benchmark, all in one process.
//
// The process's malloc is tarn's, and so is what std::pmr and Boost.Pool get their memory from: the comparison is of
// the pools alone. glibc's malloc is called by its other name, mimalloc is loaded beside. Run with
//   build/bench/pools --benchmark_enable_random_interleaving --benchmark_repetitions=9
//       --benchmark_report_aggregates_only
// so that each row is the median of interleaved runs. One "item" is one allocation with its free.
#include <benchmark/benchmark.h>
#include <dlfcn.h>
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>

#if __has_include(<boost/pool/pool.hpp>)
#include <boost/pool/object_pool.hpp>
#include <boost/pool/pool.hpp>
#define BENCH_WITH_BOOST 1
#else
#define BENCH_WITH_BOOST 0
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <vector>

// glibc's malloc, also where another one has taken its place.
extern "C" void* __libc_malloc(std::size_t bytes);  // NOLINT
extern "C" void __libc_free(void* object);          // NOLINT

namespace {

// --- Where memory comes from: Allocate and Free --------------------------------------------------------------------

struct Malloc {
  void* Allocate(std::size_t bytes) { return std::malloc(bytes); }
  void Free(void* object, std::size_t) { std::free(object); }
};

struct Glibc {
  void* Allocate(std::size_t bytes) { return __libc_malloc(bytes); }
  void Free(void* object, std::size_t) { __libc_free(object); }
};

// mimalloc's functions, or null where Debian's libmimalloc2.0 is not installed.
struct Mimalloc {
  using Allocator = void* (*)(std::size_t);
  using Freer = void (*)(void*);
  using HeapMaker = void* (*)();
  using HeapAllocator = void* (*)(void*, std::size_t);
  template <typename Function>
  static Function Symbol(const char* name) {
    static void* library = ::dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
    return library == nullptr ? nullptr : reinterpret_cast<Function>(::dlsym(library, name));
  }
  static inline const Allocator malloc = Symbol<Allocator>("mi_malloc");
  static inline const Freer free = Symbol<Freer>("mi_free");
  static inline const HeapMaker heap_new = Symbol<HeapMaker>("mi_heap_new");
  static inline const HeapAllocator heap_malloc = Symbol<HeapAllocator>("mi_heap_malloc");
  static inline const Freer heap_destroy = Symbol<Freer>("mi_heap_destroy");

  void* Allocate(std::size_t bytes) { return malloc(bytes); }
  void Free(void* object, std::size_t) { free(object); }
};

// A heap of mimalloc's belongs to the thread that made it.
struct MimallocHeap {
  void* heap = Mimalloc::heap_new();
  ~MimallocHeap() { Mimalloc::heap_destroy(heap); }
  void* Allocate(std::size_t bytes) { return Mimalloc::heap_malloc(heap, bytes); }
  void Free(void* object, std::size_t) { Mimalloc::free(object); }
  void FreeAll() {
    Mimalloc::heap_destroy(heap);
    heap = Mimalloc::heap_new();
  }
};

struct TarnHeap {
  tarn::Heap heap;
  void* Allocate(std::size_t bytes) { return heap.TryAllocate(bytes); }
  void Free(void* object, std::size_t) { heap.Free(object); }
  void FreeAll() { heap.FreeAll(); }
};

constexpr std::size_t kObjectBytes = 64;

struct TarnObjectPool {
  struct Object {
    std::array<std::byte, kObjectBytes> bytes;
  };
  tarn::ObjectPool<Object> pool;
  void* Allocate(std::size_t) { return tarn_object_pool_allocate(pool.c_pool()); }
  void Free(void* object, std::size_t) { tarn_object_pool_free(pool.c_pool(), object); }
  void FreeAll() { pool.DestroyAll(); }
};

struct TarnFixedPool {
  tarn::FixedPool pool{tarn::FixedPoolOptions{kObjectBytes, 100000, 0, nullptr, 0}};
  void* Allocate(std::size_t) { return pool.Allocate(); }
  void Free(void* object, std::size_t) { pool.Free(object); }
};

template <typename Resource>
struct Pmr {
  Resource resource;
  void* Allocate(std::size_t bytes) { return resource.allocate(bytes, 16); }
  void Free(void* object, std::size_t bytes) { resource.deallocate(object, bytes, 16); }
  void FreeAll() { resource.release(); }
};
using PmrUnsynchronized = Pmr<std::pmr::unsynchronized_pool_resource>;
using PmrSynchronized = Pmr<std::pmr::synchronized_pool_resource>;

#if BENCH_WITH_BOOST
struct BoostPool {
  boost::pool<> pool{kObjectBytes};
  void* Allocate(std::size_t) { return pool.malloc(); }
  void Free(void* object, std::size_t) { pool.free(object); }
  void FreeAll() { pool.purge_memory(); }
};

struct BoostObjectPool {
  boost::object_pool<TarnObjectPool::Object> pool;
  void* Allocate(std::size_t) { return pool.malloc(); }
  void Free(void* object, std::size_t) { pool.free(static_cast<TarnObjectPool::Object*>(object)); }
};
#endif

// --- Churn: 1000 objects of 64 bytes, freed in random order --------------------------------------------------------

const std::vector<std::uint32_t>& Order() {
  static const std::vector<std::uint32_t> order = [] {
    std::vector<std::uint32_t> result(1000);
    std::iota(result.begin(), result.end(), 0u);
    std::shuffle(result.begin(), result.end(), std::mt19937(1));
    return result;
  }();
  return order;
}

template <typename Source>
std::unique_ptr<Source> shared_source;

template <typename Source>
void Churn(benchmark::State& state) {
  if (state.thread_index() == 0) shared_source<Source> = std::make_unique<Source>();
  std::vector<void*> objects(Order().size());
  std::int64_t items = 0;
  // All threads start behind the loop's barrier, when the source is there.
  for (auto _ : state) {
    Source& source = *shared_source<Source>;
    for (void*& object : objects) {
      object = source.Allocate(kObjectBytes);
      *static_cast<volatile char*>(object) = 1;
    }
    for (const std::uint32_t index : Order()) source.Free(objects[index], kObjectBytes);
    items += static_cast<std::int64_t>(objects.size());
  }
  state.SetItemsProcessed(items);
  if (state.thread_index() == 0) shared_source<Source>.reset();
}

// --- The end of 10 000 objects at once -----------------------------------------------------------------------------

template <typename Source>
void FreeAll(benchmark::State& state) {
  Source source;
  constexpr int kObjects = 10000;
  for (auto _ : state) {
    for (int i = 0; i < kObjects; ++i) *static_cast<volatile char*>(source.Allocate(kObjectBytes)) = 1;
    source.FreeAll();
  }
  state.SetItemsProcessed(state.iterations() * kObjects);
}

// --- Arenas: 1000 allocations of 8 to 128 bytes, then a reset ------------------------------------------------------

struct TarnArena {
  tarn::Arena arena;
  void* Allocate(std::size_t bytes) { return arena.Allocate(bytes, 8); }
  void Reset() { arena.Reset(); }
};
struct TarnArenaPmr {
  tarn::Arena arena;
  std::pmr::memory_resource* resource = &arena;
  TarnArenaPmr() { benchmark::DoNotOptimize(resource); }
  void* Allocate(std::size_t bytes) { return resource->allocate(bytes, 8); }
  void Reset() { arena.Reset(); }
};
struct TarnConcurrentArena {
  tarn::ConcurrentArena arena;
  void* Allocate(std::size_t bytes) { return arena.Allocate(bytes, 8); }
  void Reset() { arena.Reset(); }
};
struct PmrMonotonic {
  std::pmr::monotonic_buffer_resource resource;
  void* Allocate(std::size_t bytes) { return resource.allocate(bytes, 8); }
  void Reset() { resource.release(); }
};
struct PmrMonotonicVirtual {
  std::pmr::monotonic_buffer_resource arena;
  std::pmr::memory_resource* resource = &arena;
  PmrMonotonicVirtual() { benchmark::DoNotOptimize(resource); }
  void* Allocate(std::size_t bytes) { return resource->allocate(bytes, 8); }
  void Reset() { arena.release(); }
};
// A monotonic buffer whose memory is large enough from the start, and stays.
struct PmrMonotonicBuffer {
  std::vector<std::byte> buffer = std::vector<std::byte>(1 << 20);
  std::pmr::monotonic_buffer_resource resource{buffer.data(), buffer.size(), std::pmr::null_memory_resource()};
  void* Allocate(std::size_t bytes) { return resource.allocate(bytes, 8); }
  void Reset() { resource.release(); }
};

std::size_t SizeAt(std::size_t i) { return 8 + (i * 2654435761u >> 7) % 121; }

template <typename Source>
void ArenaRound(benchmark::State& state) {
  Source source;
  for (auto _ : state) {
    for (std::size_t i = 0; i < 1000; ++i) *static_cast<volatile char*>(source.Allocate(SizeAt(i))) = 1;
    source.Reset();
  }
  state.SetItemsProcessed(state.iterations() * 1000);
}

template <typename Source>
void MallocRound(benchmark::State& state) {
  Source source;
  std::vector<void*> objects(1000);
  for (auto _ : state) {
    for (std::size_t i = 0; i < 1000; ++i) {
      objects[i] = source.Allocate(SizeAt(i));
      *static_cast<volatile char*>(objects[i]) = 1;
    }
    for (std::size_t i = 0; i < 1000; ++i) source.Free(objects[i], SizeAt(i));
  }
  state.SetItemsProcessed(state.iterations() * 1000);
}

// An arena for one request: made, 20 allocations, gone.
template <typename Source>
void ArenaRequest(benchmark::State& state) {
  for (auto _ : state) {
    Source source;
    for (std::size_t i = 0; i < 20; ++i) *static_cast<volatile char*>(source.Allocate(SizeAt(i))) = 1;
  }
  state.SetItemsProcessed(state.iterations() * 20);
}

// Several threads, one arena; the monotonic resource needs a lock for that.
struct LockedMonotonic {
  std::pmr::monotonic_buffer_resource resource;
  std::mutex mutex;
  void* Allocate(std::size_t bytes) {
    const std::lock_guard<std::mutex> guard(mutex);
    return resource.allocate(bytes, 8);
  }
};

template <typename Source>
void ArenaShared(benchmark::State& state) {
  if (state.thread_index() == 0) shared_source<Source> = std::make_unique<Source>();
  std::size_t i = 0;
  for (auto _ : state) *static_cast<volatile char*>(shared_source<Source>->Allocate(SizeAt(++i))) = 1;
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) shared_source<Source>.reset();
}

// --- Recycling: a buffer of 16 KiB, written to, put back -----------------------------------------------------------

using Buffer = std::vector<char>;

struct NoPool {
  Buffer* Get() { return new Buffer(16384); }
  void Put(Buffer* buffer) { delete buffer; }
};
struct TarnPool {
  tarn::Pool<Buffer> pool{{.make = [] { return new Buffer(16384); }}};
  Buffer* Get() { return pool.Get(); }
  void Put(Buffer* buffer) { pool.Put(buffer); }
};
struct LockedList {
  std::vector<Buffer*> list;
  std::mutex mutex;
  ~LockedList() {
    for (Buffer* buffer : list) delete buffer;
  }
  Buffer* Get() {
    const std::lock_guard<std::mutex> guard(mutex);
    if (list.empty()) return new Buffer(16384);
    Buffer* buffer = list.back();
    list.pop_back();
    return buffer;
  }
  void Put(Buffer* buffer) {
    const std::lock_guard<std::mutex> guard(mutex);
    list.push_back(buffer);
  }
};

template <typename Source>
void Recycle(benchmark::State& state) {
  if (state.thread_index() == 0) shared_source<Source> = std::make_unique<Source>();
  for (auto _ : state) {
    Buffer* buffer = shared_source<Source>->Get();
    (*buffer)[0] = 1;
    benchmark::DoNotOptimize(buffer->data());
    shared_source<Source>->Put(buffer);
  }
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) shared_source<Source>.reset();
}

void RegisterChurn() {
  benchmark::RegisterBenchmark("churn/tarn::ObjectPool", Churn<TarnObjectPool>)->Threads(1)->Threads(4)->UseRealTime();
  benchmark::RegisterBenchmark("churn/tarn::FixedPool", Churn<TarnFixedPool>)->Threads(1)->Threads(4)->UseRealTime();
  benchmark::RegisterBenchmark("churn/tarn::Heap", Churn<TarnHeap>)->Threads(1)->Threads(4)->UseRealTime();
  benchmark::RegisterBenchmark("churn/tarn malloc", Churn<Malloc>)->Threads(1)->Threads(4)->UseRealTime();
  benchmark::RegisterBenchmark("churn/glibc malloc", Churn<Glibc>)->Threads(1)->Threads(4)->UseRealTime();
  benchmark::RegisterBenchmark("churn/pmr unsynchronized", Churn<PmrUnsynchronized>);
  benchmark::RegisterBenchmark("churn/pmr synchronized", Churn<PmrSynchronized>)->Threads(1)->Threads(4)->UseRealTime();
  if (Mimalloc::malloc != nullptr) {
    benchmark::RegisterBenchmark("churn/mimalloc", Churn<Mimalloc>)->Threads(1)->Threads(4)->UseRealTime();
    benchmark::RegisterBenchmark("churn/mimalloc heap", Churn<MimallocHeap>);
  }
#if BENCH_WITH_BOOST
  benchmark::RegisterBenchmark("churn/boost::pool", Churn<BoostPool>);
  benchmark::RegisterBenchmark("churn/boost::object_pool", Churn<BoostObjectPool>);
#endif
}

void RegisterFreeAll() {
  benchmark::RegisterBenchmark("free_all/tarn::ObjectPool", FreeAll<TarnObjectPool>);
  benchmark::RegisterBenchmark("free_all/tarn::Heap", FreeAll<TarnHeap>);
  benchmark::RegisterBenchmark("free_all/pmr unsynchronized", FreeAll<PmrUnsynchronized>);
  benchmark::RegisterBenchmark("free_all/pmr synchronized", FreeAll<PmrSynchronized>);
  if (Mimalloc::malloc != nullptr) {
    benchmark::RegisterBenchmark("free_all/mimalloc heap", FreeAll<MimallocHeap>);
  }
#if BENCH_WITH_BOOST
  benchmark::RegisterBenchmark("free_all/boost::pool", FreeAll<BoostPool>);
#endif
}

void RegisterArenas() {
  benchmark::RegisterBenchmark("arena/tarn::Arena", ArenaRound<TarnArena>);
  benchmark::RegisterBenchmark("arena/tarn::Arena, virtual", ArenaRound<TarnArenaPmr>);
  benchmark::RegisterBenchmark("arena/tarn::ConcurrentArena", ArenaRound<TarnConcurrentArena>);
  benchmark::RegisterBenchmark("arena/pmr monotonic", ArenaRound<PmrMonotonic>);
  benchmark::RegisterBenchmark("arena/pmr monotonic, virtual", ArenaRound<PmrMonotonicVirtual>);
  benchmark::RegisterBenchmark("arena/pmr monotonic, 1 MiB buffer", ArenaRound<PmrMonotonicBuffer>);
  benchmark::RegisterBenchmark("arena/tarn malloc", MallocRound<Malloc>);
  benchmark::RegisterBenchmark("arena/glibc malloc", MallocRound<Glibc>);
  if (Mimalloc::malloc != nullptr) benchmark::RegisterBenchmark("arena/mimalloc", MallocRound<Mimalloc>);
  benchmark::RegisterBenchmark("request/tarn::Arena", ArenaRequest<TarnArena>);
  benchmark::RegisterBenchmark("request/pmr monotonic", ArenaRequest<PmrMonotonic>);
  benchmark::RegisterBenchmark("shared/tarn::ConcurrentArena", ArenaShared<TarnConcurrentArena>)
      ->Threads(1)
      ->Threads(4)
      ->Iterations(20000)
      ->UseRealTime();
  benchmark::RegisterBenchmark("shared/pmr monotonic with a mutex", ArenaShared<LockedMonotonic>)
      ->Threads(1)
      ->Threads(4)
      ->Iterations(20000)
      ->UseRealTime();
}

void RegisterRecycling() {
  benchmark::RegisterBenchmark("recycle/tarn::Pool", Recycle<TarnPool>)->Threads(1)->Threads(4)->UseRealTime();
  benchmark::RegisterBenchmark("recycle/list with a mutex", Recycle<LockedList>)->Threads(1)->Threads(4)->UseRealTime();
  benchmark::RegisterBenchmark("recycle/new and delete", Recycle<NoPool>)->Threads(1)->Threads(4)->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  RegisterArenas();
  RegisterChurn();
  RegisterFreeAll();
  RegisterRecycling();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
