// SPDX-License-Identifier: Apache-2.0
//
// A program whose allocations are known, for trace_test.py to record. Its sizes are its own, so that the test can tell
// its events from those of libc. No stdio, no containers.
//
// usage: trace_program plain | throws | threads | fork | killed
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

constexpr unsigned kObjects = 5000;
void* handed_over[kObjects];

// One call of each kind. The test knows them by heart.
void Plain() {
  void* first = std::malloc(70001);
  void* second = std::calloc(3, 70002);
  void* third = std::aligned_alloc(512, 70144);
  first = std::realloc(first, 170001);
  std::free(second);
  void* fourth = nullptr;
  if (posix_memalign(&fourth, 64, 70004) != 0) std::abort();
  std::free(third);
  auto* fifth = static_cast<char*>(::operator new(70005));
  void* sixth = ::operator new (70016, std::align_val_t{32});
  ::operator delete (sixth, std::size_t{70016}, std::align_val_t{32});
  ::operator delete (fifth, std::size_t{70005});
  // Fails, so that there is nothing to record.
  if (std::malloc(SIZE_MAX / 2) != nullptr || std::realloc(first, SIZE_MAX / 2) != nullptr) std::abort();
  first = reallocarray(first, 10, 17001);
  std::free(fourth);
  std::free(first);
  void* kept = std::malloc(70006);
  asm volatile("" : : "r"(kept) : "memory");
}

// The exception comes through the recorder.
void Throws() {
  try {
    ::operator delete(::operator new(SIZE_MAX / 2));
    std::abort();
  } catch (const std::bad_alloc&) {
    std::free(std::malloc(70001));
  }
}

void* Consume(void* /*argument*/) {
  for (void*& object : handed_over) {
    void* waiting;
    while ((waiting = __atomic_load_n(&object, __ATOMIC_ACQUIRE)) == nullptr) continue;
    std::free(waiting);
  }
  return nullptr;
}

// All objects of one thread are freed by another.
void Threads() {
  pthread_t consumer;
  if (pthread_create(&consumer, nullptr, Consume, nullptr) != 0) std::abort();
  for (void*& object : handed_over) __atomic_store_n(&object, std::malloc(777), __ATOMIC_RELEASE);
  pthread_join(consumer, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  if (std::strcmp(what, "plain") == 0) {
    Plain();
  } else if (std::strcmp(what, "throws") == 0) {
    Throws();
  } else if (std::strcmp(what, "threads") == 0) {
    Threads();
  } else if (std::strcmp(what, "fork") == 0) {
    void* object = std::malloc(70001);
    const pid_t child = fork();
    if (child == 0) {
      // Neither of these belongs to the parent's trace.
      std::free(std::malloc(70002));
      std::free(object);
      _exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) std::abort();
    std::free(object);
  } else if (std::strcmp(what, "killed") == 0) {
    void* object = std::malloc(70001);
    std::free(object);
    std::raise(SIGKILL);
  } else {
    return 2;
  }
  return 0;
}
