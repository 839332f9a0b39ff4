// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/crash.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include "allocator/os/known_paths.h"
#include "allocator/os/system_call.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

constexpr int kStderr = 2;

int kept_stderr = -1;

const char* Description(Misuse::Kind kind) {
  switch (kind) {
    case Misuse::kNotAllocated:
      return "pointer was not allocated by tarn";
    case Misuse::kInteriorPointer:
      return "pointer is inside an object, not at its start";
    case Misuse::kAlreadyFree:
      return "object is already free";
    case Misuse::kSpanAlreadyFree:
      return "span is already free";
    case Misuse::kWrongSize:
      return "size does not match the object";
    case Misuse::kRegionPointer:
      return "pointer belongs to an arena or a pool of tarn, not to malloc";
    case Misuse::kWrongPool:
      return "object does not belong to this pool";
    case Misuse::kNoObjectThere:
      return "no object of the pool starts here";
    case Misuse::kStaleMark:
      return "mark is stale: the arena was reset, or rewound further, since";
    case Misuse::kForeignMark:
      return "mark is of another arena";
    case Misuse::kPoolAtWork:
      return "pool is ended while it destroys an object or ends";
    case Misuse::kNoHandle:
      return "no pool, arena or heap of this kind lives here; it may have ended already";
    case Misuse::kUseAfterFree:
      return "object was freed before";
    case Misuse::kPastEnd:
      return "address is past the end of the object";
    case Misuse::kBeforeStart:
      return "address is before the start of the object";
    case Misuse::kEndOverwritten:
      return "memory behind the object was overwritten";
    case Misuse::kStartOverwritten:
      return "memory in front of the object was overwritten";
    case Misuse::kFreedOverwritten:
      return "freed memory was overwritten";
    case Misuse::kWrongFamily:
      return "object was made by another family of functions";
  }
  return "unknown misuse";
}

bool IsOverwrite(Misuse::Kind kind) {
  return kind == Misuse::kEndOverwritten || kind == Misuse::kStartOverwritten || kind == Misuse::kFreedOverwritten;
}

}  // namespace

void WriteToStderr(std::string_view text) {
  int descriptor = kStderr;
  while (!text.empty()) {
    const long written = SystemCall(SYS_write, descriptor, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (written == -EBADF && descriptor == kStderr && thread_state.is_background) {
      // tarn's bare thread has no descriptors. It keeps this one, since it is about to end the process.
      descriptor =
          static_cast<int>(SystemCall(SYS_openat, AT_FDCWD, kFirstStderrPath, O_WRONLY | O_APPEND | O_CLOEXEC));
    } else if (written == -EBADF && descriptor == kStderr && kept_stderr >= 0) {
      descriptor = kept_stderr;
    } else if (written != -EINTR) {
      return;
    }
  }
}

void KeepStderr() {
  if (kept_stderr >= 0) return;
  // High, so that a program that counts on the lowest free descriptors is not disturbed.
  constexpr int kLowestDescriptor = 100;
  kept_stderr = static_cast<int>(SystemCall(SYS_fcntl, kStderr, F_DUPFD_CLOEXEC, kLowestDescriptor));
}

void DescribeMisuse(const Misuse& misuse, MisuseLine* line) {
  const auto address = reinterpret_cast<std::uintptr_t>(misuse.address);
  if (IsOverwrite(misuse.kind)) {
    // The call has found it. Its own argument is another address.
    *line << misuse.call << ": " << Description(misuse.kind) << " at ";
    line->Hex(address);
  } else {
    *line << misuse.call << "(";
    line->Hex(address) << "): " << Description(misuse.kind);
  }
  if (misuse.start != nullptr) {
    *line << ": the object of " << std::uint64_t{misuse.object_bytes} << " bytes starts at ";
    line->Hex(reinterpret_cast<std::uintptr_t>(misuse.start));
  } else if (misuse.object_bytes != 0) {
    *line << ": " << std::uint64_t{misuse.given_bytes} << " bytes were given, the object has "
          << std::uint64_t{misuse.object_bytes};
  }
}

void NoteMisuse(const Misuse& misuse) {
  MisuseLine line;
  line << "tarn: ";
  DescribeMisuse(misuse, &line);
  line << "; it is freed by its own size\n";
  WriteToStderr(line.view());
}

void ReportAbandonedLock() {
  WriteToStderr(
      "tarn: fatal: a signal handler jumped out of malloc or free (longjmp) while this thread held a lock of tarn\n");
  std::abort();
}

void CheckFailed(const char* condition, const char* file, int line_number) {
  Text<512> line;
  line << "tarn: fatal: check failed: " << condition << " (" << file << ":" << line_number << ")\n";
  WriteToStderr(line.view());
  std::abort();
}

}  // namespace tarn
