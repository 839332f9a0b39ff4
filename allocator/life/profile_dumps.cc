// SPDX-License-Identifier: Apache-2.0

#include "allocator/life/profile_dumps.h"

#include <cerrno>
#include <string_view>

#include "allocator/base/text.h"
#include "allocator/heap/process_heap.h"
#include "allocator/observe/profile_writer.h"
#include "allocator/observe/published.h"
#include "allocator/os/crash.h"
#include "allocator/os/file.h"
#include "allocator/os/process.h"
#include "allocator/os/signals.h"
#include "allocator/settings/settings.h"

namespace tarn {

namespace {

constexpr char kReasonNames[][8] = {"exit", "signal", "growth", "limit"};

// Names of others that are passed over, before it is given up.
constexpr int kMostTakenNames = 1000;
// A process that lives about its limit comes near it again and again; the first few times tell the story. Chosen.
constexpr std::uint64_t kMostLimitDumps = 10;
constexpr int kMostSleepsAtExit = 1000;

// A function of its own, so that a profile is written without the room for the line on the stack.
[[gnu::noinline]] void ReportFailure(const char* path, int error) {
  Text<kMaxPrefixBytes + 192> line;
  line << "tarn: the heap profile " << path << " cannot be written: ";
  const std::string_view text = FileErrorText(error);
  text.empty() ? line << "error " << error : line << text;
  line << "\n";
  WriteToStderr(line.view());
}

std::uint32_t Bit(ProfileDumps::Reason reason) { return std::uint32_t{1} << static_cast<unsigned>(reason); }

// Returns the length.
std::size_t CopyPrefix(std::string_view prefix, char* to) {
  const std::size_t length = CopyText(prefix, to, kMaxPrefixBytes);
  to[length] = '\0';
  return length;
}

}  // namespace

void ProfileDumps::Init(Options* options) {
  const bool is_default = options->profile_prefix.data() == kDefaultOptions.profile_prefix.data();
  if (!options->profile_at_exit && options->profile_signal == 0 && options->profile_growth_bytes == 0 &&
      options->profile_limit_percent == 0 && is_default) {
    return;
  }
  options->profile_prefix = {prefix_, CopyPrefix(options->profile_prefix, prefix_)};
  if (options->profile_growth_bytes != 0) process_heap.page_heap.SetNextPeak(options->profile_growth_bytes);
  if (options->profile_limit_percent != 0) SetLimitShare(options->profile_limit_percent);
}

void ProfileDumps::SetLimitShare(unsigned percent) {
  process_heap.limits.RemoveCallback(&DumpNearLimit, nullptr);
  if (percent == 0) return;
  // Where no setting has asked for profiles before.
  if (prefix_[0] == '\0') CopyPrefix(kDefaultOptions.profile_prefix, prefix_);
  // At the start it is the first of all callbacks, so there is room. The next slow path looks at its end.
  static_cast<void>(process_heap.limits.AddCallback(percent, &DumpNearLimit, nullptr));
  process_heap.page_heap.SetNextCheck(0);
}

void ProfileDumps::DumpNearLimit(unsigned, std::size_t, std::size_t, void*) {
  SlowPathScope scope;
  process_heap.profile_dumps.Dump(Reason::kLimit);
}

void ProfileDumps::HandleSignal() {
  const int number = process_heap.options.profile_signal;
  if (number == 0) return;
  if (HandleSignalIfDefault(number, [](int) { process_heap.profile_dumps.Dump(Reason::kSignal); })) return;
  WriteToStderr("tarn: TARN_PROFILE_SIGNAL does nothing: the signal is ignored or handled already\n");
}

void ProfileDumps::AttendPeak() {
  // First, so that allocations of other threads during the dump count for the next step.
  process_heap.page_heap.SetNextPeak(process_heap.options.profile_growth_bytes);
  SlowPathScope scope;
  Dump(Reason::kGrowth);
}

void ProfileDumps::AtExit() {
  if (!process_heap.options.profile_at_exit) return;
  for (int i = 0; i < kMostSleepsAtExit && writing_.load(std::memory_order_relaxed) != 0; ++i) SleepBriefly();
  SlowPathScope scope;
  Dump(Reason::kExit);
}

void ProfileDumps::Dump(Reason reason) {
  const int saved_errno = errno;
  // Sequentially consistent, as is all of this: either the writer sees the request after it has laid down the mark, or
  // the mark is seen to be down here.
  wanted_.fetch_or(Bit(reason));
  while (wanted_.load() != 0) {
    std::uint32_t nobody = 0;
    if (!writing_.compare_exchange_strong(nobody, ThreadId())) break;
    const std::uint32_t wanted = wanted_.exchange(0);
    for (const Reason each : {Reason::kExit, Reason::kSignal, Reason::kGrowth, Reason::kLimit}) {
      if ((wanted & Bit(each)) != 0) WriteFile(each);
    }
    writing_.store(0);
  }
  errno = saved_errno;
}

void ProfileDumps::WriteFile(Reason reason) {
  const std::uint64_t process_id = ProcessId();
  if (process_id_ != process_id) {
    process_id_ = process_id;
    number_ = limit_dumps_ = 0;
  }
  if (reason == Reason::kLimit && limit_dumps_++ >= kMostLimitDumps) return;
  Text<kMaxPrefixBytes + 64> path;
  int descriptor = -1;
  for (int i = 0; i < kMostTakenNames && descriptor < 0; ++i) {
    path.Clear();
    path << prefix_ << "." << process_id << "." << ++number_ << "." << kReasonNames[static_cast<unsigned>(reason)]
         << std::string_view(".pb\0", 4);
    descriptor = CreateNewFile(path.view().data());
    if (descriptor < 0 && errno != EEXIST) break;
  }
  int error = errno;
  if (descriptor >= 0) {
    const bool written = WriteHeapProfile(own_snapshot, descriptor);
    error = errno;
    if (CloseFile(descriptor) && written) return;
    if (written) error = errno;
    RemoveFile(path.view().data());
  }
  if (!complained_.exchange(true)) ReportFailure(path.view().data(), error);
}

}  // namespace tarn
