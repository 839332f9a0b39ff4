// SPDX-License-Identifier: Apache-2.0
//
// The pages below /control/, which change something in the process: POST /control/release and /control/limit.
//
// They are off unless the settings allow them. A request needs the header X-Tarn-Control: 1. A page of another site can
// make a browser send a POST to this server. It can add a header only after the browser has asked by OPTIONS, which the
// server refuses. An Origin, where there is one, must be that of the server. The header Host is checked as for all
// pages.
#pragma once

#include <functional>
#include <mutex>
#include <string_view>
#include <utility>

#include "tools/inspect/requests.h"
#include "tools/monitor/server/http.h"

namespace tarn::tool {

inline constexpr std::string_view kReleasePath = "/control/release";
inline constexpr std::string_view kLimitPath = "/control/limit";

class ControlPages {
 public:
  // `log` gets a line for each change; `nudge` is that of RequestWait.
  ControlPages(std::function<void(std::string_view)> log, std::function<void()> nudge)
      : log_(std::move(log)), nudge_(std::move(nudge)) {}

  // For a POST of one of the paths, where they are allowed. Throws TargetGone.
  HttpResponse Answer(const HttpRequest& request, const Target& target);

 private:
  HttpResponse Release(const HttpRequest& request, const Target& target);
  HttpResponse Limit(const HttpRequest& request, const Target& target);

  // False where the parameter makes no sense.
  bool ReadWait(const HttpRequest& request, RequestWait* wait) const;

  const std::function<void(std::string_view)> log_;
  const std::function<void()> nudge_;
  // One change at a time, of all processes together, so that those who wait do not take all workers.
  static inline std::mutex one_at_a_time_;
};

// Where nothing may be changed.
HttpResponse RefuseControl();

}  // namespace tarn::tool
