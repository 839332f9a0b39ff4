// SPDX-License-Identifier: Apache-2.0
//
// A circle of threads: each allocates batches for the next one and frees those of the one before.
//
// Stands for stages of a service that both make and consume messages: every thread allocates as much as it frees, and
// not one object is freed by the thread that allocated it. Handing over is a lock-free exchange of one pointer per
// batch.
#include <atomic>
#include <memory>

#include "bench/workloads/workload.h"

namespace {

constexpr std::size_t kBatch = 100;
constexpr std::size_t kSlots = 16;

struct Batch {
  void* objects[kBatch];
};

// From one thread to the next one. A slot is null while it is empty.
struct Link {
  alignas(64) std::atomic<Batch*> slots[kSlots];
};

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Threads in a circle, each frees what the one before has allocated.");
  const std::uint64_t batches = arguments.Scaled(600'000);
  const std::uint64_t threads = arguments.Number("threads", 2, 2, 256, "threads, which share the work");
  const bool mixed = arguments.Choice("sizes", {"64", "mixed"}, "bytes of the objects, 64 or 16 to 8192") == 1;
  arguments.Finish();

  const workload::Sizes sizes = mixed ? workload::Sizes::Pareto(16, 8192) : workload::Sizes::Fixed(64);
  const std::unique_ptr<Link[]> links(new Link[threads]());
  const std::uint64_t rounds = batches / threads + 1;

  const workload::Stopwatch watch;
  const std::uint64_t checksum = workload::RunThreads(threads, [&](std::uint64_t self) {
    Link& out = links[self];
    Link& in = links[(self + threads - 1) % threads];
    std::uint64_t sum = 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    while (sent < rounds || received < rounds) {
      bool moved = false;
      if (sent < rounds) {
        std::atomic<Batch*>& slot = out.slots[sent % kSlots];
        if (slot.load(std::memory_order_acquire) == nullptr) {
          auto* batch = static_cast<Batch*>(workload::Allocate(sizeof(Batch)));
          for (std::size_t i = 0; i < kBatch; ++i) {
            const std::uint64_t id = sent * kBatch + i;
            batch->objects[i] = workload::Allocate(sizes[id]);
            workload::Stamp(batch->objects[i], sizes[id], id ^ self << 40);
          }
          slot.store(batch, std::memory_order_release);
          ++sent;
          moved = true;
        }
      }
      if (received < rounds) {
        std::atomic<Batch*>& slot = in.slots[received % kSlots];
        if (Batch* batch = slot.load(std::memory_order_acquire)) {
          slot.store(nullptr, std::memory_order_release);
          for (std::size_t i = 0; i < kBatch; ++i) {
            sum += workload::Release(batch->objects[i], sizes[received * kBatch + i]);
          }
          std::free(batch);
          ++received;
          moved = true;
        }
      }
      if (!moved) workload::Yield();
    }
    return sum;
  });

  workload::Metrics metrics;
  workload::AddSpeed(metrics, rounds * threads * (kBatch + 1), threads, watch.Seconds());
  return workload::Report(checksum, metrics);
}
