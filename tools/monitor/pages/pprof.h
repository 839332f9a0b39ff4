// SPDX-License-Identifier: Apache-2.0
//
// The pages below /debug/pprof/, with the rules of Go's net/http/pprof: names, parameters, headers, errors.
#pragma once

#include <semaphore>

#include "tools/monitor/server/http.h"
#include "tools/monitor/watched.h"

namespace tarn::tool {

inline constexpr std::string_view kPprofPath = "/debug/pprof/";
inline constexpr std::string_view kSymbolPath = "/debug/pprof/symbol";  // the one that also takes POST

class PprofPages {
 public:
  // The path begins with kPprofPath. Throws ToolError (TargetGone) when the process cannot be read.
  HttpResponse Answer(const HttpRequest& request, Life* life);
  // The live heap for the page (page.h), under the same bound of how many are made at once.
  HttpResponse AnswerForPage(Life* life);

 private:
  HttpResponse AnswerHeap(const std::string& name, const HttpRequest& request, Life* life);

  // Profiles take time, and with ?seconds= a worker waits for them; the other workers are for other pages. Counts for
  // all processes together, which share the workers.
  static inline std::counting_semaphore<> slots_{3};
};

// A profile as text, as Go writes it with ?debug=1; `go tool pprof` reads it. Without the statistics at its end.
std::string LegacyHeapText(const Profile& profile);

}  // namespace tarn::tool
