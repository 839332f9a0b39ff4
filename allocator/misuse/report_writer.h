// SPDX-License-Identifier: Apache-2.0
//
// The words of a report, as text and as JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "allocator/misuse/report.h"

namespace tarn {

// Text on its way to a file or to stderr. What does not fit into the buffer is written in pieces.
class ReportOutput {
 public:
  // -1: stderr.
  ReportOutput(char* buffer, std::size_t bytes, int descriptor)
      : buffer_(buffer), capacity_(bytes), descriptor_(descriptor) {}

  ReportOutput& operator<<(std::string_view text);
  ReportOutput& operator<<(std::uint64_t number);
  ReportOutput& Hex(std::uint64_t number);
  // Within quotes, with what JSON escapes. Bytes above 127 are taken as they are.
  ReportOutput& Quoted(std::string_view text);
  void Flush();

 private:
  char* buffer_;
  std::size_t capacity_;
  std::size_t used_ = 0;
  int descriptor_;
};

// The first line, as stderr has it.
void WriteReportLine(const MisuseReport& report, bool fatal, ReportOutput* output);
// All that stands behind the first line.
void WriteTextReport(const MisuseReport& report, ReportOutput* output);
// One line with one object.
void WriteJsonReport(const MisuseReport& report, bool fatal, ReportOutput* output);
// All of a report of what is live.
void WriteLiveText(const LiveReport& report, ReportOutput* output);
void WriteLiveJson(const LiveReport& report, ReportOutput* output);

}  // namespace tarn
