// SPDX-License-Identifier: Apache-2.0
//
// The program that release_test.py asks for memory: it runs on tarn and does one thing for each word that it reads.
// Then it writes "ready" and waits in read(2), which is outside of tarn's code.
//
//   burst       allocates 48 MiB, touches them, frees them; repeats it until tarn keeps the memory, as it does where it
//               is wanted again and again
//   one         allocates and frees once, by the slow paths
//   busy        says ready, then does so every millisecond and reads no more
//   await       waits for a request; forget does so before
//   forget      overwrites the number of a request with the last answered one, as another one who asks may
//   begin       says that the next request has been begun with, as a long service does
//   overrule    waits for a request for another limit, and overwrites it with one of its own
//   tear        does so, and leaves words that do not belong together
//   exec        runs cat in its place
//   old, other, unwritable
//               makes the published block look like that of a version that knows no requests, of a version with another
//               layout, and of a process in which the request cannot be written

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "allocator/include/tarn/snapshot.h"
#include "tests/life/parked_thread.h"

namespace {

constexpr std::size_t kObjectBytes = 300000;

void Burst() {
  constexpr std::size_t kObjects = (std::size_t{48} << 20) / kObjectBytes;
  static void* objects[kObjects];
  for (void*& object : objects) {
    object = std::malloc(kObjectBytes);
    std::memset(object, 1, kObjectBytes);
  }
  for (void* object : objects) std::free(object);
}

std::size_t ResidentBytes() {
  char text[128] = {};
  const int file = open("/proc/self/statm", O_RDONLY);
  static_cast<void>(!read(file, text, sizeof text - 1));
  close(file);
  return std::strtoul(std::strchr(text, ' '), nullptr, 10) * static_cast<std::size_t>(getpagesize());
}

void BurstThatStays() {
  const std::size_t before = ResidentBytes();
  constexpr std::size_t kKept = std::size_t{40} << 20;
  do {
    Burst();
  } while (ResidentBytes() < before + kKept && ResidentBytes() < kKept);
}

[[noreturn]] void Busy() {
  static_cast<void>(!write(STDOUT_FILENO, "ready\n", 6));
  while (true) {
    std::free(std::malloc(kObjectBytes));
    const timespec time = {0, 1'000'000};
    nanosleep(&time, nullptr);
  }
}

// By dlsym: a plain reference would have the linker make a copy of the block in the program.
tarn_snapshot_block* Block() { return static_cast<tarn_snapshot_block*>(dlsym(RTLD_DEFAULT, "tarn_snapshot")); }

tarn_snapshot_release* Words() { return reinterpret_cast<tarn_snapshot_release*>(Block()->release_address); }

void AwaitRequest() {
  while (__atomic_load_n(&Words()->request, __ATOMIC_RELAXED) == Words()->answered) usleep(1000);
}

void OverwriteLimitRequest(std::uint64_t wrong) {
  auto* const words = reinterpret_cast<tarn_snapshot_limit_request*>(Block()->limit_request_address);
  while (__atomic_load_n(&words->request, __ATOMIC_RELAXED) == words->answered) usleep(1000);
  constexpr std::uint64_t kBytes = std::uint64_t{7} << 30;
  __atomic_store_n(&words->request_bytes, kBytes, __ATOMIC_RELAXED);
  __atomic_store_n(&words->check, TARN_SNAPSHOT_LIMIT_CHECK(words->request, kBytes) + wrong, __ATOMIC_RELAXED);
  if (wrong == 0) std::free(std::malloc(kObjectBytes));
}

}  // namespace

int main() {
  tarn_test::ParkAThread();   // Without one, there is no scavenger.
  std::free(std::malloc(1));  // A process that has not allocated does not count as one that uses tarn.
  char text[32];
  while (write(STDOUT_FILENO, "ready\n", 6) == 6) {
    const ssize_t length = read(STDIN_FILENO, text, sizeof text);
    if (length <= 1) return 0;
    const std::string_view word(text, static_cast<std::size_t>(length) - 1);
    if (word == "burst") BurstThatStays();
    if (word == "one") std::free(std::malloc(kObjectBytes));
    if (word == "busy") Busy();
    if (word == "await" || word == "forget") AwaitRequest();
    if (word == "forget") __atomic_store_n(&Words()->request, Words()->answered, __ATOMIC_RELAXED);
    if (word == "begin") __atomic_store_n(&Words()->begun, Words()->answered + 1, __ATOMIC_RELAXED);
    if (word == "overrule") OverwriteLimitRequest(0);
    if (word == "tear") OverwriteLimitRequest(1);
    if (word == "exec") execl("/bin/cat", "cat", nullptr);
    if (word == "old") Block()->release_address = Block()->limit_request_address = 0;
    if (word == "other") Block()->version = 99;
    if (word == "unwritable") {
      void* const page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      Block()->release_address = Block()->limit_request_address = reinterpret_cast<std::uintptr_t>(page);
    }
  }
}
