// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/targets.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tools/base/json_text.h"
#include "tools/base/text.h"
#include "tools/monitor/pages/metrics.h"

namespace tarn::tool {

namespace {

constexpr std::string_view kHtml = "text/html; charset=utf-8";
constexpr std::string_view kTargetsPath = "/targets/";

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string ByText(const TargetSpec& spec) {
  return spec.by == Watched::By::kPid ? "pid" : spec.by == Watched::By::kName ? "name" : "pid_file";
}

// One line of the list of targets.
struct Row {
  std::string label;
  std::string by;
  std::string what;
  std::shared_ptr<Life> life;  // null: gone
  std::string absence;
  MonitorHealth health;
};

Row RowOf(const Targets::Served& served) {
  Row row{served.spec.label, ByText(served.spec), served.spec.what, nullptr, "", served.monitor.Health()};
  if (row.health.is_gone) {
    row.absence = served.watched.absence();
  } else {
    row.life = served.watched.current();
  }
  return row;
}

nlohmann::json RowJson(const Row& row) {
  const std::string path = fmt::format("/targets/{}/", row.label);
  nlohmann::json json = {{"label", row.label},
                         {"by", row.by},
                         {"what", row.what},
                         {"state", row.life != nullptr ? "running" : "gone"},
                         {"health", row.health.Headline()},
                         {"alerts", AlertsJson(row.health.alerts)},
                         {"links",
                          {{"index", path},
                           {"metrics", path + "metrics"},
                           {"health", path + "health"},
                           {"pprof", path + "debug/pprof/"}}}};
  json["pid"] = nullptr;
  if (row.life != nullptr) {
    json["pid"] = row.life->target.pid();
    json["program"] = row.life->target.name();
  } else if (!row.absence.empty()) {
    json["absence"] = row.absence;
  }
  return json;
}

// Links are relative, so that the page also works behind a proxy that puts a prefix before its paths.
std::string RowsHtml(const std::vector<Row>& rows) {
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" "
      "content=\"light dark\"><title>tarn serve</title><link rel=\"icon\" href=\"data:,\"></head><body>\n"
      "<h1>tarn serve</h1>\n<table>\n<tr><th>Target</th><th>PID</th><th>State</th><th>Health</th><th>Pages</th></tr>\n";
  for (const Row& row : rows) {
    const std::string pid = row.life != nullptr ? std::to_string(row.life->target.pid()) : "";
    const std::string state = row.life != nullptr   ? fmt::format("running: {}", EscapeHtml(row.life->target.name()))
                              : row.absence.empty() ? "gone"
                                                    : fmt::format("gone: {}", EscapeHtml(row.absence));
    html += fmt::format(
        "<tr><td><a href=\"targets/{0}/\">{0}</a></td><td>{1}</td><td>{2}</td><td><a "
        "href=\"targets/{0}/health\">{3}</a></td><td><a href=\"targets/{0}/metrics\">metrics</a> <a "
        "href=\"targets/{0}/debug/pprof/\">profiles</a></td></tr>\n",
        row.label, pid, state, EscapeHtml(row.health.Headline()));
  }
  return html +
         "</table>\n<p>Of all: <a href=\"metrics\">metrics</a>, <a href=\"health\">health</a>.</p>\n</body></html>\n";
}

// The document for Prometheus' http_sd_configs: each process scraped by itself.
nlohmann::json RowsForDiscovery(const std::vector<Row>& rows, const std::string& host) {
  nlohmann::json groups = nlohmann::json::array();
  for (const Row& row : rows)
    groups.push_back(
        {{"targets", {host}},
         {"labels", {{"__metrics_path__", fmt::format("/targets/{}/metrics", row.label)}, {"target", row.label}}}});
  return groups;
}

// The line with the label behind what it begins with.
std::string LabelledLine(std::string_view line, const std::string& label) {
  const std::size_t start = line.starts_with("ALERT") ? line.find(": ") + 2 : 0;
  return fmt::format("{}{}: {}", line.substr(0, start), label, line.substr(start));
}

}  // namespace

Targets::Targets(const std::vector<TargetSpec>& specs, const MonitorSettings& settings,
                 const std::function<void(std::string_view)>& log) {
  for (const TargetSpec& spec : specs) {
    auto log_of_target = log;
    if (specs.size() > 1)
      log_of_target = [log, label = spec.label](std::string_view line) { log(LabelledLine(line, label)); };
    served_.push_back(std::make_unique<Served>(spec, settings, std::move(log_of_target)));
  }
}

HttpResponse Targets::Answer(const HttpRequest& request) {
  if (request.path == "/targets") return AnswerTargets(request);
  if (request.path.starts_with(kTargetsPath)) return AnswerTarget(request);
  if (served_.size() == 1) return served_.front()->monitor.Answer(request);
  if (request.path == "/metrics") return AnswerMetrics(request);
  if (request.path == "/health" || request.path == "/healthz") return AnswerHealth(request);
  if (request.path == "/") return AnswerTargets(request);
  return {404,
          std::string(kPlainText),
          "not found; several processes are served here: there are /targets, /metrics and /health, and the pages of "
          "each below /targets/LABEL/\n",
          {}};
}

std::string Targets::Methods(std::string_view path) const {
  std::string inner;
  if (path.starts_with(kTargetsPath)) {
    const Served* const served = Find(path, &inner);
    return served != nullptr ? served->monitor.Methods(inner) : std::string(HttpPages::kReading);
  }
  if (served_.size() == 1) return served_.front()->monitor.Methods(path);
  // Of several, the answer tells where such a page is.
  return path.starts_with("/control/") ? "" : std::string(HttpPages::kReading);
}

Targets::Served* Targets::Find(std::string_view path, std::string* rest) const {
  path.remove_prefix(kTargetsPath.size());
  const std::size_t end = std::min(path.find('/'), path.size());
  const std::string_view label = path.substr(0, end);
  const auto found =
      std::ranges::find(served_, label, [](const auto& served) { return std::string_view(served->spec.label); });
  if (found == served_.end()) return nullptr;
  *rest = path.substr(end);
  return found->get();
}

HttpResponse Targets::AnswerTarget(const HttpRequest& request) const {
  HttpRequest inner = request;
  Served* const served = Find(request.path, &inner.path);
  if (served == nullptr) return {404, std::string(kPlainText), "there is no such target; /targets lists them\n", {}};
  const std::string prefix = std::string(kTargetsPath) + served->spec.label;
  if (inner.path.empty()) return {301, std::string(kPlainText), "", {{"Location", prefix + "/"}}};
  HttpResponse response = served->monitor.Answer(inner);
  for (auto& [name, value] : response.headers)
    if (name == "Location" && value.starts_with('/')) value = prefix + value;
  return response;
}

HttpResponse Targets::AnswerTargets(const HttpRequest& request) const {
  std::string format = request.Parameter("format");
  if (format.empty())
    // A browser names HTML; who takes anything gets JSON, but at the root, where people look.
    format =
        request.path == "/" || PreferredType(request.accept, {"application/json", "text/html"}) == 1 ? "html" : "json";
  std::vector<Row> rows;
  for (const auto& served : served_) rows.push_back(RowOf(*served));
  if (format == "html") return {200, std::string(kHtml), RowsHtml(rows), {}};
  if (format == "http_sd") return {200, "application/json", JsonText(RowsForDiscovery(rows, request.host)), {}};
  if (format != "json") return {400, std::string(kPlainText), "format is one of json, html, http_sd\n", {}};
  nlohmann::json list = nlohmann::json::array();
  for (const Row& row : rows) list.push_back(RowJson(row));
  return {200, "application/json", JsonText({{"schema", "tarn-targets/1"}, {"targets", list}}), {}};
}

HttpResponse Targets::AnswerMetrics(const HttpRequest& request) const {
  const MetricsWanted wanted = WantedMetrics(request);
  if (wanted == MetricsWanted::kUnknown) return RefuseMetrics();
  if (wanted == MetricsWanted::kJson) {
    nlohmann::json documents = nlohmann::json::object();
    for (const auto& served : served_) {
      const std::optional<MonitorLook> look = served->monitor.Look();
      documents[served->spec.label] = look ? MetricsDocument(look->now, look->trend, look->alerts)
                                           : nlohmann::json{{"absence", served->watched.absence()}};
    }
    return {200,
            "application/json",
            JsonText({{"schema", "tarn-metrics-of-targets/1"}, {"timestamp", Rfc3339(Now())}, {"targets", documents}}),
            {}};
  }
  std::vector<TargetMetrics> metrics;
  for (const auto& served : served_) {
    std::optional<MonitorLook> look = served->monitor.Look();
    TargetMetrics& of_target = metrics.emplace_back();
    of_target.label = served->spec.label;
    if (!look) continue;
    of_target.now = std::move(look->now);
    of_target.alerts = std::move(look->alerts);
  }
  if (wanted == MetricsWanted::kOpenMetrics)
    return {200, std::string(kOpenMetricsType), FormatMetrics(metrics, MetricsFormat::kOpenMetrics), {}};
  return {200, std::string(kPrometheusType), FormatMetrics(metrics, MetricsFormat::kPrometheus), {}};
}

HttpResponse Targets::AnswerHealth(const HttpRequest& request) const {
  std::string lines;
  nlohmann::json documents = nlohmann::json::object();
  std::size_t unhealthy = 0;
  for (const auto& served : served_) {
    const std::string& label = served->spec.label;
    const MonitorHealth health = served->monitor.Health();
    documents[label] = {{"status", health.Headline()}, {"alerts", AlertsJson(health.alerts)}};
    if (health.is_healthy()) continue;
    ++unhealthy;
    if (health.is_gone) lines += fmt::format("{}: target gone\n", label);
    for (const Alert& alert : health.alerts) lines += fmt::format("{}: {}\n", label, AlertText(alert));
  }
  const std::string headline =
      unhealthy == 0 ? "Healthy" : fmt::format("Unhealthy: {} of {} targets", unhealthy, served_.size());
  const int status = unhealthy == 0 ? 200 : 503;
  if (PreferredType(request.accept, {"text/plain", "application/json"}) == 1)
    return {status, "application/json", JsonText({{"status", headline}, {"targets", documents}}), {}};
  return {status, std::string(kPlainText), headline + "\n" + lines, {}};
}

}  // namespace tarn::tool
