// Two threads: one allocates, the other frees.
//
// Stands for pipelines and thread pools that hand objects over. Objects of 16 to 256 bytes travel in batches of 100
// through a ring without locks, so that the allocator is what is measured. A fixed amount of work; prints nanoseconds
// per object of wall time. Preload the malloc to measure.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kBatch = 100;
constexpr std::size_t kRing = 64;

struct Ring {
  void* batches[kRing][kBatch];
  alignas(64) std::atomic<std::size_t> produced = 0;
  alignas(64) std::atomic<std::size_t> consumed = 0;
};
Ring ring;

}  // namespace

int main(int argc, char** argv) {
  const std::size_t batches = argc > 1 ? static_cast<std::size_t>(std::atoll(argv[1])) : 200000;
  const auto start = std::chrono::steady_clock::now();
  std::thread consumer([batches] {
    for (std::size_t b = 0; b < batches; ++b) {
      while (ring.produced.load(std::memory_order_acquire) == b) std::this_thread::yield();
      for (void* object : ring.batches[b % kRing]) std::free(object);
      ring.consumed.store(b + 1, std::memory_order_release);
    }
  });
  std::size_t size = 16;
  for (std::size_t b = 0; b < batches; ++b) {
    while (b - ring.consumed.load(std::memory_order_acquire) >= kRing) std::this_thread::yield();
    for (void*& object : ring.batches[b % kRing]) {
      object = std::malloc(size);
      *static_cast<volatile char*>(object) = 1;
      size = size >= 256 ? 16 : size + 16;
    }
    ring.produced.store(b + 1, std::memory_order_release);
  }
  consumer.join();
  const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - start;
  std::printf("%.2f\n", elapsed.count() / static_cast<double>(batches * kBatch));
}
