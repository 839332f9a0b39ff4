// SPDX-License-Identifier: Apache-2.0
//
// A profile in memory: who allocated what, as profile.proto has it (https://github.com/google/pprof,
// proto/profile.proto).
//
// Everything refers to everything else by its index in the vectors below; the ids of a file are these indexes plus one.
// Every index is valid: the reader refuses a file in which one is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tools/base/error.h"

namespace tarn::tool {

// Says in words for the user what is wrong with a profile.
class ProfileError : public ToolError {
 public:
  explicit ProfileError(const std::string& message) : ToolError(message) {}
};

// Texts, each stored once. Text 0 is the empty one.
using StringId = std::uint32_t;

class StringTable {
 public:
  StringTable() { Intern(""); }
  StringTable(StringTable&&) = default;
  StringTable& operator=(StringTable&&) = default;
  // A copy's views would point into the original.
  StringTable(const StringTable&) = delete;
  StringTable& operator=(const StringTable&) = delete;

  StringId Intern(std::string_view text);
  const std::string& operator[](StringId id) const { return strings_[id]; }
  std::size_t size() const { return strings_.size(); }

 private:
  std::deque<std::string> strings_;  // a deque, because the views below stay valid while it grows
  std::unordered_map<std::string_view, StringId> ids_;
};

// A sum that stays at the ends of its range instead of wrapping: a file may hold any number.
std::int64_t SaturatingAdd(std::int64_t a, std::int64_t b);

struct Profile {
  static constexpr std::uint32_t kNone = UINT32_MAX;

  struct ValueType {
    StringId type = 0;
    StringId unit = 0;
  };
  // Either a text or a number with a unit.
  struct Label {
    StringId key = 0;
    StringId text = 0;
    std::int64_t number = 0;
    StringId number_unit = 0;
    bool operator==(const Label&) const = default;
  };
  struct Sample {
    std::vector<std::uint32_t> locations;  // the call that allocated first, main last
    std::vector<std::int64_t> values;      // as many as there are sample types
    std::vector<Label> labels;
  };
  // A part of a file that was mapped executable: start <= address < limit.
  struct Mapping {
    std::uint64_t start = 0;
    std::uint64_t limit = 0;
    std::uint64_t offset = 0;  // of `start` in the file
    StringId file = 0;
    StringId build_id = 0;  // lower-case hexadecimal digits
    // As the file claims; the writer of a symbolised profile sets them by SetMappingFlags.
    bool has_functions = false;
    bool has_files = false;
    bool has_lines = false;
    bool has_inlines = false;
  };
  struct Function {
    StringId name = 0;         // for people
    StringId system_name = 0;  // for the linker
    StringId file = 0;
    std::int64_t start_line = 0;
    bool operator==(const Function&) const = default;
  };
  struct Line {
    std::uint32_t function = 0;
    std::int64_t line = 0;
    bool operator==(const Line&) const = default;
  };
  struct Location {
    std::uint32_t mapping = kNone;
    std::uint64_t address = 0;  // of the call, not of the instruction after it
    std::vector<Line> lines;    // the innermost inlined function first; empty when not symbolised
    bool is_folded = false;
  };

  StringTable strings;
  std::vector<ValueType> sample_types;
  std::vector<Sample> samples;
  std::vector<Mapping> mappings;
  std::vector<Location> locations;
  std::vector<Function> functions;
  StringId drop_frames = 0;
  StringId keep_frames = 0;
  std::int64_t time_ns = 0;
  std::int64_t duration_ns = 0;
  ValueType period_type;
  std::int64_t period = 0;
  std::vector<StringId> comments;
  StringId default_sample_type = 0;

  const std::string& Text(StringId id) const { return strings[id]; }
};

// Sets each mapping's has_... from what its locations have. `go tool pprof` looks for names itself where one is
// missing, and has no means to find those of C++.
void SetMappingFlags(Profile* profile);

// The index of the sample type called `name`; with no name the profile's default, or the last, as pprof chooses.
// Throws ProfileError with the names there are.
std::size_t FindSampleType(const Profile& profile, std::string_view name);

// An empty profile of a heap as Go's runtime writes them: the four values in Go's order, in-use bytes by default, and
// the frames of the allocator hidden.
Profile NewHeapProfile(std::int64_t sampling_interval_bytes);

}  // namespace tarn::tool
