// SPDX-License-Identifier: Apache-2.0
//
// A program with known stacks of every kind, for profile_pprof_test.py, which finds the lines by the words behind //@.
//
// It prints one line per stack, the object's size and the calls in hexadecimal, then waits until its input ends.

#include <execinfo.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <functional>

#define NOINLINE __attribute__((noinline))
#define INLINE __attribute__((always_inline))

// Keeps a call from becoming a jump, which would leave no frame.
#define KEEP_FRAME() __asm__ volatile("")

NOINLINE void Record(int size) {
  void* calls[64];
  const int count = backtrace(calls, 64);
  std::printf("%d", size);
  // Frame 0 is this function; the others are return addresses.
  for (int i = 1; i < count; ++i) std::printf(" %lx", reinterpret_cast<unsigned long>(calls[i]) - 1);
  std::printf("\n");
}

template <typename T>
class Store {
 public:
  INLINE inline void Insert(T value) {
    Record(static_cast<int>(sizeof(T)) * value);  //@ insert
    KEEP_FRAME();
  }
  NOINLINE void Grow(T value) {
    Insert(value);  //@ grow
    KEEP_FRAME();
  }
};

namespace {

// Internal and inlined everywhere: neither DWARF nor the table of symbols has a name for the linker.
INLINE inline void Helper(Store<int>* store) {
  store->Insert(25);  //@ helper
}

NOINLINE void Build(Store<int>* store) {
  store->Grow(16);  //@ build-grow
  Helper(store);    //@ build-helper
  KEEP_FRAME();
}

}  // namespace

extern "C" NOINLINE void plain_c_function(Store<int>* store) {
  store->Grow(50);  //@ c
  KEEP_FRAME();
}

// Stacks whose innermost call is in memory that the program made executable, as a compiler at run time does.
void RecordMade() {
  const void* made = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::printf("300 %lx %lx\n", reinterpret_cast<unsigned long>(made) + 16, reinterpret_cast<unsigned long>(&Build));
}

int main() {
  Store<int> store;
  Build(&store);
  plain_c_function(&store);
  const auto lambda = [&](int value) INLINE {
    store.Insert(value);  //@ lambda
  };
  lambda(125);  //@ main-lambda
  const std::function<void()> call = [&] {
    store.Grow(200);  //@ function
    KEEP_FRAME();
  };
  call();
  RecordMade();
  std::printf("end\n");
  std::fflush(stdout);
  return std::getchar() == 0;
}
