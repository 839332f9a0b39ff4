// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/profile/merge.h"

#include <algorithm>
#include <limits>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tarn::tool {

namespace {

// The bytes of some numbers, as the key of a hash map.
class Key {
 public:
  template <typename T>
  void Add(T value) {
    static_assert(std::is_integral_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

using Index = std::unordered_map<std::string, std::uint32_t>;

std::int64_t SaturatingMultiply(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  if (!__builtin_mul_overflow(a, b, &product)) return product;
  return (a < 0) == (b < 0) ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int64_t>::min();
}

std::string Describe(const Profile& profile) {
  std::string result;
  for (const Profile::ValueType& type : profile.sample_types)
    result += (result.empty() ? "" : ", ") + profile.Text(type.type) + "/" + profile.Text(type.unit);
  return result;
}

}  // namespace

class ProfileMerger::Result {
 public:
  void Add(const Profile& profile, std::int64_t factor) {
    source_ = &profile;
    texts_.assign(profile.strings.size(), 0);
    for (std::size_t i = 0; i < texts_.size(); ++i)
      texts_[i] = sum_.strings.Intern(profile.strings[static_cast<StringId>(i)]);
    if (is_first_) {
      TakeHeader();
    } else if (Describe(profile) != Describe(sum_)) {
      throw ProfileError("the profiles are of different kinds: one has " + Describe(sum_) + ", the other " +
                         Describe(profile));
    }
    is_first_ = false;
    functions_.clear();
    for (const Profile::Function& function : profile.functions) functions_.push_back(AddFunction(function));
    mappings_.clear();
    for (const Profile::Mapping& mapping : profile.mappings) mappings_.push_back(AddMapping(mapping));
    locations_.clear();
    for (const Profile::Location& location : profile.locations) locations_.push_back(AddLocation(location));
    for (const Profile::Sample& sample : profile.samples) AddSample(sample, factor);
  }

  Profile Take() {
    std::erase_if(sum_.samples, [](const Profile::Sample& sample) {
      return std::all_of(sample.values.begin(), sample.values.end(), [](std::int64_t value) { return value == 0; });
    });
    SetMappingFlags(&sum_);
    return std::move(sum_);
  }

 private:
  StringId Text(StringId id) const { return texts_[id]; }
  Profile::ValueType Type(Profile::ValueType type) const { return {Text(type.type), Text(type.unit)}; }

  void TakeHeader() {
    for (const Profile::ValueType& type : source_->sample_types) sum_.sample_types.push_back(Type(type));
    for (StringId comment : source_->comments) sum_.comments.push_back(Text(comment));
    sum_.drop_frames = Text(source_->drop_frames);
    sum_.keep_frames = Text(source_->keep_frames);
    sum_.time_ns = source_->time_ns;
    sum_.duration_ns = source_->duration_ns;
    sum_.period_type = Type(source_->period_type);
    sum_.period = source_->period;
    sum_.default_sample_type = Text(source_->default_sample_type);
  }

  std::uint32_t AddFunction(Profile::Function function) {
    function = {Text(function.name), Text(function.system_name), Text(function.file), function.start_line};
    Key key;
    key.Add(function.name);
    key.Add(function.system_name);
    key.Add(function.file);
    key.Add(function.start_line);
    return Find(&function_index_, key, &sum_.functions, function);
  }

  // A mapping is known by the file, not by where it happened to be mapped.
  std::uint32_t AddMapping(Profile::Mapping mapping) {
    mapping.file = Text(mapping.file);
    mapping.build_id = Text(mapping.build_id);
    Key key;
    key.Add(mapping.limit - mapping.start);
    key.Add(mapping.offset);
    key.Add(mapping.build_id != 0);
    key.Add(mapping.build_id != 0 ? mapping.build_id : mapping.file);
    return Find(&mapping_index_, key, &sum_.mappings, mapping);
  }

  std::uint32_t AddLocation(Profile::Location location) {
    Key key;
    if (location.mapping != Profile::kNone) {
      const std::uint64_t offset = location.address - source_->mappings[location.mapping].start;
      location.mapping = mappings_[location.mapping];
      location.address = sum_.mappings[location.mapping].start + offset;
    }
    key.Add(location.mapping);
    key.Add(location.address);
    key.Add(location.is_folded);
    for (Profile::Line& line : location.lines) {
      line.function = functions_[line.function];
      key.Add(line.function);
      key.Add(line.line);
    }
    return Find(&location_index_, key, &sum_.locations, std::move(location));
  }

  void AddSample(const Profile::Sample& source, std::int64_t factor) {
    Profile::Sample sample;
    Key key;
    for (std::uint32_t location : source.locations) {
      sample.locations.push_back(locations_[location]);
      key.Add(locations_[location]);
    }
    key.Add(Profile::kNone);  // the end of the stack
    for (Profile::Label label : source.labels) {
      label.key = Text(label.key);
      label.text = Text(label.text);
      label.number_unit = Text(label.number_unit);
      sample.labels.push_back(label);
      key.Add(label.key);
      key.Add(label.text);
      key.Add(label.number);
      key.Add(label.number_unit);
    }
    sample.values.assign(source.values.size(), 0);
    Profile::Sample& sum = sum_.samples[Find(&sample_index_, key, &sum_.samples, std::move(sample))];
    for (std::size_t i = 0; i < source.values.size(); ++i)
      sum.values[i] = SaturatingAdd(sum.values[i], SaturatingMultiply(source.values[i], factor));
  }

  // The index of what has this key; `item` is added where nothing has.
  template <typename T>
  static std::uint32_t Find(Index* index, const Key& key, std::vector<T>* items, T item) {
    const auto [found, is_new] = index->emplace(key.bytes(), static_cast<std::uint32_t>(items->size()));
    if (is_new) items->push_back(std::move(item));
    return found->second;
  }

  Profile sum_;
  bool is_first_ = true;
  Index function_index_, mapping_index_, location_index_, sample_index_;

  // The profile that is being added, and where its parts are in the sum.
  const Profile* source_ = nullptr;
  std::vector<StringId> texts_;
  std::vector<std::uint32_t> functions_, mappings_, locations_;
};

ProfileMerger::ProfileMerger() : result_(std::make_unique<Result>()) {}
ProfileMerger::~ProfileMerger() = default;
void ProfileMerger::Add(const Profile& profile, std::int64_t factor) { result_->Add(profile, factor); }
Profile ProfileMerger::Take() { return result_->Take(); }

Profile Diff(const Profile& before, const Profile& after) {
  ProfileMerger merger;
  merger.Add(after, 1);
  merger.Add(before, -1);
  return merger.Take();
}

}  // namespace tarn::tool
