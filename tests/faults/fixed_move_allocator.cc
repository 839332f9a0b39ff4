// SPDX-License-Identifier: Apache-2.0
//
// An allocator that moves large objects by mremap(MREMAP_FIXED), and goes on with its destination after the call has
// failed. It proves that fault_injector finds such things: as tarn did, up to a crash on Linux 6.1.
//
// Preloaded into fault_workload in place of tarn. It is glibc's malloc (under the names that glibc exports for that),
// but for objects of a MiB or more, which only the main thread of the workload has.

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

extern "C" {

void* __libc_malloc(std::size_t size);
void* __libc_realloc(void* object, std::size_t size);
void __libc_free(void* object);

}  // extern "C"

namespace {

constexpr std::size_t kMappedBytes = std::size_t{1} << 20;
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kMostObjects = 64;

struct Mapped {
  char* start;
  std::size_t bytes;
};
Mapped mapped_objects[kMostObjects];

Mapped* Find(void* object) {
  for (Mapped& mapped : mapped_objects) {
    if (mapped.start == object) return &mapped;
  }
  return nullptr;
}

void* Map(std::size_t size) {
  const std::size_t bytes = (size + kPageBytes - 1) / kPageBytes * kPageBytes;
  Mapped* const place = Find(nullptr);
  if (place == nullptr) return nullptr;
  void* const start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  *place = {static_cast<char*>(start), bytes};
  return start;
}

void Move(char* from, char* to, std::size_t bytes) {
  constexpr int kDontUnmap = 4;
  if (bytes > kPageBytes) {
    if (mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | kDontUnmap, to) != MAP_FAILED) return;
    if (errno == EFAULT) {
      const std::size_t half = bytes / 2 / kPageBytes * kPageBytes;
      Move(from, to, half);
      Move(from + half, to + half, bytes - half);
      return;
    }
  }
  std::memcpy(to, from, bytes);
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) { return size >= kMappedBytes ? Map(size) : __libc_malloc(size); }

void free(void* object) {
  Mapped* const mapped = object == nullptr ? nullptr : Find(object);
  if (mapped == nullptr) return __libc_free(object);
  const int error = errno;
  munmap(mapped->start, mapped->bytes);
  errno = error;
  *mapped = {};
}

void* realloc(void* object, std::size_t size) {
  Mapped* const mapped = object == nullptr ? nullptr : Find(object);
  if (mapped == nullptr && (object == nullptr || size < kMappedBytes)) {
    return object == nullptr ? malloc(size) : __libc_realloc(object, size);
  }
  if (mapped != nullptr && size <= mapped->bytes) return object;
  void* const to = Map(size);
  if (to == nullptr) return nullptr;
  if (mapped != nullptr) {
    Move(mapped->start, static_cast<char*>(to), mapped->bytes);
  } else {
    std::memcpy(to, object, std::min(malloc_usable_size(object), size));
  }
  free(object);
  return to;
}

}  // extern "C"
