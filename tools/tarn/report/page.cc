// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/page.h"

#include <fmt/format.h>

#include "tools/tarn/report/chart.h"
#include "tools/tarn/report/html.h"
// Made by CMake, so it has no path in the repository.
#include <report_assets.h>

namespace tarn::tool::report {

std::string RenderPage(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      // Nothing is fetched, whatever stands in a document.
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'\">\n"
      "<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n{}<script>\n{}</script>\n</body>\n</html>\n",
      Escape(title), kReportStyle, body, kReportScript);
}

std::string RenderVerdict(const std::string& verdict) {
  if (verdict.empty()) return "";
  const char* kind = "untold";
  const char* sign = "?";
  if (verdict == "win" || verdict == "improvement") {
    kind = "win";
    sign = "\xE2\x96\xBC";  // less time or memory
  } else if (verdict == "loss" || verdict == "regression") {
    kind = "loss";
    sign = "\xE2\x96\xB2";
  } else if (verdict == "tie" || verdict == "same") {
    kind = "tie";
    sign = "=";
  }
  return fmt::format("<span class=\"verdict {}\"><span aria-hidden=\"true\">{}</span> {}</span>", kind, sign,
                     Escape(verdict));
}

std::string Interval(const RatioResult& ratio) { return fmt::format("[{}, {}]", Ratio(ratio.low), Ratio(ratio.high)); }

std::string RenderLegend(const std::vector<std::string>& allocators, bool control) {
  std::string html = "<p class=\"legend\">";
  for (std::size_t i = 0; i < allocators.size(); ++i) {
    html += fmt::format("<span>{}{}</span> ", RenderKey(SeriesStyle(allocators[i], i)), Escape(allocators[i]));
  }
  if (control) {
    html +=
        fmt::format("<span>{}the reference a second time (control)</span>", RenderKey(SeriesStyle("glibc", 0), true));
  }
  return html + "</p>\n";
}

std::string Figured(const std::string& chart, const std::string& caption) {
  if (chart.empty()) return "";
  return fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", chart, Escape(caption));
}

}  // namespace tarn::tool::report
