// SPDX-License-Identifier: Apache-2.0
//
// A program that is ended by its sandbox for any system call but a few: it has allocated its first
// quarter of a megabyte, and goes on. It makes and uses pools, arenas and heaps of each kind, too.
//
// The filter allows what docs/memory-return.md promises for then, under "Sandboxes", and what libc itself needs to
// start and join threads. strace -f shows the call that a process which ended by SIGSYS made last.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/limits.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/life/process.h"

namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr double kSeconds = tarn_test::kPatienceSeconds;
constexpr int kNothingToTest = 77;

// Where the kernel reads its clock by no memory that a process can see, the vDSO makes the system call.
bool ClockNeedsCall() {
  std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string name;
  file >> name;
  return name != "tsc" && name != "kvm-clock";
}

void EnterSandbox(bool with_threads, bool clock_needs_call) {
  std::vector<uint32_t> allowed = {SYS_mmap,   SYS_munmap, SYS_mprotect,   SYS_madvise,
                                   SYS_mremap, SYS_futex,  SYS_exit_group, SYS_write};
  if (with_threads) {
    for (const int number : {SYS_membarrier, SYS_clone, SYS_clone3, SYS_rseq, SYS_set_robust_list, SYS_rt_sigprocmask,
                             SYS_rt_sigaction, SYS_exit}) {
      allowed.push_back(static_cast<uint32_t>(number));
    }
  }
  if (clock_needs_call) allowed.push_back(SYS_clock_gettime);
  std::vector<sock_filter> filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const uint32_t number : allowed) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
  TARN_LIFE_REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(kNothingToTest);
}

// Objects of all sizes, many of them in use at the same time, which come and go in several ways.
void Work(unsigned seed, size_t total_bytes) {
  std::vector<char*> objects;
  unsigned random = seed;
  size_t bytes = 0;
  while (bytes < total_bytes) {
    random = random * 1664525 + 1013904223;
    const unsigned draw = random >> 8;
    const size_t size = draw % 16 == 0 ? draw % (3 * kMiB) : draw % 2 == 0 ? draw % 6000 : draw % 100;
    char* object = static_cast<char*>(draw % 7 == 0   ? calloc(1, size + 1)
                                      : draw % 7 == 1 ? aligned_alloc(64, (size + 64) / 64 * 64)
                                                      : malloc(size + 1));
    TARN_LIFE_REQUIRE(object != nullptr);
    memset(object, 1, size + 1);
    bytes += size + 1;
    if (draw % 5 == 0) {
      object = static_cast<char*>(realloc(object, size * 2 + 100));
      TARN_LIFE_REQUIRE(object != nullptr);
    }
    objects.push_back(object);
  }
  for (char* object : objects) free(object);
}

struct Buffer {
  char bytes[2000] = {};
};

// Calls that hit, that miss, and that end an epoch.
void UsePool(tarn::Pool<Buffer>& pool, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    std::vector<Buffer*> some(round % 4 == 0 ? 300 : 3);
    for (Buffer*& buffer : some) buffer = pool.Get();
    for (Buffer* buffer : some) pool.Put(buffer);
    if (round % 50 == 0) pool.Tick();
    if (round % 50 == 25) tarn::BackgroundTick();
  }
}

// Pools of each kind, arenas and heaps, made and used here.
void UseAllKinds(int rounds) {
  tarn::Pool<Buffer> pool({.name = "of a thread", .epoch_ms = 1});
  UsePool(pool, rounds);
  for (int round = 0; round < 3; ++round) {
    tarn::ObjectPool<Buffer> objects("objects");
    for (int i = 0; i < 2000; ++i) objects.Destroy(objects.Create());
    for (int i = 0; i < 2000; ++i) TARN_LIFE_REQUIRE(objects.Create() != nullptr);
    objects.DestroyAll();
    tarn::FixedPool blocks(64, 500);
    for (int i = 0; i < 500; ++i) TARN_LIFE_REQUIRE(blocks.Allocate() != nullptr);
    tarn::ConcurrentArena arena;
    for (int i = 0; i < 3000; ++i) TARN_LIFE_REQUIRE(arena.Allocate(1000) != nullptr);
    arena.Reset();
    tarn::Heap heap;
    for (size_t i = 0; i < 3000; ++i) heap.Free(heap.Allocate(i % 1000 + 1));
    for (size_t i = 0; i < 100; ++i) TARN_LIFE_REQUIRE(heap.Allocate(100'000) != nullptr);
    tarn::ArenaOptions options = {};
    options.checked = true;
    tarn::Arena checked(options);
    TARN_LIFE_REQUIRE(checked.Allocate(5000, 16) != nullptr);
    checked.Reset();
  }
}

template <typename Work>
void Beside(bool with_threads, const Work& work) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; with_threads && i < 4; ++i) threads.emplace_back(work, i);
  work(10);
  for (std::thread& thread : threads) thread.join();
}

void WorkThrough(bool with_threads, tarn::Pool<Buffer>& early_pool) {
  tarn::Pool<Buffer> late_pool({.epoch_ms = 1});
  for (unsigned round = 1; round <= 2; ++round) {
    Work(round, 300 * kMiB);
    Beside(with_threads, [](unsigned i) { Work(i + 10, 30 * kMiB); });
    // Grows until its pages move.
    char* large = static_cast<char*>(malloc(9 * kMiB));
    memset(large, 1, 9 * kMiB);
    for (const size_t size : {40 * kMiB, 200 * kMiB, 700 * kMiB}) {
      large = static_cast<char*>(realloc(large, size));
      TARN_LIFE_REQUIRE(large != nullptr && large[9 * kMiB - 1] == 1);
    }
    free(large);
    free(calloc(1, 600 * kMiB));
    Beside(with_threads, [&](unsigned) {
      UsePool(early_pool, 200);
      UsePool(late_pool, 200);
      UseAllKinds(200);
    });
    malloc_trim(0);
  }
}

}  // namespace

int main() {
  const bool clock_needs_call = ClockNeedsCall();
  for (const bool with_threads : {false, true}) {
    const std::string what_happened = tarn_test::InChild(kSeconds, [&] {
      // Small, so that the first quarter of a megabyte is not one object.
      std::vector<void*> first(kMiB / 4 / 1024);
      for (void*& object : first) memset(object = malloc(1024), 1, 1024);
      for (void* object : first) free(object);
      tarn::Pool<Buffer> early_pool({.name = "early", .epoch_ms = 1});
      EnterSandbox(with_threads, clock_needs_call);
      WorkThrough(with_threads, early_pool);
    });
    if (what_happened == "exit code 77") return kNothingToTest;
    if (!what_happened.empty()) {
      fprintf(stderr, "in a sandbox, %s threads: %s\n", with_threads ? "with" : "without", what_happened.c_str());
      return 1;
    }
  }
  return 0;
}
