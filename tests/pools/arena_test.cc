// SPDX-License-Identifier: Apache-2.0
//
// Arenas: contents, chunks, resets, rewinds, destructors, limits, buffers, misuse, and what the statistics say.
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/interner.h>
#include <tarn/memory_resource.h>
#include <tarn/registry.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/pools/registered.h"

namespace {

using tarn_test::Find;

struct Piece {
  unsigned char* start;
  std::size_t bytes;
  unsigned char stamp;
};

bool Holds(const Piece& piece) {
  return std::all_of(piece.start, piece.start + piece.bytes, [&](unsigned char c) { return c == piece.stamp; });
}

// Random sizes and alignments; each piece is filled, and none may overlap another.
std::vector<Piece> FillAtRandom(tarn::Arena& arena, std::mt19937& random, int count) {
  std::vector<Piece> pieces;
  for (int i = 0; i < count; ++i) {
    const std::size_t bytes = random() % (i % 50 == 0 ? 300000 : 200);
    const std::size_t alignment = std::size_t{1} << random() % (i % 50 == 1 ? 15 : 7);
    Piece piece{static_cast<unsigned char*>(arena.Allocate(bytes, alignment)), bytes,
                static_cast<unsigned char>(random())};
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece.start) % alignment, 0u);
    if (bytes != 0) std::memset(piece.start, piece.stamp, bytes);
    pieces.push_back(piece);
  }
  return pieces;
}

struct Logged {
  explicit Logged(std::vector<int>* log, int id) : log_(log), id_(id) {}
  ~Logged() { log_->push_back(id_); }
  std::vector<int>* log_;
  int id_;
};

TEST(Arena, PiecesKeepTheirContentsOverResets) {
  tarn::Arena arena;
  std::mt19937 random(1);
  for (int round = 0; round < 5; ++round) {
    for (const Piece& piece : FillAtRandom(arena, random, 500)) EXPECT_TRUE(Holds(piece));
    EXPECT_GT(arena.Stats().used_bytes, 0u);
    arena.Reset();
    EXPECT_EQ(arena.Stats().used_bytes, 0u);
  }
}

TEST(Arena, AResetKeepsTheMemoryAndUsesItAgain) {
  tarn::Arena arena;
  std::vector<void*> first;
  for (int i = 0; i < 10000; ++i) first.push_back(arena.Allocate(100));
  const std::size_t capacity_bytes = arena.Stats().capacity_bytes;
  EXPECT_GE(capacity_bytes, 1000000u);
  arena.Reset();
  for (void* object : first) EXPECT_EQ(arena.Allocate(100), object);
  EXPECT_EQ(arena.Stats().capacity_bytes, capacity_bytes);
  arena.Release();
  EXPECT_EQ(arena.Stats().capacity_bytes, 0u);
  EXPECT_NE(arena.Allocate(1), nullptr);
}

TEST(Arena, ChunksDouble) {
  tarn::Arena arena;
  static_cast<void>(arena.Allocate(1));
  EXPECT_EQ(arena.Stats().capacity_bytes, 8192u);
  std::size_t chunks = 1;
  std::size_t capacity_bytes = 8192;
  for (std::size_t bytes = 0; bytes < std::size_t{64} << 20; bytes += 1000) {
    static_cast<void>(arena.Allocate(1000));
    if (arena.Stats().capacity_bytes != capacity_bytes) {
      const std::size_t chunk_bytes = arena.Stats().capacity_bytes - capacity_bytes;
      EXPECT_EQ(chunk_bytes, std::min(capacity_bytes, std::size_t{2} << 20));
      capacity_bytes += chunk_bytes;
      ++chunks;
    }
  }
  EXPECT_LT(chunks, 50u);
}

TEST(Arena, ZeroBytesAreSomewhereEvenAtFirst) {
  tarn::Arena arena;
  EXPECT_NE(arena.Allocate(0, 1), nullptr);
  EXPECT_NE(arena.Allocate(0, 64), nullptr);
}

TEST(Arena, HugeSizesAreRefused) {
  tarn::Arena arena("huge sizes");
  for (std::size_t bytes : {SIZE_MAX, SIZE_MAX - 15, static_cast<std::size_t>(PTRDIFF_MAX),
                            static_cast<std::size_t>(PTRDIFF_MAX) + 1, std::size_t{1} << 47}) {
    EXPECT_EQ(arena.TryAllocate(bytes), nullptr) << bytes;
    EXPECT_THROW(static_cast<void>(arena.Allocate(bytes)), std::bad_alloc);
  }
  EXPECT_EQ(Find("huge sizes")->failures, 10u);
  EXPECT_THROW(static_cast<void>(arena.AllocateArray<std::uint64_t>(SIZE_MAX / 4)), std::bad_alloc);
  EXPECT_NE(arena.TryAllocate(100), nullptr);
}

TEST(Arena, DestructorsRunOnceTheLastFirst) {
  std::vector<int> log;
  {
    tarn::Arena arena;
    for (int i = 0; i < 1000; ++i) static_cast<void>(arena.Create<Logged>(&log, i));
    EXPECT_TRUE(log.empty());
    arena.Reset();
    ASSERT_EQ(log.size(), 1000u);
    EXPECT_TRUE(std::is_sorted(log.rbegin(), log.rend()));
    static_cast<void>(arena.Create<Logged>(&log, 7));
  }
  EXPECT_EQ(log.size(), 1001u);
}

TEST(Arena, ARewindEndsWhatCameAfterTheMark) {
  std::vector<int> log;  // Before the arena, which writes to it to the end.
  tarn::Arena arena;
  std::mt19937 random(2);
  static_cast<void>(arena.Create<Logged>(&log, 1));
  const std::vector<Piece> before = FillAtRandom(arena, random, 100);
  for (int round = 0; round < 20; ++round) {
    const std::size_t used_bytes = arena.Stats().used_bytes;
    const tarn::ArenaScope scope(arena);
    {
      const tarn::ArenaScope inner(arena);
      FillAtRandom(arena, random, 50);
      static_cast<void>(arena.Create<Logged>(&log, 2));
    }
    EXPECT_EQ(log.size(), static_cast<std::size_t>(round + 1));
    EXPECT_EQ(arena.Stats().used_bytes, used_bytes);
    FillAtRandom(arena, random, 5);
  }
  for (const Piece& piece : before) EXPECT_TRUE(Holds(piece));
  EXPECT_EQ(log.size(), 20u);
}

TEST(Arena, ARewindToTheEmptyArenaLeavesItEmpty) {
  tarn::Arena arena;
  const tarn::Arena::Mark mark = arena.GetMark();
  static_cast<void>(arena.Allocate(100000));
  arena.Rewind(mark);
  EXPECT_EQ(arena.Stats().used_bytes, 0u);
  std::memset(arena.Allocate(5000), 1, 5000);
}

TEST(ArenaDeath, AMarkThatIsStaleIsNamed) {
  tarn::Arena arena;
  static_cast<void>(arena.Allocate(10));
  const tarn::Arena::Mark outer = arena.GetMark();
  const tarn::Arena::Mark inner = arena.GetMark();
  arena.Rewind(outer);
  EXPECT_DEATH(arena.Rewind(inner), "tarn: fatal: tarn_arena_rewind\\(.*\\): mark is stale");
  arena.Reset();
  EXPECT_DEATH(arena.Rewind(outer), "mark is stale");
}

TEST(ArenaDeath, AMarkThatIsStaleIsNamedAlsoAfterNewMarks) {
  tarn::Arena arena;
  std::vector<tarn::Arena::Mark> valid;
  std::vector<tarn::Arena::Mark> stale;
  // Rewinds that leave each other in force: each to a mark after those before.
  for (int i = 0; i < 4; ++i) {
    static_cast<void>(arena.Allocate(10));
    valid.push_back(arena.GetMark());
    for (int k = 0; k < 2; ++k) {
      static_cast<void>(arena.Allocate(10));
      stale.push_back(arena.GetMark());
    }
    arena.Rewind(valid.back());
    static_cast<void>(arena.Allocate(100));
    valid.push_back(arena.GetMark());
  }
  for (std::size_t i = 0; i < stale.size(); i += 3) EXPECT_DEATH(arena.Rewind(stale[i]), "mark is stale");
  // One more, and the first of them is forgotten, but no other, and no mark that is valid is taken for stale.
  static_cast<void>(arena.GetMark());
  arena.Rewind(valid.back());
  static_cast<void>(arena.GetMark());
  for (std::size_t i = 2; i < stale.size(); i += 3) EXPECT_DEATH(arena.Rewind(stale[i]), "mark is stale");
  for (; !valid.empty(); valid.pop_back()) {
    arena.Rewind(valid.back());
    arena.Rewind(valid.back());
  }
  EXPECT_EQ(arena.Stats().used_bytes, 10u);
}

TEST(ArenaDeath, AMarkThatADestructorMakesStaleIsNamed) {
  const auto nothing = [](void*) {};
  const auto reset = [](void* arena) { tarn_arena_reset(static_cast<tarn_arena*>(arena)); };
  tarn::Arena arena;
  ASSERT_NE(tarn_arena_add_cleanup(arena.c_arena(), nothing, nullptr), 0);
  const tarn::Arena::Mark mark = arena.GetMark();
  ASSERT_NE(tarn_arena_add_cleanup(arena.c_arena(), reset, arena.c_arena()), 0);
  EXPECT_DEATH(arena.Rewind(mark), "tarn: fatal: tarn_arena_rewind\\(.*\\): mark is stale");
}

TEST(Arena, TheCallersBufferComesFirst) {
  alignas(16) std::byte buffer[1024];
  tarn::Arena arena{std::span<std::byte>(buffer)};
  const auto inside = [&](void* p) { return p >= buffer && p < buffer + sizeof(buffer); };
  EXPECT_TRUE(inside(arena.Allocate(1000)));
  EXPECT_EQ(arena.Stats().capacity_bytes, 0u);
  EXPECT_FALSE(inside(arena.Allocate(100)));
  EXPECT_EQ(arena.Stats().capacity_bytes, 8192u);
  arena.Reset();
  EXPECT_TRUE(inside(arena.Allocate(1000)));
}

TEST(Arena, TheLimitHolds) {
  tarn::Arena arena(tarn::ArenaOptions{nullptr, 100000, nullptr, 0, 0});
  std::size_t got = 0;
  while (arena.TryAllocate(1000) != nullptr) ++got;
  EXPECT_GE(got, 80u);
  EXPECT_LE(arena.Stats().capacity_bytes, 100000u);
  EXPECT_THROW(static_cast<void>(arena.Allocate(1000)), std::bad_alloc);
  arena.Reset();
  EXPECT_NE(arena.TryAllocate(1000), nullptr);
}

TEST(Arena, CopiesAreIndependent) {
  tarn::Arena arena;
  std::string text = "hello";
  std::vector<int> numbers = {1, 2, 3};
  const std::string_view copy = arena.Copy(text);
  const std::span<int> copied = arena.Copy(std::span<const int>(numbers));
  text[0] = 'x';
  numbers[0] = 9;
  EXPECT_EQ(copy, "hello");
  EXPECT_EQ(copied[0], 1);
  EXPECT_EQ(copied.size(), 3u);
  EXPECT_EQ(arena.Copy(std::string_view()).size(), 0u);
}

TEST(Arena, ServesPmrContainersAndAllocators) {
  tarn::Arena arena;
  {
    const tarn::ScopedDefaultResource scope(&arena);
    std::pmr::map<int, std::pmr::string> map;
    for (int i = 0; i < 1000; ++i) map[i] = std::string(100, static_cast<char>('a' + i % 26));
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(map[i], std::string(100, static_cast<char>('a' + i % 26)).c_str());
    EXPECT_GT(arena.Stats().used_bytes, 100000u);
  }
  EXPECT_NE(std::pmr::get_default_resource(), &arena);
  std::vector<int, tarn::Allocator<int, tarn::Arena>> vector(arena);
  for (int i = 0; i < 10000; ++i) vector.push_back(i);
  EXPECT_EQ(vector[9999], 9999);
  // The last allocation comes back.
  const std::size_t used_bytes = arena.Stats().used_bytes;
  arena.deallocate(arena.allocate(64, 8), 64, 8);
  EXPECT_LE(arena.Stats().used_bytes, used_bytes + 8);
}

TEST(Arena, ANameAppearsInTheRegistry) {
  {
    tarn::Arena one("registered");
    tarn::Arena two("registered");
    std::memset(one.Allocate(20000), 1, 20000);
    std::memset(two.Allocate(30000), 1, 30000);
    const tarn_registry_record* record = Find("registered");
    ASSERT_NE(record, nullptr);
    EXPECT_EQ(record->kind, static_cast<std::uint32_t>(TARN_KIND_ARENA));
    EXPECT_EQ(record->instances, 2);
    EXPECT_EQ(record->live_bytes, 50000);
    EXPECT_EQ(record->capacity_bytes, 24576 + 32768);
  }
  EXPECT_EQ(Find("registered")->instances, 0);
  EXPECT_EQ(Find("registered")->live_bytes, 0);
  EXPECT_EQ(Find("registered")->capacity_bytes, 0);
  EXPECT_EQ(Find("registered")->resets, 2u);
}

TEST(ArenaDeath, CheckedModeCatchesUseAfterReset) {
  tarn::Arena arena(tarn::ArenaOptions{nullptr, 0, nullptr, 0, 1});
  auto* object = static_cast<volatile char*>(arena.Allocate(100));
  *object = 1;
  arena.Reset();
  EXPECT_DEATH(*object = 2, "");
  auto* next = static_cast<volatile char*>(arena.Allocate(100));
  EXPECT_NE(next, object);
  *next = 3;
  const tarn::Arena::Mark mark = arena.GetMark();
  auto* behind = static_cast<unsigned char*>(arena.Allocate(100));
  behind[5] = 1;
  arena.Rewind(mark);
#if !TARN_POISON_MEMORY
  EXPECT_EQ(behind[5], 0xDF);
#endif
  // More than the quarantine keeps.
  for (int i = 0; i < 100; ++i) {
    std::memset(arena.Allocate(1 << 20), i, 1 << 20);
    arena.Reset();
  }
}

#if TARN_POISON_MEMORY
TEST(ArenaDeath, TheSanitizerSeesUseAfterResetAndBeyondTheEnd) {
  tarn::Arena arena;
  auto* object = static_cast<volatile char*>(arena.Allocate(104));
  object[103] = 1;
  EXPECT_DEATH(object[104] = 1, "use-after-poison");
  arena.Reset();
  EXPECT_DEATH(*object = 2, "use-after-poison");
}
#endif

TEST(Interner, KeepsEachTextOnce) {
  tarn::Interner interner;
  std::vector<std::string_view> first;
  for (int i = 0; i < 5000; ++i) first.push_back(interner.Intern("text " + std::to_string(i)));
  for (int i = 0; i < 5000; ++i) {
    const std::string_view again = interner.Intern("text " + std::to_string(i));
    ASSERT_EQ(again.data(), first[static_cast<std::size_t>(i)].data());
    ASSERT_EQ(again, "text " + std::to_string(i));
    ASSERT_EQ(again.data()[again.size()], '\0');
  }
  EXPECT_EQ(interner.size(), 5000u);
  EXPECT_EQ(interner.hits(), 5000u);
  EXPECT_EQ(interner.Intern(""), "");
}

}  // namespace
