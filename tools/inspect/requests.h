// SPDX-License-Identifier: Apache-2.0
//
// Requests to a running process: to give its free memory back, and to keep another soft limit.
//
// The protocols are those of tarn/snapshot.h; policy/scavenger.h says who answers. A request that nobody answered in
// time stands, and is served when the process comes to it. To withdraw it would take a compare-and-exchange in another
// process, which does not exist; a plain write might undo the request of another tool.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tools/base/error.h"
#include "tools/inspect/target.h"

namespace tarn::tool {

// Nothing in the process has answered in time; the request stands.
class Unanswered : public ToolError {
 public:
  using ToolError::ToolError;
};

// Somebody else asked for something else at the same time, and that was done.
class Overruled : public ToolError {
 public:
  using ToolError::ToolError;
};

// How long to wait for the process to begin, and what ends the waiting before that.
struct RequestWait {
  double seconds = 2;
  std::function<bool()> is_abandoned = [] { return false; };
  // Runs now and then during the wait. For this process it has the allocator look for requests.
  std::function<void()> nudge = [] {};
};

struct ReleaseAnswer {
  std::uint64_t released_bytes = 0;
  std::uint64_t rss_before_bytes = 0;
  std::uint64_t rss_after_bytes = 0;
  double waited_s = 0;
};
// Throws Unanswered, TargetGone, and ToolError where the process cannot be asked.
ReleaseAnswer AskToRelease(const Target& target, const RequestWait& wait);
nlohmann::json ToJson(const Target& target, const ReleaseAnswer& answer);

inline constexpr std::uint64_t kNoLimit = UINT64_MAX;
inline constexpr std::uint64_t kAutoLimit = 0;

struct LimitAnswer {
  std::uint64_t before_bytes = kNoLimit;
  std::uint64_t limit_bytes = kNoLimit;  // in force now
  double waited_s = 0;
};
// The limit, kNoLimit or kAutoLimit. Throws like AskToRelease, and Overruled.
LimitAnswer AskForLimit(const Target& target, std::uint64_t bytes, const RequestWait& wait);
nlohmann::json ToJson(const Target& target, const LimitAnswer& answer);

// "256MiB", "1073741824", "off", "auto"; none where it is nothing of these. At least 1 MiB and at most 64 TiB, the most
// that TARN_MEMORY_LIMIT takes.
std::optional<std::uint64_t> ParseLimit(std::string_view text);
inline constexpr std::string_view kLimitForms = "a number of bytes from 1MiB to 64TiB, as 256MiB, or off, or auto";
// "256 MiB", "none"
std::string LimitText(std::uint64_t bytes);

}  // namespace tarn::tool
