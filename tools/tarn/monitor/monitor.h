// The monitor of one process: what it has seen, its alerts, and the pages that tell of them.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "tools/tarn/monitor/alerts.h"
#include "tools/tarn/monitor/http.h"
#include "tools/tarn/monitor/page.h"
#include "tools/tarn/monitor/pprof.h"
#include "tools/tarn/monitor/settings.h"
#include "tools/tarn/monitor/trend.h"
#include "tools/tarn/monitor/watched.h"

namespace tarn::tool {

class Monitor {
 public:
  // `log` gets a line for each alert that begins or ends, and of each process that comes.
  Monitor(Watched* watched, const MonitorSettings& settings, std::function<void(std::string_view)> log);

  // Looks at the process. Rates and alerts rest on these looks, so they come in regular intervals, from one thread.
  // False when there is no process.
  bool Tick();

  // A page, for any thread.
  HttpResponse Answer(const HttpRequest& request);

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
  PageHistory history_;

  mutable std::mutex mutex_;  // for all that follows
  std::shared_ptr<Life> life_;
  Trend trend_;
  Alerts alerts_;
};

}  // namespace tarn::tool
