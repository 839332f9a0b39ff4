// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/pages/control.h"

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <string>

#include "tools/base/figures.h"
#include "tools/base/json_text.h"
#include "tools/inspect/requests.h"
#include "tools/monitor/pages/metrics.h"

namespace tarn::tool {

namespace {

constexpr double kMostWaitSeconds = 60;

HttpResponse Refusal(int status, std::string_view text) {
  return {status, std::string(kPlainText), std::string(text) + "\n", {}};
}

// A parameter of the query, or else of the body.
std::string Parameter(const HttpRequest& request, const std::string& name) {
  if (request.Has(name)) return request.Parameter(name);
  const std::map<std::string, std::string> form = FormParameters(request.body);
  const auto found = form.find(name);
  return found == form.end() ? "" : found->second;
}

HttpResponse RefuseWait() {
  return Refusal(400, fmt::format("wait is a number of seconds from 0 to {:g}", kMostWaitSeconds));
}

}  // namespace

HttpResponse RefuseControl() {
  return Refusal(403, "nothing may be changed through this server; tarn serve --allow-control allows it");
}

HttpResponse ControlPages::Answer(const HttpRequest& request, const Target& target) {
  if (request.control != "1")
    return Refusal(403, "the header X-Tarn-Control: 1 is needed; a page of another site cannot send it");
  if (!request.origin.empty() && request.origin != "http://" + request.host &&
      request.origin != "https://" + request.host)
    return Refusal(403, "this comes from a page of another site, by its header Origin");
  const std::unique_lock lock(one_at_a_time_, std::try_to_lock);
  if (!lock.owns_lock()) return Refusal(409, "another change is under way; try again later");
  try {
    return request.path == kReleasePath ? Release(request, target) : Limit(request, target);
  } catch (const Unanswered& error) {
    return Refusal(504, error.what());
  } catch (const Overruled& error) {
    return Refusal(409, error.what());
  } catch (const TargetGone&) {
    throw;
  } catch (const ToolError& error) {
    return Refusal(502, error.what());
  }
}

HttpResponse ControlPages::Release(const HttpRequest& request, const Target& target) {
  RequestWait wait;
  if (!ReadWait(request, &wait)) return RefuseWait();
  const ReleaseAnswer answer = AskToRelease(target, wait);
  log_(fmt::format("by request: {} released", FormatBytes(static_cast<double>(answer.released_bytes))));
  return {200, "application/json", JsonText(ToJson(target, answer)), {}};
}

HttpResponse ControlPages::Limit(const HttpRequest& request, const Target& target) {
  RequestWait wait;
  if (!ReadWait(request, &wait)) return RefuseWait();
  const auto limit = ParseLimit(Parameter(request, "limit"));
  if (!limit) return Refusal(400, fmt::format("limit is {}", kLimitForms));
  const LimitAnswer answer = AskForLimit(target, *limit, wait);
  log_(fmt::format("by request: limit {} (before: {})", LimitText(answer.limit_bytes), LimitText(answer.before_bytes)));
  return {200, "application/json", JsonText(ToJson(target, answer)), {}};
}

bool ControlPages::ReadWait(const HttpRequest& request, RequestWait* wait) const {
  wait->is_abandoned = request.is_abandoned;
  wait->nudge = nudge_;
  const std::string text = Parameter(request, "wait");
  if (text.empty()) return true;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wait->seconds);
  return error == std::errc() && end == text.data() + text.size() && wait->seconds >= 0 &&
         wait->seconds <= kMostWaitSeconds;
}

}  // namespace tarn::tool
