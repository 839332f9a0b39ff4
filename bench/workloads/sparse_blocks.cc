// SPDX-License-Identifier: Apache-2.0
//
// 40 blocks of 200 MiB by malloc, of which a byte in each MiB is touched: resident memory.
//
// Stands for hash tables, bitmaps and buffers that are sized for the largest case. Pages that nobody touches should not
// become resident, whatever their neighbours do. Half-way, some blocks are freed and made anew.
#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Large blocks that stay nearly empty.");
  const std::uint64_t blocks = arguments.Number("blocks", 40, 4, 1000, "blocks");
  const std::uint64_t mib = arguments.Number("mib", 200, 1, 100'000, "MiB of each");
  arguments.Finish();

  const std::uint64_t bytes = mib << 20;
  std::vector<char*> all(blocks);
  std::uint64_t checksum = 0;
  const auto fill = [&](std::uint64_t i) {
    all[i] = static_cast<char*>(workload::Allocate(bytes));
    for (std::uint64_t offset = 0; offset < bytes; offset += 1 << 20) all[i][offset] = static_cast<char>(i + 1);
  };
  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    fill(i);
    if (i != blocks / 2) continue;
    for (std::uint64_t old = 0; old < blocks / 4; ++old) std::free(all[old]);
    for (std::uint64_t old = 0; old < blocks / 4; ++old) fill(old);
  }
  const double seconds = watch.Seconds();
  const workload::Resident resident = workload::ReadResident();
  for (char* block : all) {
    checksum +=
        workload::Mix(static_cast<std::uint64_t>(block[0]) + static_cast<std::uint64_t>(block[bytes - (1 << 20)]));
    std::free(block);
  }

  workload::Metrics metrics;
  workload::AddSpeed(metrics, blocks, 1, seconds);
  metrics.Add("rss_bytes", static_cast<double>(resident.rss_bytes));
  return workload::Report(checksum, metrics);
}
