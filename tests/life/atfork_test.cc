// SPDX-License-Identifier: Apache-2.0
//
// Registrations of fork handlers by other threads while a thread forks, and where libc has another name.
//
// libc keeps the handlers in a list that grows by allocation, under a lock that fork takes, too. An allocator whose
// prepare handler holds its locks from before that waits for a thread that waits for it.

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;
constexpr double kChildSeconds = kPatienceSeconds;

// The calling thread's reallocations move the object and keep the old one as it is.
thread_local bool g_keeps_old_objects = false;

void* MoveAndKeep(void* old_object, size_t size) {
  void* object = malloc(size);
  if (object != nullptr && old_object != nullptr) {
    std::memcpy(object, old_object, std::min(size, malloc_usable_size(old_object)));
  }
  return object;
}

// glibc 2.36 gives up the lock of its list before it runs a prepare handler. Where a thread waits for that lock, it
// wakes the thread first and reads the handler's address only then (__run_prefork_handlers). If the list grows in
// between, that address is in an array which libc has freed. So the registering thread frees no array.
//
// Enough handlers that the list grows several times while the other thread forks; from the middle on beyond 256 KiB.
TEST(RegistrationOfForkHandlers, WhileAnotherThreadForks) {
  ExpectGoodEnd(kBodySeconds, [] {
    for (int process = 0; process < 12; ++process) {
      const pid_t forks = fork();
      if (forks == 0) {
        std::atomic<bool> registered = false;
        std::thread registers([&registered] {
          g_keeps_old_objects = true;
          for (int i = 0; i < 12000; ++i) TARN_LIFE_REQUIRE(pthread_atfork(nullptr, nullptr, nullptr) == 0);
          registered.store(true);
        });
        for (int i = 0; i < 20 || !registered.load(); ++i) {
          const pid_t child = fork();
          if (child == 0) _exit(0);
          RequireGoodEnd(child, kChildSeconds);
        }
        registers.join();
        _exit(0);
      }
      RequireGoodEnd(forks, 3 * kChildSeconds);
    }
  });
}

std::atomic<int> g_registered_by_handler = 0;

void RegisterAnother() {
  if (g_registered_by_handler.fetch_add(1) < 200) {
    TARN_LIFE_REQUIRE(pthread_atfork(nullptr, nullptr, nullptr) == 0);
  }
}

// In every phase of a fork, by a handler of it.
TEST(RegistrationOfForkHandlers, ByHandlersOfAFork) {
  ExpectGoodEnd(kBodySeconds, [] {
    std::atomic<bool> stop = false;
    std::thread company([&stop] {
      while (!stop.load()) Sleep(100);
    });
    TARN_LIFE_REQUIRE(pthread_atfork(RegisterAnother, RegisterAnother, RegisterAnother) == 0);
    for (int i = 0; i < 60; ++i) {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      RequireGoodEnd(child, kChildSeconds);
    }
    TARN_LIFE_REQUIRE(g_registered_by_handler.load() >= 120);
    stop = true;
    company.join();
  });
}

// --- With a libc under another name --------------------------------------------------------------------------------

// A name of libc in a bundle of a program with its libraries, or in a directory of links with their versions.
constexpr char kRenamedLibc[] = "libc-of-a-bundle.so";

template <typename Function>
std::string FileThatDefines(Function* function) {
  Dl_info info = {};
  return dladdr(reinterpret_cast<void*>(function), &info) != 0 ? info.dli_fname : "";
}

// Runs itself again.
TEST(RenamedLibc, TakesRegistrationsOfForkHandlers) {
  const std::filesystem::path tarn = FileThatDefines(&malloc);
  const std::filesystem::path libc = FileThatDefines(&gnu_get_libc_version);
  ASSERT_EQ(tarn.filename().string().find("libtarn.so"), 0u) << tarn;
  if (getenv("TARN_TEST_RENAMED_LIBC") != nullptr) {
    ASSERT_EQ(libc.filename(), kRenamedLibc);
    EXPECT_EQ(pthread_atfork(nullptr, nullptr, nullptr), 0);
    return;
  }
  ASSERT_TRUE(libc.is_absolute()) << libc;
  std::string directory = (std::filesystem::temp_directory_path() / "tarn_libc_XXXXXX").string();
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string copy = directory + "/" + kRenamedLibc;
  std::filesystem::copy_file(libc, copy);
  const pid_t child = fork();
  if (child == 0) {
    // The loader takes the copy for libc.so.6, by the name within the file. Tarn stays in front of it.
    setenv("LD_PRELOAD", (tarn.string() + ":" + copy).c_str(), 1);
    setenv("TARN_TEST_RENAMED_LIBC", "1", 1);
    execl("/proc/self/exe", "atfork_test", "--gtest_filter=RenamedLibc.*:RegistrationOfForkHandlers.By*", nullptr);
    _exit(127);
  }
  int status = -1;
  EXPECT_TRUE(WaitFor(child, 2 * kBodySeconds, &status));
  EXPECT_EQ(status, 0);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace tarn_test

// libc's list grows by realloc, and calls the program's.
extern "C" void* realloc(void* old_object, size_t size) noexcept {
  using Realloc = void*(void*, size_t);
  if (tarn_test::g_keeps_old_objects) return tarn_test::MoveAndKeep(old_object, size);
  static Realloc* const next = reinterpret_cast<Realloc*>(dlsym(RTLD_NEXT, "realloc"));
  return next(old_object, size);
}
