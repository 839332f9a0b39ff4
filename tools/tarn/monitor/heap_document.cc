#include "tools/tarn/monitor/heap_document.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/tarn/profile/visible_stacks.h"

namespace tarn::tool {

namespace {

constexpr std::size_t kHeapTypes = 4;
constexpr std::size_t kAllocSpace = 1;
constexpr std::size_t kInuseSpace = 3;
using HeapValues = std::array<std::int64_t, kHeapTypes>;

// What a call and a stack take in the document beside their texts; estimated.
constexpr std::size_t kCallBytes = 16;
constexpr std::size_t kStackBytes = 64;
constexpr std::size_t kReferenceBytes = 6;

void AddTo(HeapValues* sum, const HeapValues& values) {
  for (std::size_t i = 0; i < kHeapTypes; ++i) (*sum)[i] = SaturatingAdd((*sum)[i], values[i]);
}

// A text cut at the end of a character; what is no UTF-8 is replaced when the document is written.
std::string Cut(const std::string& text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes) + "\xE2\x80\xA6";
}

// Texts and calls, each once, and how much they take.
class Tables {
 public:
  Tables(const Profile& profile, std::size_t name_bytes) : profile_(profile), name_bytes_(name_bytes) {}

  std::uint32_t Call(const StackCall& call) {
    const Profile::Location& location = profile_.locations[call.location];
    if (location.lines.empty()) return Intern(UnnamedPlace(profile_, location), "", 0);
    const Profile::Line& line = location.lines[call.line];
    const Profile::Function& function = profile_.functions[line.function];
    return Intern(profile_.Text(function.name), profile_.Text(function.file), line.line);
  }
  std::size_t bytes() const { return bytes_; }
  nlohmann::json Strings() const { return strings_; }
  nlohmann::json Calls() const {
    nlohmann::json calls = nlohmann::json::array();
    for (const auto& [function, file, line] : calls_) calls.push_back({function, file, line});
    return calls;
  }

 private:
  using CallKey = std::tuple<std::uint32_t, std::uint32_t, std::int64_t>;

  std::uint32_t Intern(const std::string& function, const std::string& file, std::int64_t line) {
    const CallKey key{Text(function), Text(file), line};
    const auto [found, is_new] = call_ids_.try_emplace(key, static_cast<std::uint32_t>(calls_.size()));
    if (is_new) {
      calls_.push_back(key);
      bytes_ += kCallBytes;
    }
    return found->second;
  }
  std::uint32_t Text(const std::string& text) {
    const std::string cut = Cut(text, name_bytes_);
    const auto [found, is_new] = string_ids_.try_emplace(cut, static_cast<std::uint32_t>(strings_.size()));
    if (is_new) {
      strings_.push_back(cut);
      bytes_ += cut.size() + 3;
    }
    return found->second;
  }

  const Profile& profile_;
  std::size_t name_bytes_;
  std::size_t bytes_ = 0;
  std::vector<std::string> strings_;
  std::unordered_map<std::string, std::uint32_t> string_ids_;
  std::vector<CallKey> calls_;
  std::map<CallKey, std::uint32_t> call_ids_;
};

struct HeapStack {
  std::vector<StackCall> calls;  // the one that allocated first
  HeapValues values;
  double rank;  // its share of what is live and of what was allocated
};

// By their calls' places; samples of several sizes at one place become one stack. The largest first.
std::vector<HeapStack> StacksOf(const Profile& profile) {
  const VisibleStacks visible(profile);
  std::map<std::vector<std::pair<std::uint32_t, std::uint32_t>>, HeapValues> sums;
  HeapValues total{};
  std::vector<StackCall> calls;
  for (const Profile::Sample& sample : profile.samples) {
    visible.Read(sample, &calls);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> key;
    for (const StackCall& call : calls) key.emplace_back(call.location, call.line);
    HeapValues values{};
    std::copy_n(sample.values.begin(), std::min(sample.values.size(), kHeapTypes), values.begin());
    AddTo(&sums[std::move(key)], values);
    AddTo(&total, values);
  }
  const auto share = [&](const HeapValues& values, std::size_t type) {
    return total[type] > 0 ? static_cast<double>(values[type]) / static_cast<double>(total[type]) : 0;
  };
  std::vector<HeapStack> stacks;
  for (const auto& [key, values] : sums) {
    HeapStack& stack = stacks.emplace_back();
    for (const auto& [location, line] : key) stack.calls.push_back({location, line});
    stack.values = values;
    stack.rank = share(values, kInuseSpace) + share(values, kAllocSpace);
  }
  std::ranges::stable_sort(stacks, std::ranges::greater{}, &HeapStack::rank);
  return stacks;
}

}  // namespace

nlohmann::json HeapDocument(const Profile& profile, const HeapDocumentLimits& limits) {
  Tables tables(profile, limits.name_bytes);
  nlohmann::json references = nlohmann::json::array();
  nlohmann::json values = nlohmann::json::array();
  HeapValues others{};
  std::size_t other_count = 0;
  std::size_t bytes = 0;
  for (const HeapStack& stack : StacksOf(profile)) {
    if (references.size() >= limits.stacks || bytes + tables.bytes() >= limits.bytes) {
      AddTo(&others, stack.values);
      ++other_count;
      continue;
    }
    nlohmann::json ids = nlohmann::json::array();
    for (auto call = stack.calls.rbegin(); call != stack.calls.rend(); ++call) ids.push_back(tables.Call(*call));
    bytes += kStackBytes + kReferenceBytes * ids.size();
    references.push_back(std::move(ids));
    values.push_back(stack.values);
  }
  return {{"types", {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"}},
          {"strings", tables.Strings()},
          {"calls", tables.Calls()},
          {"stacks", std::move(references)},
          {"values", std::move(values)},
          {"other_stacks", other_count},
          {"other_values", others}};
}

}  // namespace tarn::tool
