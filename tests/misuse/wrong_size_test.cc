// SPDX-License-Identifier: Apache-2.0
//
// A free by a wrong size goes by the object's own: a delete through a base class without a virtual destructor gives the
// base's size, and programs do that. With TARN_CHECK=on each is noted by one line, which is not fatal.
//
// Each case runs twice in a process of its own. What was filed under a wrong class would be seen at the end, where
// malloc_trim brings all objects to their spans.

#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>
#include <string>

#include "allocator/include/tarn/preset.h"
#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

struct Sizes {
  size_t object;
  size_t given;
};
const Sizes kSizes[] = {
    {64, 1024},      {1024, 64}, {48, 200},        {8000, 100},      {100, 100000},          {100000, 100},
    {kMiB, 64},      {64, kMiB}, {kMiB, 2 * kMiB}, {2 * kMiB, kMiB}, {9 * kMiB, 700 * kKiB}, {200000, 3 * kMiB},
    {9 * kMiB, 8000}};

struct Form {
  const char* name;
  const char* call;
  bool accepts_smaller;  // realloc may have left the object where it was
  void* (*allocate)(size_t size);
  void (*free)(void* object, size_t given);
};

const Form kForms[] = {
    {"free_sized", "free_sized", true, [](size_t n) { return malloc(n); }, [](void* p, size_t n) { free_sized(p, n); }},
    {"free_aligned_sized", "free_aligned_sized", true, [](size_t n) { return aligned_alloc(64, (n + 63) / 64 * 64); },
     [](void* p, size_t n) { free_aligned_sized(p, 64, n); }},
    {"delete", "operator delete", false, [](size_t n) { return ::operator new(n); },
     [](void* p, size_t n) { ::operator delete(p, n); }},
    {"delete_array", "operator delete[]", false, [](size_t n) { return ::operator new[](n); },
     [](void* p, size_t n) { ::operator delete[](p, n); }},
    {"delete_aligned", "operator delete", false, [](size_t n) { return ::operator new (n, std::align_val_t{64}); },
     [](void* p, size_t n) { ::operator delete (p, n, std::align_val_t{64}); }},
    {"delete_array_aligned", "operator delete[]", false,
     [](size_t n) { return ::operator new[](n, std::align_val_t{64}); },
     [](void* p, size_t n) { ::operator delete[](p, n, std::align_val_t{64}); }},
};

// A process of its own, with what it wrote to stdout and stderr.
struct Outcome {
  int status = 0;
  std::string out;
  std::string err;
};

std::string ReadAll(int file) {
  std::string text;
  char part[4096];
  for (ssize_t length; (length = read(file, part, sizeof(part))) > 0;) text.append(part, static_cast<size_t>(length));
  close(file);
  return text;
}

// `check` is what TARN_CHECK says, null: nothing.
Outcome RunSelf(const std::string& argument, const char* check) {
  check == nullptr ? unsetenv("TARN_CHECK") : setenv("TARN_CHECK", check, 1);
  int out[2];
  int err[2];
  Outcome outcome;
  if (pipe(out) != 0 || pipe(err) != 0) return outcome;
  const pid_t child = fork();
  if (child == 0) {
    dup2(out[1], 1);
    dup2(err[1], 2);
    for (const int file : {out[0], out[1], err[0], err[1]}) close(file);
    execl("/proc/self/exe", "wrong_size_test", argument.c_str(), nullptr);
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  // A few lines each: neither pipe can fill up while the other one is read.
  outcome.out = ReadAll(out[0]);
  outcome.err = ReadAll(err[0]);
  waitpid(child, &outcome.status, 0);
  return outcome;
}

int RunAsChild(const std::string& name, size_t size, size_t given) {
  for (const Form& form : kForms) {
    if (name != form.name) continue;
    void* objects[20];
    for (void*& object : objects) object = Opaque(form.allocate(size));
    void* object = objects[10];
    printf("%#zx %zu\n", static_cast<size_t>(AddressOf(object)), malloc_usable_size(object));
    fflush(stdout);
    form.free(object, given);
    for (void* each : objects) {
      if (each != object) form.free(each, size);
    }
    malloc_trim(0);
    return 0;
  }
  return 2;
}

std::string Argument(const Form& form, const Sizes& sizes) {
  return std::string("--wrong-size=") + form.name + "," + std::to_string(sizes.object) + "," +
         std::to_string(sizes.given);
}

TEST(WrongSize, IsFreedByItsOwn) {
  for (const Form& form : kForms) {
    for (const Sizes& sizes : kSizes) {
      const Outcome outcome = RunSelf(Argument(form, sizes), "off");
      EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0) << Argument(form, sizes);
      EXPECT_EQ(outcome.err, "") << Argument(form, sizes);
    }
  }
}

TEST(WrongSize, IsNotedWhereChecksAreOn) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  for (const Form& form : kForms) {
    for (const Sizes& sizes : kSizes) {
      const Outcome outcome = RunSelf(Argument(form, sizes), "on");
      EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0) << Argument(form, sizes);
      size_t address = 0;
      size_t bytes = 0;
      ASSERT_EQ(sscanf(outcome.out.c_str(), "%zx %zu", &address, &bytes), 2) << Argument(form, sizes);
      char line[256];
      snprintf(
          line, sizeof(line),
          "tarn: %s(%#zx): size does not match the object: %zu bytes were given, the object has %zu; it is freed by "
          "its own size\n",
          form.call, address, sizes.given, bytes);
      const bool is_noted = !form.accepts_smaller || sizes.given > sizes.object;
      EXPECT_EQ(outcome.err, is_noted ? line : "") << Argument(form, sizes);
    }
  }
}

// A program that does it all the time does not fill its log.
TEST(WrongSize, IsNotedSomeTimesOnly) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const Outcome outcome = RunSelf("--many", "on");
  EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0);
  size_t lines = 0;
  for (const char c : outcome.err) lines += c == '\n';
  EXPECT_EQ(lines, 20u);
}

// The checks may be turned on, and off again, while the program runs.
TEST(WrongSize, IsNotedFromTheMomentThatChecksAreTurnedOn) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const Outcome outcome = RunSelf("--preset", nullptr);
  EXPECT_TRUE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0);
  EXPECT_NE(outcome.err.find("64 bytes were given, the object has 1024"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("320"), std::string::npos) << outcome.err;
}

int RunMany() {
  for (int i = 0; i < 1000; ++i) ::operator delete (Opaque(::operator new(1024)), size_t{64});
  return 0;
}

int RunWithPresets() {
  const auto free_by_wrong_size = [](size_t size) { ::operator delete (Opaque(::operator new(size)), size_t{64}); };
  free_by_wrong_size(320);
  if (tarn_set_preset("development") != 0) return 2;
  free_by_wrong_size(1024);
  if (tarn_set_preset("production") != 0) return 2;
  free_by_wrong_size(320);
  free_by_wrong_size(320);
  return 0;
}

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) {
  const std::string argument = argc == 2 ? argv[1] : "";
  if (argument == "--many") return tarn_test::RunMany();
  if (argument == "--preset") return tarn_test::RunWithPresets();
  char name[32];
  size_t size;
  size_t given;
  if (sscanf(argument.c_str(), "--wrong-size=%31[^,],%zu,%zu", name, &size, &given) == 3) {
    return tarn_test::RunAsChild(name, size, given);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
