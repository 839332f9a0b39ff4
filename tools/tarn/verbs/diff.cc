// SPDX-License-Identifier: Apache-2.0
//
// tarn diff: what has grown between two profiles of a heap, by function, and as a profile.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tools/base/figures.h"
#include "tools/base/json_text.h"
#include "tools/inspect/profile/file.h"
#include "tools/inspect/profile/function_totals.h"
#include "tools/inspect/profile/merge.h"
#include "tools/inspect/symbolizer.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct DiffOptions {
  std::string before;
  std::string after;
  std::string sample_type;
  std::size_t top = 20;
  bool by_callees = false;
};

struct Row {
  std::string function;
  FunctionTotal before;
  FunctionTotal after;

  double change() const { return static_cast<double>(after.self) - static_cast<double>(before.self); }
  double change_with_callees() const {
    return static_cast<double>(after.with_callees) - static_cast<double>(before.with_callees);
  }
  const std::string& place() const { return after.place.empty() ? before.place : after.place; }
};

// Profiles that the library wrote by itself have addresses only.
Profile ReadWithNames(const std::string& path, const Invocation& invocation) {
  Profile profile = ReadProfileFile(path);
  Symbolizer symbolizer(0);
  symbolizer.Symbolize(&profile);
  for (const std::string& note : symbolizer.TakeNotes()) Note(invocation, fmt::format("diff: {}: {}", path, note));
  return profile;
}

std::vector<Row> Compare(const Profile& before, const Profile& after, std::size_t sample_type, bool by_callees) {
  std::unordered_map<std::string, FunctionTotal> totals_before = FunctionTotals(before, sample_type);
  std::vector<Row> rows;
  for (auto& [name, total] : FunctionTotals(after, sample_type)) {
    Row& row = rows.emplace_back(Row{name, {}, total});
    if (auto found = totals_before.find(name); found != totals_before.end()) {
      row.before = std::move(found->second);
      totals_before.erase(found);
    }
  }
  for (auto& [name, total] : totals_before) rows.push_back({name, std::move(total), {}});

  const auto key = [&](const Row& row) { return by_callees ? row.change_with_callees() : row.change(); };
  std::erase_if(rows, [&](const Row& row) { return key(row) == 0; });
  std::sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    const double size_a = std::abs(key(a)), size_b = std::abs(key(b));
    return size_a != size_b ? size_a > size_b : a.function < b.function;
  });
  return rows;
}

std::string Amount(double value, const std::string& unit) {
  return unit == "bytes" ? FormatBytes(value) : fmt::format("{:.0f}", value);
}

std::string Change(double value, const std::string& unit) {
  return (value < 0 ? "-" : "+") + Amount(std::abs(value), unit);
}

int RunDiff(const DiffOptions& options, const Invocation& invocation) {
  if (options.before == "-" && options.after == "-") throw UsageError("only one of the two profiles can be stdin");
  const Profile before = ReadWithNames(options.before, invocation);
  const Profile after = ReadWithNames(options.after, invocation);
  // First, because it sees to it that the two are of one kind.
  const Profile diff = Diff(before, after);
  const std::size_t sample_type = FindSampleType(after, options.sample_type);
  const std::string type = after.Text(after.sample_types[sample_type].type);
  const std::string unit = after.Text(after.sample_types[sample_type].unit);
  const std::int64_t total_before = Total(before, sample_type);
  const std::int64_t total_after = Total(after, sample_type);
  const double change = static_cast<double>(total_after) - static_cast<double>(total_before);
  const std::vector<Row> rows = Compare(before, after, sample_type, options.by_callees);
  const std::size_t shown = options.top == 0 ? rows.size() : std::min(options.top, rows.size());

  if (invocation.output != "-") WriteFile(invocation.output, ProfileFileBytes(diff));
  if (invocation.json) {
    nlohmann::json functions = nlohmann::json::array();
    for (std::size_t i = 0; i < shown; ++i) {
      functions.push_back({{"function", rows[i].function},
                           {"place", rows[i].place()},
                           {"before", rows[i].before.self},
                           {"after", rows[i].after.self},
                           {"before_with_callees", rows[i].before.with_callees},
                           {"after_with_callees", rows[i].after.with_callees}});
    }
    const nlohmann::json document = {
        {"schema", "tarn-diff/1"},         {"sample_type", type},  {"unit", unit},
        {"before", total_before},          {"after", total_after}, {"functions", functions},
        {"functions_changed", rows.size()}};
    // A profile may hold names in any encoding.
    WriteStdout(JsonText(document));
    return kExitOk;
  }

  std::string text = fmt::format("{}: {} -> {} ({}", type, Amount(static_cast<double>(total_before), unit),
                                 Amount(static_cast<double>(total_after), unit), Change(change, unit));
  if (total_before > 0) text += fmt::format(", {:+.1f} %", 100 * change / static_cast<double>(total_before));
  text += ")\n";
  if (rows.empty()) {
    text += "no function has changed\n";
  } else {
    text += fmt::format("{:>11} {:>10} {:>10} {:>13}  {}\n", "change", "before", "after", "with callees", "function");
  }
  for (std::size_t i = 0; i < shown; ++i) {
    const Row& row = rows[i];
    text += fmt::format("{:>11} {:>10} {:>10} {:>13}  {}{}\n", Change(row.change(), unit),
                        Amount(static_cast<double>(row.before.self), unit),
                        Amount(static_cast<double>(row.after.self), unit), Change(row.change_with_callees(), unit),
                        row.function, row.place().empty() ? "" : "  " + row.place());
  }
  if (shown < rows.size()) text += fmt::format("and {} more functions; --top 0 shows all\n", rows.size() - shown);
  WriteStdout(text);
  return kExitOk;
}

Prepared PrepareDiff() {
  auto o = std::make_shared<DiffOptions>();
  return {{{"BEFORE", "FILE", "the earlier profile; - is stdin", &o->before},
           {"AFTER", "FILE", "the later profile", &o->after},
           {"--top", "N", "how many functions to show; 0: all (20)", &o->top},
           {"--type", "TYPE", "what to compare: inuse_space (as a rule), inuse_objects, alloc_space, alloc_objects",
            &o->sample_type},
           {"--cum", "", "sort by what functions allocated with all that they called", &o->by_callees}},
          [o](const Invocation& invocation) { return RunDiff(*o, invocation); }};
}

}  // namespace

extern const Verb kDiffVerb;
const Verb kDiffVerb = {
    .name = "diff",
    .summary = "show what has grown between two heap profiles",
    .examples = {{"tarn diff monday.pb.gz friday.pb.gz", "which functions hold more memory than before"},
                 {"tarn diff old.pb.gz new.pb.gz -o grown.pb.gz", "the same as a profile for go tool pprof"}},
    .details =
        "Memory belongs to the function that called the allocator; `with callees` counts what it called, too. "
        "Functions are matched by name, so the profiles may be of two builds of a program.\n"
        "-o FILE writes the difference as a profile, with negative values where memory was freed; the table or the "
        "JSON goes to stdout all the same.",
    .prepare = PrepareDiff,
};

}  // namespace tarn::tool
