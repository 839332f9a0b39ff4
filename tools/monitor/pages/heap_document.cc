// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/pages/heap_document.h"

#include <algorithm>
#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/inspect/profile/visible_stacks.h"

namespace tarn::tool {

namespace {

constexpr std::size_t kHeapTypes = 4;
constexpr std::size_t kAllocSpace = 1;
constexpr std::size_t kInuseSpace = 3;
using HeapValues = std::array<std::int64_t, kHeapTypes>;

// The size of a call and of a stack in the document without their texts; estimated.
constexpr std::size_t kCallBytes = 16;
constexpr std::size_t kStackBytes = 64;
constexpr std::size_t kReferenceBytes = 6;

void AddTo(HeapValues* sum, const HeapValues& values) {
  for (std::size_t i = 0; i < kHeapTypes; ++i) (*sum)[i] = SaturatingAdd((*sum)[i], values[i]);
}

// A text cut at the end of a character. Bytes that are not UTF-8 are replaced when the document is written.
std::string Cut(const std::string& text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes) + "\xE2\x80\xA6";
}

// Calls as they are shown, each once: addresses within one line, or within a function without lines, are the same.
class CallTable {
 public:
  struct Call {
    std::uint32_t function = 0;  // texts
    std::uint32_t file = 0;
    std::int64_t line = 0;
    auto operator<=>(const Call&) const = default;
  };

  CallTable(const Profile& profile, std::size_t name_bytes) : profile_(profile), name_bytes_(name_bytes) {}

  std::uint32_t Id(const StackCall& call) {
    const Profile::Location& location = profile_.locations[call.location];
    if (location.lines.empty()) return Id({Text(UnnamedPlace(profile_, location)), Text(""), 0});
    const Profile::Line& line = location.lines[call.line];
    const Profile::Function& function = profile_.functions[line.function];
    return Id({Text(profile_.Text(function.name)), Text(profile_.Text(function.file)), line.line});
  }
  std::uint32_t Id(const Call& call) {
    const auto [found, is_new] = call_ids_.try_emplace(call, static_cast<std::uint32_t>(calls_.size()));
    if (is_new) calls_.push_back(call);
    return found->second;
  }
  std::uint32_t Text(const std::string& text) {
    std::string cut = Cut(text, name_bytes_);
    const auto [found, is_new] = text_ids_.try_emplace(cut, static_cast<std::uint32_t>(texts_.size()));
    if (is_new) texts_.push_back(std::move(cut));
    return found->second;
  }

  const std::vector<Call>& calls() const { return calls_; }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  const Profile& profile_;
  std::size_t name_bytes_;
  std::vector<std::string> texts_;
  std::unordered_map<std::string, std::uint32_t> text_ids_;
  std::vector<Call> calls_;
  std::map<Call, std::uint32_t> call_ids_;
};

struct HeapStack {
  std::vector<std::uint32_t> calls;  // main first
  HeapValues values;
  double rank;  // its share of what is live and of what was allocated
};

// Samples of several sizes in one stack are added up. The largest first.
std::vector<HeapStack> StacksOf(const Profile& profile, CallTable* table) {
  const VisibleStacks visible(profile);
  std::map<std::vector<std::uint32_t>, HeapValues> sums;
  HeapValues total{};
  std::vector<StackCall> calls;
  for (const Profile::Sample& sample : profile.samples) {
    visible.Read(sample, &calls);
    std::vector<std::uint32_t> ids;
    for (auto call = calls.rbegin(); call != calls.rend(); ++call) ids.push_back(table->Id(*call));
    HeapValues values{};
    std::copy_n(sample.values.begin(), std::min(sample.values.size(), kHeapTypes), values.begin());
    AddTo(&sums[std::move(ids)], values);
    AddTo(&total, values);
  }
  const auto share = [&](const HeapValues& values, std::size_t type) {
    return total[type] > 0 ? static_cast<double>(values[type]) / static_cast<double>(total[type]) : 0;
  };
  std::vector<HeapStack> stacks;
  for (const auto& [ids, values] : sums)
    stacks.push_back({ids, values, share(values, kInuseSpace) + share(values, kAllocSpace)});
  std::ranges::stable_sort(stacks, std::ranges::greater{}, &HeapStack::rank);
  return stacks;
}

// The part that is sent. Numbers anew, so that it holds only texts and calls which a stack refers to.
class Selection {
 public:
  explicit Selection(const CallTable& table) : table_(table) {}

  void Add(const HeapStack& stack) {
    nlohmann::json ids = nlohmann::json::array();
    for (const std::uint32_t call : stack.calls) ids.push_back(Call(call));
    bytes_ += kStackBytes + kReferenceBytes * ids.size();
    stacks_.push_back(std::move(ids));
    values_.push_back(stack.values);
  }
  std::size_t size() const { return stacks_.size(); }
  std::size_t bytes() const { return bytes_; }
  nlohmann::json Take() {
    return {{"types", {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"}},
            {"strings", std::move(texts_)},
            {"calls", std::move(calls_)},
            {"stacks", std::move(stacks_)},
            {"values", std::move(values_)}};
  }

 private:
  std::size_t Call(std::uint32_t id) {
    const auto [found, is_new] = call_ids_.try_emplace(id, calls_.size());
    if (is_new) {
      const CallTable::Call& call = table_.calls()[id];
      const std::size_t function = Text(call.function);
      calls_.push_back({function, Text(call.file), call.line});
      bytes_ += kCallBytes;
    }
    return found->second;
  }
  std::size_t Text(std::uint32_t id) {
    const auto [found, is_new] = text_ids_.try_emplace(id, texts_.size());
    if (is_new) {
      texts_.push_back(table_.texts()[id]);
      bytes_ += table_.texts()[id].size() + 3;
    }
    return found->second;
  }

  const CallTable& table_;
  std::unordered_map<std::uint32_t, std::size_t> text_ids_;
  std::unordered_map<std::uint32_t, std::size_t> call_ids_;
  nlohmann::json texts_ = nlohmann::json::array();
  nlohmann::json calls_ = nlohmann::json::array();
  nlohmann::json stacks_ = nlohmann::json::array();
  nlohmann::json values_ = nlohmann::json::array();
  std::size_t bytes_ = 0;
};

}  // namespace

nlohmann::json HeapDocument(const Profile& profile, const HeapDocumentLimits& limits) {
  CallTable table(profile, limits.name_bytes);
  const std::vector<HeapStack> stacks = StacksOf(profile, &table);
  Selection selection(table);
  HeapValues others{};
  for (const HeapStack& stack : stacks) {
    if (selection.size() < limits.stacks && selection.bytes() < limits.bytes) {
      selection.Add(stack);
    } else {
      AddTo(&others, stack.values);
    }
  }
  const std::size_t shown = selection.size();
  nlohmann::json document = selection.Take();
  document["other_stacks"] = stacks.size() - shown;
  document["other_values"] = others;
  return document;
}

}  // namespace tarn::tool
