// SPDX-License-Identifier: Apache-2.0
//
// The file of a heap profile, from tables that are made by hand, field by field as profile.proto numbers them.

#include "allocator/observe/profile_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "allocator/include/tarn/registry.h"

namespace tarn {
namespace {

// --- What the writer reads -----------------------------------------------------------------------------------------

struct Tables {
  tarn_snapshot_size_class size_classes[2] = {};
  tarn_snapshot_profile profile = {};
  tarn_registry_record registry[4] = {};
  tarn_snapshot_block block = {};
  // One block of buckets each. The words of a vector that is not changed any more stay where they are.
  std::vector<std::vector<std::uint64_t>> bucket_blocks;

  Tables() {
    std::memcpy(block.magic, TARN_SNAPSHOT_MAGIC, sizeof(block.magic));
    block.version = TARN_SNAPSHOT_VERSION;
    block.bytes = sizeof(block);
    block.started = 1;
    block.size_class_count = 2;
    block.size_classes_address = reinterpret_cast<std::uintptr_t>(size_classes);
    profile.rate_bytes = 4321;
    block.profile_address = reinterpret_cast<std::uintptr_t>(&profile);
    block.registry_address = reinterpret_cast<std::uintptr_t>(registry);
    block.registry_count = 4;
    block.registry_record_bytes = sizeof(tarn_registry_record);
  }

  struct Bucket {
    std::uint64_t size_bytes;
    double allocated;
    double freed;
    std::vector<std::uint64_t> frames;
  };
  // As the first one: the later ones follow it.
  void AddBlock(const std::vector<Bucket>& buckets) {
    std::vector<std::uint64_t> words = {profile.first_block_address, 0};
    for (const Bucket& bucket : buckets) {
      tarn_snapshot_bucket head = {};
      head.size_bytes = bucket.size_bytes;
      head.allocated_weight = static_cast<std::uint64_t>(bucket.allocated * TARN_SAMPLE_WEIGHT_ONE);
      head.freed_weight = static_cast<std::uint64_t>(bucket.freed * TARN_SAMPLE_WEIGHT_ONE);
      head.frames = static_cast<std::uint32_t>(bucket.frames.size());
      const std::size_t at = words.size();
      words.resize(at + sizeof(head) / sizeof(std::uint64_t));
      std::memcpy(&words[at], &head, sizeof(head));
      words.insert(words.end(), bucket.frames.begin(), bucket.frames.end());
    }
    words[1] = (words.size() - 2) * sizeof(std::uint64_t);
    bucket_blocks.push_back(words);
    profile.first_block_address = reinterpret_cast<std::uintptr_t>(bucket_blocks.back().data());
  }

  void Register(int i, std::uint32_t kind, const char* name, std::int64_t capacity_bytes) {
    registry[i].state = 2;
    registry[i].kind = kind;
    std::snprintf(registry[i].name, sizeof(registry[i].name), "%s", name);
    registry[i].capacity_bytes = capacity_bytes;
  }
};

// --- What it wrote -------------------------------------------------------------------------------------------------

// The fields of one message: numbers, and the bytes of what has a length.
struct Fields {
  std::multimap<std::uint64_t, std::uint64_t> numbers;
  std::multimap<std::uint64_t, std::string> parts;

  static std::uint64_t Varint(std::string_view* from) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; !from->empty(); shift += 7) {
      const auto byte = static_cast<std::uint8_t>(from->front());
      from->remove_prefix(1);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
    ADD_FAILURE() << "a number is cut";
    return 0;
  }
  explicit Fields(std::string_view text) {
    while (!text.empty()) {
      const std::uint64_t key = Varint(&text);
      const std::uint64_t value = Varint(&text);
      if (key % 8 == 0) {
        numbers.emplace(key / 8, value);
        continue;
      }
      EXPECT_EQ(key % 8, 2u);
      EXPECT_LE(value, text.size());
      parts.emplace(key / 8, text.substr(0, value));
      text.remove_prefix(value);
    }
  }
  // 0 where the field is not there, as the format says.
  std::uint64_t number(std::uint64_t field) const {
    const auto found = numbers.find(field);
    return found == numbers.end() ? 0 : found->second;
  }
  std::vector<std::string> all(std::uint64_t field) const {
    std::vector<std::string> found;
    for (auto [at, end] = parts.equal_range(field); at != end; ++at) found.push_back(at->second);
    return found;
  }
};

std::vector<std::uint64_t> Varints(std::string_view text) {
  std::vector<std::uint64_t> values;
  while (!text.empty()) values.push_back(Fields::Varint(&text));
  return values;
}

struct Written {
  explicit Written(const tarn_snapshot_block& block) : profile(Read(block)), strings(profile.all(6)) {}

  static std::string Read(const tarn_snapshot_block& block) {
    std::FILE* file = std::tmpfile();
    EXPECT_NE(file, nullptr);
    EXPECT_TRUE(WriteHeapProfile(block, fileno(file)));
    std::string text(static_cast<std::size_t>(::lseek(fileno(file), 0, SEEK_END)), '\0');
    EXPECT_EQ(::pread(fileno(file), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    std::fclose(file);
    return text;
  }

  struct Sample {
    std::vector<std::uint64_t> locations;
    std::vector<std::uint64_t> values;
    std::vector<std::pair<std::string, std::string>> labels;
  };
  std::vector<Sample> Samples() const {
    std::vector<Sample> samples;
    for (const std::string& text : profile.all(2)) {
      const Fields message(text);
      Sample sample = {Varints(message.all(1).at(0)), Varints(message.all(2).at(0)), {}};
      for (const std::string& part : message.all(3)) {
        const Fields label(part);
        const bool is_text = label.number(2) != 0;
        sample.labels.emplace_back(strings.at(label.number(1)),
                                   is_text ? strings.at(label.number(2))
                                           : std::to_string(label.number(3)) + " " + strings.at(label.number(4)));
      }
      samples.push_back(sample);
    }
    return samples;
  }
  std::map<std::uint64_t, Fields> ById(std::uint64_t field) const {
    std::map<std::uint64_t, Fields> found;
    for (const std::string& text : profile.all(field)) {
      const Fields message(text);
      EXPECT_TRUE(found.emplace(message.number(1), message).second) << "the id " << message.number(1) << " twice";
    }
    return found;
  }

  Fields profile;
  std::vector<std::string> strings;
};

std::string OwnPath() {
  char path[4096] = {};
  return ::readlink("/proc/self/exe", path, sizeof(path) - 1) > 0 ? path : "";
}

TEST(ProfileWriter, SamplesHaveTheirStacksAndRoundedSums) {
  Tables tables;
  const auto here = reinterpret_cast<std::uint64_t>(&OwnPath);
  tables.AddBlock({{64, 10.5, 4, {here, 0x1234}}, {4096, 2, 3, {0x1234, 0x5678}}});
  tables.AddBlock({{1 << 20, 1.25, 0, {0x5678}}});
  const Written written(tables.block);

  const auto samples = written.Samples();
  ASSERT_EQ(samples.size(), 3u);
  EXPECT_EQ(samples[0].locations, (std::vector<std::uint64_t>{0x5678}));
  EXPECT_EQ(samples[0].values, (std::vector<std::uint64_t>{1, 1 << 20, 1, 1 << 20}));
  EXPECT_EQ(samples[1].locations, (std::vector<std::uint64_t>{here, 0x1234}));
  EXPECT_EQ(samples[1].values, (std::vector<std::uint64_t>{11, 11 * 64, 7, 7 * 64}));
  EXPECT_EQ(samples[2].values, (std::vector<std::uint64_t>{2, 2 * 4096, 0, 0})) << "freed more than allocated";
  ASSERT_EQ(samples[1].labels.size(), 1u);
  EXPECT_EQ(samples[1].labels[0], std::pair(std::string("bytes"), std::string("64 bytes")));

  // Each address once, with the mapping that covers it.
  const auto locations = written.ById(4);
  const auto mappings = written.ById(3);
  EXPECT_EQ(locations.size(), 3u);
  for (const auto& [id, location] : locations) EXPECT_EQ(location.number(3), id);
  EXPECT_EQ(locations.at(0x1234).number(2), 0u);
  const Fields& mapping = mappings.at(locations.at(here).number(2));
  EXPECT_LE(mapping.number(2), here);
  EXPECT_GT(mapping.number(3), here);
  EXPECT_EQ(written.strings.at(mapping.number(5)), OwnPath());
}

TEST(ProfileWriter, TheHeadSaysWhatTheValuesAre) {
  const Written written(Tables().block);
  std::vector<std::string> types;
  for (const std::string& text : written.profile.all(1)) {
    const Fields type(text);
    types.push_back(written.strings.at(type.number(1)) + "/" + written.strings.at(type.number(2)));
  }
  EXPECT_EQ(types, (std::vector<std::string>{"alloc_objects/count", "alloc_space/bytes", "inuse_objects/count",
                                             "inuse_space/bytes"}));
  EXPECT_EQ(written.strings.at(0), "");
  EXPECT_EQ(written.strings.at(written.profile.number(14)), "inuse_space");
  const Fields period(written.profile.all(11).at(0));
  EXPECT_EQ(written.strings.at(period.number(1)) + "/" + written.strings.at(period.number(2)), "space/bytes");
  EXPECT_EQ(written.profile.number(12), 4321u);
  EXPECT_GT(written.profile.number(9), 0u);
  EXPECT_TRUE(written.Samples().empty());
}

TEST(ProfileWriter, NamedPoolsHaveAFunctionAndLabels) {
  Tables tables;
  tables.AddBlock({{64, 1, 0, {0x1234}}});
  tables.Register(0, TARN_KIND_ARENA, "parser", 8192);
  tables.registry[0].allocations = 9;
  tables.registry[0].live_objects = 3;
  tables.Register(1, TARN_KIND_POOL, "empty", 0);
  tables.Register(2, TARN_KIND_HEAP, "texts", 4096);
  tables.registry[2].live_objects = -1;  // figures of two moments
  const Written written(tables.block);
  const auto samples = written.Samples();
  ASSERT_EQ(samples.size(), 3u);
  EXPECT_EQ(samples[1].values, (std::vector<std::uint64_t>{9, 8192, 3, 8192}));
  EXPECT_EQ(samples[2].values, (std::vector<std::uint64_t>{0, 4096, 0, 4096}));
  const std::vector<std::pair<std::string, std::string>> labels = {{"pool", "parser"}, {"kind", "arena"}};
  EXPECT_EQ(samples[1].labels, labels);
  const auto functions = written.ById(5);
  const auto locations = written.ById(4);
  ASSERT_EQ(samples[2].locations.size(), 1u);
  const Fields line(locations.at(samples[2].locations[0]).all(4).at(0));
  EXPECT_EQ(written.strings.at(functions.at(line.number(1)).number(2)), "[heap texts]");
}

// More than one buffer of the writer, and more addresses than its set has room for without the buckets.
TEST(ProfileWriter, ALargeProfileIsWhole) {
  Tables tables;
  std::vector<Tables::Bucket> buckets;
  std::set<std::uint64_t> addresses;
  for (std::uint64_t i = 0; i < 500; ++i) {
    Tables::Bucket bucket = {16 * (i + 1), 1, 0, {}};
    for (std::uint64_t frame = 1; frame <= 64; ++frame) bucket.frames.push_back(frame * 0x1000 + i / 2);
    addresses.insert(bucket.frames.begin(), bucket.frames.end());
    buckets.push_back(bucket);
  }
  tables.AddBlock(buckets);
  const Written written(tables.block);
  const auto samples = written.Samples();
  ASSERT_EQ(samples.size(), buckets.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(samples[i].locations, buckets[i].frames);
    EXPECT_EQ(samples[i].values[1], buckets[i].size_bytes);
  }
  EXPECT_EQ(written.ById(4).size(), addresses.size());
}

TEST(ProfileWriter, ABlockThatIsNotAHeapsGivesAnEmptyProfile) {
  const Written written(tarn_snapshot_block{});
  EXPECT_EQ(written.profile.all(1).size(), 4u);
  EXPECT_TRUE(written.Samples().empty());
  EXPECT_EQ(written.profile.number(12), 0u);
}

TEST(ProfileWriter, WhatCannotBeWrittenIsAnError) {
  const Tables tables;
  errno = 0;
  EXPECT_FALSE(WriteHeapProfile(tables.block, -1));
  EXPECT_EQ(errno, EBADF);
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) GTEST_SKIP() << "no /dev/full here";
  EXPECT_FALSE(WriteHeapProfile(tables.block, full));
  EXPECT_EQ(errno, ENOSPC);
  ::close(full);
}

}  // namespace
}  // namespace tarn
