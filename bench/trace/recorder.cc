// SPDX-License-Identifier: Apache-2.0
//
// libtarn_trace.so: a library to preload before any allocator, which writes down what a program asks of it.
//
//   ALLOC_TRACE=/tmp/rec LD_PRELOAD="libtarn_trace.so libtarn.so" program ...
//
// writes /tmp/rec.PROGRAM.PID for each process (recording.h says what is in it; docs/traces.md is the manual). Every call
// is handed on to the next definition of its function, which is that of the allocator preloaded behind this library, or
// libc's.
//
// What stays true:
//  - No lock. A thread writes into a chunk of the file that is its own, mapped, and takes a number from one atomic
//    counter. No memory of the allocator's is used.
//  - An object is recorded once. An operator new that is made of malloc (the C++ library's) has been recorded by the
//    malloc within, and one that is not (tcmalloc's, tarn's) is recorded here.
//  - A child of fork is not recorded: the page with the Recording is wiped there, by whatever kind of fork it came. A
//    child of vfork works in the memory of its parent, and is recorded as a part of it. A program that a child executes
//    has a recording of its own.
//  - Like an allocator, this library needs libc alone: no C++ library, no libgcc_s.

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "bench/trace/recording.h"

#define EXPORTED __attribute__((visibility("default")))

namespace tarn::trace {
namespace {

// A program that runs away shall not fill the disk: some 170 million calls.
constexpr std::uint64_t kMaxChunks = (std::uint64_t{4} << 30) / kChunkBytes;

// One page that the kernel wipes in a child of fork, so that `on` is false there.
struct Recording {
  std::atomic<bool> on;
  std::atomic<std::uint64_t> numbers;  // the last one given out
  std::atomic<std::uint64_t> chunks;   // the last one given out; 0 is the header's
  std::atomic<std::uint64_t> threads;
  pthread_key_t thread_end;
  char path[3072];
};
static_assert(sizeof(Recording) <= 4096);

std::atomic<Recording*> recording = nullptr;
std::atomic<bool> starting = false;

struct ThreadState {
  Record* next;  // where the next record goes, up to `end`; both null without a chunk
  Record* end;
  void* chunk;
  std::uint64_t number;
  const void* recorded;  // the object that was recorded last; cleared before a call that may record from within
  const void* deleting;  // the object of the operator delete that is under way, recorded already
  unsigned end_rounds;   // how often the destructor of `thread_end` has run
  bool busy;             // taking a chunk
  bool ended;            // nothing is recorded any more
};
thread_local ThreadState thread;

// Formats into a buffer of its own: stdio might allocate.
[[gnu::format(printf, 1, 2)]] void Say(const char* format, ...) {
  char text[4096];
  va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (length > 0) {
    const std::size_t bytes =
        static_cast<std::size_t>(length) < sizeof(text) ? static_cast<std::size_t>(length) : sizeof(text) - 1;
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, bytes);
  }
}

// Maps chunk `index` of the file, or returns null with errno set. The file is opened anew each time, because a program
// may close every descriptor that it finds, and get the number of ours for a file of its own.
void* MapChunk(const char* path, std::uint64_t index, int flags) {
  const int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  if (file < 0) return nullptr;
  // Room is taken before it is written to: a full disk is an error here, and would be a SIGBUS later.
  const auto offset = static_cast<off_t>(index * kChunkBytes);
  void* chunk = MAP_FAILED;
  int problem = posix_fallocate(file, offset, static_cast<off_t>(kChunkBytes));
  if (problem == 0) {
    chunk = mmap(nullptr, kChunkBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, offset);
    problem = errno;
  }
  close(file);
  errno = problem;
  return chunk == MAP_FAILED ? nullptr : chunk;
}

void ReleaseChunk() {
  if (thread.chunk != nullptr) munmap(thread.chunk, kChunkBytes);
  thread.chunk = nullptr;
  thread.next = thread.end = nullptr;
}

// Gives this thread a new chunk; false if nothing can be recorded.
[[gnu::noinline, gnu::cold]] bool TakeChunk(Recording* self) {
  if (thread.busy || thread.ended) return false;
  const int errno_of_caller = errno;
  thread.busy = true;
  ReleaseChunk();
  if (thread.number == 0) {
    thread.number = self->threads.fetch_add(1, std::memory_order_relaxed) + 1;
    pthread_setspecific(self->thread_end, self);
  }
  const std::uint64_t index = self->chunks.fetch_add(1, std::memory_order_relaxed) + 1;
  const bool has_room = index < kMaxChunks;
  if (has_room) thread.chunk = MapChunk(self->path, index, 0);
  if (thread.chunk == nullptr && self->on.exchange(false, std::memory_order_relaxed)) {
    Say("libtarn_trace: %s: %s; the calls from here on are not recorded\n", self->path,
        has_room ? std::strerror(errno) : "the recording is 4 GiB long");
  }
  if (thread.chunk != nullptr) {
    static_cast<ChunkHeader*>(thread.chunk)->thread = thread.number;
    thread.next = reinterpret_cast<Record*>(static_cast<ChunkHeader*>(thread.chunk) + 1);
    thread.end = thread.next + kRecordsPerChunk;
  }
  thread.busy = false;
  errno = errno_of_caller;
  return thread.chunk != nullptr;
}

// The destructor of `thread_end`. It asks to be called again, so that it comes after the other destructors of the
// thread, which free; in the last round that there is it gives the chunk up. What libc frees of a thread later is not
// recorded, and pack finds it when the address is allocated again.
void EndThread(void* self) {
  if (++thread.end_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
    pthread_setspecific(static_cast<Recording*>(self)->thread_end, self);
    return;
  }
  ReleaseChunk();
  thread.ended = true;
}

// The name of the process, for the name of the file. Everything else that knows it does so later in the start.
void ReadProgramName(char* name, std::size_t size) {
  ssize_t length = -1;
  const int file = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    length = read(file, name, size - 1);
    close(file);
  }
  name[length < 0 ? 0 : length] = 0;
  for (char* c = name; *c != 0; ++c) {
    if (*c == '\n') *c = 0;
    if (*c == '/') *c = '_';
  }
  if (name[0] == 0) std::strcpy(name, "unknown");
}

// The path of this process's file, made absolute since the program may change its directory. False if it is too long.
bool MakePath(Recording* self, const char* prefix, const char* program, unsigned attempt) {
  char directory[2048] = "";
  if (prefix[0] != '/') {
    if (getcwd(directory, sizeof(directory) - 1) == nullptr) return false;
    std::strcat(directory, "/");
  }
  char suffix[16] = "";
  if (attempt > 0) std::snprintf(suffix, sizeof(suffix), ".%u", attempt);
  const int length =
      std::snprintf(self->path, sizeof(self->path), "%s%s.%s.%d%s", directory, prefix, program, getpid(), suffix);
  return length > 0 && static_cast<std::size_t>(length) < sizeof(self->path);
}

// Creates the file. A process may execute another program of the same name, hence the attempts.
bool CreateFile(Recording* self, const char* prefix) {
  char program[sizeof(RecordingHeader::program)];
  ReadProgramName(program, sizeof(program));
  for (unsigned attempt = 0; attempt < 100; ++attempt) {
    if (!MakePath(self, prefix, program, attempt)) {
      errno = ENAMETOOLONG;
      break;
    }
    if (auto* header = static_cast<RecordingHeader*>(MapChunk(self->path, 0, O_CREAT | O_EXCL))) {
      std::memcpy(header->magic, kRecordingMagic, sizeof(header->magic));
      std::memcpy(header->program, program, sizeof(program));
      munmap(header, kChunkBytes);
      return true;
    }
    if (errno != EEXIST) break;
  }
  Say("libtarn_trace: cannot create %s: %s; nothing is recorded\n", self->path[0] != 0 ? self->path : prefix,
      std::strerror(errno));
  return false;
}

[[gnu::noinline, gnu::cold]] Recording* Start() {
  // libc is not there yet: the first calls are the loader's.
  if (environ == nullptr || starting.exchange(true, std::memory_order_relaxed)) return nullptr;
  const int errno_of_caller = errno;
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Recording* self = nullptr;
  if (page == MAP_FAILED || madvise(page, 4096, MADV_WIPEONFORK) != 0) {
    Say("libtarn_trace: no page that is wiped on fork (Linux 4.14 has them): %s; nothing is recorded\n",
        std::strerror(errno));
  } else {
    self = new (page) Recording{};
    const char* prefix = std::getenv("ALLOC_TRACE");
    if (prefix == nullptr || prefix[0] == 0) {
      Say("libtarn_trace: ALLOC_TRACE is not set; set it to the start of a file name (ALLOC_TRACE=/tmp/rec makes "
          "/tmp/rec.PROGRAM.PID). Nothing is recorded\n");
    } else if (pthread_key_create(&self->thread_end, EndThread) == 0 && CreateFile(self, prefix)) {
      self->on.store(true, std::memory_order_relaxed);
    }
    // Release: whoever sees the pointer sees what it points to (acquire in Current).
    recording.store(self, std::memory_order_release);
  }
  errno = errno_of_caller;
  return self;
}

// The recording if there is one now, else null.
Recording* Current() {
  Recording* self = recording.load(std::memory_order_acquire);
  if (self == nullptr) [[unlikely]]
    self = Start();
  return self != nullptr && self->on.load(std::memory_order_relaxed) ? self : nullptr;
}

std::uint64_t TakeNumber(Recording* self) { return self->numbers.fetch_add(1, std::memory_order_relaxed) + 1; }

void Write(Recording* self, std::uint64_t tag, const void* object, std::uint64_t bytes) {
  if (thread.next == thread.end && !TakeChunk(self)) return;
  Record* record = thread.next++;
  record->address = reinterpret_cast<std::uintptr_t>(object);
  record->bytes = bytes;
  // Release: a process that is killed here leaves a record that is whole or none.
  std::atomic_ref(record->tag).store(tag, std::memory_order_release);
}

void RecordFree(const void* object) {
  if (object == nullptr || object == thread.deleting) return;
  if (Recording* self = Current()) Write(self, MakeTag(TakeNumber(self), 0, RecordKind::kFree), object, 0);
}

// Calls `allocate`, and records its result unless a call within has done so.
template <typename Allocate>
void* RecordAllocation(RecordKind kind, std::size_t alignment, std::size_t bytes, Allocate allocate) {
  thread.recorded = nullptr;
  void* object = allocate();
  if (object == nullptr || object == thread.recorded) return object;
  thread.recorded = object;
  if (Recording* self = Current()) {
    const auto alignment_log2 = static_cast<unsigned>(alignment > 1 ? std::bit_width(alignment - 1) : 0);
    Write(self, MakeTag(TakeNumber(self), alignment_log2, kind), object, bytes);
  }
  return object;
}

// Our search for the next functions may allocate itself; it gets this memory, which is never freed.
alignas(16) char early_memory[16 << 10];
std::size_t early_bytes = 0;

void* AllocateEarly(std::size_t bytes) {
  void* object = early_memory + early_bytes;
  early_bytes += (bytes + 15) & ~std::size_t{15};
  if (early_bytes > sizeof(early_memory)) {
    Say("libtarn_trace: the loader wants more memory than there is for it at the start\n");
    std::abort();
  }
  return object;
}

bool IsEarly(const void* object) { return object >= early_memory && object < early_memory + sizeof(early_memory); }

// The next definitions behind ours.
struct NextFunctions {
  void* (*malloc)(std::size_t);
  void* (*calloc)(std::size_t, std::size_t);
  void* (*realloc)(void*, std::size_t);
  void (*free)(void*);
  void* (*aligned_alloc)(std::size_t, std::size_t);
  void* (*memalign)(std::size_t, std::size_t);
  int (*posix_memalign)(void**, std::size_t, std::size_t);
  void* (*valloc)(std::size_t);
  void* (*pvalloc)(std::size_t);
};
NextFunctions next;
bool is_searching = false;

template <typename Function>
void Find(Function& function, const char* name, bool is_needed) {
  function = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
  if (function != nullptr || !is_needed) return;
  Say("libtarn_trace: there is no %s behind this library\n", name);
  std::abort();
}

// At the first call, when there is one thread only: the loader itself allocates before any thread can be.
[[gnu::noinline, gnu::cold]] void FindNext() {
  is_searching = true;
  Find(next.calloc, "calloc", true);
  Find(next.realloc, "realloc", true);
  Find(next.free, "free", true);
  Find(next.aligned_alloc, "aligned_alloc", false);
  Find(next.memalign, "memalign", false);
  Find(next.posix_memalign, "posix_memalign", false);
  Find(next.valloc, "valloc", false);
  Find(next.pvalloc, "pvalloc", false);
  Find(next.malloc, "malloc", true);
  is_searching = false;
}

// False while the search is under way, further up this stack.
bool IsReady() {
  if (next.malloc == nullptr && !is_searching) [[unlikely]]
    FindNext();
  return !is_searching;
}

}  // namespace
}  // namespace tarn::trace

using namespace tarn::trace;

extern "C" {

EXPORTED void* malloc(std::size_t bytes) {
  if (!IsReady()) [[unlikely]]
    return AllocateEarly(bytes);
  return RecordAllocation(RecordKind::kMalloc, 0, bytes, [&] { return next.malloc(bytes); });
}

EXPORTED void* calloc(std::size_t count, std::size_t bytes) {
  if (!IsReady()) [[unlikely]]
    return AllocateEarly(count * bytes);  // is zero, and small
  // An overflow has no object, so that the product is only used where it is right.
  return RecordAllocation(RecordKind::kCalloc, 0, count * bytes, [&] { return next.calloc(count, bytes); });
}

EXPORTED void free(void* object) {
  if (IsEarly(object)) [[unlikely]]
    return;
  RecordFree(object);
  if (IsReady()) next.free(object);
}

EXPORTED void* realloc(void* object, std::size_t bytes) {
  if (object == nullptr) return malloc(bytes);
  if (IsEarly(object)) {
    void* moved = malloc(bytes);
    const auto rest_bytes = static_cast<std::size_t>(early_memory + sizeof(early_memory) - static_cast<char*>(object));
    if (moved != nullptr) std::memcpy(moved, object, bytes < rest_bytes ? bytes : rest_bytes);
    return moved;
  }
  Recording* self = Current();
  const std::uint64_t from = self != nullptr ? TakeNumber(self) : 0;
  void* result = next.realloc(object, bytes);
  if (self == nullptr) return result;
  if (result != nullptr) {
    const std::uint64_t to = TakeNumber(self);
    Write(self, MakeTag(from, 0, RecordKind::kReallocFrom), object, to);
    Write(self, MakeTag(to, 0, RecordKind::kReallocTo), result, bytes);
    thread.recorded = result;
  } else if (bytes == 0) {
    Write(self, MakeTag(from, 0, RecordKind::kFree), object, 0);  // glibc's realloc to nothing
  }
  return result;  // A realloc that failed has changed nothing, and nothing is recorded.
}

EXPORTED void* reallocarray(void* object, std::size_t count, std::size_t bytes) {
  std::size_t total_bytes;
  if (__builtin_mul_overflow(count, bytes, &total_bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  return realloc(object, total_bytes);
}

EXPORTED void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  return IsReady() ? RecordAllocation(RecordKind::kAligned, alignment, bytes,
                                      [&] { return next.aligned_alloc(alignment, bytes); })
                   : nullptr;
}

EXPORTED void* memalign(std::size_t alignment, std::size_t bytes) {
  return IsReady()
             ? RecordAllocation(RecordKind::kAligned, alignment, bytes, [&] { return next.memalign(alignment, bytes); })
             : nullptr;
}

EXPORTED int posix_memalign(void** result, std::size_t alignment, std::size_t bytes) {
  if (!IsReady()) return ENOMEM;
  int problem = 0;
  RecordAllocation(RecordKind::kAligned, alignment, bytes, [&]() -> void* {
    problem = next.posix_memalign(result, alignment, bytes);
    return problem == 0 ? *result : nullptr;
  });
  return problem;
}

EXPORTED void* valloc(std::size_t bytes) {
  return IsReady() ? RecordAllocation(RecordKind::kAligned, 4096, bytes, [&] { return next.valloc(bytes); }) : nullptr;
}

EXPORTED void* pvalloc(std::size_t bytes) {
  return IsReady() ? RecordAllocation(RecordKind::kAligned, 4096, bytes, [&] { return next.pvalloc(bytes); }) : nullptr;
}

}  // extern "C"

// The operators of C++, under the names that the linker knows them by: defined as operators, the compiler would want
// them to be as the standard says, with exceptions and all. One that throws passes through these frames, which have
// nothing to clean up.
//
// A C program may load a C++ library with names of its own (python does with its modules). The C++ library's operators
// are then out of sight, and malloc does instead: that is what those are made of.
namespace tarn::trace {
namespace {

char not_found_yet;

// The next definition of `symbol`, or null. Two threads may search at once, and find the same: nothing hangs on the
// order, so it is relaxed.
void* FindOnce(std::atomic<void*>& cache, const char* symbol) {
  void* function = cache.load(std::memory_order_relaxed);
  if (function == &not_found_yet) [[unlikely]] {
    function = dlsym(RTLD_NEXT, symbol);
    cache.store(function, std::memory_order_relaxed);
  }
  return function;
}

void* NewWithoutNext(std::size_t bytes, std::size_t alignment, bool may_fail) {
  void* object = alignment == 0 ? malloc(bytes) : memalign(alignment, bytes);
  if (object == nullptr && !may_fail) {
    Say("libtarn_trace: operator new(%zu) has no memory, and no C++ library in sight to throw\n", bytes);
    std::abort();
  }
  return object;
}

template <typename... Arguments>
void* RecordNew(void* (*function)(Arguments...), std::size_t bytes, std::size_t alignment, bool may_fail,
                Arguments... arguments) {
  if (function == nullptr) return NewWithoutNext(bytes, alignment, may_fail);
  return RecordAllocation(alignment == 0 ? RecordKind::kMalloc : RecordKind::kAligned, alignment, bytes,
                          [&] { return function(arguments...); });
}

template <typename... Arguments>
void RecordDelete(void (*function)(void*, Arguments...), void* object, Arguments... arguments) {
  if (function == nullptr) return free(object);
  RecordFree(object);
  thread.deleting = object;
  function(object, arguments...);
  thread.deleting = nullptr;
}

}  // namespace
}  // namespace tarn::trace

#define NEXT(result, parameters, symbol)            \
  static std::atomic<void*> cache = &not_found_yet; \
  const auto next_function = reinterpret_cast<result(*) parameters>(FindOnce(cache, symbol))

#define DEFINE_NEW(name, symbol)                                 \
  extern "C" EXPORTED void* name(std::size_t bytes) asm(symbol); \
  void* name(std::size_t bytes) {                                \
    NEXT(void*, (std::size_t), symbol);                          \
    return RecordNew(next_function, bytes, 0, false, bytes);     \
  }

#define DEFINE_NEW_NOTHROW(name, symbol)                                              \
  extern "C" EXPORTED void* name(std::size_t bytes, const void* nothrow) asm(symbol); \
  void* name(std::size_t bytes, const void* nothrow) {                                \
    NEXT(void*, (std::size_t, const void*), symbol);                                  \
    return RecordNew(next_function, bytes, 0, true, bytes, nothrow);                  \
  }

#define DEFINE_NEW_ALIGNED(name, symbol)                                                \
  extern "C" EXPORTED void* name(std::size_t bytes, std::size_t alignment) asm(symbol); \
  void* name(std::size_t bytes, std::size_t alignment) {                                \
    NEXT(void*, (std::size_t, std::size_t), symbol);                                    \
    return RecordNew(next_function, bytes, alignment, false, bytes, alignment);         \
  }

#define DEFINE_NEW_ALIGNED_NOTHROW(name, symbol)                                                             \
  extern "C" EXPORTED void* name(std::size_t bytes, std::size_t alignment, const void* nothrow) asm(symbol); \
  void* name(std::size_t bytes, std::size_t alignment, const void* nothrow) {                                \
    NEXT(void*, (std::size_t, std::size_t, const void*), symbol);                                            \
    return RecordNew(next_function, bytes, alignment, true, bytes, alignment, nothrow);                      \
  }

DEFINE_NEW(New, "_Znwm")
DEFINE_NEW(NewArray, "_Znam")
DEFINE_NEW_NOTHROW(NewNothrow, "_ZnwmRKSt9nothrow_t")
DEFINE_NEW_NOTHROW(NewArrayNothrow, "_ZnamRKSt9nothrow_t")
DEFINE_NEW_ALIGNED(NewAligned, "_ZnwmSt11align_val_t")
DEFINE_NEW_ALIGNED(NewArrayAligned, "_ZnamSt11align_val_t")
DEFINE_NEW_ALIGNED_NOTHROW(NewAlignedNothrow, "_ZnwmSt11align_val_tRKSt9nothrow_t")
DEFINE_NEW_ALIGNED_NOTHROW(NewArrayAlignedNothrow, "_ZnamSt11align_val_tRKSt9nothrow_t")

#define DEFINE_DELETE(name, symbol)                        \
  extern "C" EXPORTED void name(void* object) asm(symbol); \
  void name(void* object) {                                \
    NEXT(void, (void*), symbol);                           \
    RecordDelete(next_function, object);                   \
  }

// The second argument is a size, an alignment or the address of std::nothrow: one register in any case.
#define DEFINE_DELETE_2(name, symbol)                                             \
  extern "C" EXPORTED void name(void* object, std::uintptr_t second) asm(symbol); \
  void name(void* object, std::uintptr_t second) {                                \
    NEXT(void, (void*, std::uintptr_t), symbol);                                  \
    RecordDelete(next_function, object, second);                                  \
  }

#define DEFINE_DELETE_3(name, symbol)                                                                   \
  extern "C" EXPORTED void name(void* object, std::uintptr_t second, std::uintptr_t third) asm(symbol); \
  void name(void* object, std::uintptr_t second, std::uintptr_t third) {                                \
    NEXT(void, (void*, std::uintptr_t, std::uintptr_t), symbol);                                        \
    RecordDelete(next_function, object, second, third);                                                 \
  }

DEFINE_DELETE(Delete, "_ZdlPv")
DEFINE_DELETE(DeleteArray, "_ZdaPv")
DEFINE_DELETE_2(DeleteSized, "_ZdlPvm")
DEFINE_DELETE_2(DeleteArraySized, "_ZdaPvm")
DEFINE_DELETE_2(DeleteNothrow, "_ZdlPvRKSt9nothrow_t")
DEFINE_DELETE_2(DeleteArrayNothrow, "_ZdaPvRKSt9nothrow_t")
DEFINE_DELETE_2(DeleteAligned, "_ZdlPvSt11align_val_t")
DEFINE_DELETE_2(DeleteArrayAligned, "_ZdaPvSt11align_val_t")
DEFINE_DELETE_3(DeleteSizedAligned, "_ZdlPvmSt11align_val_t")
DEFINE_DELETE_3(DeleteArraySizedAligned, "_ZdaPvmSt11align_val_t")
DEFINE_DELETE_3(DeleteAlignedNothrow, "_ZdlPvSt11align_val_tRKSt9nothrow_t")
DEFINE_DELETE_3(DeleteArrayAlignedNothrow, "_ZdaPvSt11align_val_tRKSt9nothrow_t")

// C23's; where the allocator has none, free does instead.
extern "C" EXPORTED void free_sized(void* object, std::size_t bytes) {
  NEXT(void, (void*, std::size_t), "free_sized");
  RecordDelete(next_function, object, bytes);
}

extern "C" EXPORTED void free_aligned_sized(void* object, std::size_t alignment, std::size_t bytes) {
  NEXT(void, (void*, std::size_t, std::size_t), "free_aligned_sized");
  RecordDelete(next_function, object, alignment, bytes);
}
