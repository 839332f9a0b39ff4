// SPDX-License-Identifier: Apache-2.0
//
// Memory that really runs out: RLIMIT_AS bounds the address space of a child.
//
// A program of its own, so that the children start with an allocator that has kept nothing of
// earlier tests; some are this program started anew, under a limit.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "tests/base/patience.h"
#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

#define TARN_TEST_REQUIRE(condition)                                     \
  do {                                                                   \
    if (!(condition)) {                                                  \
      dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                          \
    }                                                                    \
  } while (false)

void InChild(void (*body)()) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(tarn_test::kPatienceSeconds);
    body();
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// The address space that this process has mapped.
size_t MappedBytes() {
  FILE* file = fopen("/proc/self/statm", "r");
  TARN_TEST_REQUIRE(file != nullptr);
  size_t pages = 0;
  TARN_TEST_REQUIRE(fscanf(file, "%zu", &pages) == 1);
  fclose(file);
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

void LimitAddressSpace(size_t bytes) {
  const struct rlimit limit = {bytes, bytes};
  TARN_TEST_REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

// More than one reservation of the page heap, so that it cannot lie in what is there already.
constexpr size_t kRequest = 5 * kGiB / 2;
constexpr size_t kReserve = 6 * kGiB;

void* g_reserve = nullptr;
int g_calls = 0;

void TakeReserve() {
  g_reserve = mmap(nullptr, kReserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TARN_TEST_REQUIRE(g_reserve != MAP_FAILED);
  LimitAddressSpace(MappedBytes() + kGiB);
}

void ReleaseReserve() {
  ++g_calls;
  TARN_TEST_REQUIRE(g_reserve != nullptr);
  TARN_TEST_REQUIRE(munmap(g_reserve, kReserve) == 0);
  g_reserve = nullptr;
}

TEST(OutOfMemory, NewHandlerThatMakesRoomIsFollowedByARetry) {
  InChild([] {
    TakeReserve();
    std::set_new_handler(ReleaseReserve);
    void* object = ::operator new(kRequest);
    TARN_TEST_REQUIRE(object != nullptr);
    TARN_TEST_REQUIRE(g_calls == 1);
    static_cast<volatile char*>(object)[0] = 1;
    static_cast<volatile char*>(object)[kRequest - 1] = 1;
    ::operator delete(object);
  });
  InChild([] {
    TakeReserve();
    std::set_new_handler(ReleaseReserve);
    TARN_TEST_REQUIRE(::operator new[](kRequest, std::align_val_t{4096}, std::nothrow) != nullptr);
    TARN_TEST_REQUIRE(g_calls == 1);
  });
}

TEST(OutOfMemory, MallocAnswersWithNullAndEnomem) {
  InChild([] {
    TakeReserve();
    errno = 0;
    TARN_TEST_REQUIRE(malloc(kRequest) == nullptr);
    TARN_TEST_REQUIRE(errno == ENOMEM);
    errno = 0;
    TARN_TEST_REQUIRE(calloc(kRequest / 8, 8) == nullptr);
    TARN_TEST_REQUIRE(errno == ENOMEM);
    void* object = malloc(3 * kMiB);
    TARN_TEST_REQUIRE(object != nullptr);
    Fill(object, 1, 0, 3 * kMiB);
    errno = 0;
    TARN_TEST_REQUIRE(realloc(object, kRequest) == nullptr);
    TARN_TEST_REQUIRE(errno == ENOMEM);
    TARN_TEST_REQUIRE(Holds(object, 1, 0, 3 * kMiB));
    ReleaseReserve();
    void* large = realloc(object, kRequest);
    TARN_TEST_REQUIRE(large != nullptr);
    TARN_TEST_REQUIRE(Holds(large, 1, 0, 3 * kMiB));
    free(large);
  });
}

// Allocates until nothing is left, then gives everything back; the same must be possible again.
// The bounds are generous: what is asserted is that much of the limit was usable, both times.
void FillAddressSpace(size_t size) {
  size_t counts[2] = {0, 0};
  for (size_t& count : counts) {
    struct Link {
      Link* next;
    };
    Link* first = nullptr;
    errno = 0;
    while (true) {
      Link* link = static_cast<Link*>(malloc(size));
      if (link == nullptr) break;
      TARN_TEST_REQUIRE(malloc_usable_size(link) >= size);
      link->next = first;
      first = link;
      ++count;
    }
    TARN_TEST_REQUIRE(errno == ENOMEM);
    while (first != nullptr) {
      Link* next = first->next;
      free(first);
      first = next;
    }
  }
  TARN_TEST_REQUIRE(counts[0] * size >= 100 * kMiB);
  TARN_TEST_REQUIRE(counts[1] * size >= counts[0] * size / 10 * 8);
}

// Acts under a limit that was there before the process began, so that the library knew no better
// times. Each is a run of this program with one argument.
struct LimitedBody {
  const char* argument;
  void (*body)();
};

const LimitedBody kLimitedBodies[] = {
    {"--fill-with-64", [] { FillAddressSpace(64); }},
    {"--fill-with-1000", [] { FillAddressSpace(1000); }},
    {"--fill-with-40960", [] { FillAddressSpace(40 * kKiB); }},
    {"--fill-with-1048576", [] { FillAddressSpace(kMiB); }},
    // Memory freed in one size serves another when there is no more.
    {"--fill-with-all",
     [] {
       for (size_t size : {size_t{1000}, size_t{64}, 40 * kKiB, kMiB, size_t{200}}) {
         FillAddressSpace(size);
         void* object = malloc(64 * kMiB);
         TARN_TEST_REQUIRE(object != nullptr);
         free(object);
       }
     }},
    {"--throw",
     [] {
       for (int i = 0; i < 100; ++i) {
         bool thrown = false;
         try {
           ::operator delete(::operator new(kGiB));
         } catch (const std::bad_alloc&) {
           thrown = true;
         }
         TARN_TEST_REQUIRE(thrown);
         delete Opaque(new int(i));
       }
     }},
};

class LimitedTest : public ::testing::TestWithParam<LimitedBody> {};

TEST_P(LimitedTest, In300MiBOfAddressSpace) {
  static const char* argument;
  argument = GetParam().argument;
  InChild([] {
    LimitAddressSpace(300 * kMiB);
    execl("/proc/self/exe", "out_of_memory_test", argument, nullptr);
    const bool program_started = false;
    TARN_TEST_REQUIRE(program_started);
  });
}

void PrintTo(const LimitedBody& body, std::ostream* stream) { *stream << body.argument; }

INSTANTIATE_TEST_SUITE_P(OutOfMemory, LimitedTest, ::testing::ValuesIn(kLimitedBodies));

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) {
  for (const tarn_test::LimitedBody& limited : tarn_test::kLimitedBodies) {
    if (argc == 2 && strcmp(argv[1], limited.argument) == 0) {
      limited.body();
      return 0;
    }
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
