// SPDX-License-Identifier: Apache-2.0
//
// mallinfo, mallinfo2, malloc_info, malloc_stats, malloc_trim and mallopt: they tell and do the
// real thing.

#include <errno.h>
#include <gtest/gtest.h>
#include <stdio.h>

#include <cctype>
#include <climits>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

// The bytes that the program holds. glibc counts what it mapped singly under hblkhd.
size_t HeldBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

std::vector<void*> AllocateMany(size_t count, size_t size) {
  std::vector<void*> objects(count);
  for (void*& object : objects) {
    object = malloc(size);
    if (object != nullptr) memset(object, 1, size);
  }
  return objects;
}

TEST(Mallinfo2, HeldBytesFollowSmallObjects) {
  const size_t before = HeldBytes();
  std::vector<void*> objects = AllocateMany(64 * kKiB, 1000);
  const size_t full = HeldBytes();
  EXPECT_GE(full, before + 60 * kMiB);
  EXPECT_LE(full, before + 80 * kMiB);
  for (size_t i = 0; i < objects.size(); i += 2) free(objects[i]);
  const size_t half = HeldBytes();
  EXPECT_LE(half, full - 28 * kMiB);
  EXPECT_GE(half, before + 28 * kMiB);
  for (size_t i = 1; i < objects.size(); i += 2) free(objects[i]);
  EXPECT_LE(HeldBytes(), before + 4 * kMiB);
}

TEST(Mallinfo2, HeldBytesFollowLargeObjects) {
  const size_t before = HeldBytes();
  void* object = malloc(100 * kMiB);
  ASSERT_NE(object, nullptr);
  const size_t full = HeldBytes();
  EXPECT_GE(full, before + 100 * kMiB);
  EXPECT_LE(full, before + 110 * kMiB);
  free(object);
  EXPECT_LE(HeldBytes(), before + 4 * kMiB);
}

TEST(Mallinfo2, CountsWhatOtherThreadsHold) {
  const size_t before = HeldBytes();
  std::vector<void*> objects;
  std::thread([&objects] { objects = AllocateMany(32 * kKiB, 1000); }).join();
  EXPECT_GE(HeldBytes(), before + 30 * kMiB);
  // And what one thread allocated is given back by another.
  for (void* object : objects) free(object);
  EXPECT_LE(HeldBytes(), before + 8 * kMiB);
}

TEST(Mallinfo2, FieldsAgreeWithEachOther) {
  std::vector<void*> objects = AllocateMany(1000, 5000);
  const struct mallinfo2 info = mallinfo2();
  EXPECT_GE(info.arena + info.hblkhd, info.uordblks);
  EXPECT_GT(info.arena + info.hblkhd, 1000u * 5000u);
  // Memory that was freed, but not given back yet, shows as free. (Single, so that no whole pages
  // become free.)
  for (size_t i = 0; i < objects.size(); i += 2) free(objects[i]);
  EXPECT_GT(mallinfo2().fordblks, 0u);
  for (size_t i = 1; i < objects.size(); i += 2) free(objects[i]);
}

TEST(Mallinfo, HoldsTheSameNumbersAsInts) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  std::vector<void*> objects = AllocateMany(10 * kKiB, 1000);
  const struct mallinfo2 wide = mallinfo2();
  const struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
  // The calls themselves hold nothing, so nothing changed between them. What does not fit is told
  // as the most that does, or, as by glibc, cut off.
  const auto fits = [](int value, size_t whole) {
    return value == static_cast<int>(whole) || (whole > size_t{INT_MAX} && value == INT_MAX);
  };
  EXPECT_TRUE(fits(narrow.arena, wide.arena)) << narrow.arena << " " << wide.arena;
  EXPECT_TRUE(fits(narrow.fordblks, wide.fordblks)) << narrow.fordblks << " " << wide.fordblks;
  EXPECT_TRUE(fits(narrow.hblkhd, wide.hblkhd)) << narrow.hblkhd << " " << wide.hblkhd;
  ASSERT_LT(wide.uordblks, size_t{INT_MAX});
  EXPECT_EQ(narrow.uordblks, static_cast<int>(wide.uordblks));
  EXPECT_GT(narrow.uordblks, 10 * 1000 * 1000);
  for (void* object : objects) free(object);
}

// A checker of well-formedness: elements nest, attributes are quoted, one root, no stray signs.
class XmlChecker {
 public:
  explicit XmlChecker(const std::string& text) : text_(text) {}

  // Empty when the text is well-formed.
  std::string Check() {
    SkipSpace();
    while (Starts("<?") || Starts("<!--")) {
      const size_t end = text_.find('>', at_);
      if (end == std::string::npos) return "an unfinished prologue";
      at_ = end + 1;
      SkipSpace();
    }
    std::string why = Element();
    if (!why.empty()) return why;
    SkipSpace();
    return at_ == text_.size() ? "" : "text after the root element";
  }

  size_t elements() const { return elements_; }

 private:
  bool Starts(const char* what) const { return text_.compare(at_, strlen(what), what) == 0; }
  char Now() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void SkipSpace() {
    while (isspace(static_cast<unsigned char>(Now()))) ++at_;
  }
  std::string Name() {
    const size_t from = at_;
    while (isalnum(static_cast<unsigned char>(Now())) || Now() == '_' || Now() == '-' || Now() == ':') {
      ++at_;
    }
    return text_.substr(from, at_ - from);
  }

  std::string Element() {
    if (Now() != '<') return "an element was expected at " + std::to_string(at_);
    ++at_;
    const std::string name = Name();
    if (name.empty()) return "an element without a name at " + std::to_string(at_);
    ++elements_;
    while (true) {
      SkipSpace();
      if (Starts("/>")) {
        at_ += 2;
        return "";
      }
      if (Now() == '>') {
        ++at_;
        break;
      }
      const std::string attribute = Name();
      if (attribute.empty() || Now() != '=') return "a bad attribute in " + name;
      ++at_;
      const char quote = Now();
      if (quote != '"' && quote != '\'') return "an attribute without quotes in " + name;
      const size_t end = text_.find(quote, at_ + 1);
      if (end == std::string::npos) return "an unfinished attribute in " + name;
      if (text_.substr(at_, end - at_).find('<') != std::string::npos) return "'<' in " + name;
      at_ = end + 1;
    }
    while (true) {
      while (at_ < text_.size() && Now() != '<') {
        if (Now() == '&') return "a bare '&' in " + name;
        ++at_;
      }
      if (at_ >= text_.size()) return name + " is not closed";
      if (Starts("</")) {
        at_ += 2;
        if (Name() != name) return name + " is closed by another name";
        SkipSpace();
        if (Now() != '>') return "a bad end of " + name;
        ++at_;
        return "";
      }
      std::string why = Element();
      if (!why.empty()) return why;
    }
  }

  const std::string& text_;
  size_t at_ = 0;
  size_t elements_ = 0;
};

TEST(MallocInfo, WritesWellFormedXml) {
  std::vector<void*> objects = AllocateMany(3000, 500);
  free(objects.back());
  objects.pop_back();
  FILE* file = tmpfile();
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(malloc_info(0, file), 0);
  fflush(file);
  std::string text(static_cast<size_t>(ftell(file)), '\0');
  rewind(file);
  ASSERT_EQ(fread(text.data(), 1, text.size(), file), text.size());
  fclose(file);
  XmlChecker checker(text);
  EXPECT_EQ(checker.Check(), "") << text;
  EXPECT_GE(checker.elements(), 3u) << text;
  EXPECT_EQ(text.compare(0, 7, "<malloc"), 0) << "glibc's root element is malloc: " << text;
  for (void* object : objects) free(object);
}

// A stream that allocates while it is written to.
TEST(MallocInfo, WritesToAMemoryStream) {
  char* text = nullptr;
  size_t length = 0;
  FILE* stream = open_memstream(&text, &length);
  ASSERT_NE(stream, nullptr);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(malloc_info(0, stream), 0);
  fclose(stream);
  EXPECT_GT(length, 1000u);
  free(text);
}

TEST(MallocInfo, RefusesOptions) {
  FILE* file = tmpfile();
  ASSERT_NE(file, nullptr);
  for (int options : {1, -1, 1000}) {
    // The manual says -1 and errno; glibc's own code returns EINVAL itself.
    errno = 0;
    const int result = malloc_info(options, file);
    EXPECT_TRUE(result == EINVAL || (result == -1 && errno == EINVAL)) << result << " " << errno;
  }
  fflush(file);
  EXPECT_EQ(ftell(file), 0) << "a refused call wrote something";
  fclose(file);
}

TEST(MallocStats, WritesToStderr) {
  FILE* file = tmpfile();
  ASSERT_NE(file, nullptr);
  fflush(stderr);
  const int saved = dup(2);
  ASSERT_GE(saved, 0);
  ASSERT_EQ(dup2(fileno(file), 2), 2);
  malloc_stats();
  fflush(stderr);
  ASSERT_EQ(dup2(saved, 2), 2);
  close(saved);
  const off_t length = lseek(fileno(file), 0, SEEK_END);
  ASSERT_GT(length, 20);
  std::string text(static_cast<size_t>(length), '\0');
  ASSERT_EQ(pread(fileno(file), text.data(), text.size(), 0), length);
  fclose(file);
  EXPECT_NE(text.find_first_of("0123456789"), std::string::npos) << text;
  EXPECT_EQ(text.back(), '\n') << text;
}

TEST(MallocTrim, GivesFreedMemoryBack) {
  malloc_trim(0);
  const size_t before = ResidentBytes();
  for (size_t size : {size_t{64}, 4 * kKiB, 60 * kKiB, kMiB}) {
    std::vector<void*> objects = AllocateMany(96 * kMiB / size, size);
    EXPECT_GE(ResidentBytes(), before + 90 * kMiB);
    for (void* object : objects) free(object);
    objects = {};
    const int result = malloc_trim(0);
    EXPECT_TRUE(result == 0 || result == 1) << result;
    EXPECT_LE(ResidentBytes(), before + 16 * kMiB) << size;
  }
}

TEST(MallocTrim, GivesBackWhatOtherThreadsFreed) {
  malloc_trim(0);
  const size_t before = ResidentBytes();
  for (int round = 0; round < 8; ++round) {
    std::thread([] {
      for (void* object : AllocateMany(10 * kKiB, 1000)) free(object);
    }).join();
  }
  malloc_trim(0);
  EXPECT_LE(ResidentBytes(), before + 16 * kMiB);
}

// Live objects stay as they are, whatever is given back around them.
TEST(MallocTrim, KeepsLiveObjects) {
  std::vector<void*> live;
  for (size_t i = 0; i < 4000; ++i) {
    std::vector<void*> around = AllocateMany(4, 3000);
    live.push_back(around[1]);
    Fill(around[1], i, 0, 3000);
    for (size_t k : {0u, 2u, 3u}) free(around[k]);
    if (i % 500 == 0) malloc_trim(i);
  }
  malloc_trim(0);
  malloc_trim(SIZE_MAX);
  for (size_t i = 0; i < live.size(); ++i) {
    ASSERT_TRUE(Holds(live[i], i, 0, 3000));
    free(live[i]);
  }
}

TEST(Mallopt, AcceptsWhatItKnows) {
  EXPECT_EQ(mallopt(M_MMAP_THRESHOLD, 256 * 1024), 1);
  EXPECT_EQ(mallopt(M_TRIM_THRESHOLD, 256 * 1024), 1);
  EXPECT_EQ(mallopt(M_TOP_PAD, 64 * 1024), 1);
  EXPECT_EQ(mallopt(M_MMAP_MAX, 65536), 1);
  EXPECT_EQ(mallopt(M_MXFAST, 64), 1);
  EXPECT_EQ(mallopt(M_PERTURB, 0), 1);
  EXPECT_EQ(mallopt(M_CHECK_ACTION, 3), 1);
  EXPECT_EQ(mallopt(M_ARENA_TEST, 2), 1);
  EXPECT_EQ(mallopt(M_ARENA_MAX, 8), 1);
  void* object = malloc(1000);
  EXPECT_NE(object, nullptr);
  free(object);
}

}  // namespace
}  // namespace tarn_test
