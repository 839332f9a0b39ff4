// tarn release: asks a running process to give all free memory back to the kernel, and waits for the answer.
//
// The protocol is that of tarn_snapshot_release (tarn/snapshot.h), and heap/scavenger.h tells who answers. The tool asks
// again where its number has been overwritten, by one who read `answered` before it or by the start of a fork's child. A
// request that nobody answered in time is left as it is: to withdraw it the tool would have to compare and exchange in
// another process, which it cannot, and a plain write might undo the request of another one. It does no harm: when it is
// served at last, free memory goes back.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <thread>

#include "tools/tarn/console.h"
#include "tools/tarn/figures.h"
#include "tools/tarn/snapshot/target.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Chosen: the scavenger releases some 100 MiB in 20 ms, so this is for 300 GiB.
constexpr double kMostServiceSeconds = 60;
constexpr milliseconds kFirstLook{1};
constexpr milliseconds kLongestBetweenLooks{20};

struct ReleaseOptions {
  std::string pid;
  double wait_s = 2;
};

struct Answer {
  std::uint64_t released_bytes = 0;
  double waited_s = 0;
};

std::string BytesText(std::uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Whether `a` is `b` or a later number.
bool HasComeTo(std::uint64_t a, std::uint64_t b) { return static_cast<std::int64_t>(a - b) >= 0; }

bool HasScavengerThread(pid_t pid) {
  std::error_code error;
  for (std::filesystem::directory_iterator task(fmt::format("/proc/{}/task", pid), error), end; !error && task != end;
       task.increment(error)) {
    std::string name;
    std::ifstream file(task->path() / "comm");
    if (std::getline(file, name) && name == "tarn-scavenger") return true;
  }
  return false;
}

[[noreturn]] void ThrowUnanswered(const Target& target, double wait_s) {
  const std::string who = Describe(target.pid());
  const char state = target.State();
  if (state == 'T' || state == 't')
    throw ToolError(
        fmt::format("process {} has not answered, for it is stopped; the request stands, and is served when the "
                    "process goes on (kill -CONT {})",
                    who, target.pid()));
  if (HasScavengerThread(target.pid()))
    throw ToolError(
        fmt::format("process {} has not answered within {:g} s, but its scavenger's thread is there and looks twice a "
                    "second; the request stands. Wait longer with --wait",
                    who, wait_s));
  tarn_snapshot_pages pages;
  if (!target.reader().ReadPages(&pages)) target.Lost();
  throw ToolError(
      fmt::format("process {} has not answered within {:g} s: nothing in it runs tarn's code at the moment, for it has "
                  "no scavenger's thread and allocates nothing; the request stands, and is served at its next slow "
                  "path. {} of free pages are resident in it",
                  who, wait_s, BytesText(pages.free_bytes - std::min(pages.free_bytes, pages.free_zero_bytes))));
}

Answer Ask(const Target& target, double wait_s) {
  const Clock::time_point start = Clock::now();
  tarn_snapshot_release words = target.ReleaseWords();
  const std::uint64_t number = words.answered + 1;
  milliseconds pause = kFirstLook;
  while (!HasComeTo(words.answered, number)) {
    const double waited_s = SecondsSince(start);
    if (HasComeTo(words.begun, number)) {
      if (waited_s >= wait_s + kMostServiceSeconds)
        throw ToolError(fmt::format("process {} has begun to release memory, but has not come to an end within {:g} s",
                                    Describe(target.pid()), waited_s));
    } else if (waited_s >= wait_s) {
      ThrowUnanswered(target, wait_s);
    }
    if (!HasComeTo(words.request, number)) target.RequestRelease(number);
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestBetweenLooks);
    words = target.ReleaseWords();
  }
  return {words.answered_bytes, SecondsSince(start)};
}

int RunRelease(const ReleaseOptions& options, const Invocation& invocation) {
  const Target target(ParsePid(options.pid));
  const std::uint64_t before_bytes = target.ResidentBytes();
  const Answer answer = Ask(target, options.wait_s);
  const std::uint64_t after_bytes = target.ResidentBytes();
  if (invocation.json) {
    const nlohmann::json document = {{"schema", "tarn-release/1"},
                                     {"pid", target.pid()},
                                     {"program", target.name()},
                                     {"library", target.library()},
                                     {"library_version", target.reader().block().library_version},
                                     {"released_bytes", answer.released_bytes},
                                     {"rss_before_bytes", before_bytes},
                                     {"rss_after_bytes", after_bytes},
                                     {"waited_s", answer.waited_s}};
    WriteResult(invocation, document.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return kExitOk;
  }
  std::string text =
      fmt::format("process    {} ({})\nreleased   {}\nresident   {} before, {} after\n", target.pid(), target.name(),
                  BytesText(answer.released_bytes), BytesText(before_bytes), BytesText(after_bytes));
  if (invocation.verbose) text += fmt::format("answered   after {:.3f} s\n", answer.waited_s);
  WriteResult(invocation, text);
  return kExitOk;
}

Prepared PrepareRelease() {
  auto o = std::make_shared<ReleaseOptions>();
  return {{{"PID", "PID", "a process that uses tarn", &o->pid},
           {"--wait", "SECONDS", "how long to wait for the process to begin (2)", &o->wait_s, 0, 86400}},
          [o](const Invocation& invocation) { return RunRelease(*o, invocation); }};
}

}  // namespace

extern const Verb kReleaseVerb;
const Verb kReleaseVerb = {
    .name = "release",
    .summary = "have a process give its free memory back to the kernel",
    .examples = {{"tarn release 4711", "all free memory, now; tells what went back"},
                 {"tarn release 4711 --wait 60", "of a program that rarely allocates"},
                 {"tarn release 4711 --json | jq .released_bytes", "for scripts"}},
    .details =
        "As malloc_trim(0) in the process: caches are drained, and all free pages go. The process pays for it with "
        "page "
        "faults when it needs memory again. It is done by the process itself: by the scavenger's thread, if it is "
        "there "
        "(within half a second, while the program goes on), by tarn_background_tick, or by a thread of the program "
        "that allocates or frees. A process that sleeps and has no such thread cannot answer (exit code 1). The "
        "request "
        "then stands, and is served when the process comes to it. Two requests at once have the same answer. As for a "
        "debugger, the caller needs the right to write to the process.",
    .prepare = PrepareRelease,
};

}  // namespace tarn::tool
