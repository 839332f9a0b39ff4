// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>

#include "allocator/base/quantities.h"
#include "allocator/settings/table.h"
#include "tools/base/figures.h"

namespace tarn::tool {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Chosen: the scavenger releases some 100 MiB in 20 ms, so this is for 300 GiB.
constexpr double kMostServiceSeconds = 60;
constexpr milliseconds kFirstLook{1};
constexpr milliseconds kLongestBetweenLooks{20};
constexpr std::uint64_t kLeastLimitBytes = std::uint64_t{1} << 20;

std::string BytesText(std::uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// True where `a` is `b` or a later number.
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
    throw Unanswered(
        fmt::format("process {} has not answered, for it is stopped; the request stands, and is served when the "
                    "process goes on (kill -CONT {})",
                    who, target.pid()));
  if (HasScavengerThread(target.pid()))
    throw Unanswered(
        fmt::format("process {} has not answered within {:g} s, but its scavenger's thread is there and looks twice a "
                    "second; the request stands. A longer wait (--wait) may see the answer",
                    who, wait_s));
  tarn_snapshot_pages pages;
  if (!target.reader().ReadPages(&pages)) target.Lost();
  throw Unanswered(
      fmt::format("process {} has not answered within {:g} s: nothing in it runs tarn's code at the moment, for it has "
                  "no scavenger's thread and allocates nothing; the request stands, and is served at its next slow "
                  "path. {} of free pages are resident in it",
                  who, wait_s, BytesText(pages.free_bytes - std::min(pages.free_bytes, pages.free_zero_bytes))));
}

// The pauses between looks at the words, and their end.
class Waiting {
 public:
  Waiting(const Target& target, const RequestWait& wait) : target_(target), wait_(wait) {}
  double waited_s() const { return SecondsSince(start_); }
  // `is_begun`: somebody in the process is at it.
  void Pause(bool is_begun) {
    if (wait_.is_abandoned()) throw Unanswered("nobody waits for the answer any more; the request stands");
    if (is_begun && waited_s() >= wait_.seconds + kMostServiceSeconds)
      throw Unanswered(fmt::format("process {} has begun to release memory, but has not come to an end within {:g} s",
                                   Describe(target_.pid()), waited_s()));
    if (!is_begun && waited_s() >= wait_.seconds) ThrowUnanswered(target_, wait_.seconds);
    wait_.nudge();
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(pause_ * 2, kLongestBetweenLooks);
  }

 private:
  const Target& target_;
  const RequestWait& wait_;
  const Clock::time_point start_ = Clock::now();
  milliseconds pause_ = kFirstLook;
};

nlohmann::json TargetJson(const Target& target, const char* schema) {
  return {{"schema", schema},
          {"pid", target.pid()},
          {"program", target.name()},
          {"library", target.library()},
          {"library_version", target.reader().block().library_version}};
}

std::uint64_t LimitInForce(const Target& target) {
  tarn_memstats_t stats;
  if (!target.reader().ReadMemStats(&stats)) target.Lost();
  return stats.next_gc_bytes;
}

}  // namespace

ReleaseAnswer AskToRelease(const Target& target, const RequestWait& wait) {
  ReleaseAnswer answer;
  answer.rss_before_bytes = target.ResidentBytes();
  Waiting waiting(target, wait);
  tarn_snapshot_release words = target.ReleaseWords();
  const std::uint64_t number = words.answered + 1;
  while (!HasComeTo(words.answered, number)) {
    // Also again, where it was overwritten by one who read `answered` before it, or by the start of a fork's child.
    if (!HasComeTo(words.request, number)) target.RequestRelease(number);
    waiting.Pause(HasComeTo(words.begun, number));
    words = target.ReleaseWords();
  }
  answer.released_bytes = words.answered_bytes;
  answer.waited_s = waiting.waited_s();
  answer.rss_after_bytes = target.ResidentBytes();
  return answer;
}

nlohmann::json ToJson(const Target& target, const ReleaseAnswer& answer) {
  nlohmann::json document = TargetJson(target, "tarn-release/1");
  document["released_bytes"] = answer.released_bytes;
  document["rss_before_bytes"] = answer.rss_before_bytes;
  document["rss_after_bytes"] = answer.rss_after_bytes;
  document["waited_s"] = answer.waited_s;
  return document;
}

LimitAnswer AskForLimit(const Target& target, std::uint64_t bytes, const RequestWait& wait) {
  LimitAnswer answer;
  answer.before_bytes = LimitInForce(target);
  Waiting waiting(target, wait);
  tarn_snapshot_limit_request words = target.LimitWords();
  const std::uint64_t number = words.answered + 1;
  while (!HasComeTo(words.answered, number)) {
    const bool is_there = words.request == number && words.request_bytes == bytes &&
                          words.check == TARN_SNAPSHOT_LIMIT_CHECK(number, bytes);
    // One who is as far as we are may write the same number with another limit: one of the two is taken.
    if (!is_there) target.RequestLimit(number, bytes);
    waiting.Pause(false);
    words = target.LimitWords();
  }
  if (words.answered_request_bytes != bytes)
    throw Overruled(fmt::format("somebody else set the limit of process {} to {} at the same time",
                                Describe(target.pid()), LimitText(words.answered_bytes)));
  answer.limit_bytes = words.answered_bytes;
  answer.waited_s = waiting.waited_s();
  return answer;
}

nlohmann::json ToJson(const Target& target, const LimitAnswer& answer) {
  const auto number = [](std::uint64_t bytes) { return bytes == kNoLimit ? nlohmann::json() : nlohmann::json(bytes); };
  nlohmann::json document = TargetJson(target, "tarn-limit/1");
  document["limit_bytes"] = number(answer.limit_bytes);
  document["limit_before_bytes"] = number(answer.before_bytes);
  document["rss_bytes"] = target.ResidentBytes();
  document["waited_s"] = answer.waited_s;
  return document;
}

std::optional<std::uint64_t> ParseLimit(std::string_view text) {
  if (text == "off") return kNoLimit;
  if (text == "auto") return kAutoLimit;
  std::uint64_t bytes = 0;
  if (!ParseBytes(text, kMostLimitBytes, &bytes) || bytes < kLeastLimitBytes) return std::nullopt;
  return bytes;
}

std::string LimitText(std::uint64_t bytes) { return bytes == kNoLimit ? "none" : BytesText(bytes); }

}  // namespace tarn::tool
