// SPDX-License-Identifier: Apache-2.0
//
// The stacks of a profile as people read them: without the allocator's own frames, by the rules of pprof.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/inspect/profile/profile.h"

namespace tarn::tool {

// One call in a stack: a line of a location. A location without names has one call all the same, its line 0.
struct StackCall {
  std::uint32_t location = 0;
  std::uint32_t line = 0;
};

class VisibleStacks {
 public:
  // The profile stays where it is, and as it is.
  explicit VisibleStacks(const Profile& profile);

  // The calls of a sample, the one that allocated first. What hidden frames allocated belongs to their caller.
  void Read(const Profile::Sample& sample, std::vector<StackCall>* calls) const;

 private:
  const Profile& profile_;
  std::vector<bool> hidden_;  // by function
};

// The name of the part of a file that holds an address without a name.
std::string UnnamedPlace(const Profile& profile, const Profile::Location& location);

}  // namespace tarn::tool
