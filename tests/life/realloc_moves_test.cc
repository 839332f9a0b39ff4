// SPDX-License-Identifier: Apache-2.0
//
// realloc of large objects whose memory the program, or a fork, has divided into several mappings.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/entry/surface.h"
#include "tests/os/in_child.h"
#include "tests/os/mapping_facts.h"

namespace tarn_test {
namespace {

constexpr std::size_t kStep = 512;

char Stamp(std::size_t offset) { return static_cast<char>(offset / kStep * 7 + 1); }
void Write(char* object, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += kStep) object[i] = Stamp(i);
}
std::size_t WrongBytes(const char* object, std::size_t bytes) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < bytes; i += kStep) wrong += object[i] != Stamp(i) ? 1 : 0;
  return wrong;
}

// An object that something lies behind, so that it cannot grow where it is.
char* NewObject(std::size_t bytes) {
  char* const object = static_cast<char*>(malloc(bytes));
  char* const behind = static_cast<char*>(malloc(3 * kMiB));
  TARN_REQUIRE(object != nullptr && behind != nullptr);
  *const_cast<volatile char*>(behind) = 1;
  Write(object, bytes);
  return object;
}

char* Grow(char* object, std::size_t old_bytes, std::size_t bytes) {
  char* const grown = static_cast<char*>(realloc(object, bytes));
  TARN_REQUIRE(grown != nullptr);
  TARN_REQUIRE(WrongBytes(grown, old_bytes) == 0);
  Write(grown, bytes);
  return grown;
}

// Memory that was in use before a fork and memory that was not are different mappings in the child for ever.
TEST(ReallocMoves, AfterAForkInTheChild) {
  for (const bool used_before : {true, false}) {
    EXPECT_EQ(ComplaintOfChild([=] {
                char* const before = static_cast<char*>(malloc(20 * kMiB));
                TARN_REQUIRE(before != nullptr);
                if (used_before) memset(before, 1, 20 * kMiB);
                free(before);
                const pid_t child = fork();
                if (child == 0) {
                  char* object = NewObject(33 * kMiB);
                  object = Grow(object, 33 * kMiB, 40 * kMiB);
                  object = Grow(object, 40 * kMiB, 90 * kMiB);
                  free(object);
                  _exit(0);
                }
                int status = 0;
                TARN_REQUIRE(waitpid(child, &status, 0) == child && status == 0);
              }),
              "");
  }
}

TEST(ReallocMoves, APartThatTheProgramKeepsOutOfCoreDumpsStaysOut) {
  EXPECT_EQ(ComplaintOfChild([] {
              const std::size_t page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
              const std::size_t secret = 2 * kMiB;
              char* object = NewObject(9 * kMiB);
              char* const old_place = object;
              TARN_REQUIRE(madvise(object + secret, 16 * page_bytes, MADV_DONTDUMP) == 0);
              const bool says = HasMappingFlag(object + secret, "dd");
              object = Grow(object, 9 * kMiB, 20 * kMiB);
              TARN_REQUIRE(!says || object == old_place || HasMappingFlag(object + secret, "dd"));
              object = Grow(object, 20 * kMiB, 50 * kMiB);
              if (says) {
                TARN_REQUIRE(HasMappingFlag(object + secret, "dd"));
                TARN_REQUIRE(HasMappingFlag(object + secret + 15 * page_bytes, "dd"));
                TARN_REQUIRE(!HasMappingFlag(object + secret + 16 * page_bytes, "dd"));
                TARN_REQUIRE(!HasMappingFlag(object + secret - page_bytes, "dd"));
                // The memory that lay there serves others, and theirs belongs in a core dump.
                TARN_REQUIRE(!HasMappingFlag(old_place + secret, "dd"));
              }
            }),
            "");
}

// A guard page inside of an object stays one; in its old place there is none.
TEST(ReallocMoves, AProtectedPartStaysProtectedAndLeavesNoTrap) {
  EXPECT_EQ(ComplaintOfChild([] {
              const std::size_t page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
              char* const object = NewObject(9 * kMiB);
              TARN_REQUIRE(mprotect(object + 4 * kMiB, page_bytes, PROT_NONE) == 0);
              char* const grown = static_cast<char*>(realloc(object, 20 * kMiB));
              TARN_REQUIRE(grown != nullptr && grown != object);
              TARN_REQUIRE(WrongBytes(grown, 4 * kMiB) == 0);
              // All of the old place can be used.
              for (int i = 0; i < 20; ++i) {
                char* const other = static_cast<char*>(malloc(300000));
                TARN_REQUIRE(other != nullptr);
                memset(other, 3, 300000);
              }
              TARN_REQUIRE(mprotect(grown + 4 * kMiB, page_bytes, PROT_READ | PROT_WRITE) == 0);
              TARN_REQUIRE(WrongBytes(grown, 9 * kMiB) == 0);
            }),
            "");
}

// A process that has few mappings left: an object of many mappings grows, by one way or another, or stays as it
// is.
TEST(ReallocMoves, WithFewMappingsLeft) {
  std::size_t limit = 0;
  FILE* const file = fopen("/proc/sys/vm/max_map_count", "r");
  if (file == nullptr || fscanf(file, "%zu", &limit) != 1) limit = 0;
  if (file != nullptr) fclose(file);
  if (limit == 0 || limit > 300000) GTEST_SKIP() << "no vm.max_map_count that can be used up";
  EXPECT_EQ(ComplaintOfChild([=] {
              const std::size_t page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
              constexpr std::size_t kBytes = 8 * kMiB;
              // Neighbours of different protection are mappings of their own: a part is two of them.
              const std::size_t fill_bytes = (limit + 10) * page_bytes;
              char* const fill = static_cast<char*>(
                  mmap(nullptr, fill_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
              TARN_REQUIRE(fill != MAP_FAILED);
              std::size_t parts = 0;
              const auto make_room = [&](std::size_t count) {
                for (; count != 0 && parts != 0; --count) {
                  --parts;
                  TARN_REQUIRE(mprotect(fill + (2 * parts + 1) * page_bytes, page_bytes, PROT_NONE) == 0);
                }
              };
              for (std::size_t left = 0; left < 30; left += left < 12 ? 1 : 3) {
                char* const object = NewObject(kBytes);
                // Every second part stays out of core dumps.
                for (std::size_t i = 0; i < kBytes; i += kMiB) {
                  TARN_REQUIRE(madvise(object + i, kMiB / 2, MADV_DONTDUMP) == 0);
                }
                while (mprotect(fill + (2 * parts + 1) * page_bytes, page_bytes, PROT_READ) == 0) ++parts;
                make_room(left);
                char* const grown = static_cast<char*>(realloc(object, kBytes + 3 * kMiB));
                if (grown == nullptr) {
                  TARN_REQUIRE(errno == ENOMEM && WrongBytes(object, kBytes) == 0);
                } else {
                  TARN_REQUIRE(WrongBytes(grown, kBytes) == 0);
                  memset(grown, 4, kBytes + 3 * kMiB);
                }
                make_room(200);
                free(grown == nullptr ? object : grown);
              }
            }),
            "");
}

// A program that locks all of its memory: the object, what grew, what it left, and every other object.
TEST(ReallocMoves, UnderMlockallEverythingStaysLocked) {
  EXPECT_EQ(ComplaintOfChild([] {
              if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) return;
              char* const neighbour = static_cast<char*>(malloc(4096));
              char* object = static_cast<char*>(malloc(5 * kMiB));
              char* const behind = static_cast<char*>(malloc(3 * kMiB));
              // RLIMIT_MEMLOCK is too low.
              if (neighbour == nullptr || object == nullptr || behind == nullptr) return;
              memset(neighbour, 1, 4096);
              memset(behind, 1, 3 * kMiB);
              Write(object, 5 * kMiB);
              if (!HasMappingFlag(object, "lo")) return;
              for (const std::size_t bytes : {9 * kMiB, 30 * kMiB}) {
                char* const old_place = object;
                char* const grown = static_cast<char*>(realloc(object, bytes));
                if (grown == nullptr) return;
                object = grown;
                TARN_REQUIRE(WrongBytes(object, 5 * kMiB) == 0);
                TARN_REQUIRE(HasMappingFlag(neighbour, "lo") && HasMappingFlag(behind, "lo"));
                for (std::size_t i = 0; i < bytes; i += kMiB) TARN_REQUIRE(HasMappingFlag(object + i, "lo"));
                // Unless its addresses are given up.
                for (std::size_t i = 0; i < 5 * kMiB; i += kMiB) {
                  TARN_REQUIRE(MappingFlags(old_place + i).empty() || HasMappingFlag(old_place + i, "lo"));
                }
              }
              char* const another = static_cast<char*>(malloc(2 * kMiB));
              TARN_REQUIRE(another != nullptr && HasMappingFlag(another, "lo"));
            }),
            "");
}

}  // namespace
}  // namespace tarn_test
