// SPDX-License-Identifier: Apache-2.0
//
// Parts of surface_fuzzer.cc: glibc's malloc, system calls that fail or are interrupted, objects with contents.
#pragma once

#include <dlfcn.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>

#include "tests/entry/surface.h"
#include "tests/fuzz/fuzzer.h"

namespace tarn_test {

inline constexpr int kUntouchedErrno = EOWNERDEAD;

// --- glibc's functions, past those of this executable --------------------------------------------------------------

struct Reference {
  void* (*malloc)(size_t);
  void (*free)(void*);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void* (*memalign)(size_t, size_t);
  void* (*valloc)(size_t);
  void* (*pvalloc)(size_t);
  int (*posix_memalign)(void**, size_t, size_t);
  // glibc's own calls the realloc of the process.
  void* ReallocateArray(void* object, size_t count, size_t bytes) const {
    if (!__builtin_mul_overflow(count, bytes, &bytes)) return realloc(object, bytes);
    errno = ENOMEM;
    return nullptr;
  }
};
inline Reference libc;

template <typename Function>
void Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  FUZZ_REQUIRE(*function != nullptr);
}

inline void FindReference() {
  void* const library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  FUZZ_REQUIRE(library != nullptr);
  Find(library, "malloc", &libc.malloc);
  Find(library, "free", &libc.free);
  Find(library, "calloc", &libc.calloc);
  Find(library, "realloc", &libc.realloc);
  Find(library, "memalign", &libc.memalign);
  Find(library, "valloc", &libc.valloc);
  Find(library, "pvalloc", &libc.pvalloc);
  Find(library, "posix_memalign", &libc.posix_memalign);
  FUZZ_REQUIRE(libc.malloc != &::malloc);
}

// --- Faults --------------------------------------------------------------------------------------------------------

// Failures and interruptions of the system calls of this thread.
struct Trouble {
  bool in_call = false;  // the program is in a call of malloc or the like
  unsigned one_fails_in = 0;
  unsigned one_is_interrupted_in = 0;
  std::uint64_t state = 0;
  bool failed = false;  // since the call began

  std::uint64_t Next() {
    state += 0x9E3779B97F4A7C15;
    const std::uint64_t bits = (state ^ state >> 30) * 0xBF58476D1CE4E5B9;
    return bits ^ bits >> 27;
  }
};
inline constinit thread_local Trouble trouble;

// These cannot fail, or their failure would end the process by right.
inline bool MayFail(long number) {
  switch (number) {
    case SYS_mmap:
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_madvise:
    case SYS_mremap:
    case SYS_process_madvise:
    case SYS_membarrier:
    case SYS_prctl:
    case SYS_prlimit64:
    case SYS_openat:
    case SYS_read:
    case SYS_sched_getaffinity:
    case SYS_sysinfo:
      return true;
    default:
      return false;
  }
}

// As a handler of a signal. Its malloc may return null.
inline void Interrupt() {
  void* objects[3];
  for (std::size_t i = 0; i < std::size(objects); ++i) {
    const size_t size = (i == 2 ? 300'000 : 40) + (trouble.Next() & 0xFFF);
    objects[i] = malloc(Opaque(size));
    if (objects[i] != nullptr) Fill(objects[i], i, 0, 40);
  }
  for (std::size_t i = 0; i < std::size(objects); ++i) {
    if (objects[i] == nullptr) continue;
    FUZZ_REQUIRE(Holds(objects[i], i, 0, 40));
    free(objects[i]);
  }
}

inline std::atomic<std::uint64_t> calls_made = 0;
inline std::atomic<std::uint64_t> calls_failed = 0;

// Returns the error of this system call, or 0: it is made.
inline long TroubleOf(long number) {
  if (!trouble.in_call || !MayFail(number)) return 0;
  if (trouble.one_is_interrupted_in != 0 && trouble.Next() % trouble.one_is_interrupted_in == 0) {
    trouble.in_call = false;
    const int saved_errno = errno;
    Interrupt();
    errno = saved_errno;
    trouble.in_call = true;
  }
  if (trouble.one_fails_in == 0 || trouble.Next() % trouble.one_fails_in != 0) return 0;
  trouble.failed = true;
  calls_failed.fetch_add(1, std::memory_order_relaxed);
  constexpr int kErrors[] = {ENOMEM, ENOMEM, EAGAIN, EINVAL};
  return -kErrors[trouble.Next() % std::size(kErrors)];
}

// Around each call that goes to tarn.
class TarnCall {
 public:
  TarnCall() {
    trouble.failed = false;
    trouble.in_call = true;
    errno = kUntouchedErrno;
  }
  ~TarnCall() { End(); }
  void End() {
    if (!trouble.in_call) return;
    trouble.in_call = false;
    error_ = errno;
    calls_made.fetch_add(1, std::memory_order_relaxed);
  }
  int error() const { return error_; }

 private:
  int error_ = 0;
};

// --- Objects -------------------------------------------------------------------------------------------------------

enum class Family : std::uint8_t { kMalloc, kNew, kNewArray, kAlignedNew };

struct Slot {
  void* object = nullptr;  // tarn's; null: unused
  void* twin = nullptr;    // glibc's
  size_t bytes = 0;
  size_t written_bytes = 0;
  size_t alignment = 16;
  Family family = Family::kMalloc;
  std::uint8_t seed = 0;
};

// Up to here every byte is written, above some: the rest need not become resident.
inline constexpr size_t kWholeBytes = 4096;
inline constexpr size_t kStepBytes = 65536 + 48;
inline constexpr size_t kPieceBytes = 24;

template <typename Visit>
void VisitWritten(size_t bytes, Visit visit) {
  visit(size_t{0}, std::min(bytes, kWholeBytes));
  for (size_t at = kStepBytes; at + kPieceBytes <= bytes; at += kStepBytes) visit(at, at + kPieceBytes);
  if (bytes > kWholeBytes) visit(std::max(bytes - kPieceBytes, kWholeBytes), bytes);
}

inline void Write(Slot& slot, size_t bytes) {
  slot.written_bytes = bytes;
  VisitWritten(bytes, [&](size_t from, size_t to) { Fill(slot.object, slot.seed, from, to); });
}

// The first bytes hold what was written.
inline void Verify(const Slot& slot, size_t kept_bytes) {
  VisitWritten(slot.written_bytes, [&](size_t from, size_t to) {
    const size_t end = std::min(to, kept_bytes);
    if (from < end) FUZZ_REQUIRE(Holds(slot.object, slot.seed, from, end));
  });
}

}  // namespace tarn_test
