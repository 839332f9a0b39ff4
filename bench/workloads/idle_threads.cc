// SPDX-License-Identifier: Apache-2.0
//
// 128 threads that sit idle: what does each of them cost in resident memory?
//
// Stands for servers with a thread per connection. Tells bytes per thread, twice: after the thread has started and
// made one small allocation, and after it has touched 20 sizes (one object each, freed again, 16 bytes to 32 KiB). The
// same program's cost without allocations is measured first, in the same process, and taken off: the thread's own
// stack. The time of this workload says nothing; the memory does.
#include <barrier>

#include "bench/workloads/workload.h"

namespace {

std::uint64_t Touch(std::size_t bytes) {
  void* object = workload::Allocate(bytes);
  workload::Stamp(object, bytes, bytes);
  return workload::Release(object, bytes);
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Idle threads: what each of them costs in resident memory.");
  const std::uint64_t threads = arguments.Number("threads", 128, 1, 4096, "idle threads");
  arguments.Finish();

  std::free(workload::Allocate(64));
  double at_stage[3];
  // The main thread reads when all others have done their part of a stage, and they go on when it has.
  std::barrier<> meeting(static_cast<std::ptrdiff_t>(threads) + 1);
  const auto before = static_cast<double>(workload::ReadResident().rss_bytes);
  const std::uint64_t checksum = workload::RunThreads(threads + 1, [&](std::uint64_t self) -> std::uint64_t {
    if (self == threads) {
      for (double& bytes : at_stage) {
        meeting.arrive_and_wait();
        bytes = static_cast<double>(workload::ReadResident().rss_bytes);
        meeting.arrive_and_wait();
      }
      return 0;
    }
    std::uint64_t sum = 0;
    // The stack that the calls below use is touched before the first reading.
    volatile char stack[8192];
    for (std::size_t i = 0; i < sizeof(stack); i += 512) stack[i] = 1;
    meeting.arrive_and_wait();
    meeting.arrive_and_wait();
    sum += Touch(64);
    meeting.arrive_and_wait();
    meeting.arrive_and_wait();
    for (std::size_t bytes = 16, i = 0; i < 20; ++i) {
      sum += Touch(bytes);
      bytes += bytes / 2;
    }
    meeting.arrive_and_wait();
    meeting.arrive_and_wait();
    return sum;
  });

  const auto count = static_cast<double>(threads);
  workload::Metrics metrics;
  metrics.Add("threads", count);
  metrics.Add("stack_bytes_per_thread", (at_stage[0] - before) / count);
  metrics.Add("bytes_per_idle_thread", (at_stage[1] - at_stage[0]) / count);
  metrics.Add("bytes_per_thread_after_20_sizes", (at_stage[2] - at_stage[0]) / count);
  return workload::Report(checksum, metrics);
}
