// SPDX-License-Identifier: Apache-2.0
//
// A library to preload that writes down every malloc and free of a program, for replay_requests.
//
//   REQUEST_TRACE_PREFIX=/tmp/trace. LD_PRELOAD=librecord_requests.so program ...
//
// writes one file for each process, named by the prefix, the program's name and the process id. The program runs on
// glibc's malloc, to which the calls are handed on by its internal names. A forked child that does not exec is not
// recorded. The file is a shared mapping, so that the trace of a program that is killed is whole as well.

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/size_classes/request_trace.h"

extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* object, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
void __libc_free(void* object);
extern char* program_invocation_short_name;
}

namespace {

// 384 MB of address space and of sparse file; what comes after is not recorded.
constexpr std::size_t kMaxEvents = 24'000'000;
constexpr std::size_t kTraceBytes = kMaxEvents * sizeof(tarn::RequestEvent);

std::atomic<tarn::RequestEvent*> events = nullptr;
std::atomic<std::size_t> event_count = 0;

void Start() {
  const char* prefix = std::getenv("REQUEST_TRACE_PREFIX");
  if (prefix == nullptr) return;
  char path[4096];
  std::snprintf(path, sizeof(path), "%s%s.%d", prefix, program_invocation_short_name, getpid());
  const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return;
  if (ftruncate(file, static_cast<off_t>(kTraceBytes)) == 0) {
    void* mapping = mmap(nullptr, kTraceBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapping != MAP_FAILED) events = static_cast<tarn::RequestEvent*>(mapping);
  }
  close(file);
}

// A child inherits the mapping, and must not write into its parent's trace.
void StopInChild() { events = nullptr; }

// The calls before this one, of the loader, are not recorded: the program has no name yet to call the file by.
__attribute__((constructor)) void StartAtConstruction() {
  pthread_atfork(nullptr, nullptr, StopInChild);
  Start();
}

void Record(void* object, std::uint64_t bytes_plus_one) {
  tarn::RequestEvent* trace = events.load(std::memory_order_relaxed);
  if (trace == nullptr || object == nullptr) return;
  const std::size_t index = event_count.fetch_add(1, std::memory_order_relaxed);
  if (index < kMaxEvents) trace[index] = {reinterpret_cast<std::uint64_t>(object), bytes_plus_one};
}

}  // namespace

extern "C" {

void* malloc(std::size_t bytes) {
  void* object = __libc_malloc(bytes);
  Record(object, bytes + 1);
  return object;
}

void* calloc(std::size_t count, std::size_t bytes) {
  void* object = __libc_calloc(count, bytes);
  Record(object, count * bytes + 1);
  return object;
}

// The free of the old object is recorded after the call, so another thread may have got its address in between; the
// replay takes a second allocation of an address as a free, which is close enough.
void* realloc(void* object, std::size_t bytes) {
  void* result = __libc_realloc(object, bytes);
  if (result != nullptr || bytes == 0) Record(object, 0);
  Record(result, bytes + 1);
  return result;
}

void free(void* object) {
  Record(object, 0);
  __libc_free(object);
}

void* memalign(std::size_t alignment, std::size_t bytes) {
  void* object = __libc_memalign(alignment, bytes);
  Record(object, bytes + 1);
  return object;
}

void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** result, std::size_t alignment, std::size_t bytes) {
  void* object = memalign(alignment, bytes);
  if (object == nullptr) return ENOMEM;
  *result = object;
  return 0;
}

// For programs that are linked with a malloc of their own, whose version would look for a header of its own. glibc's
// has the size of the chunk in the word before the object, with three flags in its low bits. A chunk has 16 bytes more
// than the object where it is a mapping, else 8.
std::size_t malloc_usable_size(void* object) {
  if (object == nullptr) return 0;
  const std::size_t chunk_word = static_cast<std::size_t*>(object)[-1];
  const bool is_mapped = (chunk_word & 2) != 0;
  return (chunk_word & ~std::size_t{7}) - (is_mapped ? 16 : 8);
}

}  // extern "C"
