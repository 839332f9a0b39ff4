// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/server/request_frame.h"

#include <algorithm>
#include <charconv>

#include "tools/monitor/server/http.h"

namespace tarn::tool {

namespace {

constexpr std::string_view kLineEnd = "\r\n";

}  // namespace

RequestFrame ReadFrame(std::string_view head, std::size_t most_body_bytes) {
  RequestFrame frame;
  bool is_first = true;
  bool has_length = false;
  bool is_chunked = false;
  while (!head.empty()) {
    const std::size_t end = head.find(kLineEnd);
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(std::min(line.size() + kLineEnd.size(), head.size()));
    const bool is_clean =
        end != std::string_view::npos && line.find_first_of(std::string_view("\r\n\0", 3)) == line.npos;
    if (!is_clean || line.starts_with(' ') || line.starts_with('\t')) frame.refusal = 400;
    if (is_first) {
      is_first = false;
      frame.method = line.substr(0, line.find(' '));
      std::string_view target = line.substr(std::min(frame.method.size() + 1, line.size()));
      target = target.substr(0, target.find(' '));
      frame.path = target.substr(0, target.find('?'));
      continue;
    }
    const std::size_t colon = std::min(line.find(':'), line.size());
    const std::string_view name = line.substr(0, colon);
    if (EqualsIgnoringCase(name, "transfer-encoding")) is_chunked = true;
    if (!EqualsIgnoringCase(name, "content-length")) continue;
    const std::string_view value = Trimmed(line.substr(std::min(colon + 1, line.size())));
    const auto [parsed, error] = std::from_chars(value.data(), value.data() + value.size(), frame.body_bytes);
    if (parsed != value.data() + value.size() || has_length ||
        (error != std::errc() && error != std::errc::result_out_of_range))
      frame.refusal = 400;
    has_length = true;
    if (error == std::errc::result_out_of_range) frame.body_bytes = most_body_bytes + 1;
  }
  if (frame.refusal == 0 && is_chunked) frame.refusal = 411;
  if (frame.refusal == 0 && frame.body_bytes > most_body_bytes) frame.refusal = 413;
  if (frame.refusal != 0) frame.body_bytes = 0;
  return frame;
}

}  // namespace tarn::tool
