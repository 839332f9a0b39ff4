// SPDX-License-Identifier: Apache-2.0
//
// Profiles of the tool: what a file may hold and what is refused, sums and differences, totals by function, names of
// functions, the maps of a process.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <protozero/pbf_writer.hpp>
#include <random>
#include <string>

#include "tools/inspect/process_maps.h"
#include "tools/inspect/profile/file.h"
#include "tools/inspect/profile/function_totals.h"
#include "tools/inspect/profile/gzip.h"
#include "tools/inspect/profile/merge.h"
#include "tools/inspect/profile/profile.h"
#include "tools/inspect/profile/proto.h"
#include "tools/inspect/range_map.h"
#include "tools/inspect/symbol_names.h"
#include "tools/inspect/symbolizer.h"

namespace tarn::tool {
namespace {

// A profile whose program is mapped at `base`. Stacks are given as names of functions, the innermost first; equal names
// are at equal addresses.
class Builder {
 public:
  explicit Builder(std::uint64_t base) : profile_(NewHeapProfile(524288)) {
    Profile::Mapping mapping;
    mapping.start = base;
    mapping.limit = base + 0x1000;
    mapping.offset = 0x1000;
    mapping.file = profile_.strings.Intern("/usr/bin/program");
    mapping.build_id = profile_.strings.Intern("abcd");
    profile_.mappings.push_back(mapping);
  }

  Builder& Add(const std::vector<std::string>& stack, std::int64_t bytes, std::int64_t size = 64) {
    Profile::Sample sample;
    for (const std::string& name : stack) sample.locations.push_back(LocationOf(name));
    sample.values = {bytes / size * 2, bytes * 2, bytes / size, bytes};
    Profile::Label label;
    label.key = profile_.strings.Intern("bytes");
    label.number = size;
    label.number_unit = profile_.strings.Intern("bytes");
    sample.labels.push_back(label);
    profile_.samples.push_back(std::move(sample));
    return *this;
  }

  Profile Take() {
    SetMappingFlags(&profile_);
    return std::move(profile_);
  }

 private:
  std::uint32_t LocationOf(const std::string& name) {
    const StringId text = profile_.strings.Intern(name);
    for (std::size_t i = 0; i < profile_.functions.size(); ++i)
      if (profile_.functions[i].name == text) return static_cast<std::uint32_t>(i);
    const auto index = static_cast<std::uint32_t>(profile_.functions.size());
    profile_.functions.push_back({text, text, profile_.strings.Intern("program.cc"), 10});
    Profile::Location location;
    location.mapping = 0;
    // The address depends on the name alone, as it does in two runs of one program.
    location.address = profile_.mappings[0].start + std::hash<std::string>()(name) % 0x1000;
    location.lines.push_back({index, 12});
    profile_.locations.push_back(std::move(location));
    return index;
  }

  Profile profile_;
};

Profile Example() {
  return Builder(0x400000)
      .Add({"malloc", "Cache::Insert", "main"}, 6400)
      .Add({"malloc", "Cache::Insert", "main"}, 12800, 128)
      .Add({"Parse", "Parse", "main"}, 640)
      .Take();
}

std::string WhatIsWrong(const std::string& bytes) {
  try {
    DecodeProfile(bytes);
  } catch (const ProfileError& error) {
    return error.what();
  }
  return "nothing";
}

TEST(ProfileFile, ComesBackAsItWasWritten) {
  const std::string bytes = EncodeProfile(Example());
  const Profile read = DecodeProfile(bytes);
  EXPECT_EQ(EncodeProfile(read), bytes);
  ASSERT_EQ(read.samples.size(), 3u);
  EXPECT_EQ(read.samples[1].values, (std::vector<std::int64_t>{200, 25600, 100, 12800}));
  EXPECT_EQ(read.Text(read.functions[read.locations[read.samples[0].locations[1]].lines[0].function].name),
            "Cache::Insert");
  EXPECT_EQ(read.samples[1].labels[0].number, 128);
  EXPECT_TRUE(read.mappings[0].has_functions);
  EXPECT_EQ(read.period, 524288);
  EXPECT_EQ(FindSampleType(read, ""), 3u);
  EXPECT_EQ(FindSampleType(read, "alloc_space"), 1u);
  EXPECT_THROW(FindSampleType(read, "cpu"), ProfileError);
}

TEST(ProfileFile, IsReadCompressedAndNot) {
  const std::string bytes = EncodeProfile(Example());
  EXPECT_TRUE(IsGzip(Compress(bytes)));
  EXPECT_EQ(Decompress(Compress(bytes)), bytes);
  EXPECT_EQ(Decompress(Compress(bytes) + Compress("more")), bytes + "more");
  const std::string path = testing::TempDir() + "profile_test." + std::to_string(getpid());
  std::ofstream(path, std::ios::binary) << ProfileFileBytes(Example());
  EXPECT_EQ(EncodeProfile(ReadProfileFile(path)), bytes);
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_EQ(EncodeProfile(ReadProfileFile(path)), bytes);
  std::ofstream(path, std::ios::binary) << "";
  EXPECT_THROW(ReadProfileFile(path), ProfileError);
  unlink(path.c_str());
  EXPECT_THROW(ReadProfileFile(path), ProfileError);
}

TEST(ProfileFile, SaysWhatIsWrong) {
  EXPECT_EQ(WhatIsWrong("#!/bin/sh\n"), "not a profile: damaged protocol buffer (unknown pbf field type exception)");
  auto with = [](auto change) {
    Profile profile = Example();
    change(&profile);
    return WhatIsWrong(EncodeProfile(profile));
  };
  EXPECT_EQ(with([](Profile*) {}), "nothing");
  EXPECT_EQ(with([](Profile* p) { p->samples[0].values.pop_back(); }),
            "a sample has 3 values, and the profile 4 sample types");
  EXPECT_EQ(with([](Profile* p) { p->samples[0].locations[0] = 99; }), "there is no location with the id 100");
  EXPECT_EQ(with([](Profile* p) { p->locations[0].lines[0].function = 7; }), "there is no function with the id 8");
  EXPECT_EQ(with([](Profile* p) { p->locations[0].mapping = 3; }), "there is no mapping with the id 4");
  EXPECT_EQ(with([](Profile* p) { p->functions[0].name = 5000; }).substr(0, 31), "string 5000 is beyond the table");
  EXPECT_EQ(with([](Profile* p) { p->sample_types.clear(); }), "not a profile: it has no sample type");
  const std::string whole = EncodeProfile(Example());
  EXPECT_EQ(WhatIsWrong(whole.substr(0, whole.size() - 1)), "not a profile, or it ends too early");

  auto message = [](auto fill) {
    std::string bytes;
    protozero::pbf_writer writer(bytes);
    fill(&writer);
    return bytes;
  };
  const std::string twice = message([](auto* w) { w->add_uint64(1, 1); });
  EXPECT_EQ(WhatIsWrong(whole + message([&](auto* w) { w->add_message(5, twice); })), "two of function have the id 1");
  EXPECT_EQ(WhatIsWrong(whole + message([&](auto* w) { w->add_message(3, std::string()); })), "a mapping has the id 0");
  EXPECT_EQ(WhatIsWrong(whole + message([&](auto* w) { w->add_fixed64(9, 1); })),
            "not a profile: field 9 of Profile has the wrong type");
  // A field that later versions may bring is none of our business.
  EXPECT_EQ(WhatIsWrong(whole + message([&](auto* w) { w->add_string(99, "new"); })), "nothing");
}

// Whatever a file holds, it is read or refused. The sanitizer's build sees what is read beyond an end.
TEST(ProfileFile, DamageIsRefusedOrRead) {
  const std::string whole = EncodeProfile(Example());
  const std::string compressed = Compress(whole);
  std::minstd_rand random(4);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = whole;
    if (i % 2 == 0) bytes.resize(random() % bytes.size());
    for (std::size_t flips = random() % 4; flips > 0 && !bytes.empty(); --flips)
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
    try {
      const Profile profile = DecodeProfile(bytes);
      // Bytes that pass as a profile work as one.
      Diff(profile, profile);
      FunctionTotals(profile, 0);
    } catch (const ProfileError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
  refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = compressed;
    if (i % 2 == 0)
      bytes.resize(random() % bytes.size());
    else
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
    try {
      Decompress(bytes);
    } catch (const ProfileError&) {
      ++refused;
    }
  }
  // The header holds a few bits that mean nothing.
  EXPECT_GT(refused, 1900);
}

TEST(ProfileMerger, KnowsStacksOfAnotherRun) {
  const Profile before = Builder(0x400000).Add({"A", "main"}, 640).Add({"Gone", "main"}, 64).Add({"B"}, 128).Take();
  const Profile after =
      Builder(0x7f0000400000).Add({"A", "main"}, 1280).Add({"New", "main"}, 320).Add({"B"}, 128).Take();
  const Profile diff = Diff(before, after);
  EXPECT_EQ(diff.mappings.size(), 1u);
  EXPECT_EQ(diff.samples.size(), 3u);  // B has not changed
  EXPECT_EQ(Total(diff, 3), 640 + 320 - 64);
  auto totals = FunctionTotals(diff, 3);
  EXPECT_EQ(totals["A"].self, 640);
  EXPECT_EQ(totals["Gone"].self, -64);
  EXPECT_EQ(totals["New"].self, 320);
  EXPECT_EQ(totals["main"].with_callees, 640 + 320 - 64);
  EXPECT_EQ(totals["main"].self, 0);
  EXPECT_EQ(totals["B"].self, 0);
  // And it is a good file.
  EXPECT_EQ(WhatIsWrong(EncodeProfile(diff)), "nothing");
}

TEST(ProfileMerger, KeepsObjectSizesApartAndKindsToo) {
  ProfileMerger merger;
  merger.Add(Example(), 1);
  merger.Add(Example(), 1);
  const Profile twice = merger.Take();
  EXPECT_EQ(twice.samples.size(), 3u);
  EXPECT_EQ(Total(twice, 3), 2 * (6400 + 12800 + 640));
  EXPECT_TRUE(Diff(Example(), Example()).samples.empty());
  Profile other = Example();
  other.sample_types.pop_back();
  for (Profile::Sample& sample : other.samples) sample.values.pop_back();
  EXPECT_THROW(Diff(other, Example()), ProfileError);
}

TEST(ProfileMerger, StaysAtTheEndsOfNumbers) {
  Profile huge = Example();
  for (Profile::Sample& sample : huge.samples) sample.values[3] = INT64_MIN;
  EXPECT_EQ(Total(huge, 3), INT64_MIN);
  EXPECT_EQ(Total(Diff(huge, Example()), 3), INT64_MAX);
}

TEST(FunctionTotals, GivesToTheCallerWhatTheAllocatorDid) {
  auto totals = FunctionTotals(Example(), 3);
  EXPECT_EQ(totals["Cache::Insert"].self, 19200);
  EXPECT_EQ(totals["Cache::Insert"].place, "program.cc:10");
  EXPECT_EQ(totals["malloc"].self, 0);
  EXPECT_EQ(totals["Parse"].with_callees, 640);  // once, though it called itself
  EXPECT_EQ(totals["main"].with_callees, 19840);

  auto self = [](const std::vector<std::string>& stack, const std::string& name) {
    return FunctionTotals(Builder(0).Add(stack, 64).Take(), 3)[name].self;
  };
  EXPECT_EQ(self({"tarn::Sampler::Record", "operator new", "std::allocator<T>::allocate",
                  "std::vector<T, std::allocator<T> >::_M_realloc_insert<T>", "f", "main"},
                 "std::vector<T, std::allocator<T> >::_M_realloc_insert<T>"),
            64);
  // Frames that the allocator calls go with it, but a stack of nothing else stays.
  EXPECT_EQ(self({"hook", "malloc", "f"}, "f"), 64);
  EXPECT_EQ(self({"malloc", "tarn::Start"}, "malloc"), 64);
}

TEST(Names, AreForPeople) {
  EXPECT_EQ(DisplayName("main"), "main");
  EXPECT_EQ(DisplayName("compute.part.0"), "compute");
  EXPECT_EQ(DisplayName("memcpy@@GLIBC_2.14"), "memcpy");
  EXPECT_EQ(DisplayName("_ZN5Cache6InsertEi"), "Cache::Insert");
  EXPECT_EQ(DisplayName("_ZNK5CacheIiE4FindERKi.isra.0"), "Cache<int>::Find");
  EXPECT_EQ(DisplayName("_Znwm"), "operator new");
  EXPECT_EQ(DisplayName("_ZN12_GLOBAL__N_15BuildEv"), "(anonymous namespace)::Build");
  EXPECT_EQ(DisplayName("_Zbroken"), "_Zbroken");
  EXPECT_EQ(DisplayName("_ZSt4moveIRiEONSt16remove_referenceIT_E4typeEOS2_"), "std::move<int&>");
}

TEST(Names, LoseTheirSignature) {
  EXPECT_EQ(StripSignature("f(int, char)"), "f");
  EXPECT_EQ(StripSignature("C::f(std::function<void (int)>) const"), "C::f");
  EXPECT_EQ(StripSignature("void ns::f<int, (char)65>(int)"), "ns::f<int, (char)65>");
  EXPECT_EQ(StripSignature("std::pair<int, long> const& ns::f<X>(X) const &"), "ns::f<X>");
  EXPECT_EQ(StripSignature("f(int)::{lambda(char)#1}::operator()(char) const"), "f(int)::{lambda(char)#1}::operator()");
  EXPECT_EQ(StripSignature("void f<int>(int) const::{lambda()#2}::operator()() const"),
            "f<int>(int) const::{lambda()#2}::operator()");
  EXPECT_EQ(StripSignature("(anonymous namespace)::S::operator<(int)"), "(anonymous namespace)::S::operator<");
  EXPECT_EQ(StripSignature("bool operator== <int>(X<int>, X<int>)"), "operator== <int>");
  EXPECT_EQ(StripSignature("std::ostream& operator<<(std::ostream&, S const&)"), "operator<<");
  EXPECT_EQ(StripSignature("S::operator unsigned long() const"), "S::operator unsigned long");
  EXPECT_EQ(StripSignature("S::operator()(int)"), "S::operator()");
  EXPECT_EQ(StripSignature("operator delete[](void*)"), "operator delete[]");
  EXPECT_EQ(StripSignature("decltype (a.b(c)) f<int>(int)"), "f<int>");
  EXPECT_EQ(StripSignature("void (*pick(int))(char)"), "void (*pick(int))(char)");
  EXPECT_EQ(StripSignature("my_operator(int)"), "my_operator");
  EXPECT_EQ(StripSignature("f<(int>"), "f<(int>");
  EXPECT_EQ(StripSignature(""), "");
}

TEST(ProcessMaps, AreParsed) {
  const auto mappings = ParseMaps(
      "00400000-00401000 r--p 00000000 fd:00 42                  /usr/bin/my program\n"
      "00401000-00402000 r-xp 00001000 fd:00 42                  /usr/bin/my program (deleted)\n"
      "7f0000000000-7f0000021000 rwxp 00000000 00:00 0 \n"
      "7ffe0000-7ffe1000 r-xp 00000000 00:00 0                   [vdso]\n"
      "nonsense\n");
  ASSERT_EQ(mappings.size(), 4u);
  EXPECT_EQ(mappings[0].file, "/usr/bin/my program");
  EXPECT_FALSE(mappings[0].is_deleted || mappings[0].is_writable || mappings[0].is_executable);
  EXPECT_EQ(mappings[1].file, "/usr/bin/my program");
  EXPECT_TRUE(mappings[1].is_deleted && mappings[1].is_readable && mappings[1].is_executable);
  EXPECT_EQ(mappings[1].offset, 0x1000u);
  EXPECT_EQ(mappings[1].inode, 42u);
  EXPECT_EQ(mappings[2].file, "[anon]");
  EXPECT_TRUE(mappings[2].is_writable);
  EXPECT_EQ(mappings[2].limit, 0x7f0000021000u);
  EXPECT_EQ(mappings[3].file, "[vdso]");
}

// Names for addresses of this process: of a function of ours, and of the kernel's library.
TEST(Symbolizer, NamesThisProcess) {
  EXPECT_THROW(ReadMaps(999999999), ToolError);
  Profile profile;
  AddMappings(ReadCode(ProcessMemory(getpid()), ReadMaps(getpid())), &profile);
  void* vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  ASSERT_NE(vdso, nullptr);
  const auto here = reinterpret_cast<std::uint64_t>(&ReadMaps);
  for (std::uint64_t address :
       {here, reinterpret_cast<std::uint64_t>(dlsym(vdso, "__vdso_clock_gettime")), std::uint64_t{1}}) {
    Profile::Location location;
    location.address = address;
    location.mapping = FindMapping(profile, address);
    profile.locations.push_back(location);
  }
  ASSERT_NE(profile.locations[0].mapping, Profile::kNone);
  EXPECT_EQ(profile.locations[2].mapping, Profile::kNone);
  const std::string& build_id = profile.Text(profile.mappings[profile.locations[0].mapping].build_id);

  Symbolizer symbolizer(getpid());
  symbolizer.Symbolize(&profile);
  EXPECT_TRUE(symbolizer.TakeNotes().empty());
  auto name = [&](std::size_t i) {
    return profile.Text(profile.functions[profile.locations[i].lines[0].function].name);
  };
  EXPECT_EQ(name(0), "tarn::tool::ReadMaps");
  EXPECT_TRUE(name(1).ends_with("clock_gettime")) << name(1);
  EXPECT_EQ(name(2), "[anon]");

  // The same file as if it were of another build: better no names than wrong ones.
  if (build_id.empty()) GTEST_SKIP() << "the linker writes no build-ids here";
  Profile other = std::move(profile);
  for (Profile::Location& location : other.locations) location.lines.clear();
  other.mappings[other.locations[0].mapping].build_id = other.strings.Intern("0123");
  Symbolizer again(0);
  again.Symbolize(&other);
  EXPECT_TRUE(other.Text(other.functions[other.locations[0].lines[0].function].name).starts_with("["));
  ASSERT_EQ(again.TakeNotes().size(), 1u);
}

TEST(ProcessMaps, FindBuildIdsAmongNotes) {
  const auto word = [](std::uint32_t value) { return std::string(reinterpret_cast<const char*>(&value), 4); };
  const std::string other =
      word(4) + word(5) + word(1) + std::string("GNU\0", 4) + "12345\0\0\0" + std::string(3, '\0');
  const std::string id = word(4) + word(3) + word(3) + std::string("GNU\0\x01\xab\xff\0", 8);
  EXPECT_EQ(FindBuildId(id), "01abff");
  EXPECT_EQ(FindBuildId(other + id), "01abff");
  EXPECT_EQ(FindBuildId(other), "");
  EXPECT_EQ(FindBuildId(word(0xffffffff) + word(0xffffffff) + word(3) + "GNU"), "");
}

TEST(RangeMap, FindsTheInnerOne) {
  RangeMap<int> map;
  map.Add(10, 100, 1);
  map.Add(20, 30, 2);
  map.Add(40, 50, 3);
  map.Add(60, 60, 4);  // empty
  map.Add(200, 300, 5);
  map.Sort();
  auto find = [&](std::uint64_t address) { return map.Find(address) == nullptr ? 0 : *map.Find(address); };
  EXPECT_EQ(find(9), 0);
  EXPECT_EQ(find(10), 1);
  EXPECT_EQ(find(25), 2);
  EXPECT_EQ(find(30), 1);
  EXPECT_EQ(find(45), 3);
  EXPECT_EQ(find(60), 1);
  EXPECT_EQ(find(150), 0);
  EXPECT_EQ(find(299), 5);
  EXPECT_EQ(find(300), 0);
}

}  // namespace
}  // namespace tarn::tool
