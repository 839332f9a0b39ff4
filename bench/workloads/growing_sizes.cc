// SPDX-License-Identifier: Apache-2.0
//
// Objects that grow from 64 to 4000 bytes, each step a new object: how much memory is held for each live byte?
//
// Stands for strings, buffers and nodes that are rebuilt a little larger, in random order. The sizes that they leave
// behind are used by nothing afterwards. So it shows how much of the memory of one size serves another.
#include <algorithm>
#include <utility>

#include "bench/workloads/workload.h"

namespace {

struct Entry {
  void* address;
  std::uint32_t bytes;
};

constexpr std::uint32_t kFirstBytes = 64;
constexpr std::uint32_t kLastBytes = 4000;

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Objects that grow from 64 to 4000 bytes.");
  const auto count = static_cast<std::uint32_t>(arguments.Scaled(20000));
  arguments.Finish();

  workload::MappedArray<Entry> entries(count);
  workload::Random random(1);
  const workload::Resident before = workload::ReadResident();
  const workload::Stopwatch watch;
  for (std::uint32_t i = 0; i < count; ++i) {
    entries[i] = {workload::Allocate(kFirstBytes), kFirstBytes};
    workload::Stamp(entries[i].address, kFirstBytes, i);
  }
  std::uint64_t checksum = 0;
  std::uint64_t made = count;
  // Those that are still growing stand in front.
  for (std::uint32_t growing = count; growing != 0; ++made) {
    Entry& entry = entries[random.Below(growing)];
    const std::uint32_t bytes = std::min(entry.bytes + entry.bytes / 7, kLastBytes);
    void* const larger = workload::Allocate(bytes);
    workload::Stamp(larger, bytes, made);
    checksum += workload::Release(entry.address, entry.bytes);
    entry = {larger, bytes};
    if (bytes == kLastBytes) std::swap(entry, entries[--growing]);
  }
  const double seconds = watch.Seconds();
  const auto rss_bytes = static_cast<double>(workload::ReadResident().rss_bytes - before.rss_bytes);
  const double live_bytes = static_cast<double>(count) * kLastBytes;
  workload::Metrics metrics;
  workload::AddSpeed(metrics, made, 1, seconds);
  metrics.Add("live_bytes_end", live_bytes);
  metrics.Add("rss_above_baseline_bytes_end", rss_bytes);
  metrics.Add("rss_per_live_byte_end", rss_bytes / live_bytes);
  for (std::uint32_t i = 0; i < count; ++i) checksum += workload::Release(entries[i].address, entries[i].bytes);
  return workload::Report(checksum, metrics);
}
