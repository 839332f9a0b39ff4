// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/profile/proto.h"

#include <algorithm>
#include <limits>
#include <protozero/exception.hpp>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>
#include <unordered_map>
#include <utility>

namespace tarn::tool {

namespace {

// The numbers of the fields, from profile.proto.
namespace field {
enum Profile : protozero::pbf_tag_type {
  kSampleType = 1,
  kSample = 2,
  kMapping = 3,
  kLocation = 4,
  kFunction = 5,
  kStringTable = 6,
  kDropFrames = 7,
  kKeepFrames = 8,
  kTimeNanos = 9,
  kDurationNanos = 10,
  kPeriodType = 11,
  kPeriod = 12,
  kComment = 13,
  kDefaultSampleType = 14,
};
namespace value_type {
enum : protozero::pbf_tag_type { kType = 1, kUnit = 2 };
}
namespace sample {
enum : protozero::pbf_tag_type { kLocationId = 1, kValue = 2, kLabel = 3 };
}
namespace label {
enum : protozero::pbf_tag_type { kKey = 1, kStr = 2, kNum = 3, kNumUnit = 4 };
}
namespace mapping {
enum : protozero::pbf_tag_type {
  kId = 1,
  kMemoryStart = 2,
  kMemoryLimit = 3,
  kFileOffset = 4,
  kFilename = 5,
  kBuildId = 6,
  kHasFunctions = 7,
  kHasFilenames = 8,
  kHasLineNumbers = 9,
  kHasInlineFrames = 10,
};
}
namespace location {
enum : protozero::pbf_tag_type { kId = 1, kMappingId = 2, kAddress = 3, kLine = 4, kIsFolded = 5 };
}
namespace line {
enum : protozero::pbf_tag_type { kFunctionId = 1, kLine = 2 };
}
namespace function {
enum : protozero::pbf_tag_type { kId = 1, kName = 2, kSystemName = 3, kFilename = 4, kStartLine = 5 };
}
}  // namespace field

// --- Writing ---

// Proto3 leaves out what is zero.
void AddInt(protozero::pbf_writer* writer, protozero::pbf_tag_type tag, std::int64_t value) {
  if (value != 0) writer->add_int64(tag, value);
}

void AddUint(protozero::pbf_writer* writer, protozero::pbf_tag_type tag, std::uint64_t value) {
  if (value != 0) writer->add_uint64(tag, value);
}

// One message inside another. `bytes` is a buffer to be used again and again.
template <typename Fill>
void AddMessage(protozero::pbf_writer* writer, protozero::pbf_tag_type tag, std::string* bytes, Fill fill) {
  bytes->clear();
  protozero::pbf_writer message(*bytes);
  fill(&message);
  writer->add_message(tag, *bytes);
}

void AddValueType(protozero::pbf_writer* writer, protozero::pbf_tag_type tag, std::string* bytes,
                  const Profile::ValueType& type) {
  AddMessage(writer, tag, bytes, [&](protozero::pbf_writer* message) {
    AddInt(message, field::value_type::kType, type.type);
    AddInt(message, field::value_type::kUnit, type.unit);
  });
}

// --- Reading ---

// A message of which every field is fetched by its type; a field of another type is an error, not a failed assertion.
class Message {
 public:
  Message(protozero::data_view bytes, const char* name) : reader_(bytes), name_(name) {}

  bool Next() { return reader_.next(); }
  protozero::pbf_tag_type tag() const { return reader_.tag(); }
  void Skip() { reader_.skip(); }

  std::uint64_t Uint() {
    Expect(protozero::pbf_wire_type::varint);
    return reader_.get_uint64();
  }
  std::int64_t Int() { return static_cast<std::int64_t>(Uint()); }
  bool Bool() { return Uint() != 0; }
  protozero::data_view Bytes() {
    Expect(protozero::pbf_wire_type::length_delimited);
    return reader_.get_view();
  }
  // Repeated numbers come packed or one by one.
  template <typename Add>
  void Uints(Add add) {
    if (reader_.wire_type() == protozero::pbf_wire_type::varint) {
      add(reader_.get_uint64());
      return;
    }
    Expect(protozero::pbf_wire_type::length_delimited);
    for (std::uint64_t value : reader_.get_packed_uint64()) add(value);
  }

 private:
  void Expect(protozero::pbf_wire_type type) {
    if (reader_.wire_type() == type) return;
    throw ProfileError("not a profile: field " + std::to_string(reader_.tag()) + " of " + name_ +
                       " has the wrong type");
  }

  protozero::pbf_reader reader_;
  const char* name_;
};

// Ids of the file to indexes of the model.
class Ids {
 public:
  explicit Ids(const char* what) : what_(what) {}

  void Add(std::uint64_t id, std::size_t index) {
    if (id == 0) throw ProfileError("a " + what_ + " has the id 0");
    if (index >= Profile::kNone) throw ProfileError("too many of " + what_);
    if (!indexes_.emplace(id, static_cast<std::uint32_t>(index)).second)
      throw ProfileError("two of " + what_ + " have the id " + std::to_string(id));
  }
  std::uint32_t Find(std::uint64_t id) const {
    auto found = indexes_.find(id);
    if (found == indexes_.end()) throw ProfileError("there is no " + what_ + " with the id " + std::to_string(id));
    return found->second;
  }

 private:
  std::string what_;
  std::unordered_map<std::uint64_t, std::uint32_t> indexes_;
};

// Reads a profile in two passes over the bytes, because a message may come before the texts and messages it names: first
// the table of texts, then the rest, of which functions and mappings are needed by locations, and those by samples.
class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : bytes_(bytes) {}

  Profile Decode() {
    ReadStrings();
    ReadMessages();
    for (const protozero::data_view& view : locations_) ReadLocation(view);
    for (const protozero::data_view& view : samples_) ReadSample(view);
    return std::move(profile_);
  }

 private:
  Message Whole() const { return Message(protozero::data_view(bytes_.data(), bytes_.size()), "Profile"); }

  void ReadStrings() {
    for (Message message = Whole(); message.Next();) {
      if (message.tag() != field::kStringTable) {
        message.Skip();
        continue;
      }
      const protozero::data_view view = message.Bytes();
      strings_.push_back(profile_.strings.Intern(std::string_view(view.data(), view.size())));
    }
    if (strings_.empty()) throw ProfileError("not a profile: it has no table of strings");
    if (strings_[0] != 0) throw ProfileError("the first string of the table is not the empty one");
  }

  StringId Text(std::uint64_t index) const {
    if (index >= strings_.size())
      throw ProfileError("string " + std::to_string(index) + " is beyond the table of " +
                         std::to_string(strings_.size()));
    return strings_[index];
  }

  void ReadMessages() {
    for (Message message = Whole(); message.Next();) {
      switch (message.tag()) {
        case field::kSampleType:
          profile_.sample_types.push_back(ReadValueType(message.Bytes()));
          break;
        case field::kSample:
          samples_.push_back(message.Bytes());
          break;
        case field::kMapping:
          ReadMapping(message.Bytes());
          break;
        case field::kLocation:
          locations_.push_back(message.Bytes());
          break;
        case field::kFunction:
          ReadFunction(message.Bytes());
          break;
        case field::kDropFrames:
          profile_.drop_frames = Text(message.Uint());
          break;
        case field::kKeepFrames:
          profile_.keep_frames = Text(message.Uint());
          break;
        case field::kTimeNanos:
          profile_.time_ns = message.Int();
          break;
        case field::kDurationNanos:
          profile_.duration_ns = message.Int();
          break;
        case field::kPeriodType:
          profile_.period_type = ReadValueType(message.Bytes());
          break;
        case field::kPeriod:
          profile_.period = message.Int();
          break;
        case field::kComment:
          message.Uints([&](std::uint64_t text) { profile_.comments.push_back(Text(text)); });
          break;
        case field::kDefaultSampleType:
          profile_.default_sample_type = Text(message.Uint());
          break;
        default:
          message.Skip();
      }
    }
    if (profile_.sample_types.empty()) throw ProfileError("not a profile: it has no sample type");
  }

  Profile::ValueType ReadValueType(protozero::data_view view) const {
    Profile::ValueType type;
    for (Message message(view, "ValueType"); message.Next();) {
      switch (message.tag()) {
        case field::value_type::kType:
          type.type = Text(message.Uint());
          break;
        case field::value_type::kUnit:
          type.unit = Text(message.Uint());
          break;
        default:
          message.Skip();
      }
    }
    return type;
  }

  void ReadMapping(protozero::data_view view) {
    Profile::Mapping mapping;
    std::uint64_t id = 0;
    for (Message message(view, "Mapping"); message.Next();) {
      switch (message.tag()) {
        case field::mapping::kId:
          id = message.Uint();
          break;
        case field::mapping::kMemoryStart:
          mapping.start = message.Uint();
          break;
        case field::mapping::kMemoryLimit:
          mapping.limit = message.Uint();
          break;
        case field::mapping::kFileOffset:
          mapping.offset = message.Uint();
          break;
        case field::mapping::kFilename:
          mapping.file = Text(message.Uint());
          break;
        case field::mapping::kBuildId:
          mapping.build_id = Text(message.Uint());
          break;
        case field::mapping::kHasFunctions:
          mapping.has_functions = message.Bool();
          break;
        case field::mapping::kHasFilenames:
          mapping.has_files = message.Bool();
          break;
        case field::mapping::kHasLineNumbers:
          mapping.has_lines = message.Bool();
          break;
        case field::mapping::kHasInlineFrames:
          mapping.has_inlines = message.Bool();
          break;
        default:
          message.Skip();
      }
    }
    mapping_ids_.Add(id, profile_.mappings.size());
    profile_.mappings.push_back(mapping);
  }

  void ReadFunction(protozero::data_view view) {
    Profile::Function function;
    std::uint64_t id = 0;
    for (Message message(view, "Function"); message.Next();) {
      switch (message.tag()) {
        case field::function::kId:
          id = message.Uint();
          break;
        case field::function::kName:
          function.name = Text(message.Uint());
          break;
        case field::function::kSystemName:
          function.system_name = Text(message.Uint());
          break;
        case field::function::kFilename:
          function.file = Text(message.Uint());
          break;
        case field::function::kStartLine:
          function.start_line = message.Int();
          break;
        default:
          message.Skip();
      }
    }
    function_ids_.Add(id, profile_.functions.size());
    profile_.functions.push_back(function);
  }

  Profile::Line ReadLine(protozero::data_view view) const {
    Profile::Line line;
    std::uint64_t function_id = 0;
    for (Message message(view, "Line"); message.Next();) {
      switch (message.tag()) {
        case field::line::kFunctionId:
          function_id = message.Uint();
          break;
        case field::line::kLine:
          line.line = message.Int();
          break;
        default:
          message.Skip();
      }
    }
    line.function = function_ids_.Find(function_id);
    return line;
  }

  void ReadLocation(protozero::data_view view) {
    Profile::Location location;
    std::uint64_t id = 0;
    std::uint64_t mapping_id = 0;
    for (Message message(view, "Location"); message.Next();) {
      switch (message.tag()) {
        case field::location::kId:
          id = message.Uint();
          break;
        case field::location::kMappingId:
          mapping_id = message.Uint();
          break;
        case field::location::kAddress:
          location.address = message.Uint();
          break;
        case field::location::kLine:
          location.lines.push_back(ReadLine(message.Bytes()));
          break;
        case field::location::kIsFolded:
          location.is_folded = message.Bool();
          break;
        default:
          message.Skip();
      }
    }
    if (mapping_id != 0) location.mapping = mapping_ids_.Find(mapping_id);
    location_ids_.Add(id, profile_.locations.size());
    profile_.locations.push_back(std::move(location));
  }

  Profile::Label ReadLabel(protozero::data_view view) const {
    Profile::Label label;
    for (Message message(view, "Label"); message.Next();) {
      switch (message.tag()) {
        case field::label::kKey:
          label.key = Text(message.Uint());
          break;
        case field::label::kStr:
          label.text = Text(message.Uint());
          break;
        case field::label::kNum:
          label.number = message.Int();
          break;
        case field::label::kNumUnit:
          label.number_unit = Text(message.Uint());
          break;
        default:
          message.Skip();
      }
    }
    return label;
  }

  void ReadSample(protozero::data_view view) {
    Profile::Sample sample;
    for (Message message(view, "Sample"); message.Next();) {
      switch (message.tag()) {
        case field::sample::kLocationId:
          message.Uints([&](std::uint64_t id) { sample.locations.push_back(location_ids_.Find(id)); });
          break;
        case field::sample::kValue:
          message.Uints([&](std::uint64_t value) { sample.values.push_back(static_cast<std::int64_t>(value)); });
          break;
        case field::sample::kLabel:
          sample.labels.push_back(ReadLabel(message.Bytes()));
          break;
        default:
          message.Skip();
      }
    }
    if (sample.values.size() != profile_.sample_types.size())
      throw ProfileError("a sample has " + std::to_string(sample.values.size()) + " values, and the profile " +
                         std::to_string(profile_.sample_types.size()) + " sample types");
    profile_.samples.push_back(std::move(sample));
  }

  std::string_view bytes_;
  Profile profile_;
  std::vector<StringId> strings_;  // of the file's table; a file may hold a text twice
  std::vector<protozero::data_view> locations_;
  std::vector<protozero::data_view> samples_;
  Ids mapping_ids_{"mapping"};
  Ids function_ids_{"function"};
  Ids location_ids_{"location"};
};

}  // namespace

std::string EncodeProfile(const Profile& profile) {
  std::string result;
  protozero::pbf_writer writer(result);
  std::string bytes;
  std::string inner;

  for (const Profile::ValueType& type : profile.sample_types) AddValueType(&writer, field::kSampleType, &bytes, type);
  std::vector<std::uint64_t> ids;
  for (const Profile::Sample& sample : profile.samples) {
    AddMessage(&writer, field::kSample, &bytes, [&](protozero::pbf_writer* message) {
      ids.clear();
      for (std::uint32_t location : sample.locations) ids.push_back(std::uint64_t{location} + 1);
      message->add_packed_uint64(field::sample::kLocationId, ids.begin(), ids.end());
      message->add_packed_int64(field::sample::kValue, sample.values.begin(), sample.values.end());
      for (const Profile::Label& label : sample.labels) {
        AddMessage(message, field::sample::kLabel, &inner, [&](protozero::pbf_writer* fields) {
          AddInt(fields, field::label::kKey, label.key);
          AddInt(fields, field::label::kStr, label.text);
          AddInt(fields, field::label::kNum, label.number);
          AddInt(fields, field::label::kNumUnit, label.number_unit);
        });
      }
    });
  }
  std::uint64_t id = 0;
  for (const Profile::Mapping& mapping : profile.mappings) {
    AddMessage(&writer, field::kMapping, &bytes, [&](protozero::pbf_writer* message) {
      AddUint(message, field::mapping::kId, ++id);
      AddUint(message, field::mapping::kMemoryStart, mapping.start);
      AddUint(message, field::mapping::kMemoryLimit, mapping.limit);
      AddUint(message, field::mapping::kFileOffset, mapping.offset);
      AddInt(message, field::mapping::kFilename, mapping.file);
      AddInt(message, field::mapping::kBuildId, mapping.build_id);
      AddInt(message, field::mapping::kHasFunctions, mapping.has_functions);
      AddInt(message, field::mapping::kHasFilenames, mapping.has_files);
      AddInt(message, field::mapping::kHasLineNumbers, mapping.has_lines);
      AddInt(message, field::mapping::kHasInlineFrames, mapping.has_inlines);
    });
  }
  id = 0;
  for (const Profile::Location& location : profile.locations) {
    AddMessage(&writer, field::kLocation, &bytes, [&](protozero::pbf_writer* message) {
      AddUint(message, field::location::kId, ++id);
      if (location.mapping != Profile::kNone)
        AddUint(message, field::location::kMappingId, std::uint64_t{location.mapping} + 1);
      AddUint(message, field::location::kAddress, location.address);
      for (const Profile::Line& line : location.lines) {
        AddMessage(message, field::location::kLine, &inner, [&](protozero::pbf_writer* fields) {
          AddUint(fields, field::line::kFunctionId, std::uint64_t{line.function} + 1);
          AddInt(fields, field::line::kLine, line.line);
        });
      }
      AddInt(message, field::location::kIsFolded, location.is_folded);
    });
  }
  id = 0;
  for (const Profile::Function& function : profile.functions) {
    AddMessage(&writer, field::kFunction, &bytes, [&](protozero::pbf_writer* message) {
      AddUint(message, field::function::kId, ++id);
      AddInt(message, field::function::kName, function.name);
      AddInt(message, field::function::kSystemName, function.system_name);
      AddInt(message, field::function::kFilename, function.file);
      AddInt(message, field::function::kStartLine, function.start_line);
    });
  }
  for (std::size_t i = 0; i < profile.strings.size(); ++i)
    writer.add_string(field::kStringTable, profile.strings[static_cast<StringId>(i)]);
  AddInt(&writer, field::kDropFrames, profile.drop_frames);
  AddInt(&writer, field::kKeepFrames, profile.keep_frames);
  AddInt(&writer, field::kTimeNanos, profile.time_ns);
  AddInt(&writer, field::kDurationNanos, profile.duration_ns);
  if (profile.period_type.type != 0) AddValueType(&writer, field::kPeriodType, &bytes, profile.period_type);
  AddInt(&writer, field::kPeriod, profile.period);
  for (StringId comment : profile.comments) writer.add_int64(field::kComment, comment);
  AddInt(&writer, field::kDefaultSampleType, profile.default_sample_type);
  return result;
}

Profile DecodeProfile(std::string_view bytes) {
  try {
    return Decoder(bytes).Decode();
  } catch (const protozero::end_of_buffer_exception&) {
    throw ProfileError("not a profile, or it ends too early");
  } catch (const protozero::exception& error) {
    throw ProfileError(std::string("not a profile: damaged protocol buffer (") + error.what() + ")");
  }
}

}  // namespace tarn::tool
