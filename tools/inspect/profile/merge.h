// SPDX-License-Identifier: Apache-2.0
//
// Profiles added up, and one taken from another.
#pragma once

#include <cstdint>
#include <memory>

#include "tools/inspect/profile/profile.h"

namespace tarn::tool {

// Adds profiles of the same sample types. Samples of the same stack and labels become one. Stacks are the same when
// their calls are at the same places of the same files, wherever those were mapped in each process.
class ProfileMerger {
 public:
  ProfileMerger();
  ~ProfileMerger();

  // Adds `profile` `factor` times; -1 takes it away. Throws ProfileError when the sample types are others than those of
  // the profiles before. Time, period and hidden frames are those of the first profile.
  void Add(const Profile& profile, std::int64_t factor);

  // The sum, without the samples of which nothing is left. To be called once.
  Profile Take();

 private:
  class Result;
  std::unique_ptr<Result> result_;
};

// Returns `after` less `before`; values are negative where it has less. `go tool pprof` opens it.
Profile Diff(const Profile& before, const Profile& after);

}  // namespace tarn::tool
