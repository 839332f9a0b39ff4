// SPDX-License-Identifier: Apache-2.0
//
// A server: threads handle requests, each with a working set of its own; every malloc and free is timed.
//
// A request reads its header fields into small strings, a body into a buffer, parses it into nodes and writes an
// answer. Then it frees all of that; one in eight replaces a session in a table that all threads share, whose old one
// some other thread may have made. Stands for services that are judged by their slowest answers: p50, p99, p99.9 and
// the maximum of malloc, free and whole requests count more than the sum. The time of a reading of the clock is taken
// off each value, and stands in the figures. That of a request holds two readings for each of its calls. The
// time-stamp counter of some processors advances in steps of 10 ns. Then a median of a short call is no more than one
// such step.
#include <atomic>
#include <memory>

#include "bench/workloads/workload.h"

namespace {

constexpr std::uint32_t kSessions = 20'000;
constexpr std::size_t kHeaders = 16;
constexpr std::size_t kNodes = 40;

// The size of a session is the low part of its stamp.
constexpr unsigned kSizeBits = 16;

struct Latencies {
  workload::Histogram malloc;
  workload::Histogram free;
  workload::Histogram request;
};

struct Object {
  void* address;
  std::size_t bytes;
};

class Worker {
 public:
  Worker(Latencies& latencies, std::uint64_t self) : latencies_(latencies), self_(self), random_(self) {}

  void Handle(std::uint64_t request, std::atomic<void*>* sessions) {
    const std::uint64_t id = self_ << 40 | request;
    Object request_object = Make(512, id);
    Object headers[kHeaders];
    for (Object& header : headers) header = Make(header_sizes_[random_()], id);
    Object body = Make(body_sizes_[random_()], id);
    Object nodes[kNodes];
    for (Object& node : nodes) node = Make(node_sizes_[random_()], id);
    Object answer = Make(body_sizes_[random_()], id);
    if (request % 8 == 0) {
      const std::size_t bytes = session_sizes_[random_()];
      const Object made = Make(bytes, id << kSizeBits | bytes);
      void* old = sessions[random_.Below(kSessions)].exchange(made.address, std::memory_order_acq_rel);
      if (old != nullptr) Drop({old, workload::LoadWord(old, 0) % (1 << kSizeBits)});
    }
    Drop(body);
    for (const Object& node : nodes) Drop(node);
    for (const Object& header : headers) Drop(header);
    Drop(answer);
    Drop(request_object);
  }
  std::uint64_t checksum() const { return checksum_; }

 private:
  Object Make(std::size_t bytes, std::uint64_t id) {
    const std::uint64_t start = workload::TicksBefore();
    void* address = std::malloc(bytes);
    latencies_.malloc.Add(workload::TicksAfter() - start);
    workload::Stamp(workload::Checked(address, bytes), bytes, id);
    return {address, bytes};
  }
  void Drop(const Object& object) {
    checksum_ += workload::ReadStamp(object.address, object.bytes);
    const std::uint64_t start = workload::TicksBefore();
    std::free(object.address);
    latencies_.free.Add(workload::TicksAfter() - start);
  }

  static inline const workload::Sizes header_sizes_ = workload::Sizes::Pareto(16, 256);
  static inline const workload::Sizes node_sizes_ = workload::Sizes::Pareto(32, 512);
  static inline const workload::Sizes body_sizes_ = workload::Sizes::Pareto(256, 64 << 10);
  static inline const workload::Sizes session_sizes_ = workload::Sizes::Pareto(128, 8 << 10);

  Latencies& latencies_;
  const std::uint64_t self_;
  workload::Random random_;
  std::uint64_t checksum_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "A server whose calls of malloc and free are timed one by one.");
  const std::uint64_t requests = arguments.Scaled(150'000);
  const std::uint64_t threads = arguments.Number("threads", 2, 1, 256, "threads, which share the requests");
  arguments.Finish();

  const std::unique_ptr<std::atomic<void*>[]> sessions(new std::atomic<void*>[kSessions]());
  std::vector<std::unique_ptr<Latencies>> latencies;
  for (std::uint64_t i = 0; i < threads; ++i) latencies.push_back(std::make_unique<Latencies>());
  const std::uint64_t overhead_ticks = workload::ClockOverheadTicks();

  const workload::TickLength tick;
  const workload::Stopwatch watch;
  std::uint64_t checksum = workload::RunThreads(threads, [&](std::uint64_t self) {
    Worker worker(*latencies[self], self);
    const std::uint64_t count = workload::Part(requests, threads, self);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t start = workload::TicksBefore();
      worker.Handle(i, sessions.get());
      latencies[self]->request.Add(workload::TicksAfter() - start);
    }
    return worker.checksum();
  });
  const double seconds = watch.Seconds();
  const double tick_ns = tick.ns();
  const workload::Resident resident = workload::ReadResident();
  for (std::uint32_t i = 0; i < kSessions; ++i) {
    void* session = sessions[i].load(std::memory_order_relaxed);
    if (session == nullptr) continue;
    checksum += workload::Release(session, workload::LoadWord(session, 0) % (1 << kSizeBits));
  }

  Latencies all;
  for (const auto& one : latencies) {
    all.malloc.Add(one->malloc);
    all.free.Add(one->free);
    all.request.Add(one->request);
  }
  workload::Metrics metrics;
  workload::AddSpeed(metrics, requests, threads, seconds);
  metrics.Add("rss_bytes", static_cast<double>(resident.rss_bytes));
  metrics.Add("clock_overhead_ns", static_cast<double>(overhead_ticks) * tick_ns);
  metrics.AddLatency("malloc", all.malloc, tick_ns, overhead_ticks);
  metrics.AddLatency("free", all.free, tick_ns, overhead_ticks);
  metrics.AddLatency("request", all.request, tick_ns, overhead_ticks);
  return workload::Report(checksum, metrics);
}
