// SPDX-License-Identifier: Apache-2.0
//
// A program that allocates in every phase of its life, and says on stdout which phases it reached.
// process_test runs it preloaded and linked in three ways; the argument says how it ends, or what
// else it does. It uses nothing of googletest, and no file of tarn, so that it can stand for any
// program.
//
// Every phase verifies all objects of earlier phases, frees one of them and allocates others.

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#include <thread>

#include "tests/life/churn.h"

namespace {

using tarn_test::Churn;
using tarn_test::Fill;
using tarn_test::Holds;

// Objects that outlive the phase that made them. Constant-initialised, because phases come before
// and after all constructors and destructors of C++.
struct Kept {
  void* object;
  size_t size;
};
constexpr size_t kMostKept = 256;
Kept g_kept[kMostKept];
size_t g_kept_count = 0;
// Phases of two threads may meet.
pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;

void Keep(void* object, size_t size) {
  TARN_LIFE_REQUIRE(object != nullptr && g_kept_count < kMostKept);
  Fill(object, g_kept_count, 0, size);
  g_kept[g_kept_count++] = {object, size};
}

void Phase(const char* name) {
  pthread_mutex_lock(&g_lock);
  for (size_t i = 0; i < g_kept_count; ++i) {
    TARN_LIFE_REQUIRE(g_kept[i].object == nullptr || Holds(g_kept[i].object, i, 0, g_kept[i].size));
  }
  for (size_t i = 0; i < g_kept_count; ++i) {
    if (g_kept[i].object == nullptr) continue;
    free(g_kept[i].object);
    g_kept[i].object = nullptr;
    break;
  }
  Keep(malloc(24), 24);
  Keep(calloc(30, 100), 3000);
  Keep(malloc(400000), 400000);
  Keep(memalign(4096, 100), 100);
  Keep(realloc(malloc(10), 70000), 70000);
  Churn churn(1);
  churn.Steps(300);
  dprintf(1, "%s\n", name);
  pthread_mutex_unlock(&g_lock);
}

// The first code of the program that runs, before the constructors of all libraries.
void Preinit() { Phase("preinit"); }
__attribute__((section(".preinit_array"), used)) void (*g_preinit)() = Preinit;

__attribute__((constructor(101))) void FirstConstructor() { Phase("constructor_101"); }
__attribute__((constructor)) void Constructor() { Phase("constructor"); }
__attribute__((destructor)) void Destructor() { Phase("destructor"); }
__attribute__((destructor(101))) void LastDestructor() { Phase("destructor_101"); }

struct StaticObject {
  StaticObject() { Phase("static_constructor"); }
  ~StaticObject() {
    delete[] numbers;
    Phase("static_destructor");
  }
  int* numbers = new int[1000];
};
StaticObject g_static_object;

struct ThreadObject {
  int* numbers = new int[500];
  ~ThreadObject() {
    delete[] numbers;
    Phase("thread_local_destructor");
  }
};
thread_local ThreadObject t_object;

pthread_key_t g_key;
std::atomic<bool> g_key_is_destroyed = false;

void PrepareEnds() {
  TARN_LIFE_REQUIRE(pthread_key_create(&g_key, [](void* value) {
                      free(value);
                      Phase("key_destructor");
                      g_key_is_destroyed = true;
                    }) == 0);
  TARN_LIFE_REQUIRE(pthread_setspecific(g_key, malloc(300)) == 0);
  TARN_LIFE_REQUIRE(atexit([] { Phase("atexit"); }) == 0);
  TARN_LIFE_REQUIRE(at_quick_exit([] { Phase("at_quick_exit"); }) == 0);
}

// All keys that POSIX promises are the program's, also while threads come, allocate and go.
void UseAllKeys() {
  Churn(1).Steps(1000);
  std::thread([] { Churn(2).Steps(1000); }).join();
  static pthread_key_t keys[PTHREAD_KEYS_MAX + 1];
  static std::atomic<size_t> destroyed = 0;
  size_t count = 0;
  while (count <= PTHREAD_KEYS_MAX && pthread_key_create(&keys[count], [](void* value) {
                                        free(value);
                                        free(malloc(50));
                                        ++destroyed;
                                      }) == 0) {
    ++count;
  }
  std::thread([count] {
    for (size_t i = 0; i < count; ++i) {
      TARN_LIFE_REQUIRE(pthread_setspecific(keys[i], malloc(i + 1)) == 0);
    }
    Churn(3).Steps(1000);
  }).join();
  dprintf(1, "keys %zu destroyed %zu\n", count, destroyed.load());
}

// Eight threads with a few MiB each; under a limit of 200 MB the driver starts this.
void RunEightThreads() {
  std::thread threads[8];
  for (size_t i = 0; i < 8; ++i) {
    threads[i] = std::thread([i] {
      Churn small(i, 32 * tarn_test::kKiB);
      small.Steps(20000);
      for (int round = 0; round < 10; ++round) {
        void* large = malloc(3 * tarn_test::kMiB);
        TARN_LIFE_REQUIRE(large != nullptr);
        Fill(large, i, 0, 3 * tarn_test::kMiB);
        small.Steps(500);
        TARN_LIFE_REQUIRE(Holds(large, i, 0, 3 * tarn_test::kMiB));
        free(large);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Phase("eight_threads");
}

[[noreturn]] void BusyThread(uint64_t seed) {
  Churn churn(seed);
  while (true) churn.Step();
}

}  // namespace

int main(int argc, char** argv) {
  const char* way = argc > 1 ? argv[1] : "return";
  const auto is = [way](const char* name) { return strcmp(way, name) == 0; };
  Phase("main");
  if (is("keys")) {
    UseAllKeys();
    return 0;
  }
  if (is("threads")) {
    RunEightThreads();
    return 0;
  }
  if (is("secure")) {
    dprintf(1, "AT_SECURE %lu\n", getauxval(AT_SECURE));
    return 0;
  }
  PrepareEnds();
  // glibc runs the destructors of the main thread's objects in exit, but not in its pthread_exit.
  if (!is("pthread_exit")) t_object.numbers[0] = 1;
  if (is("exit")) exit(0);
  if (is("_exit")) _exit(0);
  if (is("quick_exit")) quick_exit(0);
  if (is("exit_in_thread")) {
    std::thread([] {
      Phase("thread");
      exit(0);
    }).join();
  }
  if (is("pthread_exit")) {
    std::thread([] {
      // Until the main thread's own destructors have run, and it has ended, as a rule.
      while (!g_key_is_destroyed) tarn_test::Sleep(1000);
      tarn_test::Sleep(50000);
      t_object.numbers[0] = 1;
      Churn(1).Steps(3000);
      std::thread([] { Phase("thread_of_a_thread"); }).join();
      Phase("thread_after_main");
    }).detach();
    pthread_exit(nullptr);
  }
  if (is("busy_return")) {
    for (uint64_t i = 0; i < 4; ++i) std::thread(BusyThread, i).detach();
    Churn(9).Steps(2000);
  }
  return 0;
}
