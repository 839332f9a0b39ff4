// SPDX-License-Identifier: Apache-2.0

#include "allocator/observe/profile_writer.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>

#include "allocator/base/text.h"
#include "allocator/observe/snapshot_reader.h"
#include "allocator/os/clock.h"
#include "allocator/os/file.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// --- Memory for the time of a call ---------------------------------------------------------------------------------

class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : bytes_((bytes + kStep - 1) / kStep * kStep) {
    memory_ = Reserve(bytes_, kStep);
    if (memory_ != nullptr && !Commit(memory_, bytes_)) {
      Unreserve(memory_, bytes_);
      memory_ = nullptr;
    }
  }
  ~Scratch() {
    if (memory_ != nullptr) Unreserve(memory_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Zero-filled; null when there was no memory.
  void* memory() const { return memory_; }

 private:
  // A multiple of every kernel's page size.
  static constexpr std::size_t kStep = std::size_t{64} << 10;
  std::size_t bytes_;
  void* memory_;
};

// --- The encoding --------------------------------------------------------------------------------------------------

// The numbers of the fields in profile.proto.
enum ProfileField { kSampleType = 1, kSample, kMapping, kLocation, kFunction, kStringTable, kDropFrames };
enum MoreProfileFields { kTimeNanos = 9, kPeriodType = 11, kPeriod = 12, kDefaultSampleType = 14 };

constexpr std::uint64_t kVarint = 0;
constexpr std::uint64_t kLengthDelimited = 2;

// One message, or a part of one, in memory of its own. What does not fit is left out, and the message is then not
// whole.
template <std::size_t kCapacity>
class Message {
 public:
  void Varint(std::uint64_t value) {
    while (value >= 0x80) {
      Byte(static_cast<std::uint8_t>(value | 0x80));
      value >>= 7;
    }
    Byte(static_cast<std::uint8_t>(value));
  }
  void Field(int number, std::uint64_t value) {
    if (value == 0) return;  // the default, which is not written
    Varint(static_cast<std::uint64_t>(number) << 3 | kVarint);
    Varint(value);
  }
  void Bytes(int number, const void* data, std::size_t bytes) {
    Varint(static_cast<std::uint64_t>(number) << 3 | kLengthDelimited);
    Varint(bytes);
    const auto* from = static_cast<const std::uint8_t*>(data);
    for (std::size_t i = 0; i < bytes; ++i) Byte(from[i]);
  }
  template <typename Part>
  void Nested(int number, const Part& part) {
    Bytes(number, part.data(), part.size());
  }
  const std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  void Byte(std::uint8_t byte) {
    if (size_ < kCapacity) data_[size_++] = byte;
  }
  std::size_t size_ = 0;
  std::uint8_t data_[kCapacity];
};

// The strings that every profile has, by their numbers in the string table.
constexpr std::string_view kStrings[] = {
    "", "alloc_objects", "count", "alloc_space", "bytes", "inuse_objects", "inuse_space", "space", "pool", "kind",
    // The allocator's own frames, where it is part of the program.
    "tarn::.*|malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|memalign|valloc|pvalloc|operator new.*"};
enum StringNumber {
  kNone,
  kAllocObjects,
  kCount,
  kAllocSpace,
  kBytes,
  kInuseObjects,
  kInuseSpace,
  kSpace,
  kPool,
  kKind,
  kDropped
};
constexpr std::uint64_t kFixedStrings = std::size(kStrings);

// --- The file ------------------------------------------------------------------------------------------------------

class Output {
 public:
  // Collects in `buffer` what it writes.
  Output(int descriptor, char* buffer, std::size_t capacity)
      : descriptor_(descriptor), buffer_(buffer), capacity_(capacity) {}

  // A field of the profile itself.
  template <typename Part>
  void Put(int number, const Part& part) {
    Message<16> head;
    head.Varint(static_cast<std::uint64_t>(number) << 3 | kLengthDelimited);
    head.Varint(part.size());
    Write(head.data(), head.size());
    Write(part.data(), part.size());
  }
  void PutNumber(int number, std::uint64_t value) {
    Message<24> field;
    field.Field(number, value);
    Write(field.data(), field.size());
  }
  // False: something could not be written.
  bool Flush() {
    if (good_ && size_ != 0) good_ = WriteAll(descriptor_, buffer_, size_);
    size_ = 0;
    return good_;
  }

 private:
  void Write(const void* data, std::size_t bytes) {
    const auto* from = static_cast<const char*>(data);
    while (bytes != 0 && good_) {
      const std::size_t here = std::min(bytes, capacity_ - size_);
      std::memcpy(buffer_ + size_, from, here);
      size_ += here;
      from += here;
      bytes -= here;
      if (size_ == capacity_) Flush();
    }
  }

  const int descriptor_;
  bool good_ = true;
  char* const buffer_;
  const std::size_t capacity_;
  std::size_t size_ = 0;
};

// --- Mappings ------------------------------------------------------------------------------------------------------

struct Mapping {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t offset;
};

// Buffers of this size are used to write, and to read /proc/self/maps: no line is longer.
constexpr std::size_t kBufferBytes = std::size_t{32} << 10;

// Calls f(const Mapping&, std::string_view path) for each executable mapping in /proc/self/maps, lowest first. False:
// it cannot be read.
template <typename F>
bool ForEachMapping(char* buffer, std::size_t capacity, F f) {
  const int descriptor = OpenToRead("/proc/self/maps");
  if (descriptor < 0) return false;
  std::size_t held = 0;
  const auto line = [&](std::string_view text) {
    // start-end rwxp offset device inode   path
    Mapping mapping = {};
    std::size_t at = 0;
    const auto hex = [&](std::uint64_t* value) {
      for (; at < text.size(); ++at) {
        const char c = text[at];
        if (c >= '0' && c <= '9') {
          *value = *value << 4 | static_cast<std::uint64_t>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
          *value = *value << 4 | static_cast<std::uint64_t>(c - 'a' + 10);
        } else {
          break;
        }
      }
      ++at;
    };
    hex(&mapping.start);
    hex(&mapping.end);
    if (at + 4 >= text.size() || text[at + 2] != 'x') return;
    at += 5;
    hex(&mapping.offset);
    // Behind the device and the inode.
    for (int fields = 0; fields < 2; ++fields) {
      while (at < text.size() && text[at] != ' ') ++at;
      while (at < text.size() && text[at] == ' ') ++at;
    }
    f(mapping, at < text.size() ? std::string_view(text.data() + at, text.size() - at) : std::string_view());
  };
  std::ptrdiff_t got;
  while ((got = ReadSome(descriptor, buffer + held, capacity - held)) > 0) {
    held += static_cast<std::size_t>(got);
    std::size_t begin = 0;
    while (const void* end = std::memchr(buffer + begin, '\n', held - begin)) {
      const auto length = static_cast<std::size_t>(static_cast<const char*>(end) - (buffer + begin));
      line({buffer + begin, length});
      begin += length + 1;
    }
    // A line that does not fit has a path that cannot be opened.
    if (begin == 0 && held == capacity) begin = held;
    std::memmove(buffer, buffer + begin, held - begin);
    held -= begin;
  }
  static_cast<void>(CloseFile(descriptor));
  return got == 0;
}

// --- The profile ---------------------------------------------------------------------------------------------------

// The addresses that were seen, open addressing in scratch memory; 0 is none.
class AddressSet {
 public:
  AddressSet(void* memory, std::size_t capacity) : slots_(static_cast<std::uint64_t*>(memory)), capacity_(capacity) {}

  // True: it was not in there, and there was room.
  bool Insert(std::uint64_t address) {
    for (std::size_t i = (address * 0x9E3779B97F4A7C15) >> (64 - std::countr_zero(capacity_));;
         i = (i + 1) % capacity_) {
      if (slots_[i] == address) return false;
      if (slots_[i] != 0) continue;
      if (used_ >= capacity_ / 4 * 3) return false;
      slots_[i] = address;
      ++used_;
      return true;
    }
  }

 private:
  std::uint64_t* slots_;
  std::size_t capacity_;
  std::size_t used_ = 0;
};

std::uint64_t Objects(std::uint64_t weight) { return (weight + TARN_SAMPLE_WEIGHT_ONE / 2) / TARN_SAMPLE_WEIGHT_ONE; }

Message<24> ValueType(std::uint64_t type, std::uint64_t unit) {
  Message<24> message;
  message.Field(1, type);
  message.Field(2, unit);
  return message;
}

// These three have room for all frames of a stack, or for names, each. They stay functions of their own, so that the
// stack holds what one of them needs and not the sum.
[[gnu::noinline]] void PutSample(const tarn_snapshot_bucket& bucket, const std::uint64_t* frames, Output* output) {
  // Ids of locations are their addresses.
  Message<SnapshotReader<OwnMemory>::kMaxFrames * 10> locations;
  for (std::uint32_t i = 0; i < bucket.frames; ++i) locations.Varint(frames[i]);
  const std::uint64_t allocated = Objects(bucket.allocated_weight);
  // A free may be counted between the reads of the two.
  const bool freed_more = bucket.freed_weight > bucket.allocated_weight;
  const std::uint64_t in_use = freed_more ? 0 : Objects(bucket.allocated_weight - bucket.freed_weight);
  Message<40> values;
  for (const std::uint64_t value : {allocated, allocated * bucket.size_bytes, in_use, in_use * bucket.size_bytes}) {
    values.Varint(value);
  }
  Message<32> label;
  label.Field(1, kBytes);
  label.Field(3, bucket.size_bytes);
  label.Field(4, kBytes);
  Message<SnapshotReader<OwnMemory>::kMaxFrames * 10 + 128> sample;
  sample.Nested(1, locations);
  sample.Nested(2, values);
  sample.Nested(3, label);
  output->Put(kSample, sample);
}

template <typename F>
[[gnu::noinline]] void ReadBuckets(const SnapshotReader<OwnMemory>& reader, F f) {
  static_cast<void>(reader.ForEachBucket(f));
}

// The memory of arenas, pools and heaps with a name. No stack allocated that, so each has a function of its own,
// and labels. Strings and ids are counted up from `first_string`; ids of locations are addresses otherwise, which
// are larger.
[[gnu::noinline]] std::size_t PutNamedPools(const SnapshotReader<OwnMemory>& reader, std::size_t first_string,
                                            Output* output) {
  std::size_t next_string = first_string;
  static_cast<void>(reader.ForEachNamedPool([&](const tarn_registry_record& record) {
    if (record.capacity_bytes <= 0) return;
    const std::size_t id = next_string;
    const std::string_view kind = tarn_kind_name(record.kind);
    Text<TARN_REGISTRY_NAME_BYTES + 32> function_name;
    function_name << "[" << kind << " " << record.name << "]";
    output->Put(kStringTable, function_name.view());
    output->Put(kStringTable, std::string_view(record.name));
    output->Put(kStringTable, kind);
    next_string += 3;

    Message<64> function;
    function.Field(1, id);
    function.Field(2, id);
    function.Field(3, id);
    output->Put(kFunction, function);
    Message<16> line;
    line.Field(1, id);
    Message<64> location;
    location.Field(1, id);
    location.Nested(4, line);
    output->Put(kLocation, location);

    Message<16> locations;
    locations.Varint(id);
    const auto bytes = static_cast<std::uint64_t>(record.capacity_bytes);
    const auto objects = static_cast<std::uint64_t>(std::max<std::int64_t>(record.live_objects, 0));
    Message<40> values;
    for (const std::uint64_t value : {std::max(record.allocations, objects), bytes, objects, bytes}) {
      values.Varint(value);
    }
    Message<32> pool_label;
    pool_label.Field(1, kPool);
    pool_label.Field(2, id + 1);
    Message<32> kind_label;
    kind_label.Field(1, kKind);
    kind_label.Field(2, id + 2);
    Message<192> sample;
    sample.Nested(1, locations);
    sample.Nested(2, values);
    sample.Nested(3, pool_label);
    sample.Nested(3, kind_label);
    output->Put(kSample, sample);
  }));
  return next_string;
}

// Mappings of a process that are looked at.
constexpr std::size_t kMaxMappings = 65536;

// Puts the mappings of the process, numbered from 1, and their files' names behind the other strings, of which there
// are `first_string`. `buffer` of kBufferBytes is for the text of /proc; `mappings` is filled. Returns their
// number; 0 where they cannot be read.
std::size_t PutMappings(char* buffer, Mapping* mappings, std::size_t first_string, Output* output) {
  std::size_t count = 0;
  const auto put = [&](const Mapping& mapping, std::string_view path) {
    if (count == kMaxMappings) return;
    mappings[count++] = mapping;
    Message<64> message;
    message.Field(1, count);
    message.Field(2, mapping.start);
    message.Field(3, mapping.end);
    message.Field(4, mapping.offset);
    message.Field(5, first_string + count - 1);
    output->Put(kMapping, message);
    output->Put(kStringTable, path);
  };
  return ForEachMapping(buffer, kBufferBytes, put) ? count : 0;
}

// Puts the addresses of a table with empty slots (zero), each with the number of the mapping that covers it, or 0.
void PutLocations(const std::uint64_t* slots, std::size_t capacity, const Mapping* mappings, std::size_t mapping_count,
                  Output* output) {
  for (std::size_t i = 0; i < capacity; ++i) {
    const std::uint64_t address = slots[i];
    if (address == 0) continue;
    const Mapping* const after = std::upper_bound(mappings, mappings + mapping_count, address,
                                                  [](std::uint64_t a, const Mapping& m) { return a < m.start; });
    const bool covered = after != mappings && address < after[-1].end;
    Message<40> location;
    location.Field(1, address);
    location.Field(2, covered ? static_cast<std::uint64_t>(after - mappings) : 0);
    location.Field(3, address);
    output->Put(kLocation, location);
  }
}

}  // namespace

bool WriteHeapProfile(const tarn_snapshot_block& block, int descriptor) {
  // Apart, for the reader holds a table, and the stack that this runs on may be a signal handler's.
  using Reader = SnapshotReader<OwnMemory>;
  static_assert(std::is_trivially_destructible_v<Reader>);
  const Scratch reader_memory(sizeof(Reader));
  if (reader_memory.memory() == nullptr) {
    errno = ENOMEM;
    return false;
  }
  const OwnMemory memory;
  Reader& reader = *new (reader_memory.memory()) Reader(memory);
  tarn_snapshot_profile table = {};
  if (reader.Open(reinterpret_cast<std::uintptr_t>(&block)) == SnapshotError::kNone) {
    static_cast<void>(reader.ReadProfile(&table));
  }

  // As many frames as there may be addresses, and more mappings than a process may have are not looked at.
  std::size_t frames = 0;
  const auto count_frames = [&frames](const tarn_snapshot_bucket& bucket, const std::uint64_t*) {
    frames += bucket.frames;
    return true;
  };
  ReadBuckets(reader, count_frames);
  // Buckets may be added during the walk; half as many again find room.
  const std::size_t capacity = std::bit_ceil(frames * 2 + 4096);
  const Scratch address_memory(capacity * sizeof(std::uint64_t));
  const Scratch mapping_memory(kMaxMappings * sizeof(Mapping));
  const Scratch buffer_memory(2 * kBufferBytes);
  if (address_memory.memory() == nullptr || mapping_memory.memory() == nullptr || buffer_memory.memory() == nullptr) {
    errno = ENOMEM;
    return false;
  }
  AddressSet addresses(address_memory.memory(), capacity);
  auto* const mappings = static_cast<Mapping*>(mapping_memory.memory());
  char* const buffers = static_cast<char*>(buffer_memory.memory());
  Output output(descriptor, buffers, kBufferBytes);
  output.Put(kSampleType, ValueType(kAllocObjects, kCount));
  output.Put(kSampleType, ValueType(kAllocSpace, kBytes));
  output.Put(kSampleType, ValueType(kInuseObjects, kCount));
  output.Put(kSampleType, ValueType(kInuseSpace, kBytes));
  for (const std::string_view string : kStrings) output.Put(kStringTable, string);

  ReadBuckets(reader, [&](const tarn_snapshot_bucket& bucket, const std::uint64_t* sites) {
    PutSample(bucket, sites, &output);
    for (std::uint32_t i = 0; i < bucket.frames; ++i) static_cast<void>(addresses.Insert(sites[i]));
    return true;
  });

  const std::size_t first_mapping_string = PutNamedPools(reader, kFixedStrings, &output);

  // Only now, because a stack may lead through a library that was loaded while the table was read.
  const std::size_t mapping_count = PutMappings(buffers + kBufferBytes, mappings, first_mapping_string, &output);
  PutLocations(static_cast<const std::uint64_t*>(address_memory.memory()), capacity, mappings, mapping_count, &output);
  output.PutNumber(kDropFrames, kDropped);
  output.PutNumber(kTimeNanos, RealtimeNanoseconds());
  output.Put(kPeriodType, ValueType(kSpace, kBytes));
  output.PutNumber(kPeriod, table.rate_bytes);
  output.PutNumber(kDefaultSampleType, kInuseSpace);
  return output.Flush();
}

}  // namespace tarn
