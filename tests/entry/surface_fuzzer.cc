// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the whole surface of malloc against glibc's: an input is a program of calls, each of which both make.
//
// Null or not, errno and return codes are the same. The object is aligned and as large as asked for. No live object
// overlaps it. It is zero from calloc, and keeps its contents. A program may have threads that hand
// objects to each other, and forks, in which the child goes on. While tarn makes a system call it may fail, as chance
// has it; then null with ENOMEM is allowed, and contents are kept. Or the thread calls malloc and free in the midst of
// it, as a handler of a signal would.
//
// The name of the executable chooses the settings: surface_fuzzer has the cache mode cpu, surface_thread_fuzzer the
// other one; both sample and guard some objects. surface_checked_fuzzer checks malloc.
#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <new>
#include <string_view>
#include <vector>

#include "tests/entry/surface.h"
#include "tests/entry/surface_parts.h"
#include "tests/fuzz/fuzzer.h"

namespace tarn_test {
namespace {

// --- Programs ------------------------------------------------------------------------------------------------------

constexpr std::size_t kSlots = 24;
constexpr std::size_t kMostThreads = 3;

// Objects on their way from one thread to another.
struct Exchange {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  Slot slots[4];
};

// By a pointer that the compiler does not know: clang 14 calls both of two operators delete that it may choose from.
template <typename... Arguments>
void Call(void (*function)(void*, Arguments...), void* object, Arguments... arguments) {
  Opaque(function)(object, arguments...);
}

void FreeByFamily(const Slot& slot, unsigned way) {
  void* const object = slot.object;
  const std::align_val_t alignment{slot.alignment};
  const bool sized = way % 2 != 0;
  switch (slot.family) {
    case Family::kMalloc:
      if (way % 4 == 3) return Call<size_t>(&free_sized, object, slot.bytes);
      return Call(way % 4 == 2 ? &cfree : &free, object);
    case Family::kNew:
      return sized ? Call<size_t>(&::operator delete, object, slot.bytes) : Call(&::operator delete, object);
    case Family::kNewArray:
      return sized ? Call<size_t>(&::operator delete[], object, slot.bytes) : Call(&::operator delete[], object);
    case Family::kAlignedNew:
      return sized ? Call<size_t, std::align_val_t>(&::operator delete, object, slot.bytes, alignment)
                   : Call<std::align_val_t>(&::operator delete, object, alignment);
  }
}

void Free(Slot& slot, unsigned way) {
  if (slot.object == nullptr) return;
  Verify(slot, slot.written_bytes);
  libc.free(slot.twin);
  TarnCall call;
  FreeByFamily(slot, way);
  call.End();
  FUZZ_REQUIRE(call.error() == kUntouchedErrno);
  slot = {};
}

struct Settings {
  unsigned one_fails_in;
  unsigned one_is_interrupted_in;
  bool forks;
  unsigned rounds;
};

class Program {
 public:
  Program(Input input, const Settings& settings, Exchange* exchange, std::uint64_t number)
      : start_(input), input_(input), settings_(settings), exchange_(exchange), number_(number) {}

  void Run();

 private:
  void Step();
  void Allocate(Slot& slot, unsigned way);
  void AllocateAligned(Slot& slot, unsigned way);
  void AllocateByNew(Slot& slot, unsigned way);
  void Resize(Slot& slot);
  void Swap(Slot& slot);
  void Fork();
  void Ask(unsigned what, Slot& slot);

  bool Accept(Slot& slot, void* object, void* twin, int error, int twin_error);
  void NoOverlap(const Slot& slot) const;
  size_t Size();
  size_t Alignment();
  void End();

  const Input start_;
  Input input_;
  const Settings settings_;
  Exchange* const exchange_;
  const std::uint64_t number_;
  Slot slots_[kSlots];
  std::uint8_t next_seed_ = 0;
  int forks_left_ = 1;
  bool in_child_ = false;
};

size_t Program::Size() {
  const std::uint8_t kind = input_.Byte();
  if (kind < 150) return kind;
  if (kind < 200) return input_.Number(2) % 2048;
  if (kind < 232) return input_.Number(2);
  if (kind < 249) return input_.Number(3) % (300 * kKiB);
  if (kind < 251) return input_.Number(3) % (2 * kMiB);
  // Sizes that nothing has room for; between them and the others it depends on the machine.
  const size_t less = input_.Byte() * size_t{16};
  if (kind < 253) return SIZE_MAX - less;
  return kind == 253 ? size_t{PTRDIFF_MAX} - less : size_t{PTRDIFF_MAX} + less;
}

size_t Program::Alignment() {
  const std::uint8_t kind = input_.Byte();
  if (kind < 220) return size_t{1} << kind % 14;
  return kind < 250 ? size_t{1} << kind % 23 : size_t{1} << (62 + kind % 2);
}

void Program::NoOverlap(const Slot& slot) const {
  const uintptr_t start = AddressOf(slot.object);
  for (const Slot& other : slots_) {
    if (other.object == nullptr || &other == &slot) continue;
    const uintptr_t other_start = AddressOf(other.object);
    FUZZ_REQUIRE(start + std::max<size_t>(slot.bytes, 1) <= other_start ||
                 other_start + std::max<size_t>(other.bytes, 1) <= start);
  }
}

// Takes what both have returned into the slot. Returns false if tarn returned null.
bool Program::Accept(Slot& slot, void* object, void* twin, int error, int twin_error) {
  slot.object = object;
  slot.twin = twin;
  if (object == nullptr) {
    FUZZ_REQUIRE(twin == nullptr ? error == twin_error : trouble.failed && error == ENOMEM);
    if (twin != nullptr) libc.free(twin);
    slot = {};
    return false;
  }
  FUZZ_REQUIRE(twin != nullptr);
  FUZZ_REQUIRE(error == kUntouchedErrno);
  FUZZ_REQUIRE(IsAligned(object, slot.alignment));
  NoOverlap(slot);
  const size_t usable_bytes = malloc_usable_size(object);
  FUZZ_REQUIRE(usable_bytes >= slot.bytes);
  slot.seed = ++next_seed_;
  // All usable bytes may be used.
  Write(slot, (slot.seed & 3) == 0 ? usable_bytes : slot.bytes);
  return true;
}

void Program::Allocate(Slot& slot, unsigned way) {
  slot = {};
  slot.bytes = Size();
  size_t count = 1;
  if (way % 2 == 1) count = input_.OneIn(8) ? SIZE_MAX / (1 + input_.Byte()) : input_.Byte() % 5;
  void* object = nullptr;
  void* twin = nullptr;
  TarnCall call;
  if (way == 0) {
    object = malloc(Opaque(slot.bytes));
  } else if (way == 1) {
    object = calloc(Opaque(count), Opaque(slot.bytes));
  } else if (way == 2) {
    object = realloc(nullptr, Opaque(slot.bytes));
  } else {
    object = reallocarray(nullptr, Opaque(count), Opaque(slot.bytes));
  }
  call.End();
  errno = kUntouchedErrno;
  twin = way == 0   ? libc.malloc(slot.bytes)
         : way == 1 ? libc.calloc(count, slot.bytes)
         : way == 2 ? libc.realloc(nullptr, slot.bytes)
                    : libc.ReallocateArray(nullptr, count, slot.bytes);
  const int twin_error = errno;
  slot.bytes *= count;
  if (way == 1 && object != nullptr) FUZZ_REQUIRE(IsZero(object, slot.bytes));
  Accept(slot, object, twin, call.error(), twin_error);
}

void Program::AllocateAligned(Slot& slot, unsigned way) {
  slot = {};
  slot.alignment = Alignment();
  slot.bytes = Size();
  void* object = nullptr;
  void* twin = nullptr;
  int result = 0;
  int twin_result = 0;
  TarnCall call;
  if (way == 0) {
    object = aligned_alloc(Opaque(slot.alignment), Opaque(slot.bytes));
  } else if (way == 1) {
    object = memalign(Opaque(slot.alignment), Opaque(slot.bytes));
  } else if (way == 2) {
    result = posix_memalign(&object, Opaque(slot.alignment), Opaque(slot.bytes));
  } else {
    object = way == 3 ? valloc(Opaque(slot.bytes)) : pvalloc(Opaque(slot.bytes));
  }
  call.End();
  errno = kUntouchedErrno;
  if (way < 2) {
    twin = libc.memalign(slot.alignment, slot.bytes);
  } else if (way == 2) {
    twin_result = libc.posix_memalign(&twin, slot.alignment, slot.bytes);
  } else {
    twin = way == 3 ? libc.valloc(slot.bytes) : libc.pvalloc(slot.bytes);
    slot.alignment = static_cast<size_t>(getpagesize());
  }
  const int twin_error = errno;
  if (way == 2) {
    // errno is not theirs.
    FUZZ_REQUIRE(call.error() == kUntouchedErrno);
    FUZZ_REQUIRE(result == twin_result || (trouble.failed && result == ENOMEM));
    if (result != 0) object = nullptr;
    if (twin_result != 0) twin = nullptr;
    if (object == nullptr && twin == nullptr) {
      slot = {};
      return;
    }
    Accept(slot, object, twin, result != 0 ? result : kUntouchedErrno, twin_result);
    return;
  }
  Accept(slot, object, twin, call.error(), twin_error);
}

void Program::AllocateByNew(Slot& slot, unsigned way) {
  slot = {};
  slot.bytes = Size();
  slot.family = way == 0 || way == 3 ? Family::kNew : way == 2 ? Family::kAlignedNew : Family::kNewArray;
  slot.alignment = way == 2 ? Alignment() : slot.bytes <= 8 ? 8 : 16;
  void* object = nullptr;
  TarnCall call;
  try {
    if (way == 0) {
      object = ::operator new(Opaque(slot.bytes));
    } else if (way == 1) {
      object = ::operator new[](Opaque(slot.bytes));
    } else if (way == 2) {
      object = ::operator new(Opaque(slot.bytes), std::align_val_t(slot.alignment));
    } else {
      object = way == 3 ? ::operator new(Opaque(slot.bytes), std::nothrow)
                        : ::operator new[](Opaque(slot.bytes), std::nothrow);
    }
  } catch (const std::bad_alloc&) {
  }
  call.End();
  void* const twin = slot.alignment > 16 ? libc.memalign(slot.alignment, slot.bytes) : libc.malloc(slot.bytes);
  // The standard does not speak of errno here.
  const int error = object == nullptr ? ENOMEM : kUntouchedErrno;
  Accept(slot, object, twin, error, ENOMEM);
}

void Program::Resize(Slot& slot) {
  if (slot.object == nullptr || slot.family != Family::kMalloc) return;
  size_t bytes = Size();
  const bool of_array = input_.Byte() % 4 == 0;
  const size_t count = of_array ? input_.Byte() % 9 : 1;
  TarnCall call;
  void* const object =
      of_array ? reallocarray(slot.object, Opaque(count), Opaque(bytes)) : realloc(slot.object, Opaque(bytes));
  call.End();
  errno = kUntouchedErrno;
  void* const twin = of_array ? libc.ReallocateArray(slot.twin, count, bytes) : libc.realloc(slot.twin, bytes);
  const int twin_error = errno;
  const size_t old_bytes = slot.bytes;
  if (object == nullptr) {
    size_t product;
    if (!__builtin_mul_overflow(count, bytes, &product) && product == 0) {
      // Both have freed it.
      FUZZ_REQUIRE(twin == nullptr && call.error() == kUntouchedErrno);
      slot = {};
      return;
    }
    FUZZ_REQUIRE(twin == nullptr ? call.error() == twin_error : trouble.failed && call.error() == ENOMEM);
    if (twin != nullptr) slot.twin = twin;
    return Verify(slot, old_bytes);
  }
  FUZZ_REQUIRE(twin != nullptr);
  bytes *= count;
  slot.object = object;
  Verify(slot, std::min(slot.written_bytes, bytes));
  slot.bytes = bytes;
  slot.alignment = 16;
  Accept(slot, object, twin, call.error(), twin_error);
}

// With what another thread left, or left before.
void Program::Swap(Slot& slot) {
  if (in_child_) return;
  Slot& other = exchange_->slots[input_.Byte() % std::size(exchange_->slots)];
  pthread_mutex_lock(&exchange_->mutex);
  std::swap(slot, other);
  pthread_mutex_unlock(&exchange_->mutex);
  if (slot.object == nullptr) return;
  Verify(slot, slot.written_bytes);
  NoOverlap(slot);
}

void Program::Fork() {
  if (!settings_.forks || forks_left_ == 0 || in_child_) return;
  --forks_left_;
  const pid_t child = fork();
  if (child < 0) return;
  if (child == 0) {
    in_child_ = true;
    for (int i = 0; i < 200 && !input_.empty(); ++i) Step();
    End();
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  FUZZ_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void Program::Ask(unsigned what, Slot& slot) {
  if (what < 3) {
    FUZZ_REQUIRE(malloc_usable_size(slot.object) >= slot.bytes);
    return;
  }
  TarnCall call;
  if (what == 3) {
    const int trimmed = malloc_trim(input_.Byte() * size_t{4096});
    call.End();
    FUZZ_REQUIRE(trimmed == 0 || trimmed == 1);
  } else if (what == 4) {
    const struct mallinfo2 info = mallinfo2();
    call.End();
    size_t live_bytes = 0;
    for (const Slot& each : slots_) live_bytes += each.bytes;
    FUZZ_REQUIRE(info.uordblks + info.hblkhd >= live_bytes);
  } else {
    free(nullptr);
    FUZZ_REQUIRE(malloc_usable_size(nullptr) == 0);
  }
  call.End();
  FUZZ_REQUIRE(call.error() == kUntouchedErrno);
}

void Program::Step() {
  const unsigned pick = input_.Byte();
  Slot& slot = slots_[input_.Byte() % kSlots];
  if (pick < 140) {
    if (slot.object != nullptr) return Free(slot, pick);
    if (pick < 80) return Allocate(slot, pick < 50 ? 0 : pick % 4);
    return pick < 110 ? AllocateAligned(slot, pick % 5) : AllocateByNew(slot, pick % 5);
  }
  if (pick < 215) return Resize(slot);
  if (pick < 225) return Swap(slot);
  if (pick < 230) return Fork();
  if (pick < 246) return Free(slot, pick);
  return Ask(pick - 246, slot);
}

void Program::Run() {
  trouble.one_fails_in = settings_.one_fails_in;
  trouble.one_is_interrupted_in = settings_.one_is_interrupted_in;
  trouble.state = number_;
  for (unsigned round = 0; round < settings_.rounds; ++round) {
    input_ = start_;
    while (!input_.empty()) Step();
  }
  End();
}

// Nothing fails any more: what was refused is served.
void Program::End() {
  const bool failed = trouble.one_fails_in != 0;
  trouble.one_fails_in = 0;
  if (failed) {
    for (const size_t bytes : {size_t{100}, 60 * kKiB, 3 * kMiB}) {
      slots_[0].object != nullptr ? Free(slots_[0], 0) : void();
      void* const object = malloc(Opaque(bytes));
      FUZZ_REQUIRE(object != nullptr);
      free(object);
    }
  }
  for (Slot& slot : slots_) Free(slot, 0);
  trouble.one_is_interrupted_in = 0;
}

void* RunProgram(void* program) {
  static_cast<Program*>(program)->Run();
  return nullptr;
}

void RunAll(Input input) {
  constexpr unsigned kOneFailsIn[] = {0, 0, 0, 0, 2, 5, 20, 60};
  constexpr unsigned kOneIsInterruptedIn[] = {0, 0, 0, 3};
  const std::uint8_t first = input.Byte();
  const std::uint8_t second = input.Byte();
  const Settings settings = {kOneFailsIn[first % 8], kOneIsInterruptedIn[first / 8 % 4], first / 32 == 3,
                             1u << second % 32 / 8};
  const std::size_t threads = second % 8 == 7 ? 2 + second / 32 % (kMostThreads - 1) : 1;
  const std::uint64_t seed = input.Number(2);
  Exchange exchange;
  const std::string_view rest = input.Rest();
  Program* programs[kMostThreads];
  pthread_t ids[kMostThreads];
  for (std::size_t i = 0; i < threads; ++i) {
    const std::string_view part = rest.substr(rest.size() * i / threads, rest.size() / threads);
    const Input own(reinterpret_cast<const std::uint8_t*>(part.data()), part.size());
    programs[i] = new Program(own, settings, &exchange, seed + i);
    if (i != 0) FUZZ_REQUIRE(pthread_create(&ids[i], nullptr, RunProgram, programs[i]) == 0);
  }
  programs[0]->Run();
  for (std::size_t i = 1; i < threads; ++i) pthread_join(ids[i], nullptr);
  for (std::size_t i = 0; i < threads; ++i) delete programs[i];
  for (Slot& slot : exchange.slots) Free(slot, 0);
}

constexpr struct {
  const char* fuzzer;
  const char* settings[4][2];
} kFuzzers[] = {
    {"surface_fuzzer", {{"TARN_MODE", "cpu"}, {"TARN_PROFILE_RATE", "65536"}, {"TARN_GUARD_RATE", "4"}}},
    {"surface_thread_fuzzer", {{"TARN_MODE", "thread"}, {"TARN_PROFILE_RATE", "65536"}, {"TARN_GUARD_RATE", "4"}}},
    {"surface_checked_fuzzer", {{"TARN_CHECK", "on"}}},
};

// Settings are read at the start of a process, so this starts itself anew.
void StartWithSettings(char** arguments) {
  constexpr char kStarted[] = "SURFACE_FUZZER_STARTED";
  if (getenv(kStarted) != nullptr) return;
  std::string_view name = arguments[0];
  name.remove_prefix(name.rfind('/') + 1);
  for (const auto& fuzzer : kFuzzers) {
    if (name != fuzzer.fuzzer) continue;
    for (const auto& setting : fuzzer.settings) {
      if (setting[0] != nullptr) setenv(setting[0], setting[1], 0);
    }
  }
  setenv(kStarted, "1", 1);
  // Long inputs from the start: short ones call little.
  char long_inputs[] = "-len_control=0";
  std::vector<char*> all;
  for (char** argument = arguments; *argument != nullptr; ++argument) all.push_back(*argument);
  all.insert(all.begin() + 1, long_inputs);
  all.push_back(nullptr);
  execv("/proc/self/exe", all.data());
  std::perror("surface_fuzzer: execv");
  std::exit(1);
}

void PrintCalls() {
  std::printf("surface_fuzzer: %llu calls, %llu system calls failed\n", static_cast<unsigned long long>(calls_made),
              static_cast<unsigned long long>(calls_failed));
}

}  // namespace
}  // namespace tarn_test

extern "C" long FuzzSystemCall(long number) { return tarn_test::TroubleOf(number); }

extern "C" int LLVMFuzzerInitialize(int*, char*** arguments) {
  tarn_test::StartWithSettings(*arguments);
  tarn_test::FindReference();
  std::atexit(tarn_test::PrintCalls);
  return 0;
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn_test::RunAll(tarn_test::Input(data, size));
  return 0;
}
