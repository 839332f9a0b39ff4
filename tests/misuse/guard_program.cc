// SPDX-License-Identifier: Apache-2.0
//
// The program of guards_test.py: each case is one use of guarded objects, wrong or right. It runs with every sample
// guarded and, but for the cases that set a rate themselves, with every object sampled.
//
// A case that should be ended by a report returns 3 when it is not.

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tarn/memstats.h>
#include <tarn/profile.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <set>
#include <thread>
#include <vector>

namespace guard_program {

constexpr size_t kOsPage = 4096;

#define REQUIRE(condition)                                  \
  do {                                                      \
    if (!(condition)) {                                     \
      dprintf(2, "%d: not so: %s\n", __LINE__, #condition); \
      _exit(1);                                             \
    }                                                       \
  } while (false)

template <typename T>
T Opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

uintptr_t AddressOf(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }
template <typename... Arguments>
uintptr_t AddressOf(void (*function)(Arguments...)) {
  return reinterpret_cast<uintptr_t>(function);
}

__attribute__((noinline)) char* AllocateHere(size_t bytes) { return static_cast<char*>(Opaque(malloc(bytes))); }
__attribute__((noinline)) void FreeHere(void* object) { free(Opaque(object)); }
__attribute__((noinline)) char ReadHere(const char* at) { return *const_cast<const volatile char*>(Opaque(at)); }
__attribute__((noinline)) void WriteHere(char* at, char value) { *const_cast<volatile char*>(Opaque(at)) = value; }

uint64_t Allocations() { return tarn::ReadMemStats().guarded_allocations; }

// A guarded object at the start of its pages, or at the end. Each try is as likely to give one as the other.
char* Allocate(size_t bytes, bool at_end) {
  for (int i = 0; i < 200; ++i) {
    const uint64_t before = Allocations();
    char* object = AllocateHere(bytes);
    REQUIRE(Allocations() == before + 1);
    const bool is_at_end = (AddressOf(object) + (bytes + 15) / 16 * 16) % kOsPage == 0;
    const bool is_at_start = AddressOf(object) % kOsPage == 0;
    REQUIRE(is_at_end || is_at_start);
    if (at_end ? is_at_end : is_at_start) return object;
    free(object);
  }
  REQUIRE(false);
  return nullptr;
}

void Say(const char* name, const void* pointer) { dprintf(1, "%s %#zx\n", name, AddressOf(pointer)); }

// --- Misuse ----------------------------------------------------------------------------------------------------------

int ReadAfterFree() {
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object + 8);
  return ReadHere(object + 8) == 0 ? 3 : 3;
}

int WriteAfterFree() {
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object + 99);
  WriteHere(object + 99, 1);
  return 3;
}

int ReadPastEnd() {
  char* object = Allocate(4096 - 16, true);
  Say("address", object + 4096 - 16 + 4);
  ReadHere(object + 4096 - 16 + 4);
  return 3;
}

int WritePastEnd() {
  char* object = Allocate(160, true);
  Say("address", object + 160);
  WriteHere(object + 160, 1);
  return 3;
}

int WriteBeforeStart() {
  char* object = Allocate(160, false);
  Say("address", object - 1);
  WriteHere(object - 1, 1);
  return 3;
}

// Into the rest of the page, where only the free sees it.
int OverwriteEnd() {
  char* object = Allocate(100, false);
  Say("address", object + 103);
  WriteHere(object + 103, 0);
  FreeHere(object);
  return 3;
}

int OverwriteStart() {
  char* object = Allocate(160, true);
  Say("address", object - 2);
  WriteHere(object - 2, 0);
  FreeHere(object);
  return 3;
}

// The slack of an object that lies at the end: its size leaves some bytes up to its alignment.
int OverwriteSlack() {
  for (int i = 0; i < 200; ++i) {
    char* object = AllocateHere(100);
    if (AddressOf(object) % kOsPage == 0) continue;
    REQUIRE((AddressOf(object) + 112) % kOsPage == 0);
    Say("address", object + 100);
    WriteHere(object + 100, 0);
    FreeHere(object);
  }
  return 3;
}

int FreeTwice() {
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object);
  FreeHere(object);
  return 3;
}

int FreeInside() {
  char* object = AllocateHere(100);
  Say("address", object + 16);
  FreeHere(object + 16);
  return 3;
}

int ReallocAfterFree() {
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object);
  Opaque(realloc(Opaque(object), 200));
  return 3;
}

int UsableSizeAfterFree() {
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object);
  Opaque(malloc_usable_size(Opaque(object)));
  return 3;
}

int DeleteTwice() {
  void* object = Opaque(::operator new(40));
  ::operator delete (object, size_t{40});
  Say("address", object);
  ::operator delete (Opaque(object), size_t{40});
  return 3;
}

// One thread allocates, one frees, one reads.
int ThreeThreads() {
  char* object = nullptr;
  std::thread([&object] { object = AllocateHere(100); }).join();
  std::thread([object] { FreeHere(object); }).join();
  std::thread([object] {
    Say("address", object);
    ReadHere(object);
  }).join();
  return 3;
}

int ForkedChild() {
  char* held = AllocateHere(100);
  FreeHere(held);
  char* live = AllocateHere(100);
  const pid_t child = fork();
  if (child == 0) {
    memset(live, 1, 100);
    FreeHere(live);
    char* own = AllocateHere(200);
    memset(own, 2, 200);
    FreeHere(own);
    Say("address", held);
    ReadHere(held);
    _exit(3);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  // Nothing of that happened here.
  memset(live, 3, 100);
  FreeHere(live);
  return 0;
}

int GoOn() {
  char* first = AllocateHere(100);
  FreeHere(first);
  WriteHere(first, 1);
  WriteHere(first + 1, 1);  // the page is accessible now
  char* second = Allocate(160, true);
  WriteHere(second + 160, 1);
  FreeHere(second);
  char* third = Allocate(100, false);
  WriteHere(third + 100, 1);
  FreeHere(third);
  return 0;
}

// --- Use -------------------------------------------------------------------------------------------------------------

int ValidUse() {
  for (size_t bytes : {0u, 1u, 8u, 16u, 17u, 100u, 1000u, 4096u, 5000u, 8192u, 12345u, 32768u}) {
    for (int i = 0; i < 8; ++i) {
      const uint64_t before = Allocations();
      char* object = AllocateHere(bytes);
      REQUIRE(Allocations() == before + 1);
      REQUIRE(AddressOf(object) % 16 == 0);
      REQUIRE(malloc_usable_size(object) == bytes);
      memset(object, 0x11, bytes);
      char* grown = static_cast<char*>(realloc(object, bytes + 1000));
      for (size_t at = 0; at < bytes; ++at) REQUIRE(grown[at] == 0x11);
      memset(grown, 0x22, bytes + 1000);
      char* shrunk = static_cast<char*>(realloc(grown, bytes / 4 + 1));
      for (size_t at = 0; at < bytes / 4 + 1 && at < bytes; ++at) REQUIRE(shrunk[at] == 0x22);
      free(shrunk);
    }
  }
  for (size_t alignment = 16; alignment <= 8192; alignment *= 2) {
    for (int i = 0; i < 8; ++i) {
      for (size_t bytes : {size_t{1}, alignment / 2 + 3, alignment, alignment + 1, 3 * alignment}) {
        void* object = nullptr;
        REQUIRE(posix_memalign(&object, alignment, bytes) == 0);
        REQUIRE(AddressOf(object) % alignment == 0);
        memset(object, 1, bytes);
        free(object);
      }
    }
  }
  for (int i = 0; i < 500; ++i) {
    auto* zeroes = static_cast<char*>(Opaque(calloc(7, 100)));
    for (int at = 0; at < 700; ++at) REQUIRE(zeroes[at] == 0);
    memset(zeroes, 0x33, 700);
    free(zeroes);
    struct alignas(64) Line {
      char bytes[192];
    };
    Line* line = Opaque(new Line);
    REQUIRE(AddressOf(line) % 64 == 0);
    delete line;
    int* array = Opaque(new int[50]);
    array[49] = 1;
    delete[] array;
  }
  return 0;
}

// The place of a freed object is used again when all others have been, and the oldest first.
int PlacesComeRound() {
  FreeHere(AllocateHere(100));
  const tarn::MemStats stats = tarn::ReadMemStats();
  const uint64_t free_places = stats.guard_places - stats.guarded_objects;
  REQUIRE(free_places >= 16);
  std::vector<uintptr_t> order(4 * free_places);
  const uint64_t room = free_places - 1;  // the vector has one
  for (uintptr_t& at : order) {
    char* object = AllocateHere(100);
    at = AddressOf(object) / kOsPage;
    FreeHere(object);
  }
  const tarn::MemStats after = tarn::ReadMemStats();
  REQUIRE(after.guarded_held + after.guarded_objects == after.guard_places);
  // An object at the end of its page lies in the page of one at the start.
  for (size_t i = 2 * room; i < order.size(); ++i) REQUIRE(order[i] == order[i - room]);
  const std::set<uintptr_t> last(order.end() - static_cast<ptrdiff_t>(room), order.end());
  REQUIRE(last.size() == room);
  return 0;
}

// With all places live, further objects are ordinary ones.
int PlacesRunOut() {
  FreeHere(AllocateHere(100));
  const uint64_t places = tarn::ReadMemStats().guard_places;
  std::vector<char*> objects;
  objects.reserve(2 * places);
  for (uint64_t i = 0; i < 2 * places; ++i) objects.push_back(AllocateHere(100));
  const tarn::MemStats full = tarn::ReadMemStats();
  REQUIRE(full.guarded_objects == places && full.guarded_held == 0);
  for (char* object : objects) memset(object, 1, 100);
  for (char* object : objects) free(object);
  REQUIRE(tarn::ReadMemStats().guarded_objects < places);
  return 0;
}

int Figures() {
  char* object = AllocateHere(5000);
  const tarn::MemStats before = tarn::ReadMemStats();
  free(object);
  const tarn::MemStats after = tarn::ReadMemStats();
  REQUIRE(before.guarded_objects == after.guarded_objects + 1);
  REQUIRE(before.guarded_bytes == after.guarded_bytes + 8192);
  REQUIRE(before.guarded_held + 1 == after.guarded_held);
  REQUIRE(before.heap_objects == after.heap_objects + 1);
  REQUIRE(before.heap_alloc_bytes == after.heap_alloc_bytes + 5120);  // its size class
  REQUIRE(before.mallocs == after.mallocs && before.frees + 1 == after.frees);
  const tarn::MemoryClasses& c = after.classes;
  REQUIRE(c.mapped_bytes == c.heap_live_bytes + c.heap_cached_bytes + c.heap_span_free_bytes + c.heap_free_bytes +
                                c.heap_released_bytes + c.heap_reserved_bytes + c.metadata_spans_bytes +
                                c.metadata_page_map_bytes + c.metadata_caches_bytes + c.metadata_pages_bytes +
                                c.metadata_profile_bytes + c.metadata_other_bytes + c.metadata_free_bytes);
  return 0;
}

// Each thread frees what another one allocated, with all places in motion.
int ManyThreads() {
  constexpr int kThreads = 8;
  constexpr int kRounds = 2000;
  std::atomic<char*> passed[kThreads] = {};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t, &passed] {
      for (int i = 0; i < kRounds; ++i) {
        const size_t bytes = 16 + static_cast<size_t>((t * 131 + i * 17) % 9000);
        char* object = AllocateHere(bytes);
        memset(object, t, bytes);
        char* other = passed[(t + i) % kThreads].exchange(object);
        if (other == nullptr) continue;
        const size_t other_bytes = malloc_usable_size(other);
        for (size_t at = 1; at < 16; ++at) REQUIRE(other[at] == other[0]);
        REQUIRE(other_bytes >= 16);
        free(other);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::atomic<char*>& object : passed) free(object.load());
  return 0;
}

// Requests, of which one in a thousand uses an object after its free. Bounded by the number of requests: the chance
// that no such object was guarded is below 10^-9.
int Server() {
  struct Request {
    char* header;
    char* body;
  };
  for (int i = 0; i < 20'000'000; ++i) {
    Request request = {AllocateHere(64), AllocateHere(2000)};
    memset(request.header, i, 64);
    memset(request.body, i, 100);
    FreeHere(request.body);
    if (i % 1000 == 999) WriteHere(request.body + 20, 1);
    FreeHere(request.header);
  }
  return 3;
}

// --- Handlers of SIGSEGV ---------------------------------------------------------------------------------------------

sigjmp_buf jump;
volatile sig_atomic_t handled;
volatile uintptr_t handled_address;
stack_t alternate;

void OnSignal(int) {
  handled = handled + 1;
  siglongjmp(jump, 1);
}

void OnDetails(int number, siginfo_t* info, void* context) {
  handled = handled + 1;
  handled_address = AddressOf(info->si_addr);
  REQUIRE(number == SIGSEGV && context != nullptr);
  siglongjmp(jump, 1);
}

// Of a program that protects its own pages, and lets accesses go on.
char* protected_page;
void OnProtected(int, siginfo_t* info, void*) {
  handled = handled + 1;
  REQUIRE(AddressOf(info->si_addr) / kOsPage == AddressOf(protected_page) / kOsPage);
  REQUIRE(mprotect(protected_page, kOsPage, PROT_READ | PROT_WRITE) == 0);
}

void Install(void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  REQUIRE(sigaction(SIGSEGV, &action, nullptr) == 0);
}
void Install(void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = flags | SA_SIGINFO;
  REQUIRE(sigaction(SIGSEGV, &action, nullptr) == 0);
}

void UseAlternateStack() {
  alternate.ss_size = 65536;
  alternate.ss_sp = mmap(nullptr, alternate.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(sigaltstack(&alternate, nullptr) == 0);
}

// Samples begin here, so that what was installed before was there before tarn's handler.
void BeginGuards() {
  tarn_set_profile_rate(1);
  char* object = AllocateHere(100);
  REQUIRE(Allocations() > 0);
  FreeHere(object);
}

// The handler that the kernel has, past the library's sigaction.
uintptr_t KernelHandler() {
  struct {
    uintptr_t handler;
    unsigned long flags;
    uintptr_t restorer;
    uint64_t mask;
  } action = {};
  REQUIRE(syscall(SYS_rt_sigaction, SIGSEGV, nullptr, &action, sizeof action.mask) == 0);
  return action.handler;
}

bool OursIsInstalled() {
  const uintptr_t handler = KernelHandler();
  for (const uintptr_t own : {AddressOf(&OnSignal), AddressOf(&OnDetails), AddressOf(&OnProtected)}) {
    if (handler == own) return false;
  }
  return handler > 1;
}

struct sigaction Asked() {
  struct sigaction action;
  memset(&action, 0x55, sizeof action);
  REQUIRE(sigaction(SIGSEGV, nullptr, &action) == 0);
  return action;
}

int NullAccess() {
  BeginGuards();
  ReadHere(Opaque(reinterpret_cast<char*>(8)));
  return 3;
}
int SignalSent() {
  BeginGuards();
  kill(getpid(), SIGSEGV);
  return 3;
}
int SentAndIgnored() {
  signal(SIGSEGV, SIG_IGN);
  BeginGuards();
  kill(getpid(), SIGSEGV);
  return 0;
}
int IgnoredFault() {
  signal(SIGSEGV, SIG_IGN);
  BeginGuards();
  ReadHere(Opaque(reinterpret_cast<char*>(8)));
  return 3;
}
int HandlerBefore() {
  Install(&OnSignal, 0);
  BeginGuards();
  REQUIRE(OursIsInstalled());
  for (int i = 0; i < 100; ++i) {
    if (sigsetjmp(jump, 1) == 0) ReadHere(Opaque(reinterpret_cast<char*>(8)));
    REQUIRE(handled == i + 1);
  }
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object);
  ReadHere(object);
  return 3;
}
int DetailsBefore() {
  Install(&OnDetails, SA_NODEFER);
  BeginGuards();
  if (sigsetjmp(jump, 1) == 0) ReadHere(Opaque(reinterpret_cast<char*>(1234)));
  REQUIRE(handled == 1 && handled_address == 1234);
  return 0;
}
int OneShotBefore() {
  Install(&OnSignal, static_cast<int>(SA_RESETHAND));
  BeginGuards();
  if (sigsetjmp(jump, 1) == 0) ReadHere(Opaque(reinterpret_cast<char*>(8)));
  REQUIRE(handled == 1);
  ReadHere(Opaque(reinterpret_cast<char*>(8)));
  return 3;
}
// The program's own handler, installed later, gets all but the faults of guarded objects.
int HandlerAfter() {
  BeginGuards();
  Install(&OnDetails, 0);
  REQUIRE(OursIsInstalled());
  for (int i = 0; i < 100; ++i) {
    if (sigsetjmp(jump, 1) == 0) ReadHere(Opaque(reinterpret_cast<char*>(1234)));
    REQUIRE(handled == i + 1 && handled_address == 1234);
  }
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object);
  ReadHere(object);
  return 3;
}
int OneShotAfter() {
  BeginGuards();
  Install(&OnSignal, static_cast<int>(SA_RESETHAND));
  REQUIRE(Asked().sa_handler == &OnSignal && (Asked().sa_flags & static_cast<int>(SA_RESETHAND)) != 0);
  if (sigsetjmp(jump, 1) == 0) ReadHere(Opaque(reinterpret_cast<char*>(8)));
  REQUIRE(handled == 1 && Asked().sa_handler == SIG_DFL);
  ReadHere(Opaque(reinterpret_cast<char*>(8)));
  return 3;
}
// The program finds the action that it has set, not the library's handler. Runtimes look at it before they set theirs.
int ActionsAsSet() {
  BeginGuards();
  REQUIRE(OursIsInstalled());
  REQUIRE(Asked().sa_handler == SIG_DFL && Asked().sa_flags == 0);
  struct sigaction before;
  struct sigaction action = {};
  action.sa_sigaction = &OnDetails;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
  sigaddset(&action.sa_mask, SIGUSR2);
  REQUIRE(sigaction(SIGSEGV, &action, &before) == 0);
  REQUIRE(before.sa_handler == SIG_DFL && before.sa_flags == 0 && sigismember(&before.sa_mask, SIGUSR2) == 0);
  constexpr int kFlags = SA_SIGINFO | SA_NODEFER | SA_RESTART | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
  REQUIRE(Asked().sa_sigaction == &OnDetails && (Asked().sa_flags & kFlags) == action.sa_flags);
  REQUIRE(Asked().sa_mask.__val[0] == action.sa_mask.__val[0]);
  // One that wants no details gets none.
  REQUIRE(AddressOf(signal(SIGSEGV, &OnSignal)) == AddressOf(&OnDetails));
  REQUIRE(Asked().sa_handler == &OnSignal && (Asked().sa_flags & kFlags) == SA_RESTART);
  const struct sigaction simple = Asked();
  REQUIRE(sigismember(&simple.sa_mask, SIGSEGV) == 1 && sigismember(&simple.sa_mask, SIGUSR2) == 0);
  // In one place, the new one and the old one.
  action.sa_handler = SIG_DFL;
  REQUIRE(sigaction(SIGSEGV, &action, Opaque(&action)) == 0 && action.sa_handler == &OnSignal);
  REQUIRE(OursIsInstalled() && Asked().sa_handler == SIG_DFL && Asked().sa_flags == 0);
  // The kernel gets SIG_IGN itself, for programs that are executed inherit it.
  REQUIRE(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
  REQUIRE(KernelHandler() == 1 && Asked().sa_handler == SIG_IGN);
  REQUIRE(signal(SIGSEGV, SIG_DFL) == SIG_IGN);
  errno = 0;
  REQUIRE(signal(SIGSEGV, SIG_ERR) == SIG_ERR && errno == EINVAL);
  REQUIRE(signal(SIGKILL, &OnSignal) == SIG_ERR && errno == EINVAL);
  REQUIRE(sigaction(12345, nullptr, &action) == -1);
  // Other signals have none of this.
  REQUIRE(signal(SIGUSR1, &OnSignal) == SIG_DFL && signal(SIGUSR1, SIG_DFL) == &OnSignal);
  return 0;
}
// A signal that the program inherits as ignored stays so, for its own children.
int InheritsIgnored() {
  signal(SIGSEGV, SIG_IGN);
  BeginGuards();
  return KernelHandler() == 1 && Asked().sa_handler == SIG_IGN ? 0 : 3;
}
// signal_library.cc stands between tarn and libc, and keeps the first handler where it is.
int LibraryBetween() {
  BeginGuards();
  Install(&OnDetails, 0);
  Install(&OnSignal, 0);
  if (sigsetjmp(jump, 1) == 0) ReadHere(Opaque(reinterpret_cast<char*>(1234)));
  REQUIRE(handled == 1 && handled_address == 1234);
  return 0;
}
// A trap: the instruction is done when the signal comes.
int Trap() {
  BeginGuards();
#if defined(__x86_64__)
  asm volatile("int $4");
#else
  raise(SIGSEGV);
#endif
  return 3;
}
// A child of vfork has actions of its own, with its parent's memory.
int VforkedChild() {
  BeginGuards();
  Install(&OnDetails, 0);
  const pid_t child = vfork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    _exit(KernelHandler() == 0 ? 0 : 1);
  }
  int status = 1;
  REQUIRE(waitpid(child, &status, 0) == child && status == 0);
  REQUIRE(OursIsInstalled() && Asked().sa_sigaction == &OnDetails);
  if (sigsetjmp(jump, 1) == 0) ReadHere(Opaque(reinterpret_cast<char*>(1234)));
  REQUIRE(handled == 1);
  return 0;
}
// A handler that goes past the library's sigaction replaces ours, and may pass on to it.
struct KernelAction {
  void (*handler)(int, siginfo_t*, void*);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
} action_before_ours;
void OnDetailsAndOn(int number, siginfo_t* info, void* context) {
  handled = handled + 1;
  action_before_ours.handler(number, info, context);
}
int HandlerPastUsPassesOn() {
  BeginGuards();
  REQUIRE(syscall(SYS_rt_sigaction, SIGSEGV, nullptr, &action_before_ours, sizeof(uint64_t)) == 0);
  KernelAction action = action_before_ours;
  action.handler = &OnDetailsAndOn;
  REQUIRE(syscall(SYS_rt_sigaction, SIGSEGV, &action, nullptr, sizeof(uint64_t)) == 0);
  REQUIRE(Asked().sa_sigaction == &OnDetailsAndOn);
  char* object = AllocateHere(100);
  FreeHere(object);
  Say("address", object);
  ReadHere(object);
  return 3;
}
int OwnPages() {
  protected_page = static_cast<char*>(mmap(nullptr, kOsPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Install(&OnProtected, SA_RESTART);
  BeginGuards();
  for (int i = 0; i < 10000; ++i) {
    WriteHere(protected_page, 1);
    REQUIRE(handled == i + 1);
    REQUIRE(mprotect(protected_page, kOsPage, PROT_NONE) == 0);
  }
  return 0;
}
// The program protects a guarded object of its own: its handler sees the fault.
int OwnGuardedPages() {
  Install(&OnProtected, 0);
  BeginGuards();
  void* object = nullptr;
  REQUIRE(posix_memalign(&object, kOsPage, kOsPage) == 0);
  protected_page = static_cast<char*>(object);
  REQUIRE(mprotect(object, kOsPage, PROT_READ) == 0);
  WriteHere(protected_page + 10, 1);
  REQUIRE(handled == 1);
  free(object);
  return 0;
}
__attribute__((noinline)) int Deeper(int depth) {
  volatile char frame[1024];
  if (depth < 0) return 0;
  frame[0] = static_cast<char>(depth);
  return Deeper(depth + 1) + frame[0];
}
// A stack overflow in a thread with an alternate stack comes to the handler that was there before.
int StackOverflow() {
  Install(&OnSignal, SA_ONSTACK);
  BeginGuards();
  UseAlternateStack();
  if (sigsetjmp(jump, 1) == 0) Opaque(Deeper(0));
  REQUIRE(handled == 1);
  return 0;
}
int FaultOnAlternateStack() {
  BeginGuards();
  std::thread([] {
    stack_t small = {};
    small.ss_size = 8192;
    small.ss_sp = mmap(nullptr, small.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(sigaltstack(&small, nullptr) == 0);
    char* object = AllocateHere(100);
    FreeHere(object);
    Say("address", object);
    ReadHere(object);
  }).join();
  return 3;
}
int NoHandler() {
  REQUIRE(KernelHandler() == 0);
  return ReadAfterFree();
}
// A process that takes no samples has no handler.
int NoSamples() {
  REQUIRE(KernelHandler() == 0);
  REQUIRE(tarn::ReadMemStats().guard_places == 0);
  return 0;
}

struct Case {
  const char* name;
  int (*run)();
};
const Case kCases[] = {
    {"read-after-free", ReadAfterFree},
    {"write-after-free", WriteAfterFree},
    {"read-past-end", ReadPastEnd},
    {"write-past-end", WritePastEnd},
    {"write-before-start", WriteBeforeStart},
    {"overwrite-end", OverwriteEnd},
    {"overwrite-start", OverwriteStart},
    {"overwrite-slack", OverwriteSlack},
    {"free-twice", FreeTwice},
    {"free-inside", FreeInside},
    {"realloc-after-free", ReallocAfterFree},
    {"usable-size-after-free", UsableSizeAfterFree},
    {"delete-twice", DeleteTwice},
    {"three-threads", ThreeThreads},
    {"forked-child", ForkedChild},
    {"go-on", GoOn},
    {"valid-use", ValidUse},
    {"places-come-round", PlacesComeRound},
    {"places-run-out", PlacesRunOut},
    {"figures", Figures},
    {"many-threads", ManyThreads},
    {"server", Server},
    {"null-access", NullAccess},
    {"signal-sent", SignalSent},
    {"sent-and-ignored", SentAndIgnored},
    {"ignored-fault", IgnoredFault},
    {"handler-before", HandlerBefore},
    {"details-before", DetailsBefore},
    {"one-shot-before", OneShotBefore},
    {"handler-after", HandlerAfter},
    {"handler-past-us-passes-on", HandlerPastUsPassesOn},
    {"one-shot-after", OneShotAfter},
    {"actions-as-set", ActionsAsSet},
    {"inherits-ignored", InheritsIgnored},
    {"vforked-child", VforkedChild},
    {"library-between", LibraryBetween},
    {"trap", Trap},
    {"own-pages", OwnPages},
    {"own-guarded-pages", OwnGuardedPages},
    {"stack-overflow", StackOverflow},
    {"fault-on-alternate-stack", FaultOnAlternateStack},
    {"no-handler", NoHandler},
    {"no-samples", NoSamples},
};

}  // namespace guard_program

using namespace guard_program;

int main(int argc, char** argv) {
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  for (const Case& each : kCases) {
    if (argc == 2 && strcmp(argv[1], each.name) == 0) return each.run();
  }
  fprintf(stderr, "there is no such case\n");
  return 2;
}
