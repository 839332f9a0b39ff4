// SPDX-License-Identifier: Apache-2.0
//
// A program that defines functions of libc which ask the kernel, as libfaketime, sandboxes and recorders do: each
// allocates before it passes the call on. tarn must call none of them, for its slow paths may hold a lock or be a
// thread that libc does not know; and they must get their memory.

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace {

std::atomic<int> calls = 0;
std::atomic<int> calls_of_tarn = 0;
std::atomic<int> nulls = 0;
std::atomic<const char*> last_call = "none";
thread_local bool inside = false;

void Note(const char* name, const void* caller) {
  if (inside) return;
  inside = true;
  calls.fetch_add(1);
  Dl_info info = {};
  if (dladdr(caller, &info) != 0 && info.dli_fname != nullptr && strstr(info.dli_fname, "libtarn") != nullptr) {
    calls_of_tarn.fetch_add(1);
    last_call = name;
  }
  void* const object = malloc(3000 + static_cast<std::size_t>(calls.load()) % 2000);
  object == nullptr ? static_cast<void>(nulls.fetch_add(1)) : static_cast<void>(memset(object, 1, 3000));
  free(object);
  inside = false;
}

}  // namespace

// libc's headers say noexcept of some.
#pragma GCC diagnostic ignored "-Wmissing-declarations"
#define TARN_NOTE(name) Note(name, __builtin_return_address(0))

extern "C" {

void* mmap(void* start, std::size_t bytes, int protection, int flags, int descriptor, off_t offset) noexcept {
  TARN_NOTE("mmap");
  return reinterpret_cast<void*>(syscall(SYS_mmap, start, bytes, protection, flags, descriptor, offset));
}
int munmap(void* start, std::size_t bytes) noexcept {
  TARN_NOTE("munmap");
  return static_cast<int>(syscall(SYS_munmap, start, bytes));
}
int mprotect(void* start, std::size_t bytes, int protection) noexcept {
  TARN_NOTE("mprotect");
  return static_cast<int>(syscall(SYS_mprotect, start, bytes, protection));
}
int madvise(void* start, std::size_t bytes, int advice) noexcept {
  TARN_NOTE("madvise");
  return static_cast<int>(syscall(SYS_madvise, start, bytes, advice));
}
int mincore(void* start, std::size_t bytes, unsigned char* resident) noexcept {
  TARN_NOTE("mincore");
  return static_cast<int>(syscall(SYS_mincore, start, bytes, resident));
}
int clock_gettime(clockid_t clock, struct timespec* time) noexcept {
  TARN_NOTE("clock_gettime");
  return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
}
pid_t getpid() noexcept {
  TARN_NOTE("getpid");
  return static_cast<pid_t>(syscall(SYS_getpid));
}
int sched_yield() noexcept {
  TARN_NOTE("sched_yield");
  return static_cast<int>(syscall(SYS_sched_yield));
}
int prctl(int operation, ...) noexcept {
  TARN_NOTE("prctl");
  va_list list;
  va_start(list, operation);
  unsigned long words[4];
  for (unsigned long& word : words) word = va_arg(list, unsigned long);
  va_end(list);
  return static_cast<int>(syscall(SYS_prctl, operation, words[0], words[1], words[2], words[3]));
}
ssize_t write(int descriptor, const void* bytes, std::size_t count) {
  TARN_NOTE("write");
  return syscall(SYS_write, descriptor, bytes, count);
}
ssize_t read(int descriptor, void* bytes, std::size_t count) {
  TARN_NOTE("read");
  return syscall(SYS_read, descriptor, bytes, count);
}

}  // extern "C"

namespace {

constexpr std::size_t kObjectBytes = 60000;
constexpr std::size_t kObjects = 500;

// Brings memory in and gives it back: what is freed first, beyond what stays warm, goes back in slow paths or, where it
// is asked for, by tarn's thread.
void Burst() {
  static thread_local void* objects[kObjects];
  for (int round = 0; round < 4; ++round) {
    for (void*& object : objects) {
      object = malloc(kObjectBytes);
      if (object == nullptr) abort();
      memset(object, 1, kObjectBytes);
    }
    void* large = malloc(std::size_t{40} << 20);
    large = realloc(large, std::size_t{80} << 20);
    memset(large, 1, 4096);
    for (void* object : objects) free(object);
    free(large);
    usleep(20000);
  }
}

}  // namespace

int main() {
  Burst();
  std::thread(&Burst).join();
  std::thread others[2] = {std::thread(&Burst), std::thread(&Burst)};
  for (std::thread& other : others) other.join();
  getpid();
  if (calls.load() == 0) {
    fputs("FAILED: the program's own functions were not called at all\n", stderr);
    return 1;
  }
  if (calls_of_tarn.load() != 0 || nulls.load() != 0) {
    fprintf(stderr, "FAILED: %d calls came from tarn, the last to %s; %d allocations in them gave null\n",
            calls_of_tarn.load(), last_call.load(), nulls.load());
    return 1;
  }
  return 0;
}
