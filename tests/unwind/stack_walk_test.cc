// SPDX-License-Identifier: Apache-2.0
//
// The stack walk finds the callers, whatever their frames look like, and never touches what is not there.

#include "allocator/unwind/stack_walk.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "allocator/unwind/eh_frame.h"
#include "allocator/unwind/loaded_object.h"

namespace tarn {
namespace {

constexpr std::size_t kFrames = 64;
struct Stack {
  std::array<std::uintptr_t, kFrames> call_sites = {};
  std::size_t count = 0;
  bool truncated = false;
};

void Walk(Stack* stack, std::size_t max = kFrames) {
  stack->count = WalkStack(stack->call_sites.data(), max, &stack->truncated);
}

// True where the frame lies in the function, by the addresses that the function reported.
bool Lies(std::uintptr_t call_site, std::uintptr_t function) {
  return call_site > function && call_site - function < 4096;
}

std::uintptr_t AddressOf(void (*function)(Stack*, int)) { return reinterpret_cast<std::uintptr_t>(function); }

// Each keeps a frame of another kind: plain, with an array of variable length, with a realigned stack.
[[gnu::noinline]] void Plain(Stack* stack, int) {
  Walk(stack);
  asm volatile("" ::: "memory");
}
[[gnu::noinline]] void WithVariableArray(Stack* stack, int size) {
  auto* memory = static_cast<volatile char*>(__builtin_alloca(static_cast<std::size_t>(size)));
  memory[0] = 1;
  Plain(stack, size);
  asm volatile("" ::"r"(memory) : "memory");
}
[[gnu::noinline]] void Realigned(Stack* stack, int size) {
  alignas(128) volatile char aligned[128];
  aligned[0] = 1;
  WithVariableArray(stack, size);
  asm volatile("" ::"r"(aligned) : "memory");
}
[[gnu::noinline]] void WithLargeFrame(Stack* stack, int size) {
  volatile char large[100000];
  large[0] = 1;
  large[sizeof large - 1] = 1;
  Realigned(stack, size);
  asm volatile("" ::"r"(large) : "memory");
}
[[gnu::noinline]] void Deep(Stack* stack, int depth) {
  if (depth == 0) {
    Walk(stack);
  } else {
    Deep(stack, depth - 1);
  }
  asm volatile("" ::: "memory");
}

#if defined(__x86_64__)

TEST(StackWalk, FindsTheCallersWhateverTheirFramesLookLike) {
  // Twice, because the second walk comes out of the cache.
  for (int round = 0; round < 2; ++round) {
    Stack stack;
    WithLargeFrame(&stack, 1000);
    EXPECT_FALSE(stack.truncated);
    ASSERT_GE(stack.count, 6u);
    // The first is Walk, unless it was inlined.
    const std::size_t first = Lies(stack.call_sites[0], AddressOf(&Plain)) ? 0 : 1;
    EXPECT_TRUE(Lies(stack.call_sites[first], AddressOf(&Plain)));
    EXPECT_TRUE(Lies(stack.call_sites[first + 1], AddressOf(&WithVariableArray)));
    EXPECT_TRUE(Lies(stack.call_sites[first + 2], AddressOf(&Realigned)));
    EXPECT_TRUE(Lies(stack.call_sites[first + 3], AddressOf(&WithLargeFrame)));
  }
}

TEST(StackWalk, ComesToTheEndOfMainAndOfThreads) {
  // The outermost frame is that of the code where a thread begins, which says so itself.
  const auto outermost_is_in_libc_or_start = [](const Stack& stack) {
    Dl_info info = {};
    return stack.count != 0 && !stack.truncated &&
           ::dladdr(reinterpret_cast<void*>(stack.call_sites[stack.count - 1]), &info) != 0;
  };
  Stack of_main;
  Plain(&of_main, 0);
  EXPECT_TRUE(outermost_is_in_libc_or_start(of_main));
  Stack of_thread;
  std::thread([&of_thread] { Plain(&of_thread, 0); }).join();
  EXPECT_TRUE(outermost_is_in_libc_or_start(of_thread));
}

TEST(StackWalk, SaysWhenThereIsMoreThanFits) {
  Stack stack;
  Deep(&stack, 200);
  EXPECT_EQ(stack.count, kFrames);
  EXPECT_TRUE(stack.truncated);
  Stack few;
  few.count = WalkStack(few.call_sites.data(), 3, &few.truncated);
  EXPECT_EQ(few.count, 3u);
}

Stack* signal_stack;
[[gnu::noinline]] void Raise(Stack*, int) {
  ::raise(SIGUSR1);
  asm volatile("" ::: "memory");
}

TEST(StackWalk, GoesThroughASignalHandlerOnAStackOfItsOwn) {
  Stack stack;
  signal_stack = &stack;
  static char alternate[1 << 16];
  const stack_t own = {.ss_sp = alternate, .ss_flags = 0, .ss_size = sizeof alternate};
  ASSERT_EQ(::sigaltstack(&own, nullptr), 0);
  struct sigaction action = {};
  action.sa_handler = [](int) { Plain(signal_stack, 0); };
  action.sa_flags = SA_ONSTACK;
  struct sigaction before = {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  Raise(nullptr, 0);
  ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
  const stack_t none = {.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  ASSERT_EQ(::sigaltstack(&none, nullptr), 0);
  bool found = false;
  for (std::size_t i = 0; i < stack.count; ++i) found |= Lies(stack.call_sites[i], AddressOf(&Raise));
  EXPECT_TRUE(found) << stack.count << " frames";
}

// AddressSanitizer takes the second return of getcontext for a use after scope.
#if !defined(__SANITIZE_ADDRESS__)
// A context of makecontext on memory with nothing above it: the walk must end there and not run off.
ucontext_t main_context;
Stack* context_stack;
void InContext() {
  Plain(context_stack, 0);
  ::setcontext(&main_context);
}

TEST(StackWalk, EndsAtTheTopOfACoroutinesStack) {
  constexpr std::size_t kBytes = 1 << 16;
  void* memory = ::mmap(nullptr, 2 * kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::mprotect(memory, kBytes, PROT_READ | PROT_WRITE), 0);
  Stack stack;
  context_stack = &stack;
  static ucontext_t context;
  ASSERT_EQ(::getcontext(&context), 0);
  context.uc_stack = {.ss_sp = memory, .ss_flags = 0, .ss_size = kBytes};
  context.uc_link = &main_context;
  ::makecontext(&context, &InContext, 0);
  static bool returned;
  returned = false;
  ASSERT_EQ(::getcontext(&main_context), 0);
  if (!returned) {
    returned = true;
    ::setcontext(&context);
  }
  EXPECT_GE(stack.count, 1u);
  EXPECT_LE(stack.count, 8u);
  ::munmap(memory, 2 * kBytes);
}

#endif

// Code without tables, as a program makes at run time; first with a frame pointer, then with nonsense in its place.
TEST(StackWalk, PassesThroughCodeThatHasNoTablesByFramePointers) {
  // push rbp; mov rbp, rsp; call rdi-with-rsi... : push %rbp; mov %rsp,%rbp; mov %rdi,%rax; mov %rsi,%rdi; call *%rax;
  // pop %rbp; ret
  const unsigned char with_frame[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf8,
                                      0x48, 0x89, 0xf7, 0xff, 0xd0, 0x5d, 0xc3};
  // push %rbp; mov $8,%ebp; mov %rdi,%rax; mov %rsi,%rdi; call *%rax; pop %rbp; ret
  const unsigned char without_frame[] = {0x55, 0xbd, 0x08, 0x00, 0x00, 0x00, 0x48, 0x89,
                                         0xf8, 0x48, 0x89, 0xf7, 0xff, 0xd0, 0x5d, 0xc3};
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  std::copy(std::begin(with_frame), std::end(with_frame), static_cast<unsigned char*>(memory));
  std::copy(std::begin(without_frame), std::end(without_frame), static_cast<unsigned char*>(memory) + 64);
  using Function = void (*)(void (*)(Stack*), Stack*);
  const auto plain = [](Stack* stack) { Plain(stack, 0); };
  const auto start = reinterpret_cast<std::uintptr_t>(memory);
  Stack stack;
  reinterpret_cast<Function>(start)(plain, &stack);
  bool found = false;
  std::size_t at = 0;
  for (std::size_t i = 0; i < stack.count; ++i) {
    if (Lies(stack.call_sites[i], start)) found = true, at = i;
  }
  EXPECT_TRUE(found);
  EXPECT_GT(stack.count, at + 2) << "the walk goes on behind it";
  Stack cut;
  reinterpret_cast<Function>(start + 64)(plain, &cut);
  ASSERT_GE(cut.count, 1u);
  EXPECT_TRUE(Lies(cut.call_sites[cut.count - 1], start + 64)) << "nothing is invented";
  ::munmap(memory, 4096);
}

TEST(EhFrame, KnowsNothingOfAddressesThatBelongToNobody) {
  EXPECT_EQ(FindLoadedObject(0).table, 0u);
  EXPECT_EQ(FindLoadedObject(~std::uintptr_t{0}).table, 0u);
  EXPECT_EQ(FindUnwindRule(0, 12345).kind, UnwindRule::Kind::kNone);
  const auto here = reinterpret_cast<std::uintptr_t>(&Plain);
  const LoadedObject object = FindLoadedObject(here);
  ASSERT_NE(object.table, 0u);
  EXPECT_TRUE(object.Covers(here));
  EXPECT_EQ(FindUnwindRule(object.table, object.end + 4096).kind, UnwindRule::Kind::kNone);
  // At a function's first instruction the frame is what the call made it.
  const UnwindRule rule = FindUnwindRule(object.table, here);
  EXPECT_EQ(rule.kind, UnwindRule::Kind::kOffset);
  EXPECT_EQ(rule.cfa_register, kDwarfRsp);
  EXPECT_EQ(rule.cfa_offset, 8);
}

#endif

}  // namespace
}  // namespace tarn
