// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/profile/profile.h"

#include <limits>

namespace tarn::tool {

namespace {

// A regular expression on whole names of functions. pprof drops the frame nearest to main that matches, and all that it
// calls; so nothing may stand here that calls code of the program, as allocator_traits::construct does.
constexpr std::string_view kAllocatorFrames =
    "malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|valloc|pvalloc|"
    "operator new|operator new\\[\\]|tarn::.*|tarn_.*|"
    "std::allocator<.*>::allocate|std::__new_allocator<.*>::allocate|__gnu_cxx::new_allocator<.*>::allocate|"
    "std::allocator_traits<std::allocator<.*> ?>::allocate|std::_Vector_base<.*>::_M_allocate|"
    "std::__cxx11::basic_string<.*>::_M_create";

}  // namespace

StringId StringTable::Intern(std::string_view text) {
  if (auto found = ids_.find(text); found != ids_.end()) return found->second;
  const auto id = static_cast<StringId>(strings_.size());
  strings_.emplace_back(text);
  ids_.emplace(strings_.back(), id);
  return id;
}

std::int64_t SaturatingAdd(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b > 0 ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int64_t>::min();
}

void SetMappingFlags(Profile* profile) {
  std::vector<bool> used(profile->mappings.size());
  for (Profile::Mapping& mapping : profile->mappings) {
    mapping.has_functions = mapping.has_files = mapping.has_lines = true;
    mapping.has_inlines = false;
  }
  for (const Profile::Location& location : profile->locations) {
    if (location.mapping == Profile::kNone) continue;
    Profile::Mapping& mapping = profile->mappings[location.mapping];
    used[location.mapping] = true;
    if (location.lines.empty()) mapping.has_functions = mapping.has_files = mapping.has_lines = false;
    if (location.lines.size() > 1) mapping.has_inlines = true;
    for (const Profile::Line& line : location.lines) {
      const Profile::Function& function = profile->functions[line.function];
      if (function.name == 0) mapping.has_functions = false;
      if (function.file == 0) mapping.has_files = false;
      if (line.line == 0) mapping.has_lines = false;
    }
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (used[i]) continue;
    // Nothing is missing where nothing is asked for, and pprof must not go looking.
    profile->mappings[i].has_files = profile->mappings[i].has_lines = false;
  }
}

std::size_t FindSampleType(const Profile& profile, std::string_view name) {
  if (profile.sample_types.empty()) throw ProfileError("the profile has no sample type");
  if (name.empty()) {
    if (profile.default_sample_type == 0) return profile.sample_types.size() - 1;
    name = profile.Text(profile.default_sample_type);
  }
  std::string known;
  for (std::size_t i = 0; i < profile.sample_types.size(); ++i) {
    const std::string& type = profile.Text(profile.sample_types[i].type);
    if (type == name) return i;
    known += (known.empty() ? "" : ", ") + type;
  }
  throw ProfileError("the profile has no sample type \"" + std::string(name) + "\"; it has " + known);
}

Profile NewHeapProfile(std::int64_t sampling_interval_bytes) {
  Profile profile;
  auto type = [&](std::string_view name, std::string_view unit) {
    return Profile::ValueType{profile.strings.Intern(name), profile.strings.Intern(unit)};
  };
  profile.sample_types = {type("alloc_objects", "count"), type("alloc_space", "bytes"), type("inuse_objects", "count"),
                          type("inuse_space", "bytes")};
  profile.default_sample_type = profile.strings.Intern("inuse_space");
  profile.period_type = type("space", "bytes");
  profile.period = sampling_interval_bytes;
  profile.drop_frames = profile.strings.Intern(kAllocatorFrames);
  return profile;
}

}  // namespace tarn::tool
