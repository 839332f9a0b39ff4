#include "tools/tarn/monitor/monitor.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "tools/tarn/monitor/metrics.h"

namespace tarn::tool {

namespace {

std::string JsonText(const nlohmann::json& document) {
  return document.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

Monitor::Monitor(Watched* watched, const MonitorSettings& settings, std::function<void(std::string_view)> log)
    : watched_(watched),
      settings_(settings),
      log_(std::move(log)),
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
  if (!request.path.starts_with(kPprofPath))
    return {404, std::string(kPlainText), "not found; there are /metrics, /health and /debug/pprof/\n", {}};
  const std::shared_ptr<Life> life = watched_->current();
  if (life == nullptr || life->IsOver()) return Gone();
  try {
    return pprof_.Answer(request, life.get());
  } catch (const TargetGone&) {
    watched_->Lose(life);
    return Gone();
  }
}

HttpResponse Monitor::AnswerMetrics(const HttpRequest& request) {
  // Prometheus' own text first: it is what everything takes that accepts anything.
  int format = PreferredType(request.accept, {"text/plain", "application/openmetrics-text", "application/json"});
  if (const std::string wanted = request.Parameter("format"); !wanted.empty())
    format = wanted == "prometheus" ? 0 : wanted == "openmetrics" ? 1 : wanted == "json" ? 2 : -2;
  if (format == -2) return {400, std::string(kPlainText), "format is one of prometheus, openmetrics, json\n", {}};
  const std::optional<Observation> now = ObserveNow();
  if (!now) return Gone();
  const auto [trend, alerts] = Latest();
  if (format == 2) return {200, "application/json", JsonText(MetricsDocument(*now, trend, alerts)), {}};
  // Who accepts none of these gets the text all the same, as from other exporters.
  if (format == 1)
    return {200, std::string(kOpenMetricsType), FormatMetrics(*now, alerts, MetricsFormat::kOpenMetrics), {}};
  return {200, std::string(kPrometheusType), FormatMetrics(*now, alerts, MetricsFormat::kPrometheus), {}};
}

HttpResponse Monitor::AnswerHealth(const HttpRequest& request) {
  const std::shared_ptr<Life> life = watched_->current();
  const bool is_gone = life == nullptr || life->IsOver();
  const auto alerts = is_gone ? std::vector<Alert>() : Latest().second;
  const std::string headline = is_gone          ? "Unhealthy: target gone"
                               : alerts.empty() ? "Healthy"
                                                : fmt::format("Unhealthy: {} alerts", alerts.size());
  HttpResponse response;
  response.status = is_gone || !alerts.empty() ? 503 : 200;
  if (PreferredType(request.accept, {"text/plain", "application/json"}) == 1) {
    response.content_type = "application/json";
    response.body = JsonText({{"status", headline}, {"alerts", AlertsJson(alerts)}});
    return response;
  }
  response.body = headline + "\n";
  for (const Alert& alert : alerts) response.body += AlertText(alert) + "\n";
  return response;
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
