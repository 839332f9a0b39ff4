// SPDX-License-Identifier: Apache-2.0
//
// The documents behind the page: heap profiles, names, and the text of pprof.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/tools/monitor/made_observations.h"
#include "tools/monitor/pages/heap_document.h"
#include "tools/monitor/pages/live_page.h"
#include "tools/monitor/pages/pprof.h"

namespace tarn::tool {
namespace {

// A function without a place in a file, called at an address.
std::uint32_t AddCall(Profile* profile, const std::string& name) {
  const StringId id = profile->strings.Intern(name);
  profile->functions.push_back({id, id, 0, 0});
  const auto function = static_cast<std::uint32_t>(profile->functions.size() - 1);
  profile->locations.push_back({Profile::kNone, 0x1000 + function, {{function, 3}}, false});
  return static_cast<std::uint32_t>(profile->locations.size() - 1);
}

TEST(HeapDocument, StacksBeginAtMainAndAreAddedUp) {
  Profile profile = NewHeapProfile(524288);
  const std::uint32_t main = AddCall(&profile, "main");
  const std::uint32_t f = AddCall(&profile, "f");
  const std::uint32_t hidden = AddCall(&profile, "malloc");
  profile.samples.push_back({{hidden, f, main}, {1, 10, 1, 10}, {}});
  profile.samples.push_back({{f, main}, {2, 40, 1, 20}, {}});
  profile.samples.push_back({{main}, {9, 90, 0, 0}, {}});
  // Another address in f.
  profile.locations.push_back(profile.locations[f]);
  profile.locations.back().address += 16;
  profile.samples.push_back({{static_cast<std::uint32_t>(profile.locations.size() - 1), main}, {1, 8, 1, 8}, {}});
  const nlohmann::json document = HeapDocument(profile);
  ASSERT_EQ(document["stacks"].size(), 2u);
  const auto names = [&](const nlohmann::json& stack) {
    std::string text;
    for (const nlohmann::json& call : stack)
      text += document["strings"][document["calls"][call.get<std::size_t>()][0].get<std::size_t>()].get<std::string>() +
              ";";
    return text;
  };
  EXPECT_EQ(names(document["stacks"][0]), "main;f;");
  EXPECT_EQ(document["values"][0], nlohmann::json({4, 58, 3, 38}));
  EXPECT_EQ(names(document["stacks"][1]), "main;");
  EXPECT_EQ(document["calls"][0][2], 3);
  EXPECT_EQ(document["other_stacks"], 0);
}

TEST(HeapDocument, IsBoundedAndLosesNothing) {
  Profile profile = NewHeapProfile(524288);
  std::int64_t sum = 0;
  for (int i = 1; i <= 100; ++i) {
    profile.samples.push_back({{AddCall(&profile, std::to_string(i) + std::string(5000, 'x'))}, {1, i, 1, i}, {}});
    sum += i;
  }
  for (const HeapDocumentLimits limits :
       {HeapDocumentLimits{10, 4 << 20, 1 << 10}, HeapDocumentLimits{2000, 8 << 10, 700}}) {
    const nlohmann::json document = HeapDocument(profile, limits);
    EXPECT_LE(document["stacks"].size(), 12u);
    EXPECT_GE(document["stacks"].size(), 10u);
    EXPECT_EQ(document["stacks"].size() + document["other_stacks"].get<std::size_t>(), 100u);
    EXPECT_EQ(document["values"][0][3], 100);
    std::int64_t found = document["other_values"][3];
    for (const nlohmann::json& values : document["values"]) found += values[3].get<std::int64_t>();
    EXPECT_EQ(found, sum);
    EXPECT_LT(document.dump().size(), 16u << 10);
  }
}

TEST(Page, NamesMayHoldAnything) {
  Observation now = At(1, 2);
  now.program = "</script>\xFF";
  now.pools = {Pool("a\xC0z", TARN_KIND_POOL, 4)};
  const HttpResponse answer = PageJson(PageNow(now, {}, {{"heap_mb", 3, 2, now.time_s}}, {}));
  EXPECT_EQ(answer.content_type, "application/json");
  const nlohmann::json document = nlohmann::json::parse(answer.body);
  EXPECT_EQ(document["process"]["program"], "</script>\xEF\xBF\xBD");
  EXPECT_EQ(document["pools"][0]["name"], "a\xEF\xBF\xBDz");
  EXPECT_TRUE(document["figures"]["soft_limit_bytes"].is_null());
  EXPECT_EQ(document["rules"][0]["name"], "heap_mb");
  EXPECT_EQ(document["rules"][0]["threshold"], 500);
  EXPECT_EQ(document["rules"][0]["since_ms"], 1'800'000'001'000);
  EXPECT_TRUE(document["rules"][1]["since_ms"].is_null());
}

TEST(Pprof, TextOfAProfile) {
  Profile profile = NewHeapProfile(524288);
  const StringId name = profile.strings.Intern("f");
  profile.functions.push_back({name, name, profile.strings.Intern("f.cc"), 1});
  profile.locations.push_back({Profile::kNone, 0x1234, {{0, 7}}, false});
  profile.samples.push_back({{0}, {4, 400, 3, 300}, {}});
  EXPECT_EQ(LegacyHeapText(profile),
            "heap profile: 3: 300 [4: 400] @ heapprofile\n"
            "3: 300 [4: 400] @ 0x1235\n#\t0x1235\tf\tf.cc:7\n\n");
}

}  // namespace
}  // namespace tarn::tool
