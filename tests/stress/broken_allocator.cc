// SPDX-License-Identifier: Apache-2.0
//
// An allocator with a fault, to prove that the stress test sees faults.
//
// Preloaded by checker_test.py into stress_any. It passes everything on to
// glibc's own malloc, under the names that glibc exports for that, and does one
// thing wrong now and then; the environment variable BROKEN says what:
//
//   nothing      no fault (the check that the shim itself does no harm)
//   twice        malloc hands out an object that is still in use
//   dirty        calloc leaves one byte that is not zero
//   misaligned   malloc returns an address that is 8 bytes off
//   short        malloc_usable_size tells less than was asked for
//   lossy        realloc changes one byte of what it must keep
//   late         a byte of a live object changes later, in another thread's malloc
//   child        a byte of a live object changes in a forked child only
//   errno        free changes errno
//   null         malloc returns null
//
// Objects that it wrongly gives out are never really freed. So the checks of glibc
// do not end the process before the test can see the damage. Only requests of
// an odd size go wrong. Those of the test's containers and of libc's threads are
// even, and damage to them would crash the process before the test sees anything.

#include <dlfcn.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* object, std::size_t size);
void __libc_free(void* object);
}

namespace {

// The calls that pass between two faults: enough to get the test going. A child
// looks only at what the thread that forked it holds, so nearly every thread has
// to hold a kept object: on a busy machine the test sees few forks.
constexpr std::uint64_t kPeriod = 3000;
constexpr std::uint64_t kPeriodForChildren = 25;

enum class Fault { kNothing, kTwice, kDirty, kMisaligned, kShort, kLossy, kLate, kChild, kErrno, kNull };

Fault FaultFromEnvironment() {
  constexpr std::array<std::string_view, 10> kNames = {"nothing", "twice", "dirty", "misaligned", "short",
                                                       "lossy",   "late",  "child", "errno",      "null"};
  const char* const text = std::getenv("BROKEN");
  for (std::size_t i = 0; text != nullptr && i < kNames.size(); ++i) {
    if (kNames[i] == text) return static_cast<Fault>(i);
  }
  return Fault::kNothing;
}

// Read once in the constructor; before that, nothing is wrong.
Fault fault = Fault::kNothing;

std::atomic<std::uint64_t> calls{0};

// True for the one call in a period that goes wrong.
bool IsDue() {
  const std::uint64_t period = fault == Fault::kChild ? kPeriodForChildren : kPeriod;
  return calls.fetch_add(1, std::memory_order_relaxed) % period == period - 1;
}

bool IsOfTheTest(std::size_t size) { return size % 2 == 1; }

// Objects that must not be freed any more. A slot is written once; when all are
// used, no further fault happens.
constexpr std::size_t kMaxKept = 4096;
std::array<std::atomic<void*>, kMaxKept> kept{};
std::atomic<std::size_t> kept_count{0};

bool Keep(void* object) {
  const std::size_t at = kept_count.fetch_add(1);
  if (at >= kMaxKept) {
    kept_count.store(kMaxKept);
    return false;
  }
  kept[at].store(object);
  return true;
}

bool IsKept(const void* object) {
  const std::size_t count = kept_count.load() < kMaxKept ? kept_count.load() : kMaxKept;
  for (std::size_t i = 0; i < count; ++i) {
    if (kept[i].load() == object) return true;
  }
  return false;
}

// The object that is to be given out a second time, or damaged. It is kept from
// the start, because its owner may free it before the second owner has it.
constexpr std::size_t kVictimBytes = 200;  // As many as glibc's malloc_usable_size then says.
std::atomic<void*> victim{nullptr};

void DamageVictim() {
  auto* const bytes = static_cast<unsigned char*>(victim.load());
  if (bytes != nullptr) bytes[kVictimBytes / 2] ^= 0x40;
}

// In a forked child every kept object is damaged, for the child looks only at those that the thread that forked it
// held.
void DamageAllKept() {
  for (const std::atomic<void*>& object : kept) {
    auto* const bytes = static_cast<unsigned char*>(object.load());
    if (bytes != nullptr) bytes[kVictimBytes / 2] ^= 0x40;
  }
}

// glibc exports no other name for its malloc_usable_size.
std::size_t (*real_usable_size)(void*) = nullptr;

__attribute__((constructor)) void Start() {
  void* const symbol = dlsym(RTLD_NEXT, "malloc_usable_size");
  std::memcpy(&real_usable_size, &symbol, sizeof symbol);
  fault = FaultFromEnvironment();
  if (fault == Fault::kChild) pthread_atfork(nullptr, nullptr, DamageAllKept);
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) {
  const bool fits = IsOfTheTest(size) && size > kVictimBytes / 2 && size <= kVictimBytes;
  switch (fault) {
    case Fault::kTwice:
    case Fault::kLate:
    case Fault::kChild:
      if (fits && IsDue()) {
        void* const object = __libc_malloc(kVictimBytes);
        if (object != nullptr && Keep(object)) victim.store(object);
        return object;
      }
      if (fault == Fault::kTwice && fits && victim.load() != nullptr) {
        void* const object = victim.exchange(nullptr);
        if (object != nullptr) return object;
      }
      if (fault == Fault::kLate && size == 1) DamageVictim();
      break;
    case Fault::kMisaligned:
      if (fits && IsDue()) {
        auto* const object = static_cast<char*>(__libc_malloc(kVictimBytes + 8)) + 8;
        Keep(object);
        return object;
      }
      break;
    case Fault::kNull:
      if (IsOfTheTest(size) && IsDue()) return nullptr;
      break;
    default:
      break;
  }
  return __libc_malloc(size);
}

void* calloc(std::size_t count, std::size_t size) {
  void* const object = __libc_calloc(count, size);
  const std::size_t bytes = count * size;
  if (fault == Fault::kDirty && object != nullptr && IsOfTheTest(bytes) && bytes > 64 && bytes <= 4096 && IsDue()) {
    static_cast<char*>(object)[bytes - 3] = 1;
  }
  return object;
}

void* realloc(void* object, std::size_t size) {
  if (fault != Fault::kNothing && object != nullptr && IsKept(object)) {
    // As free: it stays where it is, and glibc does not hear of it.
    void* const copy = size == 0 ? nullptr : __libc_malloc(size);
    if (copy != nullptr) std::memcpy(copy, object, size < kVictimBytes ? size : kVictimBytes);
    return copy;
  }
  void* const moved = __libc_realloc(object, size);
  if (fault == Fault::kLossy && object != nullptr && size > 16 && IsDue()) {
    static_cast<char*>(moved)[0] ^= 0x20;
  }
  return moved;
}

void free(void* object) {
  if (fault != Fault::kNothing && IsKept(object)) return;
  __libc_free(object);
  if (fault == Fault::kErrno && IsDue()) errno = EAGAIN;
}

std::size_t malloc_usable_size(void* object) {
  if (object == nullptr) return 0;
  if (fault == Fault::kShort && IsDue()) return 0;
  return real_usable_size(object);
}

}  // extern "C"
