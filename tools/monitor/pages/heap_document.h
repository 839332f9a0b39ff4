// SPDX-License-Identifier: Apache-2.0
//
// A heap profile as JSON for the page: texts, calls and stacks, each once. The page draws the flame graph from it, adds
// up the allocation sites, and compares two of them.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>

#include "tools/inspect/profile/profile.h"

namespace tarn::tool {

// The most that a browser is given, far more than a person looks at. Smaller stacks become one.
struct HeapDocumentLimits {
  std::size_t stacks = 2000;
  std::size_t bytes = 4 << 20;       // of the document, about
  std::size_t name_bytes = 1 << 10;  // of a function; templates may be longer than any book
};

// {"types": ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"], "strings": [...],
//  "calls": [[function, file, line], ...], "stacks": [[call, ...], ...], "values": [[number of each type], ...],
//  "other_stacks": N, "other_values": [...]}
// Stacks begin at main and leave out the allocator's own calls. Functions and files are indexes into the strings. The
// profile is one of NewHeapProfile, with names.
nlohmann::json HeapDocument(const Profile& profile, const HeapDocumentLimits& limits = {});

}  // namespace tarn::tool
