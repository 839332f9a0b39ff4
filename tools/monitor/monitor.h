// SPDX-License-Identifier: Apache-2.0
//
// The monitor of one process: its observations, its alerts, and the pages that report them.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "tools/monitor/alerts.h"
#include "tools/monitor/pages/control.h"
#include "tools/monitor/pages/live_page.h"
#include "tools/monitor/pages/pprof.h"
#include "tools/monitor/server/http.h"
#include "tools/monitor/settings.h"
#include "tools/monitor/trend.h"
#include "tools/monitor/watched.h"

namespace tarn::tool {

// As of now, with the rates and alerts of the latest regular look.
struct MonitorLook {
  Observation now;
  TrendFigures trend;
  std::vector<Alert> alerts;
};

struct MonitorHealth {
  bool is_gone = false;
  std::vector<Alert> alerts;
  bool is_healthy() const { return !is_gone && alerts.empty(); }
  // "Healthy", "Unhealthy: 2 alerts", "Unhealthy: target gone"
  std::string Headline() const;
};

// The format that a request for /metrics wants.
enum class MetricsWanted { kPrometheus, kOpenMetrics, kJson, kUnknown };
MetricsWanted WantedMetrics(const HttpRequest& request);
HttpResponse RefuseMetrics();  // to kUnknown

class Monitor {
 public:
  // `log` gets a line for each alert that begins or ends, and of each process that comes.
  Monitor(Watched* watched, const MonitorSettings& settings, std::function<void(std::string_view)> log);

  // Looks at the process. Rates and alerts rest on these looks, so they come in regular intervals, from one thread.
  // False when there is no process.
  bool Tick();

  // A page, for any thread.
  HttpResponse Answer(const HttpRequest& request);
  // As HttpPages has them.
  std::string Methods(std::string_view path) const;

  // The figures of the pages, for pages about several processes; for any thread. None when the process is gone.
  std::optional<MonitorLook> Look();
  MonitorHealth Health() const;

 private:
  HttpResponse AnswerMetrics(const HttpRequest& request);
  HttpResponse AnswerHealth(const HttpRequest& request);
  HttpResponse AnswerPage(const HttpRequest& request);
  // As of now, also between the looks. None, when the process has ended.
  std::optional<Observation> ObserveNow();
  HttpResponse Gone() const;
  // Of the latest look.
  std::pair<TrendFigures, std::vector<Alert>> Latest() const;

  Watched* const watched_;
  const MonitorSettings settings_;
  const std::function<void(std::string_view)> log_;
  PprofPages pprof_;
  ControlPages control_;
  PageHistory history_;

  mutable std::mutex mutex_;  // for all that follows
  std::shared_ptr<Life> life_;
  Trend trend_;
  Alerts alerts_;
};

}  // namespace tarn::tool
