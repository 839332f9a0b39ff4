// SPDX-License-Identifier: Apache-2.0
//
// A thread that makes its process one with threads, and does nothing else.

#ifndef TARN_TESTS_LIFE_PARKED_THREAD_H_
#define TARN_TESTS_LIFE_PARKED_THREAD_H_

#include <pthread.h>
#include <unistd.h>

#include "tests/life/process.h"

namespace tarn_test {

// Once in each process.
inline void ParkAThread() {
  static pid_t has_thread = 0;
  if (has_thread == getpid()) return;
  has_thread = getpid();
  pthread_t thread;
  const auto park = [](void*) -> void* {
    while (true) pause();
    return nullptr;
  };
  TARN_LIFE_REQUIRE(pthread_create(&thread, nullptr, park, nullptr) == 0);
  TARN_LIFE_REQUIRE(pthread_detach(thread) == 0);
}

}  // namespace tarn_test

#endif  // TARN_TESTS_LIFE_PARKED_THREAD_H_
