// SPDX-License-Identifier: Apache-2.0
//
// The live page for people: its file, and the documents that it asks for below kPageApi. These are for the page alone:
// they change with it, and say which version they are of.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tools/inspect/profile/profile.h"
#include "tools/monitor/alerts.h"
#include "tools/monitor/history.h"
#include "tools/monitor/observation.h"
#include "tools/monitor/server/http.h"
#include "tools/monitor/settings.h"
#include "tools/monitor/trend.h"

namespace tarn::tool {

inline constexpr std::string_view kPageApi = "/api/";
inline constexpr std::string_view kPageSchema = "tarn-page/1";

// The page, which the build made if it could (monitor/web/), or a few links. Read once.
HttpResponse PageHtml();

// The present state: figures, alerts with their thresholds, size classes, pools.
nlohmann::json PageNow(const Observation& now, const TrendFigures& trend, const std::vector<Alert>& alerts,
                       const MonitorSettings& settings);

// The profile must have names. `stacks`: see HeapDocument.
nlohmann::json PageHeap(const Profile& profile, pid_t pid);

// Compact. Bytes of names that are not UTF-8 are replaced.
HttpResponse PageJson(const nlohmann::json& document, int status = 200);

// The history of one process after another, for any thread.
class PageHistory {
 public:
  // Another process begins.
  void Begin();
  void Add(const Observation& now);
  nlohmann::json Json() const;

 private:
  mutable std::mutex mutex_;  // for all that follows
  History history_;
  pid_t pid_ = 0;
};

}  // namespace tarn::tool
