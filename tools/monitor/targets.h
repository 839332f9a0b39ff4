// SPDX-License-Identifier: Apache-2.0
//
// All processes that a server watches, each with its monitor, and the pages about them.
//
//   /targets              which there are: a page, JSON, or for Prometheus' http_sd_configs
//   /targets/LABEL/...    the pages of one, as its Monitor answers them
//   all else              with one process its Monitor's; with several /metrics and /health are about all of them
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/monitor/monitor.h"
#include "tools/monitor/server/http.h"
#include "tools/monitor/settings.h"
#include "tools/monitor/target_spec.h"
#include "tools/monitor/watched.h"

namespace tarn::tool {

class Targets {
 public:
  struct Served {
    TargetSpec spec;
    Watched watched;
    Monitor monitor;

    Served(TargetSpec its_spec, const MonitorSettings& settings, std::function<void(std::string_view)> log)
        : spec(std::move(its_spec)), watched(spec.by, spec.what), monitor(&watched, settings, std::move(log)) {}
  };

  // Each with a label (GiveLabels). Of several, `log` gets the label in each line: "ALERT: web: heap_mb = ...".
  Targets(const std::vector<TargetSpec>& specs, const MonitorSettings& settings,
          const std::function<void(std::string_view)>& log);

  // A page, for any thread.
  HttpResponse Answer(const HttpRequest& request);
  // As HttpPages has them.
  std::string Methods(std::string_view path) const;

  const std::vector<std::unique_ptr<Served>>& all() const { return served_; }

 private:
  // The process whose page a path is, and the path without the prefix; null: it is none's.
  Served* Find(std::string_view path, std::string* rest) const;
  HttpResponse AnswerTarget(const HttpRequest& request) const;
  HttpResponse AnswerTargets(const HttpRequest& request) const;
  HttpResponse AnswerMetrics(const HttpRequest& request) const;
  HttpResponse AnswerHealth(const HttpRequest& request) const;

  std::vector<std::unique_ptr<Served>> served_;
};

}  // namespace tarn::tool
