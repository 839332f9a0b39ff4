// SPDX-License-Identifier: Apache-2.0
//
// Every misuse that the library promises to notice, each in a process of its own. It is matched to
// the first line of the report that it must leave on stderr before it aborts:
//
//     tarn: fatal: <call>(0x<address>): <what is wrong>
//
// The program starts itself again with --misuse=<name>; that child says on stdout which address it
// misuses, misuses it, and must be gone before it gets to the end.
//
// What is wrong with a small object is seen where it reaches its span, which may be later than the
// call: pointers wait in caches. malloc_trim(0) empties all caches, so behind it nothing is left
// unseen. Such cases accept any call in the message, since the one that empties the cache is named;
// all others must name their own.

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <atomic>
#include <functional>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

extern char** environ;

namespace tarn_test {
namespace {

// All that can be wrong, as bits, because some cases may be seen in more than one way.
enum Wrong : unsigned {
  kForeign = 1,
  kInterior = 2,
  kFreeObject = 4,
  kFreeSpan = 8,
};

struct WrongText {
  Wrong wrong;
  const char* text;
};

const WrongText kWrongTexts[] = {
    {kForeign, "pointer was not allocated by tarn"},
    {kInterior, "pointer is inside an object, not at its start"},
    {kFreeObject, "object is already free"},
    {kFreeSpan, "span is already free"},
};

// Once its span is back in the page heap, nobody knows any more what an object was.
constexpr unsigned kGone = kForeign | kFreeObject | kFreeSpan;

struct Misuse {
  std::string name;
  // The calls that the message may name; empty: any.
  std::vector<std::string> calls;
  unsigned wrong;
  std::function<void()> body;
};

// Tells the parent the address and gives it back in a way that the compiler knows nothing of.
void* Announce(void* object) {
  dprintf(1, "%#zx\n", static_cast<size_t>(AddressOf(object)));
  return Opaque(object);
}

void* ToPointer(uintptr_t address) { return reinterpret_cast<void*>(Opaque(address)); }

void* Allocate(size_t size) {
  void* object = Opaque(malloc(size));
  if (object == nullptr) _exit(2);
  return object;
}

// An object whose neighbours stay in use, and so its span.
void* AmongOthers(size_t size, void* (*allocate)(size_t)) {
  void* object = nullptr;
  for (int i = 0; i < 20; ++i) {
    void* other = allocate(size);
    if (i == 10) object = other;
  }
  return object;
}

void* AllocateAmongOthers(size_t size) { return AmongOthers(size, Allocate); }

// An object for a sized operator delete must come from operator new: for the smallest sizes it may
// use a class that malloc does not use.
void* NewAmongOthers(size_t size) {
  return AmongOthers(size, [](size_t n) { return Opaque(::operator new(n)); });
}

// Frees the object in one thread and then in another. Both exist before the first free, since the
// birth of a thread allocates and might get the object.
void FreeInTwoThreads(void* object) {
  std::atomic<int> turn = 0;
  const auto body = [object, &turn](int mine) {
    while (turn.load() != mine) sched_yield();
    free(object);
    turn.store(mine + 1);
  };
  std::thread first(body, 1);
  std::thread second(body, 2);
  turn.store(1);
  first.join();
  second.join();
}

// A way to hand a pointer back.
struct Release {
  const char* name;
  std::vector<std::string> calls;
  void (*call)(void* object);
  // Tried with every stranger and every size; the others, which share most of their way, with a
  // few.
  bool always = false;
};

// operator delete without a size may share its code with free, and then shares its name.
const std::vector<Release>& Releases() {
  static const std::vector<Release> releases = {
      {"free", {"free"}, [](void* p) { free(p); }, true},
      {"realloc", {"realloc"}, [](void* p) { Opaque(realloc(p, 100)); }, true},
      {"realloc_large", {"realloc"}, [](void* p) { Opaque(realloc(p, 5 * kMiB)); }},
      {"realloc_zero", {"realloc", "free"}, [](void* p) { Opaque(realloc(p, Opaque(size_t{0}))); }},
      {"reallocarray", {"reallocarray", "realloc"}, [](void* p) { Opaque(reallocarray(p, 10, 10)); }},
      {"usable_size", {"malloc_usable_size"}, [](void* p) { Opaque(malloc_usable_size(p)); }, true},
      {"delete", {"operator delete", "free"}, [](void* p) { ::operator delete(p); }, true},
      {"delete_array", {"operator delete[]", "operator delete", "free"}, [](void* p) { ::operator delete[](p); }},
      {"delete_aligned", {"operator delete", "free"}, [](void* p) { ::operator delete (p, std::align_val_t{64}); }},
      {"delete_nothrow", {"operator delete", "free"}, [](void* p) { ::operator delete(p, std::nothrow); }},
      {"cfree", {"cfree", "free"}, [](void* p) { cfree(p); }},
  };
  return releases;
}

int g_static_object[64];
thread_local int g_thread_local_object[64];

// A pointer that no allocator handed out.
struct Stranger {
  const char* name;
  void* (*address)();
  // Tried with every release.
  bool always = false;
};

const Stranger kStrangers[] = {
    {"static", [] { return static_cast<void*>(g_static_object); }, true},
    {"thread_local", [] { return static_cast<void*>(g_thread_local_object); }},
    {"function", [] { return reinterpret_cast<void*>(&Allocate); }},
    {"text", [] { return const_cast<void*>(static_cast<const void*>("a text that is constant")); }},
    {"environment", [] { return static_cast<void*>(environ[0]); }},
    {"mapped", [] { return mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }},
    {"unmapped",
     [] {
       void* page = mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       munmap(page, kMiB);
       return page;
     }},
    {"break", [] { return sbrk(4096); }},
    {"number_1", [] { return ToPointer(1); }},
    {"number_16", [] { return ToPointer(16); }},
    {"number_4096", [] { return ToPointer(4096); }},
    {"number_12345678", [] { return ToPointer(0x12345678); }},
    {"number_odd", [] { return ToPointer(0x5a5a5a5a5a5b); }},
    {"non_canonical", [] { return ToPointer(0xdeadbeefdeadbeef); }, true},
    {"minus_one", [] { return ToPointer(UINTPTR_MAX); }},
    {"minus_4096", [] { return ToPointer(UINTPTR_MAX - 4095); }},
    {"kernel", [] { return ToPointer(0xffff800000000000); }},
    {"end_of_user_space", [] { return ToPointer(0x7ffffffff000); }},
    {"beyond_47_bits", [] { return ToPointer(0x800000000000); }},
    {"beyond_48_bits", [] { return ToPointer(0x1000000000000); }},
    {"beyond_56_bits", [] { return ToPointer(0x100000000000000); }},
};

// The sizes of small objects to misuse: the smallest, some in between, spans of one and of many
// pages, and near the largest class.
const size_t kSmallSizes[] = {1, 16, 24, 100, 1024, 4000, 8192, 30000, 100000, 200000};
const size_t kLargeSizes[] = {600 * kKiB, kMiB, 3 * kMiB + 5, 9 * kMiB, 70 * kMiB};

std::vector<Misuse> AllMisuses() {
  std::vector<Misuse> all;
  const auto add = [&all](std::string name, std::vector<std::string> calls, unsigned wrong,
                          std::function<void()> body) {
    all.push_back({std::move(name), std::move(calls), wrong, std::move(body)});
  };
  const auto number = [](size_t value) { return std::to_string(value); };

  // Pointers of strangers. The call sees them at once.
  for (const Stranger& stranger : kStrangers) {
    for (const Release& release : Releases()) {
      if (!stranger.always && !release.always) continue;
      add("foreign_" + std::string(stranger.name) + "_" + release.name, release.calls, kForeign,
          [&stranger, &release] { release.call(Announce(stranger.address())); });
    }
    // With a size no page map is needed, so that these go into a cache and are seen later.
    add("foreign_" + std::string(stranger.name) + "_free_sized", {}, kForeign, [&stranger] {
      free_sized(Announce(stranger.address()), 64);
      malloc_trim(0);
    });
    add("foreign_" + std::string(stranger.name) + "_delete_sized", {}, kForeign, [&stranger] {
      ::operator delete (Announce(stranger.address()), size_t{1000});
      malloc_trim(0);
    });
    add("foreign_" + std::string(stranger.name) + "_free_sized_large", {"free_sized"}, kForeign,
        [&stranger] { free_sized(Announce(stranger.address()), 3 * kMiB); });
    add("foreign_" + std::string(stranger.name) + "_free_aligned_sized_large", {"free_aligned_sized"}, kForeign,
        [&stranger] { free_aligned_sized(Announce(stranger.address()), 4096, 3 * kMiB); });
  }
  add("foreign_stack_free", {"free"}, kForeign, [] {
    int on_stack[64];
    free(Announce(on_stack));
  });
  add("foreign_stack_realloc", {"realloc"}, kForeign, [] {
    int on_stack[64];
    Opaque(realloc(Announce(on_stack), 10));
  });
  add("foreign_stack_of_a_thread_free", {"free"}, kForeign, [] {
    std::thread([] {
      int on_stack[64];
      free(Announce(on_stack));
    }).join();
  });

  // Pointers into small objects: seen at the span.
  for (size_t size : kSmallSizes) {
    for (size_t offset : std::set<size_t>{1, 8, 16, size / 2, size - 1}) {
      if (offset == 0 || offset >= size) continue;
      const std::string suffix = number(size) + "_at_" + number(offset);
      add("interior_small_free_" + suffix, {}, kInterior, [size, offset] {
        free(Announce(static_cast<char*>(AllocateAmongOthers(size)) + offset));
        malloc_trim(0);
      });
    }
    if (size >= 100) {
      add("interior_small_delete_sized_" + number(size), {}, kInterior, [size] {
        ::operator delete(Announce(static_cast<char*>(NewAmongOthers(size)) + 16), size);
        malloc_trim(0);
      });
      add("interior_small_realloc_" + number(size), {}, kInterior, [size] {
        Opaque(realloc(Announce(static_cast<char*>(AllocateAmongOthers(size)) + 16), 2 * kMiB));
        malloc_trim(0);
      });
    }
  }

  // Pointers into large objects: at once.
  for (size_t size : kLargeSizes) {
    for (size_t offset : {size_t{1}, size_t{16}, 4 * kKiB, 8 * kKiB, size / 2, size - 1}) {
      const std::string suffix = number(size) + "_at_" + number(offset);
      add("interior_large_free_" + suffix, {"free"}, kInterior,
          [size, offset] { free(Announce(static_cast<char*>(Allocate(size)) + offset)); });
    }
    for (const Release& release : Releases()) {
      if (size != kMiB && !release.always) continue;
      add("interior_large_" + std::string(release.name) + "_" + number(size), release.calls, kInterior,
          [size, &release] { release.call(Announce(static_cast<char*>(Allocate(size)) + 8 * kKiB)); });
    }
  }
  add("interior_aligned_large", {"free"}, kInterior,
      [] { free(Announce(static_cast<char*>(aligned_alloc(4 * kMiB, 6 * kMiB)) + 64 * kKiB)); });

  // The second free of a small object: seen at the span.
  for (size_t size : kSmallSizes) {
    // A span of one object is gone with it, whatever its neighbours do.
    const unsigned wrong = size < 8 * kKiB ? kFreeObject : kGone;
    add("double_free_small_" + number(size), {}, wrong, [size] {
      void* object = Announce(AllocateAmongOthers(size));
      free(object);
      free(object);
      malloc_trim(0);
    });
    add("double_free_small_with_others_between_" + number(size), {}, wrong, [size] {
      void* object = Announce(AllocateAmongOthers(size));
      void* others[3] = {AllocateAmongOthers(size), AllocateAmongOthers(size), AllocateAmongOthers(size)};
      free(others[0]);
      free(object);
      free(others[1]);
      free(object);
      free(others[2]);
      malloc_trim(0);
    });
    add("double_free_small_after_trim_" + number(size), {}, wrong, [size] {
      void* object = Announce(AllocateAmongOthers(size));
      free(object);
      malloc_trim(0);
      free(object);
      malloc_trim(0);
    });
    add("double_free_small_in_two_threads_" + number(size), {}, wrong, [size] {
      void* object = Announce(AllocateAmongOthers(size));
      FreeInTwoThreads(object);
      malloc_trim(0);
    });
    add("double_delete_sized_small_" + number(size), {}, wrong, [size] {
      void* object = Announce(NewAmongOthers(size));
      ::operator delete(object, size);
      ::operator delete(object, size);
      malloc_trim(0);
    });
    add("free_of_what_realloc_moved_" + number(size), {}, wrong, [size] {
      void* object = Announce(AllocateAmongOthers(size));
      Opaque(realloc(object, 2 * kMiB));
      free(object);
      malloc_trim(0);
    });
    add("realloc_of_a_freed_small_object_" + number(size), {}, wrong, [size] {
      void* object = Announce(AllocateAmongOthers(size));
      free(object);
      Opaque(realloc(object, 2 * kMiB));
      malloc_trim(0);
    });
    // The whole span went back to the page heap in between, so that it may be anyone's.
    add("double_free_small_of_a_gone_span_" + number(size), {}, kGone, [size] {
      std::vector<void*> objects;
      for (size_t i = 0; i < 4 + 4 * kMiB / size / 16; ++i) objects.push_back(Allocate(size));
      void* object = Announce(objects[objects.size() / 2]);
      for (void* each : objects) free(each);
      malloc_trim(0);
      free(object);
      malloc_trim(0);
    });
  }
  // With traffic of the class, which brings the pointers to their span, or at least in the way of
  // others. All objects are taken before the second free, so that nobody becomes a second owner.
  for (size_t size : {32u, 1024u}) {
    add("double_free_small_and_traffic_" + number(size), {}, kFreeObject, [size] {
      std::vector<void*> objects;
      for (int i = 0; i < 200000; ++i) objects.push_back(Allocate(size));
      void* object = Announce(objects[1000]);
      free(object);
      free(object);
      for (size_t i = 0; i < objects.size(); ++i) {
        // The span of the object stays in use.
        if (i < 900 || i > 1100) free(objects[i]);
      }
      malloc_trim(0);
    });
  }

  // The second free of a large object: at once.
  for (size_t size : kLargeSizes) {
    for (const Release& release : Releases()) {
      if (size != kMiB && !release.always) continue;
      add("double_free_large_" + std::string(release.name) + "_" + number(size), release.calls,
          size < 32 * kMiB ? kFreeObject | kFreeSpan : kGone, [size, &release] {
            void* object = Announce(Allocate(size));
            free(object);
            release.call(object);
          });
    }
    add("double_free_large_in_two_threads_" + number(size), {"free"}, kGone, [size] {
      void* object = Announce(Allocate(size));
      FreeInTwoThreads(object);
    });
    add("double_free_large_after_trim_" + number(size), {"free"}, kGone, [size] {
      void* object = Announce(Allocate(size));
      free(object);
      malloc_trim(0);
      free(object);
    });
  }
  return all;
}

// The exit and the words of a child.
struct Outcome {
  bool hung = false;
  int status = 0;
  std::string out;
  std::string err;
};

// Starts this program again with one argument, without ever running the allocator in the child of
// a fork, and reads what it writes.
Outcome RunSelf(const std::string& argument) {
  Outcome outcome;
  int out[2];
  int err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe2: " << errno;
    return outcome;
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  std::string program = "misuse_test";
  std::string given = argument;
  char* arguments[] = {program.data(), given.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  if (error != 0) {
    ADD_FAILURE() << "posix_spawn: " << error;
    close(out[0]);
    close(err[0]);
    return outcome;
  }
  struct pollfd files[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  std::string* texts[2] = {&outcome.out, &outcome.err};
  const time_t deadline = time(nullptr) + 20;
  int open_files = 2;
  while (open_files > 0 && !outcome.hung) {
    if (poll(files, 2, 1000) < 0 && errno != EINTR) break;
    for (int i = 0; i < 2; ++i) {
      if (files[i].fd < 0 || files[i].revents == 0) continue;
      char text[4096];
      const ssize_t length = read(files[i].fd, text, sizeof(text));
      if (length > 0) {
        texts[i]->append(text, static_cast<size_t>(length));
      } else {
        close(files[i].fd);
        files[i].fd = -1;
        --open_files;
      }
    }
    if (time(nullptr) > deadline) {
      outcome.hung = true;
      kill(child, SIGKILL);
    }
  }
  for (const struct pollfd& file : files) {
    if (file.fd >= 0) close(file.fd);
  }
  waitpid(child, &outcome.status, 0);
  return outcome;
}

// The end of a line on an interior pointer: the object that has the address, if one has.
std::string WhyNotTheFacts(const std::string& facts, uintptr_t address) {
  size_t bytes = 0;
  size_t start = 0;
  int length = 0;
  const int read = sscanf(facts.c_str(), ": the object of %zu bytes starts at %zx%n", &bytes, &start, &length);
  if (read != 2 || static_cast<size_t>(length) != facts.size()) return "it has other facts";
  return start < address && address < start + bytes ? "" : "the object that it names has not the address";
}

// Empty when the text begins with the line that is due, and the stack of the call follows; otherwise what is wrong with
// it.
std::string WhyNotTheLine(const std::string& report, const Misuse& misuse, uintptr_t address) {
  const std::string prefix = "tarn: fatal: ";
  const std::string text = report.substr(0, report.find('\n') + 1);
  if (text.compare(0, prefix.size(), prefix) != 0) return "it does not begin with " + prefix;
  if (report.find("  This call by thread ") == std::string::npos) return "it has no stack";
  const size_t open = text.find('(', prefix.size());
  const size_t close = text.find("): ", prefix.size());
  if (open == std::string::npos || close == std::string::npos || close < open) {
    return "it has no call with an address";
  }
  const std::string call = text.substr(prefix.size(), open - prefix.size());
  bool fits = misuse.calls.empty() && !call.empty();
  for (const std::string& each : misuse.calls) fits = fits || each == call;
  if (!fits) return "it names another call: " + call;
  const std::string hex = text.substr(open + 1, close - open - 1);
  char* end = nullptr;
  const uintptr_t named = strtoull(hex.c_str(), &end, 16);
  if (hex.compare(0, 2, "0x") != 0 || *end != '\0') return "the address is not hexadecimal";
  if (named != address) return "it names another address";
  const std::string what = text.substr(close + 3, text.size() - close - 4);
  for (const WrongText& each : kWrongTexts) {
    const size_t length = strlen(each.text);
    if ((misuse.wrong & each.wrong) == 0 || what.compare(0, length, each.text) != 0) continue;
    const std::string facts = what.substr(length);
    if (facts.empty()) return "";
    if (each.wrong == kInterior) return WhyNotTheFacts(facts, address);
  }
  return "it says that something else is wrong";
}

class MisuseTest : public ::testing::TestWithParam<Misuse> {};

TEST_P(MisuseTest, IsAnsweredWithALineAndAbort) {
  // Others say other things, or nothing.
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const Misuse& misuse = GetParam();
  const Outcome outcome = RunSelf("--misuse=" + misuse.name);
  ASSERT_FALSE(outcome.hung) << outcome.err;
  ASSERT_FALSE(WIFEXITED(outcome.status))
      << "the misuse was not noticed; exit code " << WEXITSTATUS(outcome.status) << "\n"
      << outcome.err;
  EXPECT_EQ(WTERMSIG(outcome.status), SIGABRT) << outcome.err;
  ASSERT_FALSE(outcome.out.empty()) << "it ended before the misuse: " << outcome.err;
  const uintptr_t address = strtoull(outcome.out.c_str(), nullptr, 16);
  EXPECT_EQ(WhyNotTheLine(outcome.err, misuse, address), "") << "address " << outcome.out << "stderr: " << outcome.err;
}

// Prints the name of a case; without it googletest prints the bytes of the structure.
void PrintTo(const Misuse& misuse, std::ostream* stream) { *stream << misuse.name; }

INSTANTIATE_TEST_SUITE_P(All, MisuseTest, ::testing::ValuesIn(AllMisuses()),
                         [](const auto& test) { return test.param.name; });

// With no stderr to write to it still aborts, rather than to go on or to hang.
TEST(MisuseWithoutStderr, Aborts) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const Outcome outcome = RunSelf("--without-stderr");
  EXPECT_FALSE(outcome.hung);
  ASSERT_TRUE(WIFSIGNALED(outcome.status)) << outcome.err;
  EXPECT_EQ(WTERMSIG(outcome.status), SIGABRT);
}

// A handler of SIGABRT may look around, and a debugger's or a crash reporter's will; it gets
// called, and the line is there before.
TEST(MisuseWithHandler, CallsIt) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const Outcome outcome = RunSelf("--with-handler");
  EXPECT_FALSE(outcome.hung);
  ASSERT_TRUE(WIFEXITED(outcome.status)) << outcome.status;
  EXPECT_EQ(WEXITSTATUS(outcome.status), 42) << outcome.err;
  EXPECT_EQ(outcome.err.compare(0, 13, "tarn: fatal: "), 0) << outcome.err;
}

// Many threads at once: each line is whole, and the process ends.
TEST(MisuseByManyThreads, LeavesWholeLines) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  const Outcome outcome = RunSelf("--many-threads");
  EXPECT_FALSE(outcome.hung);
  ASSERT_TRUE(WIFSIGNALED(outcome.status)) << outcome.err;
  EXPECT_EQ(WTERMSIG(outcome.status), SIGABRT);
  size_t from = 0;
  int lines = 0;
  while (from < outcome.err.size()) {
    const size_t end = outcome.err.find('\n', from);
    ASSERT_NE(end, std::string::npos) << outcome.err;
    const std::string line = outcome.err.substr(from, end - from);
    from = end + 1;
    if (line.compare(0, 2, "  ") == 0) continue;  // of a stack
    EXPECT_EQ(line.compare(0, 20, "tarn: fatal: free(0x"), 0) << line;
    const std::string text = kWrongTexts[0].text;
    EXPECT_EQ(line.find(text) + text.size(), line.size()) << line;
    ++lines;
  }
  EXPECT_GE(lines, 1);
}

// A child that does nothing wrong ends well: the harness itself notices a missing abort.
TEST(MisuseHarness, SeesAChildThatSurvives) {
  const Outcome outcome = RunSelf("--nothing");
  EXPECT_FALSE(outcome.hung);
  ASSERT_TRUE(WIFEXITED(outcome.status));
  EXPECT_EQ(WEXITSTATUS(outcome.status), 3);
}

// The child. Comes back with the exit code when the misuse went unnoticed.
int RunAsChild(const std::string& argument) {
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (argument == "--without-stderr") {
    close(2);
    free(Opaque(static_cast<void*>(g_static_object)));
  } else if (argument == "--with-handler") {
    signal(SIGABRT, [](int) { _exit(42); });
    free(Opaque(static_cast<void*>(g_static_object)));
  } else if (argument == "--many-threads") {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([] { free(Opaque(static_cast<void*>(g_static_object))); });
    }
    for (std::thread& thread : threads) thread.join();
  } else if (argument == "--nothing") {
    free(Allocate(100));
  } else {
    const std::string wanted = argument.substr(argument.find('=') + 1);
    for (const Misuse& misuse : AllMisuses()) {
      if (misuse.name == wanted) misuse.body();
    }
  }
  dprintf(2, "the misuse was not noticed\n");
  return 3;
}

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) {
  const std::string argument = argc == 2 ? argv[1] : "";
  const bool is_child = argument.compare(0, 9, "--misuse=") == 0 || argument == "--nothing" ||
                        argument == "--without-stderr" || argument == "--with-handler" || argument == "--many-threads";
  if (is_child) return tarn_test::RunAsChild(argument);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
