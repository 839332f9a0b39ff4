// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the reader of profiles, compressed or not, and what works on them. A profile that was read is written and read
// again, and is the same. Less itself nothing is left of it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzzer.h"
#include "tools/inspect/profile/function_totals.h"
#include "tools/inspect/profile/gzip.h"
#include "tools/inspect/profile/merge.h"
#include "tools/inspect/profile/profile.h"
#include "tools/inspect/profile/proto.h"
#include "tools/inspect/profile/visible_stacks.h"

namespace {

using tarn::tool::Profile;

// All indexes are valid, as profile.h promises.
void Walk(const Profile& profile) {
  const tarn::tool::VisibleStacks stacks(profile);
  std::vector<tarn::tool::StackCall> calls;
  for (const Profile::Sample& sample : profile.samples) {
    FUZZ_REQUIRE(sample.values.size() == profile.sample_types.size());
    stacks.Read(sample, &calls);
    for (const tarn::tool::StackCall& call : calls) FUZZ_REQUIRE(call.location < profile.locations.size());
  }
  for (const Profile::Location& location : profile.locations) tarn::tool::UnnamedPlace(profile, location);
  for (std::size_t type = 0; type < profile.sample_types.size(); ++type) {
    tarn::tool::Total(profile, type);
    tarn::tool::FunctionTotals(profile, type);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string_view input = tarn_test::AsText(data, size);
    const std::string plain = tarn::tool::IsGzip(input) ? tarn::tool::Decompress(input) : std::string(input);
    const Profile profile = tarn::tool::DecodeProfile(plain);
    Walk(profile);
    const std::string once = tarn::tool::EncodeProfile(profile);
    const std::string twice = tarn::tool::EncodeProfile(tarn::tool::DecodeProfile(once));
    FUZZ_REQUIRE(once == twice);
    FUZZ_REQUIRE(tarn::tool::Decompress(tarn::tool::Compress(once)) == once);
    FUZZ_REQUIRE(tarn::tool::Diff(profile, profile).samples.empty());
  } catch (const tarn::tool::ProfileError&) {
  }
  return 0;
}
