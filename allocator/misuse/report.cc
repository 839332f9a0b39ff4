// SPDX-License-Identifier: Apache-2.0

#include "allocator/misuse/report.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "allocator/base/text.h"
#include "allocator/misuse/report_writer.h"
#include "allocator/os/file.h"
#include "allocator/os/process.h"
#include "allocator/os/thread_state.h"
#include "allocator/unwind/stack_walk.h"

namespace tarn {

namespace {

// The value of TARN_CHECK_LOG for no file.
constexpr std::string_view kStderrName = "stderr";

// As TARN_CHECK_LOG and its kin say. Written once, before there is a second thread.
struct {
  bool go_on;
  ReportFormat format;
  std::uint8_t path_bytes;
  char path[kMaxLogPathBytes];
} settings;

// The thread that is writing a report, by tarn's number; 0: none is.
std::atomic<std::uint32_t> reporter = 0;
std::atomic<std::uint32_t> reports_gone_on = 0;

constexpr std::uint32_t kMostReportsGoneOn = 100;

// The buffer of the report that is being written. Not on the stack, which may be a signal handler's.
char buffer[8192];

// Waits for the end of another thread's report. Returns whether this thread may use the buffer: not if it is in a
// report already, which a fault or a signal handler has interrupted. The wait is bounded: the thread that is writing
// may be gone, in the child of a fork.
bool TakeTurn() {
  constexpr int kMostWaits = 2000;  // of a millisecond each
  const std::uint32_t self = ThreadId();
  for (int i = 0; i < kMostWaits; ++i) {
    std::uint32_t expected = 0;
    if (reporter.compare_exchange_strong(expected, self, std::memory_order_acquire)) return true;
    if (expected == self) return false;
    SleepBriefly();
  }
  reporter.store(self, std::memory_order_relaxed);
  return true;
}

void WriteFirstLine(const Misuse& misuse, bool fatal) {
  MisuseLine line;
  line << (fatal ? "tarn: fatal: " : "tarn: ");
  DescribeMisuse(misuse, &line);
  line << "\n";
  WriteToStderr(line.view());
}

// Opens the file of TARN_CHECK_LOG. -1: there is none, or it cannot be opened.
int OpenLog() {
  if (settings.path_bytes == 0) return -1;
  Text<kMaxLogPathBytes + 64> path;
  for (std::size_t i = 0; i < settings.path_bytes; ++i) {
    const bool is_id = settings.path[i] == '%' && i + 1 < settings.path_bytes && settings.path[i + 1] == 'p';
    if (is_id) {
      path << ProcessId();
      ++i;
    } else {
      path << std::string_view(settings.path + i, 1);
    }
  }
  path << std::string_view("", 1);
  const int descriptor = OpenToAppend(path.view().data());
  if (descriptor < 0) {
    Text<kMaxLogPathBytes + 128> line;
    line << "tarn: cannot write the report to " << path.view().data() << ": " << FileErrorText(errno) << "\n";
    WriteToStderr(line.view());
  }
  return descriptor;
}

// Writes all that stands behind the first line.
void WriteRest(const MisuseReport& report, bool fatal) {
  if (!TakeTurn()) return;
  const int saved_errno = errno;
  const int log = OpenLog();
  ReportOutput output(buffer, sizeof buffer, log);
  if (settings.format == ReportFormat::kJson) {
    WriteJsonReport(report, fatal, &output);
  } else {
    if (log >= 0) WriteReportLine(report, fatal, &output);
    WriteTextReport(report, &output);
  }
  output.Flush();
  if (log >= 0) static_cast<void>(CloseFile(log));
  reporter.store(0, std::memory_order_release);
  errno = saved_errno;
}

void Write(const MisuseReport& report, bool fatal) {
  WriteFirstLine(report.misuse, fatal);
  WriteRest(report, fatal);
}

}  // namespace

void WriteLiveReport(const LiveReport& report) {
  if (!TakeTurn()) return;
  const int log = OpenLog();
  ReportOutput output(buffer, sizeof buffer, log);
  settings.format == ReportFormat::kJson ? WriteLiveJson(report, &output) : WriteLiveText(report, &output);
  output.Flush();
  if (log >= 0) static_cast<void>(CloseFile(log));
  reporter.store(0, std::memory_order_release);
}

StackHere::StackHere() : thread(ThreadId()) {
  bool truncated;
  count = WalkStack(sites, kMaxSites, &truncated);
}

// Writes nothing for the defaults: each page that is written costs a short process a page fault.
void SetUpReports(const Options& options) {
  const bool has_log = options.check_log != kStderrName;
  if (!options.check_continue && options.check_format == ReportFormat::kText && !has_log) return;
  settings.go_on = options.check_continue;
  settings.format = options.check_format;
  if (!has_log) return;
  settings.path_bytes = static_cast<std::uint8_t>(CopyText(options.check_log, settings.path, sizeof settings.path));
}

// The line comes first, so that a fault in what follows cannot hide it. tarn's bare thread has no files, and may not
// ask libc for loaded objects.
void ReportMisuse(const Misuse& misuse) {
  WriteFirstLine(misuse, true);
  MisuseReport report = {};
  report.misuse = misuse;
  if (thread_state.is_background) std::abort();
  const StackHere here;
  report.here = here.facts();
  WriteRest(report, true);
  std::abort();
}

void ReportMisuse(const char* call, const void* address, Misuse::Kind kind) { ReportMisuse({call, address, kind}); }

void ReportAndAbort(const MisuseReport& report) {
  Write(report, true);
  std::abort();
}

void ReportAndMayGoOn(const MisuseReport& report) {
  if (!settings.go_on) ReportAndAbort(report);
  if (reports_gone_on.fetch_add(1, std::memory_order_relaxed) < kMostReportsGoneOn) Write(report, false);
}

}  // namespace tarn
