// SPDX-License-Identifier: Apache-2.0
//
// Replays what record_requests wrote down on the spans of several tables of size classes, and prints what memory each
// one would have taken.
//
//   replay_requests trace...
//
// It plays the central free lists alone. Every request is served from the fullest span of its class that has a free
// object, lowest address first. Every free goes there at once, and an empty span is given back at once. No cache and
// no page heap are played, because they do not depend on the sizes. Figures are sums over all moments of the run (one
// moment after each call), divided by the same sum of the bytes that the program had requested:
//
//   objects   the objects in use, at their class size: internal waste
//   touched   the OS pages of spans in use on which an object of the span's life has lain: what is resident
//   held      the spans in use
//
// and the number of spans taken from the page heap in the whole run. The last column is the geometric mean of
// `touched` over all traces, by which the spec was chosen.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <initializer_list>
#include <string>
#include <unordered_map>
#include <vector>

#include "size_classes/rules.h"
#include "size_classes/spec.h"
#include "tests/size_classes/request_trace.h"

namespace {

using tarn::RequestEvent;

constexpr std::size_t kOsPageBytes = 4096;

std::vector<RequestEvent> ReadTrace(const char* path) {
  std::vector<RequestEvent> trace;
  std::ifstream file(path, std::ios::binary);
  RequestEvent event;
  while (file.read(reinterpret_cast<char*>(&event), sizeof(event)) && event.address != 0) trace.push_back(event);
  return trace;
}

struct Span {
  std::size_t size_class;
  std::size_t live_objects = 0;
  std::size_t list_index = 0;
  std::array<std::uint64_t, tarn::kMaxNewOnlyObjectsPerSpan / 64> used = {};
  std::array<std::uint64_t, (tarn::kMaxSpanPages << tarn::kPageShift) / kOsPageBytes / 64> touched = {};
};

struct Result {
  double requested = 0;
  double objects = 0;
  double touched = 0;
  double held = 0;
  std::size_t spans = 0;
  std::size_t classes = 0;  // that the program used
};

class Replay {
 public:
  Replay(const tarn::SizeList& sizes, const tarn::SpanRules& rules) : lookup_(tarn::kMaxSmallBytes / 16 + 1) {
    // Programs call malloc, which never takes the class of 8 bytes.
    for (std::size_t i = 1; i < sizes.count; ++i) {
      const std::size_t size_bytes = sizes.bytes[i];
      const std::size_t span_bytes = tarn::ChooseSpanPages(size_bytes, rules) * tarn::kPageBytes;
      classes_.push_back({size_bytes, span_bytes, span_bytes / size_bytes, false, {}});
      classes_.back().by_live_objects.resize(span_bytes / size_bytes);
    }
    std::size_t size_class = 0;
    for (std::size_t i = 0; i < lookup_.size(); ++i) {
      while (classes_[size_class].size_bytes < i * 16) ++size_class;
      lookup_[i] = size_class;
    }
  }

  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;
  ~Replay() {
    while (!objects_.empty()) Free(objects_.begin()->first);
  }

  Result Run(const std::vector<RequestEvent>& trace) {
    Result result;
    for (const RequestEvent& event : trace) {
      Free(event.address);
      if (event.bytes_plus_one != 0 && event.bytes_plus_one - 1 <= tarn::kMaxSmallBytes) {
        Allocate(event.address, event.bytes_plus_one - 1);
      }
      result.requested += requested_bytes_;
      result.objects += object_bytes_;
      result.touched += static_cast<double>(touched_pages_) * kOsPageBytes;
      result.held += held_bytes_;
    }
    result.objects /= result.requested;
    result.touched /= result.requested;
    result.held /= result.requested;
    result.spans = span_count_;
    for (const Class& c : classes_) result.classes += c.is_used ? 1 : 0;
    return result;
  }

 private:
  struct Class {
    std::size_t size_bytes;
    std::size_t span_bytes;
    std::size_t objects_per_span;
    bool is_used;
    // The spans that are neither full nor empty, by the number of their live objects.
    std::vector<std::vector<Span*>> by_live_objects;
  };
  struct Object {
    Span* span;
    std::size_t index;
    std::size_t bytes;
  };

  void Allocate(std::uint64_t address, std::size_t bytes) {
    const std::size_t size_class = lookup_[(bytes + 15) / 16];
    Class& c = classes_[size_class];
    c.is_used = true;
    Span* span = nullptr;
    for (std::size_t live = c.objects_per_span; live-- > 1 && span == nullptr;) {
      if (!c.by_live_objects[live].empty()) span = c.by_live_objects[live].back();
    }
    if (span == nullptr) {
      span = new Span{size_class};
      held_bytes_ += static_cast<double>(c.span_bytes);
      ++span_count_;
    } else {
      Unlist(span);
    }
    std::size_t word = 0;
    while (span->used[word] == ~std::uint64_t{0}) ++word;
    const auto bit = static_cast<std::size_t>(std::countr_one(span->used[word]));
    span->used[word] |= std::uint64_t{1} << bit;
    ++span->live_objects;
    List(span);

    const std::size_t index = word * 64 + bit;
    const std::size_t first_byte = index * c.size_bytes;
    const std::size_t last_byte = first_byte + std::max<std::size_t>(bytes, 1) - 1;
    for (std::size_t page = first_byte / kOsPageBytes; page <= last_byte / kOsPageBytes; ++page) {
      if ((span->touched[page / 64] >> page % 64 & 1) != 0) continue;
      span->touched[page / 64] |= std::uint64_t{1} << page % 64;
      ++touched_pages_;
    }
    objects_[address] = {span, index, bytes};
    requested_bytes_ += static_cast<double>(bytes);
    object_bytes_ += static_cast<double>(c.size_bytes);
  }

  // Frees the object at the address, if there is one: the trace holds objects that are too large for us, too.
  void Free(std::uint64_t address) {
    const auto found = objects_.find(address);
    if (found == objects_.end()) return;
    const Object object = found->second;
    objects_.erase(found);
    Span* span = object.span;
    const Class& c = classes_[span->size_class];
    Unlist(span);
    span->used[object.index / 64] &= ~(std::uint64_t{1} << object.index % 64);
    --span->live_objects;
    requested_bytes_ -= static_cast<double>(object.bytes);
    object_bytes_ -= static_cast<double>(c.size_bytes);
    if (span->live_objects != 0) {
      List(span);
      return;
    }
    for (const std::uint64_t word : span->touched) touched_pages_ -= std::popcount(word);
    held_bytes_ -= static_cast<double>(c.span_bytes);
    delete span;
  }

  void List(Span* span) {
    Class& c = classes_[span->size_class];
    if (span->live_objects == c.objects_per_span) return;
    std::vector<Span*>& list = c.by_live_objects[span->live_objects];
    span->list_index = list.size();
    list.push_back(span);
  }

  void Unlist(Span* span) {
    Class& c = classes_[span->size_class];
    if (span->live_objects == c.objects_per_span) return;
    std::vector<Span*>& list = c.by_live_objects[span->live_objects];
    list[span->list_index] = list.back();
    list[span->list_index]->list_index = span->list_index;
    list.pop_back();
  }

  std::vector<Class> classes_;
  std::vector<std::size_t> lookup_;
  std::unordered_map<std::uint64_t, Object> objects_;
  double requested_bytes_ = 0;
  double object_bytes_ = 0;
  int touched_pages_ = 0;
  double held_bytes_ = 0;
  std::size_t span_count_ = 0;
};

struct Choice {
  std::string name;
  tarn::SizeRules sizes = {};
  tarn::SpanRules spans = {};
};

std::vector<Choice> Choices() {
  std::vector<Choice> choices = {{"as in the spec"}};
  for (const std::size_t steps : std::initializer_list<std::size_t>{2, 3, 4, 6, 8}) {
    choices.push_back({"16s to 128, " + std::to_string(steps) + " per doubling", {128, steps, {}}});
  }
  for (const std::size_t steps : std::initializer_list<std::size_t>{4, 6, 8}) {
    choices.push_back({"16s to 256, " + std::to_string(steps) + " per doubling", {256, steps, {}}});
  }
  choices.push_back({"16s to 512, 4 per doubling", {512, 4, {}}});
  static constexpr std::size_t kHeaderOnPages[] = {4608, 9216};
  choices.push_back({"spec and 9216", {.extra_sizes_bytes = kHeaderOnPages}});
  static constexpr std::size_t kHeaderOnPowers[] = {288, 576, 1152, 2304, 4608};
  choices.push_back({"spec and 288, 576, 1152, 2304", {.extra_sizes_bytes = kHeaderOnPowers}});
  for (const std::size_t objects : std::initializer_list<std::size_t>{4, 16, 32, 64}) {
    choices.push_back({"spec, spans of " + std::to_string(objects) + " objects", {}, {.min_objects = objects}});
  }
  choices.push_back({"spec, tails up to 12.5 %", {}, {.max_tail_waste_milli = 125}});
  return choices;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: replay_requests trace...\n");
    return 2;
  }
  std::vector<std::vector<RequestEvent>> traces;
  for (int i = 1; i < argc; ++i) {
    traces.push_back(ReadTrace(argv[i]));
    if (traces.back().empty()) {
      std::fprintf(stderr, "%s: no events\n", argv[i]);
      return 1;
    }
    std::printf("trace %d: %s, %zu events\n", i, argv[i], traces.back().size());
  }
  for (const Choice& choice : Choices()) {
    const tarn::SizeList sizes = tarn::ChooseSizes(choice.sizes);
    double product = 1;
    std::printf("%-30s %3zu classes", choice.name.c_str(), sizes.count + 1);
    for (std::size_t i = 0; i < traces.size(); ++i) {
      const Result result = Replay(sizes, choice.spans).Run(traces[i]);
      product *= result.touched;
      std::printf(" | %zu: %2zu classes, objects %.3f touched %.3f held %.3f, %zu spans", i + 1, result.classes,
                  result.objects, result.touched, result.held, result.spans);
      std::fflush(stdout);
    }
    std::printf(" | mean touched %.4f\n", std::pow(product, 1.0 / static_cast<double>(traces.size())));
  }
  return 0;
}
