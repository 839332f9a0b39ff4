// SPDX-License-Identifier: Apache-2.0
//
// The cells of the misuse matrix: one kind of misuse of an object of one size, in a process of its own.
//
//   matrix_cells            runs all cells and prints one line for each
//   matrix_cells WORD...    runs the cells whose line begins with these words
//
// A line has the kind, the size, the state of the class, and when the misuse was seen:
//
//   call     at the call itself
//   before   later, before the program got memory that it must not have
//   later    when all caches were emptied, after the program got such memory
//   never    not at all
//   whole    nothing was seen, and the allocator went on as if nothing had happened: for writes behind an object's
//            bounds, and for what goes unseen and does no harm
//   crash    the process ended by another signal than SIGABRT, or hung
//
// and behind a tab the first line that the process wrote to stderr. The allocator is the process's: tarn is preloaded,
// and without it the same cells show what glibc sees. This process allocates nothing: each child finds an allocator
// that has served the start of a C program and nothing else.

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <initializer_list>
#include <new>

namespace {

constexpr size_t kMost = 4096;
constexpr size_t kMiB = size_t{1} << 20;

// How far the child is. Shared with the parent.
enum Stage : int { kPreparing, kInCall, kBehindCall, kGotMemory, kEnd };
std::atomic<int>* stage;

struct Cell {
  const char* kind;
  size_t size;
  bool hot;
};

// The compiler knows nothing of what comes out.
template <typename T>
T Opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

void* objects[kMost];
size_t object_count;

void* Allocate(size_t size) {
  void* const object = Opaque(malloc(size));
  if (object == nullptr) _exit(3);
  return object;
}

// Objects that stay, so that no span becomes empty.
void HoldOthers(size_t size, size_t count) {
  for (size_t i = 0; i < count; ++i) objects[object_count++] = Allocate(size);
}

// A class that the program uses all the time.
void MakeHot(size_t size) {
  static void* round[200];
  const size_t count = size > 100000 ? 20 : 200;
  for (int i = 0; i < 4; ++i) {
    for (size_t k = 0; k < count; ++k) round[k] = Allocate(size);
    for (size_t k = 0; k < count; ++k) free(round[k]);
  }
}

void Call(void (*call)(char*, size_t), char* pointer, size_t size) {
  *stage = kInCall;
  call(pointer, size);
  *stage = kBehindCall;
}

void CallFree(char* pointer, size_t) { free(pointer); }

// Allocates objects of the size. Memory that reaches into [start, start + length) is the program's for `rightful` times
// and not oftener.
void LookForMemory(size_t size, const char* start, size_t length, int rightful) {
  const size_t count = size >= 100000 ? 40 : 3000;
  for (size_t i = 0; i < count; ++i) {
    const char* const got = static_cast<char*>(Allocate(size));
    if (got < start + length && start < got + size && --rightful < 0) *stage = kGotMemory;
  }
}

std::atomic<int> turn;
char* of_other_thread;

void* FreeInTurn(void*) {
  // Its first call gets it a slab, and libc a record of its end.
  free(Opaque(malloc(5000)));
  turn = -1;
  while (turn.load() != 1) sched_yield();
  Call(CallFree, of_other_thread, 0);
  turn = 2;
  return nullptr;
}

// The second free after `between` frees of other objects of the class.
void SecondFree(size_t size, size_t between) {
  HoldOthers(size, 3);
  char* const object = static_cast<char*>(Allocate(size));
  static void* others[1000];
  for (size_t i = 0; i < between; ++i) others[i] = Allocate(size);
  free(object);
  for (size_t i = 0; i < between; ++i) free(others[i]);
  Call(CallFree, object, size);
  LookForMemory(size, object, size, 1);
}

void SecondFreeInThread(size_t size) {
  HoldOthers(size, 3);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, FreeInTurn, nullptr) != 0) _exit(3);
  while (turn.load() != -1) sched_yield();
  char* const object = static_cast<char*>(Allocate(size));
  of_other_thread = object;
  free(object);
  turn = 1;
  while (turn.load() != 2) sched_yield();
  LookForMemory(size, object, size, 1);
}

void Interior(size_t size, size_t offset) {
  HoldOthers(size, 3);
  char* const object = static_cast<char*>(Allocate(size));
  HoldOthers(size, 1);
  memset(object, 0, size < 4096 ? size : 4096);
  Call(CallFree, object + offset, size);
  LookForMemory(size, object, size, 0);
}

void Foreign(size_t size, char* pointer, size_t length) {
  HoldOthers(size, 3);
  Call(CallFree, pointer, size);
  LookForMemory(size, pointer, length, 0);
}

void WrongSize(size_t size) {
  HoldOthers(size, 3);
  char* const object = static_cast<char*>(Opaque(::operator new(size)));
  Call([](char* pointer, size_t bytes) { ::operator delete(pointer, bytes); }, object, size / 2);
  LookForMemory(size, object, size, 1);
}

// All objects are freed and their memory given back, before one of them is freed again.
void FreeOfGoneSpan(size_t size) {
  const size_t count = size >= 100000 ? 20 : 600;
  for (size_t i = 0; i < count; ++i) objects[i] = Allocate(size);
  for (size_t i = 0; i < count; ++i) free(objects[i]);
  malloc_trim(0);
  char* const object = static_cast<char*>(objects[count / 2]);
  Call(CallFree, object, size);
  LookForMemory(size, object, size, 1);
}

void ReallocOfFreed(size_t size) {
  HoldOthers(size, 3);
  char* const object = static_cast<char*>(Allocate(size));
  free(object);
  Call([](char* pointer, size_t bytes) { Opaque(realloc(pointer, 2 * bytes + 64)); }, object, size);
  LookForMemory(size, object, size, 1);
}

void UsableSizeOfFreed(size_t size) {
  HoldOthers(size, 3);
  char* const object = static_cast<char*>(Allocate(size));
  free(object);
  Call([](char* pointer, size_t) { Opaque(malloc_usable_size(pointer)); }, object, size);
}

// The program goes on: everything that it gets is its own alone.
void Work(size_t size) {
  static void* held[600];
  const size_t count = size >= 100000 ? 20 : 600;
  for (int i = 0; i < 2; ++i) {
    for (size_t k = 0; k < count; ++k) *static_cast<size_t*>(held[k] = Allocate(size)) = k;
    for (size_t k = 0; k < count; ++k) {
      if (*static_cast<size_t*>(held[k]) != k) *stage = kGotMemory;
      free(held[k]);
    }
  }
}

void WriteOutside(size_t size, bool under) {
  HoldOthers(size, 3);
  // Behind and before it are objects of its kind.
  objects[object_count] = Allocate(size);
  char* const object = static_cast<char*>(objects[object_count++]);
  HoldOthers(size, 3);
  *stage = kInCall;
  char* const from = Opaque(under ? object - 64 : object + malloc_usable_size(object));
  memset(from, 0x41, 64);
  *stage = kBehindCall;
  Work(size);
  while (object_count != 0) free(objects[--object_count]);
}

alignas(16) char static_object[4096];

void RunKind(const char* kind, size_t size) {
  alignas(16) char stack_object[4096];
  const auto is = [kind](const char* name) { return strcmp(kind, name) == 0; };
  if (is("second_free_at_once")) SecondFree(size, 0);
  if (is("second_free_after_1")) SecondFree(size, 1);
  if (is("second_free_after_10")) SecondFree(size, 10);
  if (is("second_free_after_1000")) SecondFree(size, size >= 100000 ? 100 : 1000);
  if (is("second_free_in_thread")) SecondFreeInThread(size);
  if (is("interior_at_8")) Interior(size, 8);
  if (is("interior_at_16")) Interior(size, size == 16 ? 4 : 16);
  if (is("interior_at_half")) Interior(size, size / 2);
  if (is("foreign_stack")) Foreign(size, Opaque(stack_object) + 64, 512);
  if (is("foreign_static")) Foreign(size, static_object + 64, 512);
  if (is("foreign_mmap")) {
    void* const mapped = mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Foreign(size, static_cast<char*>(mapped) + 4096, 4096);
  }
  if (is("wrong_size")) WrongSize(size);
  if (is("free_of_gone_span")) FreeOfGoneSpan(size);
  if (is("realloc_of_freed")) ReallocOfFreed(size);
  if (is("usable_size_of_freed")) UsableSizeOfFreed(size);
  if (is("write_over")) WriteOutside(size, false);
  if (is("write_under")) WriteOutside(size, true);
}

constexpr const char* kKinds[] = {"second_free_at_once",
                                  "second_free_after_1",
                                  "second_free_after_10",
                                  "second_free_after_1000",
                                  "second_free_in_thread",
                                  "interior_at_8",
                                  "interior_at_16",
                                  "interior_at_half",
                                  "foreign_stack",
                                  "foreign_static",
                                  "foreign_mmap",
                                  "wrong_size",
                                  "free_of_gone_span",
                                  "realloc_of_freed",
                                  "usable_size_of_freed",
                                  "write_over",
                                  "write_under"};
constexpr size_t kSizes[] = {16, 24, 100, 1000, 4000, 20000, 200000, kMiB};

// A thread that stays on its CPU has one slab, and only another thread has another.
void StayOnThisCpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(sched_getcpu()), &cpus);
  static_cast<void>(sched_setaffinity(0, sizeof(cpus), &cpus));
}

[[noreturn]] void RunChild(const Cell& cell) {
  StayOnThisCpu();
  alarm(60);
  if (cell.hot) MakeHot(cell.size);
  RunKind(cell.kind, cell.size);
  const int reached = *stage;
  malloc_trim(0);
  *stage = reached == kGotMemory ? reached : static_cast<int>(kEnd);
  _exit(0);
}

const char* Describe(int status) {
  const int reached = *stage;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return reached == kGotMemory ? "never" : "whole";
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) return "crash";
  switch (reached) {
    case kPreparing:
      return "early";
    case kInCall:
      return "call";
    case kGotMemory:
      return "later";
    default:
      return "before";
  }
}

void RunCell(const Cell& cell) {
  *stage = kPreparing;
  int words[2];
  if (pipe2(words, O_CLOEXEC) != 0) _exit(3);
  const pid_t child = fork();
  if (child == 0) {
    dup2(words[1], 2);
    RunChild(cell);
  }
  close(words[1]);
  static char text[512];
  size_t length = 0;
  for (ssize_t part; (part = read(words[0], text + length, sizeof(text) - 1 - length)) > 0;) {
    length += static_cast<size_t>(part);
  }
  close(words[0]);
  text[length] = 0;
  text[strcspn(text, "\n")] = 0;
  int status = 0;
  waitpid(child, &status, 0);
  // dprintf would allocate, time and again.
  static char line[sizeof(text) + 128];
  const int line_length = snprintf(line, sizeof(line), "%s %zu %s %s\t%s\n", cell.kind, cell.size,
                                   cell.hot ? "hot" : "cold", Describe(status), text);
  if (write(1, line, static_cast<size_t>(line_length)) != line_length) _exit(3);
}

bool IsWanted(const Cell& cell, char** words, int count) {
  char size[32];
  snprintf(size, sizeof(size), "%zu", cell.size);
  const char* const parts[] = {cell.kind, size, cell.hot ? "hot" : "cold"};
  for (int i = 0; i < count && i < 3; ++i) {
    if (strcmp(words[i], parts[i]) != 0) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  void* const shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  stage = new (shared) std::atomic<int>;
  for (const char* kind : kKinds) {
    for (const size_t size : kSizes) {
      for (const bool hot : {false, true}) {
        const Cell cell = {kind, size, hot};
        if (IsWanted(cell, argv + 1, argc - 1)) RunCell(cell);
      }
    }
  }
}
