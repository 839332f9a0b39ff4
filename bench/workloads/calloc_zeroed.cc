// SPDX-License-Identifier: Apache-2.0
//
// Memory that must be zero: small objects, or blocks of 64 MiB after one of the same size was written and freed.
//
// `small` stands for C programs that calloc every structure. `large` stands for hash tables and sparse matrices, of
// which few pages are ever used: an allocator that knows which of its memory is zero writes nothing. One that
// clears 64 MiB pays for it in time and in resident memory.
#include <cstdio>

#include "bench/workloads/workload.h"

namespace {

void* AllocateZeroed(std::size_t count, std::size_t bytes) {
  return workload::Checked(std::calloc(count, bytes), count * bytes);
}

// Ends the process if the word at `offset` is not zero, whatever the checksum would say.
void CheckZero(const void* object, std::size_t offset) {
  if (workload::LoadWord(object, offset) == 0) [[likely]]
    return;
  std::fprintf(stderr, "calloc returned memory that is not zero, %zu bytes from its start\n", offset);
  std::exit(1);
}

int RunSmall(std::uint64_t objects) {
  constexpr std::size_t kWindow = 1000;
  const workload::Sizes sizes = workload::Sizes::Uniform(16, 1024);
  std::vector<void*> window(kWindow);
  std::uint64_t checksum = 0;

  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < objects + kWindow; ++i) {
    void*& object = window[i % kWindow];
    if (object != nullptr) checksum += workload::Release(object, sizes[i - kWindow]);
    object = nullptr;
    if (i >= objects) continue;
    const std::size_t bytes = sizes[i];
    object = AllocateZeroed(1, bytes);
    for (std::size_t offset = 0; offset + 8 <= bytes; offset += 64) CheckZero(object, offset);
    CheckZero(object, bytes - 8);
    workload::Stamp(object, bytes, i);
  }
  for (std::uint64_t i = objects; i < kWindow; ++i) std::free(window[i]);

  workload::Metrics metrics;
  workload::AddSpeed(metrics, objects, 1, watch.Seconds());
  return workload::Report(checksum, metrics);
}

int RunLarge(std::uint64_t rounds) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  // One page of each 256 KiB is used.
  constexpr std::size_t kUsedStrideBytes = 256 << 10;
  std::uint64_t checksum = 0;
  double first_s = 0;
  double after_free_s = 0;
  std::int64_t rss_bytes = 0;

  const workload::Stopwatch watch;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const workload::Stopwatch call;
    void* table = AllocateZeroed(kBytes / 8, 8);
    (round == 0 ? first_s : after_free_s) += call.Seconds();
    for (std::size_t offset = 0; offset < kBytes; offset += kUsedStrideBytes) CheckZero(table, offset);
    workload::Stamp(table, kBytes, round + 1, kUsedStrideBytes);
    if (round + 1 == rounds) rss_bytes = workload::ReadResident().rss_bytes;
    checksum += workload::Release(table, kBytes);

    // All of a block of the same size is written, so that the next one cannot be had from memory that is still zero.
    void* block = workload::Allocate(kBytes);
    workload::Stamp(block, kBytes, round + 1, workload::kPageBytes);
    checksum += workload::Release(block, kBytes);
  }

  workload::Metrics metrics;
  workload::AddSpeed(metrics, rounds, 1, watch.Seconds());
  metrics.Add("calloc_first_ms", first_s * 1e3);
  metrics.Add("calloc_after_free_ms", rounds > 1 ? after_free_s * 1e3 / static_cast<double>(rounds - 1) : 0);
  metrics.Add("rss_of_sparse_table_bytes", static_cast<double>(rss_bytes));
  return workload::Report(checksum, metrics);
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "calloc of small objects, or of 64 MiB that are used sparsely.");
  const bool large = arguments.Choice("size", {"small", "large"}, "16 to 1024 bytes, or 64 MiB") == 1;
  const std::uint64_t amount = arguments.Scaled(large ? 60 : 20'000'000);
  arguments.Finish();
  return large ? RunLarge(amount) : RunSmall(amount);
}
