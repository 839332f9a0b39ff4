// SPDX-License-Identifier: Apache-2.0
//
// A program that is ended by its sandbox for any system call but a few: it has allocated its first
// quarter of a megabyte, and goes on.
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
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "allocator/include/tarn/arena.h"
#include "allocator/include/tarn/pool.h"
#include "tests/life/process.h"

namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr double kSeconds = 60;
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
    for (const uint32_t number : {SYS_membarrier, SYS_clone, SYS_clone3, SYS_rseq, SYS_set_robust_list,
                                  SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_exit}) {
      allowed.push_back(number);
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

// Without threads, for with them a pool has a thread of its own.
void UsePool(tarn_pool* pool) {
  for (int i = 0; i < 100; ++i) {
    void* object = tarn_pool_get(pool);
    if (object == nullptr) object = malloc(1000);
    tarn_pool_put(pool, object);
    if (i % 10 == 0) tarn_pool_tick(pool);
  }
}

void WorkThrough(bool with_threads, tarn_pool* pool) {
  for (unsigned round = 1; round <= 2; ++round) {
    Work(round, 300 * kMiB);
    if (with_threads) {
      std::vector<std::thread> threads;
      for (unsigned i = 0; i < 4; ++i) threads.emplace_back(Work, i + 10, 30 * kMiB);
      for (std::thread& thread : threads) thread.join();
    }
    // Grows until its pages move.
    char* large = static_cast<char*>(malloc(9 * kMiB));
    memset(large, 1, 9 * kMiB);
    for (const size_t size : {40 * kMiB, 200 * kMiB, 700 * kMiB}) {
      large = static_cast<char*>(realloc(large, size));
      TARN_LIFE_REQUIRE(large != nullptr && large[9 * kMiB - 1] == 1);
    }
    free(large);
    free(calloc(1, 600 * kMiB));
    tarn::Arena arena;
    for (int i = 0; i < 1000; ++i) TARN_LIFE_REQUIRE(arena.Allocate(5000, 16) != nullptr);
    arena.Reset();
    if (!with_threads) UsePool(pool);
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
      tarn_pool_options options = {};
      options.drop = [](void* object, void*) { free(object); };
      tarn_pool* const pool = tarn_pool_create(&options);
      TARN_LIFE_REQUIRE(pool != nullptr);
      EnterSandbox(with_threads, clock_needs_call);
      WorkThrough(with_threads, pool);
    });
    if (what_happened == "exit code 77") return kNothingToTest;
    if (!what_happened.empty()) {
      fprintf(stderr, "in a sandbox, %s threads: %s\n", with_threads ? "with" : "without", what_happened.c_str());
      return 1;
    }
  }
  return 0;
}
