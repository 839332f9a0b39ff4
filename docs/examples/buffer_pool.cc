// SPDX-License-Identifier: Apache-2.0
//
// The buffer pool of the Go articles on sync.Pool: requests that each need a buffer, with and without a pool.
#include <tarn/pool.h>

#include <chrono>
#include <cstdio>
#include <vector>

namespace {

using Buffer = std::vector<char>;

constexpr int kRequests = 100000;
constexpr std::size_t kBufferBytes = 16384;

long allocations = 0;

Buffer* NewBuffer() {
  ++allocations;
  auto* buffer = new Buffer;
  buffer->reserve(kBufferBytes);
  return buffer;
}

// The work of a request on its buffer.
void Handle(Buffer& buffer, int request) {
  for (int i = 0; i < 64; ++i) buffer.push_back(static_cast<char>(request + i));
}

template <typename Run>
void Measure(const char* what, Run run) {
  allocations = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int request = 0; request < kRequests; ++request) run(request);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("%-13s %8.2f ms, %6ld allocations, %10zu bytes\n", what, took.count(), allocations,
              static_cast<std::size_t>(allocations) * kBufferBytes);
}

}  // namespace

int main() {
  Measure("without pool:", [](int request) {
    Buffer* buffer = NewBuffer();
    Handle(*buffer, request);
    delete buffer;
  });

  tarn::Pool<Buffer> pool({.name = "buffers",
                           .make = NewBuffer,
                           .reset = [](Buffer& buffer) { buffer.clear(); },
                           .size = [](const Buffer& buffer) { return buffer.capacity(); },
                           .max_object_bytes = 4 * kBufferBytes});
  Measure("with pool:", [&](int request) {
    const auto buffer = pool.Acquire();
    Handle(*buffer, request);
  });
  const tarn_pool_stats stats = pool.Stats();
  std::printf("hits %llu, misses %llu\n", static_cast<unsigned long long>(stats.hits + stats.steals),
              static_cast<unsigned long long>(stats.misses));
  // The pool may lose a buffer to another CPU now and then, no more.
  return allocations < 100 ? 0 : 1;
}
