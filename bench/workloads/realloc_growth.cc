// SPDX-License-Identifier: Apache-2.0
//
// Arrays that grow by realloc, each written up to its new end and checked over its old part.
//
// Stands for vectors, string builders and read buffers. Three ways to grow: `steps`, from 1 to 32 MiB in steps of 1
// MiB, as file readers do; `doubling`, from 1 MiB to 1 GiB, as vectors of much data do; `small`, from 16 bytes by
// half as much again, to 64 KiB at most, as strings do. An allocator that moves pages instead of copying bytes, or
// grows in place, wins; several `--arrays` that grow in turn are in each other's way.
#include <memory>

#include "bench/workloads/workload.h"

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// The array with its new size: one word per page, or per cache line if it is small, says that it is intact.
class Growing {
 public:
  explicit Growing(std::size_t stride_bytes, std::uint64_t id) : stride_bytes_(stride_bytes), id_(id) {}
  ~Growing() { std::free(address_); }
  Growing(const Growing&) = delete;
  Growing& operator=(const Growing&) = delete;

  void GrowTo(std::size_t bytes) {
    address_ = workload::Checked(std::realloc(address_, bytes), bytes);
    // Words stand at multiples of the stride and fit below the size.
    for (; written_bytes_ + 8 <= bytes; written_bytes_ += stride_bytes_) {
      workload::StoreWord(address_, written_bytes_, id_ + written_bytes_);
    }
  }
  std::uint64_t Sum() const {
    std::uint64_t sum = 0;
    for (std::size_t offset = 0; offset < written_bytes_; offset += stride_bytes_) {
      sum += workload::Mix(workload::LoadWord(address_, offset));
    }
    return sum;
  }

 private:
  void* address_ = nullptr;
  std::size_t written_bytes_ = 0;
  const std::size_t stride_bytes_;
  const std::uint64_t id_;
};

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Arrays that grow by realloc.");
  const std::size_t growth = arguments.Choice("growth", {"steps", "doubling", "small"}, "how the arrays grow");
  const bool doubling = growth == 1;
  const bool small = growth == 2;
  const std::uint64_t rounds = arguments.Scaled(doubling ? 1 : small ? 600'000 : 40);
  const std::uint64_t most_mib =
      arguments.Number("most-mib", 0, 0, 65536, "the largest size of steps and doubling, 0 for 32 and 1024");
  const std::uint64_t arrays =
      arguments.Number("arrays", 1, 1, 1000, "arrays of steps and doubling that grow in turn, in each other's way");
  arguments.Finish();
  const std::size_t most_bytes = small ? 64 << 10 : (most_mib != 0 ? most_mib : doubling ? 1024 : 32) * kMiB;

  // Most strings stay short.
  const workload::Sizes lengths = workload::Sizes::Pareto(32, 64 << 10);
  std::uint64_t checksum = 0;
  std::uint64_t reallocs = 0;
  std::uint64_t id = 0;
  const workload::Stopwatch watch;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    if (small) {
      // Eight strings grow in turn, so that no one of them is always the last object before free memory.
      constexpr std::uint64_t kStrings = 8;
      std::unique_ptr<Growing> strings[kStrings];
      for (auto& string : strings) string = std::make_unique<Growing>(64, ++id);
      for (std::size_t bytes = 16; bytes <= most_bytes; bytes += bytes / 2) {
        for (std::uint64_t s = 0; s < kStrings; ++s) {
          if (bytes > lengths[round * kStrings + s]) continue;
          strings[s]->GrowTo(bytes);
          ++reallocs;
        }
      }
      for (const auto& string : strings) checksum += string->Sum();
    } else {
      std::vector<std::unique_ptr<Growing>> together(arrays);
      for (auto& array : together) array = std::make_unique<Growing>(workload::kPageBytes, ++id);
      for (std::size_t bytes = kMiB; bytes <= most_bytes; bytes += doubling ? bytes : kMiB) {
        for (const auto& array : together) array->GrowTo(bytes);
        reallocs += arrays;
      }
      for (const auto& array : together) checksum += array->Sum();
    }
  }
  const double seconds = watch.Seconds();

  workload::Metrics metrics;
  workload::AddSpeed(metrics, reallocs, 1, seconds);
  metrics.Add("ms_per_round", seconds * 1e3 / static_cast<double>(rounds));
  return workload::Report(checksum, metrics);
}
