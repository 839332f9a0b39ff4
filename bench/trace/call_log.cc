// SPDX-License-Identifier: Apache-2.0

#include "bench/trace/call_log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace tarn::trace {

std::atomic<Recording*> recording = nullptr;
constinit thread_local ThreadState thread{};

namespace {

// A program that runs away shall not fill the disk: some 170 million calls.
constexpr std::uint64_t kMaxChunks = (std::uint64_t{4} << 30) / kChunkBytes;

std::atomic<bool> starting = false;

// Maps chunk `index` of the file, or returns null with errno set. The file is opened anew each time: a program may
// close every descriptor that it finds, and get the number of this one for a file of its own.
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

}  // namespace

// Formats into a buffer of its own: stdio might allocate.
void Say(const char* format, ...) {
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

bool TakeChunk(Recording* self) {
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

Recording* Start() {
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
    // Release: a thread that sees the pointer sees what it points to (acquire in Current).
    recording.store(self, std::memory_order_release);
  }
  errno = errno_of_caller;
  return self;
}

}  // namespace tarn::trace
