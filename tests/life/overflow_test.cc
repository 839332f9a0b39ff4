// SPDX-License-Identifier: Apache-2.0
//
// A program that recovers from overflows of its stack: its handler of SIGSEGV, on an alternate stack, jumps back by
// siglongjmp. Most overflows strike in malloc, which a recursion calls at every depth.

#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>

#include <cstddef>
#include <cstring>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/expect_child.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;
constexpr std::size_t kStackBytes = 256 << 10;
constexpr unsigned kRounds = 50;
constexpr unsigned kBottomless = 1 << 30;

thread_local sigjmp_buf t_back;

constexpr int kHeld = 3000;
constexpr std::size_t kHeldBytes = 20000;
thread_local void* t_held[kHeld];
thread_local int t_held_count;

void Jump(int) { siglongjmp(t_back, 1); }

// Frames of changing size, so that the end of the stack is met at every offset of the frames in malloc; sizes of all
// kinds, so that it is met in all slow paths.
[[gnu::noinline]] std::size_t Recurse(unsigned round, unsigned depth) {
  const std::size_t size = depth % 61 == round % 61 ? 300000 : 16 + (depth * 37 + round * 11) % 9000;
  const std::size_t frame_bytes = 16 + round % 32 * 16;
  auto* const frame = static_cast<volatile char*>(__builtin_alloca(frame_bytes));
  frame[0] = 1;
  void* object = Opaque(malloc(size));
  TARN_LIFE_REQUIRE(object != nullptr);
  if (depth % 3 == 0) free(object);
  // The heap's use falls all the time, so that memory is given back at every depth.
  for (int i = 0; i < 3 && t_held_count > 0; ++i) free(t_held[--t_held_count]);
  if (depth == kBottomless) return 0;
  return Recurse(round, depth + 1) + static_cast<std::size_t>(frame[0]);
}

void* Recover(void* argument) {
  static thread_local char alternate[64 << 10];
  stack_t stack = {};
  stack.ss_sp = alternate;
  stack.ss_size = sizeof(alternate);
  TARN_LIFE_REQUIRE(sigaltstack(&stack, nullptr) == 0);
  const auto seed = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(argument));
  // In memory, since a jump brings back old registers.
  static thread_local unsigned round;
  for (round = 0; round < kRounds; ++round) {
    while (t_held_count < kHeld) {
      void* object = Opaque(malloc(kHeldBytes));
      TARN_LIFE_REQUIRE(object != nullptr);
      memset(object, 1, kHeldBytes);
      t_held[t_held_count++] = object;
    }
    if (sigsetjmp(t_back, 1) == 0) Opaque(Recurse(round + seed, 0));
    // The thread has all that it had before.
    void* object = Opaque(malloc(500000));
    TARN_LIFE_REQUIRE(object != nullptr);
    free(object);
  }
  return nullptr;
}

TEST(Overflow, InMallocIsRecoveredFrom) {
  ExpectGoodEnd(kBodySeconds, [] {
    struct sigaction action = {};
    action.sa_handler = Jump;
    action.sa_flags = SA_ONSTACK;
    TARN_LIFE_REQUIRE(sigaction(SIGSEGV, &action, nullptr) == 0);
    pthread_attr_t attributes;
    TARN_LIFE_REQUIRE(pthread_attr_init(&attributes) == 0);
    TARN_LIFE_REQUIRE(pthread_attr_setstacksize(&attributes, kStackBytes) == 0);
    pthread_t threads[2];
    for (std::uintptr_t i = 0; i < 2; ++i) {
      TARN_LIFE_REQUIRE(pthread_create(&threads[i], &attributes, Recover, reinterpret_cast<void*>(i * 7)) == 0);
    }
    for (pthread_t thread : threads) TARN_LIFE_REQUIRE(pthread_join(thread, nullptr) == 0);
    // Takes all locks.
    malloc_trim(0);
  });
}

}  // namespace
}  // namespace tarn_test
