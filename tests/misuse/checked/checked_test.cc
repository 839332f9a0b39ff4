// SPDX-License-Identifier: Apache-2.0
//
// Each kind of fault that malloc's checked mode (TARN_CHECK=on) sees, at objects of many sizes.
//
// Each cell runs in a process of its own, a fork of this one. It must end by SIGABRT, at the call that is named, with a
// report of what is wrong and of the stacks. The environment of the test turns the mode on.

#include <gtest/gtest.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "allocator/include/tarn/check.h"
#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"
#include "tests/misuse/checked/child_outcome.h"

namespace tarn_test {
namespace {

using Outcome = ChildOutcome;

Outcome RunInChild(const std::function<void()>& body) {
  return OutcomeOfChild([&] {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    body();
    // By way of the destructors, which look at the heap.
    exit(0);
  });
}

const char kBehind[] = "memory behind the object was overwritten at 0x";
const char kInFront[] = "memory in front of the object was overwritten at 0x";
const char kFreedWritten[] = "freed memory was overwritten at 0x";

enum Stacks : unsigned { kNoStack = 0, kAllocation = 1, kFree = 2, kBoth = 3 };

// The process must have ended at the call, with that report.
void ExpectReport(const Outcome& outcome, const std::string& call, const std::string& what, unsigned stacks,
                  const std::string& cell) {
  EXPECT_TRUE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT) << cell << "\n" << outcome.err;
  // The call may only have found what was overwritten before.
  const bool is_found = what == kBehind || what == kInFront || what == kFreedWritten;
  const std::string start = "tarn: fatal: " + call + (is_found ? ": " : "(0x");
  EXPECT_EQ(outcome.err.compare(0, start.size(), start), 0) << cell << "\n" << outcome.err;
  EXPECT_NE(outcome.err.substr(0, outcome.err.find('\n')).find(": " + what), std::string::npos) << cell << "\n"
                                                                                                << outcome.err;
  EXPECT_EQ(outcome.err.find("The allocation") != std::string::npos, (stacks & kAllocation) != 0) << cell << "\n"
                                                                                                  << outcome.err;
  EXPECT_EQ(outcome.err.find("The free") != std::string::npos, (stacks & kFree) != 0) << cell << "\n" << outcome.err;
}

const size_t kSizes[] = {1, 16, 24, 100, 1000, 5000, 40000, 100000, 250000, kMiB, 9 * kMiB};

char* Allocate(size_t size) {
  char* object = static_cast<char*>(Opaque(malloc(size)));
  if (object == nullptr) _exit(2);
  return object;
}

// One of several, none of them the first of its span.
char* AmongOthers(size_t size) {
  char* object = nullptr;
  for (int i = 0; i < 4; ++i) object = Allocate(size);
  return object;
}

void Free(void* object) { free(Opaque(object)); }

// Pushes the object out of the quarantine, and keeps its memory from being handed out.
void EmptyQuarantine() {
  for (int i = 0; i < 40; ++i) Free(Allocate(3 * kMiB));
}

struct Fault {
  const char* name;
  const char* call;
  const char* what;
  unsigned stacks;
  void (*body)(size_t size);
  size_t least = 0;
  size_t most = SIZE_MAX;
};

const char kAlreadyFree[] = "object is already free";
const char kWasFreed[] = "object was freed before";
const char kInterior[] = "pointer is inside an object, not at its start";

// Above this, objects are too large for the quarantine.
const size_t kMostQuarantined = 3 * kMiB;
// Of larger ones only the ends are filled.
const size_t kMostFilled = 2048;

const Fault kFaults[] = {
    {"double_free", "free", kAlreadyFree, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       Free(object);
     },
     0, kMostQuarantined},
    {"double_free_after_10", "free", kAlreadyFree, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       for (int i = 0; i < 10; ++i) Free(Allocate(n));
       Free(object);
     },
     0, kMostQuarantined / 4},
    {"double_free_after_the_quarantine", "free", kAlreadyFree, kBoth,
     [](size_t n) {
       char* object = AmongOthers(n);
       Free(object);
       EmptyQuarantine();
       Free(object);
     },
     0, 4000},
    {"double_free_in_another_thread", "free", kAlreadyFree, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       std::thread([object] { Free(object); }).join();
       Free(object);
     },
     0, kMostQuarantined},
    {"double_delete", "operator delete", kAlreadyFree, kBoth,
     [](size_t n) {
       void* object = Opaque(::operator new(n));
       ::operator delete(Opaque(object));
       ::operator delete(Opaque(object));
     },
     0, kMostQuarantined},
    {"free_of_what_realloc_moved", "free", kAlreadyFree, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Opaque(realloc(Opaque(object), n * 3 + 1000));
       Free(object);
     },
     0, kMostQuarantined},
    {"realloc_of_freed", "realloc", kWasFreed, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       Opaque(realloc(Opaque(object), n + 10));
     },
     0, kMostQuarantined},
    {"usable_size_of_freed", "malloc_usable_size", kWasFreed, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       Opaque(malloc_usable_size(Opaque(object)));
     },
     0, kMostQuarantined},
    {"interior_free_at_8", "free", kInterior, kAllocation, [](size_t n) { Free(Allocate(n) + 8); }, 24},
    {"interior_free_in_the_middle", "free", kInterior, kAllocation, [](size_t n) { Free(Allocate(n) + n / 2); }, 24},
    {"interior_free_of_the_last_byte", "free", kInterior, kAllocation, [](size_t n) { Free(Allocate(n) + n - 1); }, 16},
    {"interior_realloc", "realloc", kInterior, kAllocation, [](size_t n) { Opaque(realloc(Allocate(n) + 16, n)); }, 24},
    {"interior_free_of_freed", "free", kInterior, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       Free(object + 16);
     },
     24, kMostQuarantined},
    {"overflow_by_1", "free", kBehind, kAllocation,
     [](size_t n) {
       char* object = Allocate(n);
       object[n] = 0;
       Free(object);
     }},
    {"overflow_by_16", "free", kBehind, kAllocation,
     [](size_t n) {
       char* object = Allocate(n);
       memset(Opaque(object + n), 1, 16);
       Free(object);
     }},
    {"overflow_seen_by_realloc", "realloc", kBehind, kAllocation,
     [](size_t n) {
       char* object = Allocate(n);
       object[n] = 0;
       Opaque(realloc(object, n + 5));
     }},
    {"overflow_seen_by_a_sweep", "tarn_check_heap", kBehind, kAllocation,
     [](size_t n) {
       Allocate(n)[n] = 0;
       tarn_check_heap();
     }},
    {"overflow_seen_at_the_end", "exit", kBehind, kAllocation, [](size_t n) { Allocate(n)[n + 3] = 0; }, 17},
    {"underflow_by_1", "free", kInFront, kAllocation,
     [](size_t n) {
       char* object = AmongOthers(n);
       *Opaque(object - 1) = 0;
       Free(object);
     },
     0, 4000},
    {"write_after_free_seen_by_a_sweep", "tarn_check_heap", kFreedWritten, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       *Opaque(object) = 1;
       tarn_check_heap();
     },
     0, kMostQuarantined},
    {"write_to_the_last_byte_after_free", "exit", kFreedWritten, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       *Opaque(object + n - 1) = 1;
     },
     0, kMostQuarantined},
    {"write_after_free_seen_by_the_quarantine", "free", kFreedWritten, kBoth,
     [](size_t n) {
       char* object = Allocate(n);
       Free(object);
       *Opaque(object + n / 2) = 1;
       EmptyQuarantine();
     },
     0, kMostFilled},
};

class CheckedTest : public ::testing::TestWithParam<Fault> {};

TEST_P(CheckedTest, IsReportedWithItsStacks) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const Fault& fault = GetParam();
  for (const size_t size : kSizes) {
    if (size < fault.least || size > fault.most) continue;
    const Outcome outcome = RunInChild([&] { fault.body(size); });
    ExpectReport(outcome, fault.call, fault.what, fault.stacks, fault.name + (" " + std::to_string(size)));
  }
}

void PrintTo(const Fault& fault, std::ostream* stream) { *stream << fault.name; }

INSTANTIATE_TEST_SUITE_P(All, CheckedTest, ::testing::ValuesIn(kFaults),
                         [](const auto& test) { return test.param.name; });

// The allocator says nothing of a program that does nothing wrong.
TEST(CheckedHarness, SeesAChildThatSurvives) {
  const Outcome outcome = RunInChild([] {
    for (const size_t size : kSizes) Free(Allocate(size));
    EXPECT_EQ(tarn_check_heap(), 0u);
  });
  EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
}

TEST(CheckedSizes, AreTheOnesAskedFor) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  for (const size_t size : kSizes) {
    char* object = Allocate(size);
    EXPECT_EQ(malloc_usable_size(object), size);
    // Neither zero nor what was there before.
    EXPECT_EQ(static_cast<unsigned char>(object[0]), 0xA5);
    EXPECT_EQ(static_cast<unsigned char>(object[size - 1]), 0xA5);
    Free(object);
  }
}

TEST(CheckedContents, AreKeptByRealloc) {
  for (const size_t from : kSizes) {
    for (const size_t to : kSizes) {
      char* object = Allocate(from);
      memset(object, 7, from);
      object = static_cast<char*>(realloc(object, to));
      ASSERT_NE(object, nullptr);
      for (size_t i = 0; i < from && i < to; ++i) ASSERT_EQ(object[i], 7) << from << " " << to << " " << i;
      Free(object);
    }
  }
  EXPECT_EQ(tarn_check_heap(), 0u);
}

TEST(CheckedContents, AreZeroFromCalloc) {
  for (const size_t size : kSizes) {
    for (int round = 0; round < 3; ++round) {
      char* object = static_cast<char*>(Opaque(calloc(1, size)));
      for (size_t i = 0; i < size; ++i) ASSERT_EQ(object[i], 0) << size << " " << i;
      memset(object, 7, size);
      Free(object);
    }
  }
}

TEST(CheckedAlignment, IsKept) {
  for (size_t alignment = 8; alignment <= 4 * kMiB; alignment *= 2) {
    for (const size_t size : {size_t{1}, size_t{100}, size_t{5000}, kMiB}) {
      void* object = nullptr;
      ASSERT_EQ(posix_memalign(&object, alignment, size), 0);
      EXPECT_EQ(AddressOf(object) % alignment, 0u);
      memset(object, 1, size);
      Free(object);
      object = Opaque(::operator new (size, std::align_val_t{alignment}));
      EXPECT_EQ(AddressOf(object) % alignment, 0u);
      ::operator delete (object, size, std::align_val_t{alignment});
    }
  }
  EXPECT_EQ(tarn_check_heap(), 0u);
}

}  // namespace
}  // namespace tarn_test
