// SPDX-License-Identifier: Apache-2.0
//
// The heap profile of a running process, from the sample table that its allocator publishes.
#pragma once

#include "tools/inspect/profile/profile.h"
#include "tools/inspect/target.h"

namespace tarn::tool {

// Each sample is a stack and a size of object, with the objects and bytes that it stands for. It has addresses only:
// Symbolizer gives them names. Throws ToolError when the process ends before all is read.
Profile ReadHeapProfile(const Target& target);

}  // namespace tarn::tool
