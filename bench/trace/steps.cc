// SPDX-License-Identifier: Apache-2.0

#include "bench/trace/steps.h"

#include <algorithm>

namespace tarn::trace {
namespace {

// Gives every object of a trace a place in the table. An object that its own thread ends has a place only while it
// lives. All others have one for themselves, so that null in it means that the object is not there yet.
class Placement {
 public:
  Placement(const Trace& trace, std::pmr::memory_resource* memory) : trace_(trace), memory_(memory), places_(memory) {}

  // Fills places_, one vector for each thread, by the index of the object.
  void Run(Program& program) {
    std::pmr::vector<std::pmr::vector<std::uint32_t>> enders(memory_);
    enders.resize(trace_.threads.size());
    places_.resize(trace_.threads.size());
    for (std::size_t thread = 0; thread < trace_.threads.size(); ++thread) {
      const auto& events = trace_.threads[thread];
      const auto objects = std::ranges::count_if(events, [](const Event& e) { return MakesObject(e.kind); });
      enders[thread].assign(static_cast<std::size_t>(objects), kNobody);
      places_[thread].resize(static_cast<std::size_t>(objects));
    }
    for (std::uint32_t thread = 0; thread < trace_.threads.size(); ++thread) {
      for (const Event& event : trace_.threads[thread]) {
        if (EndsObject(event.kind)) enders[event.thread][event.index] = thread;
      }
    }
    for (std::uint32_t thread = 0; thread < trace_.threads.size(); ++thread)
      PlaceThread(program, thread, enders[thread]);
  }

  std::uint32_t PlaceOf(std::uint32_t thread, std::uint32_t index) const { return places_[thread][index]; }

 private:
  static constexpr std::uint32_t kNobody = 0xFFFFFFFF;
  static constexpr std::size_t kPlacesPerLine = 64 / sizeof(Place);

  void PlaceThread(Program& program, std::uint32_t thread, const std::pmr::vector<std::uint32_t>& enders) {
    std::pmr::vector<std::uint32_t> unused(memory_);
    std::uint32_t index = 0;
    // Not in a cache line that another thread writes to.
    program.places = (program.places + kPlacesPerLine - 1) / kPlacesPerLine * kPlacesPerLine;
    for (const Event& event : trace_.threads[thread]) {
      // A realloc may put its object back into the place that it has just emptied.
      if (EndsObject(event.kind) && event.thread == thread) unused.push_back(places_[thread][event.index]);
      if (!MakesObject(event.kind)) continue;
      std::uint32_t& place = places_[thread][index];
      const std::uint32_t ender = enders[index++];
      if (ender == thread && !unused.empty()) {
        place = unused.back();
        unused.pop_back();
      } else {
        place = static_cast<std::uint32_t>(program.places++);
      }
      if (ender == kNobody) program.kept.push_back(place);
    }
  }

  const Trace& trace_;
  std::pmr::memory_resource* memory_;
  std::pmr::vector<std::pmr::vector<std::uint32_t>> places_;
};

}  // namespace

Program Prepare(const Trace& trace, std::pmr::memory_resource* memory, std::pmr::memory_resource* scratch) {
  Program program(memory);
  Placement placement(trace, scratch);
  placement.Run(program);
  program.threads.resize(trace.threads.size());
  for (std::uint32_t thread = 0; thread < trace.threads.size(); ++thread) {
    auto& steps = program.threads[thread];
    steps.reserve(trace.threads[thread].size());
    std::uint32_t objects = 0;
    for (const Event& event : trace.threads[thread]) {
      Step step{};
      step.what = std::uint64_t{static_cast<std::uint8_t>(event.kind)} << 56 |
                  std::uint64_t{event.alignment_log2} << 48 | event.bytes;
      if (EndsObject(event.kind)) step.ends = placement.PlaceOf(event.thread, event.index);
      if (MakesObject(event.kind)) step.makes = placement.PlaceOf(thread, objects++);
      if (event.kind == Kind::kStart) step.makes = event.thread;
      steps.push_back(step);
      ++program.counts[static_cast<std::size_t>(event.kind)];
      program.bytes += event.bytes;
    }
  }
  return program;
}

}  // namespace tarn::trace
