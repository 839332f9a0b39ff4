// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/monitor.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "tools/base/json_text.h"
#include "tools/monitor/pages/metrics.h"

namespace tarn::tool {

std::string MonitorHealth::Headline() const {
  if (is_gone) return "Unhealthy: target gone";
  return alerts.empty() ? "Healthy" : fmt::format("Unhealthy: {} alerts", alerts.size());
}

MetricsWanted WantedMetrics(const HttpRequest& request) {
  using enum MetricsWanted;
  if (const std::string wanted = request.Parameter("format"); !wanted.empty())
    return wanted == "prometheus"    ? kPrometheus
           : wanted == "openmetrics" ? kOpenMetrics
           : wanted == "json"        ? kJson
                                     : kUnknown;
  // Prometheus' own text first, for clients that accept anything. Clients that accept none of these get it all the
  // same, as from other exporters.
  const int format = PreferredType(request.accept, {"text/plain", "application/openmetrics-text", "application/json"});
  return format == 2 ? kJson : format == 1 ? kOpenMetrics : kPrometheus;
}

HttpResponse RefuseMetrics() {
  return {400, std::string(kPlainText), "format is one of prometheus, openmetrics, json\n", {}};
}

Monitor::Monitor(Watched* watched, const MonitorSettings& settings, std::function<void(std::string_view)> log)
    : watched_(watched),
      settings_(settings),
      log_(std::move(log)),
      control_(log_, settings.nudge),
      trend_(settings.alerts.leak_window_s),
      alerts_(settings.alerts) {}

bool Monitor::Tick() {
  const std::shared_ptr<Life> life = watched_->Find();
  std::optional<Observation> now;
  if (life != nullptr) {
    try {
      now = Observe(life->target);
    } catch (const TargetGone&) {
      watched_->Lose(life);
    }
  }
  std::vector<std::string> lines;
  {
    const std::lock_guard lock(mutex_);
    if (life != life_) {
      // Neither rates nor alerts reach from one process into the next.
      life_ = life;
      trend_ = Trend(settings_.alerts.leak_window_s);
      alerts_ = Alerts(settings_.alerts);
      if (life != nullptr) history_.Begin();
      if (life != nullptr) lines.push_back(fmt::format("watching {} ({})", life->target.pid(), life->target.name()));
    }
    if (now) {
      trend_.Add(*now);
      history_.Add(*now);
      for (std::string& line : alerts_.Add(*now, trend_.figures())) lines.push_back(std::move(line));
    }
  }
  for (const std::string& line : lines) log_(line);
  return now.has_value();
}

HttpResponse Monitor::Answer(const HttpRequest& request) {
  if (request.path == "/metrics") return AnswerMetrics(request);
  if (request.path == "/health" || request.path == "/healthz") return AnswerHealth(request);
  if (request.path == "/" || request.path.starts_with(kPageApi)) return AnswerPage(request);
  if (request.path == "/debug/pprof")
    return {301, std::string(kPlainText), "", {{"Location", std::string(kPprofPath)}}};
  const bool is_control = request.path == kReleasePath || request.path == kLimitPath;
  if (is_control && !settings_.allow_control) return RefuseControl();
  if (!is_control && !request.path.starts_with(kPprofPath))
    return {404, std::string(kPlainText), "not found; there are /metrics, /health and /debug/pprof/\n", {}};
  const std::shared_ptr<Life> life = watched_->current();
  if (life == nullptr || life->IsOver()) return Gone();
  try {
    return is_control ? control_.Answer(request, life->target) : pprof_.Answer(request, life.get());
  } catch (const TargetGone&) {
    watched_->Lose(life);
    return Gone();
  }
}

std::string Monitor::Methods(std::string_view path) const {
  if (path == kReleasePath || path == kLimitPath) return settings_.allow_control ? "POST" : "";
  return path == kSymbolPath ? "GET, HEAD, POST" : std::string(HttpPages::kReading);
}

HttpResponse Monitor::AnswerMetrics(const HttpRequest& request) {
  const MetricsWanted wanted = WantedMetrics(request);
  if (wanted == MetricsWanted::kUnknown) return RefuseMetrics();
  const std::optional<MonitorLook> look = Look();
  if (!look) return Gone();
  if (wanted == MetricsWanted::kJson)
    return {200, "application/json", JsonText(MetricsDocument(look->now, look->trend, look->alerts)), {}};
  if (wanted == MetricsWanted::kOpenMetrics)
    return {
        200, std::string(kOpenMetricsType), FormatMetrics(look->now, look->alerts, MetricsFormat::kOpenMetrics), {}};
  return {200, std::string(kPrometheusType), FormatMetrics(look->now, look->alerts, MetricsFormat::kPrometheus), {}};
}

HttpResponse Monitor::AnswerHealth(const HttpRequest& request) {
  const MonitorHealth health = Health();
  HttpResponse response;
  response.status = health.is_healthy() ? 200 : 503;
  if (PreferredType(request.accept, {"text/plain", "application/json"}) == 1) {
    response.content_type = "application/json";
    response.body = JsonText({{"status", health.Headline()}, {"alerts", AlertsJson(health.alerts)}});
    return response;
  }
  response.body = health.Headline() + "\n";
  for (const Alert& alert : health.alerts) response.body += AlertText(alert) + "\n";
  return response;
}

std::optional<MonitorLook> Monitor::Look() {
  std::optional<Observation> now = ObserveNow();
  if (!now) return std::nullopt;
  auto [trend, alerts] = Latest();
  return MonitorLook{std::move(*now), trend, std::move(alerts)};
}

MonitorHealth Monitor::Health() const {
  const std::shared_ptr<Life> life = watched_->current();
  MonitorHealth health;
  health.is_gone = life == nullptr || life->IsOver();
  if (!health.is_gone) health.alerts = Latest().second;
  return health;
}

HttpResponse Monitor::AnswerPage(const HttpRequest& request) {
  const auto gone = [this] { return PageJson({{"schema", kPageSchema}, {"gone", watched_->absence()}}, 503); };
  if (request.path == "/") return PageHtml();
  if (request.path == "/api/history") return PageJson(history_.Json());
  if (request.path == "/api/now") {
    const std::optional<Observation> now = ObserveNow();
    if (!now) return gone();
    const auto [trend, alerts] = Latest();
    return PageJson(PageNow(*now, trend, alerts, settings_));
  }
  if (request.path != "/api/heap") return {404, std::string(kPlainText), "not found\n", {}};
  const std::shared_ptr<Life> life = watched_->current();
  if (life == nullptr || life->IsOver()) return gone();
  try {
    return pprof_.AnswerForPage(life.get());
  } catch (const TargetGone&) {
    watched_->Lose(life);
    return gone();
  }
}

std::optional<Observation> Monitor::ObserveNow() {
  const std::shared_ptr<Life> life = watched_->current();
  if (life == nullptr || life->IsOver()) return std::nullopt;
  try {
    return Observe(life->target);
  } catch (const TargetGone&) {
    watched_->Lose(life);
    return std::nullopt;
  }
}

HttpResponse Monitor::Gone() const {
  const std::string absence = watched_->absence();
  return {503, std::string(kPlainText), fmt::format("target gone{}{}\n", absence.empty() ? "" : ": ", absence), {}};
}

std::pair<TrendFigures, std::vector<Alert>> Monitor::Latest() const {
  const std::lock_guard lock(mutex_);
  return {trend_.figures(), alerts_.firing()};
}

}  // namespace tarn::tool
