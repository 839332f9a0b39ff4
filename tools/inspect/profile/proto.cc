// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/profile/proto.h"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <protozero/exception.hpp>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace tarn::tool {

namespace {

using Tag = protozero::pbf_tag_type;

// --- The messages ---
//
// Each message of profile.proto is described once, by its fields and their numbers there, in the order of writing. The
// Writer adds each field that it is shown; the Reader fills in the one that it has come to.

template <typename T, typename Message>
concept Of = std::same_as<std::remove_const_t<T>, Message>;

template <typename Fields>
void Describe(Fields& fields, Of<Profile::ValueType> auto& type) {
  fields.Text(1, type.type);
  fields.Text(2, type.unit);
}

template <typename Fields>
void Describe(Fields& fields, Of<Profile::Label> auto& label) {
  fields.Text(1, label.key);
  fields.Text(2, label.text);
  fields.Number(3, label.number);
  fields.Text(4, label.number_unit);
}

template <typename Fields>
void Describe(Fields& fields, Of<Profile::Sample> auto& sample) {
  fields.Locations(1, sample.locations);
  fields.Numbers(2, sample.values);
  fields.Messages(3, sample.labels);
}

template <typename Fields>
void Describe(Fields& fields, Of<Profile::Mapping> auto& mapping) {
  fields.Id(1);
  fields.Number(2, mapping.start);
  fields.Number(3, mapping.limit);
  fields.Number(4, mapping.offset);
  fields.Text(5, mapping.file);
  fields.Text(6, mapping.build_id);
  fields.Number(7, mapping.has_functions);
  fields.Number(8, mapping.has_files);
  fields.Number(9, mapping.has_lines);
  fields.Number(10, mapping.has_inlines);
}

template <typename Fields>
void Describe(Fields& fields, Of<Profile::Line> auto& line) {
  fields.FunctionOf(1, line.function);
  fields.Number(2, line.line);
}

template <typename Fields>
void Describe(Fields& fields, Of<Profile::Location> auto& location) {
  fields.Id(1);
  fields.MappingOf(2, location.mapping);
  fields.Number(3, location.address);
  fields.Messages(4, location.lines);
  fields.Number(5, location.is_folded);
}

template <typename Fields>
void Describe(Fields& fields, Of<Profile::Function> auto& function) {
  fields.Id(1);
  fields.Text(2, function.name);
  fields.Text(3, function.system_name);
  fields.Text(4, function.file);
  fields.Number(5, function.start_line);
}

constexpr Tag kStringTable = 6;

template <typename Fields>
void Describe(Fields& fields, Of<Profile> auto& profile) {
  fields.Messages(1, profile.sample_types);
  fields.Messages(2, profile.samples);
  fields.Messages(3, profile.mappings);
  fields.Messages(4, profile.locations);
  fields.Messages(5, profile.functions);
  fields.Strings(kStringTable, profile.strings);
  fields.Text(7, profile.drop_frames);
  fields.Text(8, profile.keep_frames);
  fields.Number(9, profile.time_ns);
  fields.Number(10, profile.duration_ns);
  fields.PeriodType(11, profile.period_type);
  fields.Number(12, profile.period);
  fields.Texts(13, profile.comments);
  fields.Text(14, profile.default_sample_type);
}

// --- Writing ---

class Writer {
 public:
  // Appends to `bytes` the message that has this index among those of its kind.
  Writer(std::string* bytes, std::size_t index) : writer_(*bytes), index_(index) {}

  void Id(Tag tag) { writer_.add_uint64(tag, index_ + 1); }
  // Proto3 leaves out what is zero.
  template <typename Value>
  void Number(Tag tag, Value value) {
    if (value != 0) writer_.add_uint64(tag, static_cast<std::uint64_t>(value));
  }
  void Text(Tag tag, StringId text) { Number(tag, text); }
  void MappingOf(Tag tag, std::uint32_t index) {
    if (index != Profile::kNone) writer_.add_uint64(tag, std::uint64_t{index} + 1);
  }
  void FunctionOf(Tag tag, std::uint32_t index) { writer_.add_uint64(tag, std::uint64_t{index} + 1); }
  void Locations(Tag tag, const std::vector<std::uint32_t>& locations) {
    std::vector<std::uint64_t> ids;
    for (const std::uint32_t location : locations) ids.push_back(std::uint64_t{location} + 1);
    writer_.add_packed_uint64(tag, ids.begin(), ids.end());
  }
  void Numbers(Tag tag, const std::vector<std::int64_t>& numbers) {
    writer_.add_packed_int64(tag, numbers.begin(), numbers.end());
  }
  void Texts(Tag tag, const std::vector<StringId>& texts) {
    for (const StringId text : texts) writer_.add_uint64(tag, text);
  }
  void Strings(Tag tag, const StringTable& strings) {
    for (std::size_t i = 0; i < strings.size(); ++i) writer_.add_string(tag, strings[static_cast<StringId>(i)]);
  }
  void PeriodType(Tag tag, const Profile::ValueType& type) {
    if (type.type != 0) Messages(tag, std::vector{type});
  }
  template <typename Message>
  void Messages(Tag tag, const std::vector<Message>& messages) {
    std::string bytes;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      bytes.clear();
      Writer message(&bytes, i);
      Describe(message, messages[i]);
      writer_.add_message(tag, bytes);
    }
  }

 private:
  protozero::pbf_writer writer_;
  std::size_t index_;
};

// --- Reading ---

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

// The state of reading a profile.
struct Reading {
  std::vector<StringId> strings;  // of the file's table; a file may hold a text twice
  // Messages that name others are read after those.
  std::vector<protozero::data_view> locations;
  std::vector<protozero::data_view> samples;
  Ids mapping_ids{"mapping"};
  Ids function_ids{"function"};
  Ids location_ids{"location"};
};

template <typename Message>
constexpr const char* kNameOf = "Profile";
template <>
constexpr const char* kNameOf<Profile::ValueType> = "ValueType";
template <>
constexpr const char* kNameOf<Profile::Label> = "Label";
template <>
constexpr const char* kNameOf<Profile::Sample> = "Sample";
template <>
constexpr const char* kNameOf<Profile::Mapping> = "Mapping";
template <>
constexpr const char* kNameOf<Profile::Line> = "Line";
template <>
constexpr const char* kNameOf<Profile::Location> = "Location";
template <>
constexpr const char* kNameOf<Profile::Function> = "Function";

// A field of another type than is wanted is an error, not a failed assertion.
class Reader {
 public:
  Reader(protozero::data_view bytes, const char* name, Reading* reading)
      : reader_(bytes), name_(name), reading_(reading) {}

  template <typename Message>
  static Message Read(protozero::data_view bytes, Reading* reading) {
    Message message;
    // The one reference that must be there.
    if constexpr (std::same_as<Message, Profile::Line>) message.function = Profile::kNone;
    Reader reader(bytes, kNameOf<Message>, reading);
    reader.ReadInto(&message);
    if constexpr (std::same_as<Message, Profile::Line>)
      if (message.function == Profile::kNone) message.function = reading->function_ids.Find(0);
    return message;
  }

  template <typename Message>
  void ReadInto(Message* message) {
    while (reader_.next()) {
      is_taken_ = false;
      Describe(*this, *message);
      if (!is_taken_) reader_.skip();
    }
  }

  // The texts of the table, which come first, because any message may name them.
  static void ReadStrings(protozero::data_view bytes, Reading* reading, StringTable* strings) {
    Reader reader(bytes, kNameOf<Profile>, reading);
    while (reader.reader_.next()) {
      reader.is_taken_ = false;
      if (!reader.Takes(kStringTable)) {
        reader.reader_.skip();
        continue;
      }
      const protozero::data_view text = reader.Bytes();
      reading->strings.push_back(strings->Intern(std::string_view(text.data(), text.size())));
    }
    if (reading->strings.empty()) throw ProfileError("not a profile: it has no table of strings");
    if (reading->strings[0] != 0) throw ProfileError("the first string of the table is not the empty one");
  }

  void Id(Tag tag) {
    if (Takes(tag)) id_ = Uint();
  }
  template <typename Value>
  void Number(Tag tag, Value& value) {
    if (Takes(tag)) value = static_cast<Value>(Uint());
  }
  void Text(Tag tag, StringId& text) {
    if (Takes(tag)) text = TextOf(Uint());
  }
  void MappingOf(Tag tag, std::uint32_t& index) {
    if (!Takes(tag)) return;
    const std::uint64_t id = Uint();
    index = id == 0 ? Profile::kNone : reading_->mapping_ids.Find(id);
  }
  void FunctionOf(Tag tag, std::uint32_t& index) {
    if (Takes(tag)) index = reading_->function_ids.Find(Uint());
  }
  void Locations(Tag tag, std::vector<std::uint32_t>& locations) {
    if (Takes(tag)) Uints([&](std::uint64_t id) { locations.push_back(reading_->location_ids.Find(id)); });
  }
  void Numbers(Tag tag, std::vector<std::int64_t>& numbers) {
    if (Takes(tag)) Uints([&](std::uint64_t value) { numbers.push_back(static_cast<std::int64_t>(value)); });
  }
  void Texts(Tag tag, std::vector<StringId>& texts) {
    if (Takes(tag)) Uints([&](std::uint64_t index) { texts.push_back(TextOf(index)); });
  }
  // Read by ReadStrings.
  void Strings(Tag /*tag*/, StringTable& /*strings*/) {}
  void PeriodType(Tag tag, Profile::ValueType& type) {
    if (Takes(tag)) type = Read<Profile::ValueType>(Bytes(), reading_);
  }
  template <typename Message>
  void Messages(Tag tag, std::vector<Message>& messages) {
    if (!Takes(tag)) return;
    if constexpr (std::same_as<Message, Profile::Location>) {
      reading_->locations.push_back(Bytes());
    } else if constexpr (std::same_as<Message, Profile::Sample>) {
      reading_->samples.push_back(Bytes());
    } else if constexpr (std::same_as<Message, Profile::Mapping>) {
      ReadNamed(Bytes(), &reading_->mapping_ids, reading_, &messages);
    } else if constexpr (std::same_as<Message, Profile::Function>) {
      ReadNamed(Bytes(), &reading_->function_ids, reading_, &messages);
    } else {
      messages.push_back(Read<Message>(Bytes(), reading_));
    }
  }

  // A message with an id, which others name it by.
  template <typename Message>
  static void ReadNamed(protozero::data_view bytes, Ids* ids, Reading* reading, std::vector<Message>* messages) {
    Message message;
    Reader reader(bytes, kNameOf<Message>, reading);
    reader.ReadInto(&message);
    ids->Add(reader.id_, messages->size());
    messages->push_back(std::move(message));
  }

 private:
  // True where this is the field that has come.
  bool Takes(Tag tag) {
    if (is_taken_ || reader_.tag() != tag) return false;
    return is_taken_ = true;
  }
  void Expect(protozero::pbf_wire_type type) {
    if (reader_.wire_type() == type) return;
    throw ProfileError("not a profile: field " + std::to_string(reader_.tag()) + " of " + name_ +
                       " has the wrong type");
  }
  std::uint64_t Uint() {
    Expect(protozero::pbf_wire_type::varint);
    return reader_.get_uint64();
  }
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
  StringId TextOf(std::uint64_t index) const {
    if (index >= reading_->strings.size())
      throw ProfileError("string " + std::to_string(index) + " is beyond the table of " +
                         std::to_string(reading_->strings.size()));
    return reading_->strings[index];
  }

  protozero::pbf_reader reader_;
  const char* name_;
  Reading* reading_;
  std::uint64_t id_ = 0;
  bool is_taken_ = false;
};

// Any message may come before the texts and the messages that it names. So the texts are read first, then what names no
// message, then locations, then samples.
Profile Decode(protozero::data_view bytes) {
  Profile profile;
  Reading reading;
  Reader::ReadStrings(bytes, &reading, &profile.strings);
  Reader(bytes, kNameOf<Profile>, &reading).ReadInto(&profile);
  if (profile.sample_types.empty()) throw ProfileError("not a profile: it has no sample type");
  for (const protozero::data_view& location : reading.locations)
    Reader::ReadNamed(location, &reading.location_ids, &reading, &profile.locations);
  for (const protozero::data_view& view : reading.samples) {
    Profile::Sample sample = Reader::Read<Profile::Sample>(view, &reading);
    if (sample.values.size() != profile.sample_types.size())
      throw ProfileError("a sample has " + std::to_string(sample.values.size()) + " values, and the profile " +
                         std::to_string(profile.sample_types.size()) + " sample types");
    profile.samples.push_back(std::move(sample));
  }
  return profile;
}

}  // namespace

std::string EncodeProfile(const Profile& profile) {
  std::string bytes;
  Writer writer(&bytes, 0);
  Describe(writer, profile);
  return bytes;
}

Profile DecodeProfile(std::string_view bytes) {
  try {
    return Decode(protozero::data_view(bytes.data(), bytes.size()));
  } catch (const protozero::end_of_buffer_exception&) {
    throw ProfileError("not a profile, or it ends too early");
  } catch (const protozero::exception& error) {
    throw ProfileError(std::string("not a profile: damaged protocol buffer (") + error.what() + ")");
  }
}

}  // namespace tarn::tool
