// SPDX-License-Identifier: Apache-2.0
//
// A program whose profiles are written by settings, for profile_dump_test.py: does what the letters of its input say,
// and says "ready" before each.
//
//   k  holds 32 MiB more            c  allocates and frees in two threads until the end
//   h  handles SIGUSR1 by itself    f  forks a child that ends by exit, and waits for it
//   p  sends itself SIGUSR1         x  ends by _exit
//   a  ends by abort                (the end of the input) ends by exit

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/os/signal_frame.h"
#include "tests/tools/inspect/sampling_pace.h"

namespace {

std::vector<void*> held;

// Not faster than the sampler keeps its rate of 32 KiB, on which the test counts.
__attribute__((noinline)) void Keep() {
  for (int i = 0; i < 8192; ++i) {
    if (i % 1024 == 1023) tarn_test::SleepBetween128Samples();
    held.push_back(std::memset(std::malloc(4096), 1, 4096));
  }
}

[[noreturn]] void Churn() {
  std::vector<void*> objects(100);
  for (unsigned i = 0;; ++i) {
    void*& object = objects[i % objects.size()];
    std::free(object);
    object = std::malloc(16 + i * 7919 % 300000);
  }
}

// The kernel's own frame of a handler, which differs from processor to processor (3 KB with AVX-512, 12 KB with AMX),
// and the 4 KiB that docs/statistics-and-profiles.md promises; with a page behind them that nobody may touch.
void UseSmallSignalStack() {
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t stack_bytes = tarn_test::SignalFrameBytes() + 4096;
  const std::size_t room_bytes = (stack_bytes + page_bytes - 1) / page_bytes * page_bytes;
  void* const memory =
      mmap(nullptr, page_bytes + room_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, page_bytes, PROT_NONE) != 0) std::abort();
  stack_t stack = {};
  stack.ss_sp = static_cast<char*>(memory) + page_bytes;
  stack.ss_size = stack_bytes;
  if (sigaltstack(&stack, nullptr) != 0) std::abort();
}

}  // namespace

int main() {
  UseSmallSignalStack();
  held.reserve(1 << 20);
  while (true) {
    std::puts("ready");
    std::fflush(stdout);
    const int letter = std::getchar();
    switch (letter) {
      case 'k':
        Keep();
        break;
      case 'c':
        for (int i = 0; i < 2; ++i) std::thread(Churn).detach();
        break;
      case 'h':
        signal(SIGUSR1, [](int) { static_cast<void>(!write(STDOUT_FILENO, "mine\n", 5)); });
        break;
      case 'p':
        raise(SIGUSR1);
        break;
      case 'f': {
        const pid_t child = fork();
        if (child == 0) std::exit(0);
        waitpid(child, nullptr, 0);
        std::printf("child %d\n", child);
        break;
      }
      case 'x':
        _exit(0);
      case 'a':
        std::abort();
      default:
        return 0;
    }
  }
}
