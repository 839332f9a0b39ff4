// SPDX-License-Identifier: Apache-2.0
//
// Finding rseq: where there is one its ids are true, where there is none the reason is said.
//
// Runs twice, with libc's registration and (with the environment that CMakeLists.txt sets) with ours.

#include "allocator/rseq/registration.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/cpus.h"
#include "allocator/os/process.h"
#include "allocator/os/thread_state.h"
#include "tests/os/cpu_set.h"
#include "tests/os/in_child.h"

extern "C" {
extern __attribute__((weak)) const std::ptrdiff_t __rseq_offset;
extern __attribute__((weak)) const unsigned int __rseq_size;
}

namespace tarn {
namespace {

#if defined(TARN_NO_RSEQ)
constexpr bool kBuiltWithRseq = false;
#else
constexpr bool kBuiltWithRseq = true;
#endif

// With one thread only there is nothing to restart, and the kernel is not asked.
void StartAnotherThread() {
  std::thread([] {
    while (true) pause();
  }).detach();
}

bool LibcRegisters() { return &__rseq_size != nullptr && __rseq_size != 0; }

// An own registration can be made once per thread only, so each test looks in a child of its own.
template <typename Body>
std::string InChildWithRseq(Body body) {
  return tarn_test::ComplaintOfChild([&body] {
    const RseqSupport support = DetectRseq(false);
    if (kBuiltWithRseq && support.index == RseqIndex::kNone) {
      // A machine without rseq: nothing can be tested but that the reason is there.
      TARN_REQUIRE(support.reason != nullptr);
      return;
    }
    body(support);
  });
}

std::int32_t ReadId(const RseqSupport& support) {
  const char* thread_pointer = static_cast<const char*>(__builtin_thread_pointer());
  return *reinterpret_cast<const volatile std::int32_t*>(thread_pointer + support.offsets.id);
}

bool PinTo(int cpu) { return tarn_test::CpuSet::One(static_cast<std::size_t>(cpu)).Apply(0); }

TEST(Rseq, SaysWhyThereIsNone) {
  EXPECT_EQ(InChildWithRseq([](const RseqSupport& support) {
              TARN_REQUIRE((support.index == RseqIndex::kNone) == (support.reason != nullptr));
              if (kBuiltWithRseq) {
                TARN_REQUIRE(support.register_threads == !LibcRegisters());
              } else {
                TARN_REQUIRE(support.index == RseqIndex::kNone);
                TARN_REQUIRE(strcmp(support.reason, "built without rseq") == 0);
              }
            }),
            "");
}

TEST(Rseq, ByThreadTheIdIsOursAndTheKernelLeavesItAlone) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const RseqSupport support = DetectRseq(true);
              TARN_REQUIRE(support.index == RseqIndex::kNone && support.reason != nullptr);
              TARN_REQUIRE(!support.register_threads);
              TARN_REQUIRE(ReadId(support) == -1);
              thread_state.slab_index = 4711;
              for (int i = 0; i < 50; ++i) {
                usleep(100);
                TARN_REQUIRE(ReadId(support) == 4711);
              }
            }),
            "");
}

TEST(Rseq, IdsArePlausibleInEveryThread) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "no threads in a forked child of it";
  EXPECT_EQ(InChildWithRseq([](const RseqSupport& support) {
              const std::size_t bound = CpuIdBound();
              TARN_REQUIRE(bound >= static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_CONF)));
              constexpr int kThreads = 8;
              std::atomic<int> started = 0;
              const auto look = [&] {
                if (support.register_threads && ReadId(support) < 0) {
                  TARN_REQUIRE(RegisterThreadArea());
                }
                started.fetch_add(1);
                while (started.load() < kThreads) sched_yield();
                for (int i = 0; i < 2000; ++i) {
                  const std::int32_t id = ReadId(support);
                  TARN_REQUIRE(id >= 0 && static_cast<std::size_t>(id) < bound);
                  // The compact ids stay below the number of threads, the one that made these included.
                  TARN_REQUIRE(support.index != RseqIndex::kMmCid || id <= kThreads);
                  if (i % 100 == 0) sched_yield();
                }
              };
              std::vector<std::thread> threads;
              for (int i = 0; i < kThreads; ++i) threads.emplace_back(look);
              for (std::thread& thread : threads) thread.join();
            }),
            "");
}

TEST(Rseq, TheCpuIdFollowsTheThread) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  EXPECT_EQ(InChildWithRseq([](const RseqSupport& support) {
              if (support.index != RseqIndex::kCpuId) return;
              for (int cpu = 0; cpu < static_cast<int>(sysconf(_SC_NPROCESSORS_CONF)); ++cpu) {
                if (PinTo(cpu)) TARN_REQUIRE(ReadId(support) == cpu);
              }
            }),
            "");
}

TEST(Rseq, AThreadThatIsNotRegisteredHasNoId) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "no threads in a forked child of it";
  EXPECT_EQ(InChildWithRseq([](const RseqSupport& support) {
              if (!support.register_threads) return;
              std::thread([&support] {
                TARN_REQUIRE(ReadId(support) < 0);
                TARN_REQUIRE(RegisterThreadArea());
                TARN_REQUIRE(ReadId(support) >= 0);
                TARN_REQUIRE(!RegisterThreadArea());
              }).join();
            }),
            "");
}

TEST(Rseq, AllSequencesCanBeRestartedAlsoInAForkedChild) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  EXPECT_EQ(InChildWithRseq([](const RseqSupport& support) {
              if (!support.remote_abort) return;
              StartAnotherThread();
              TARN_REQUIRE(AbortAllSequences());
              TARN_REQUIRE(tarn_test::ComplaintOfChild([] { TARN_REQUIRE(AbortAllSequences()); }).empty());
            }),
            "");
}

TEST(Rseq, WithoutMembarrierNothingIsRestarted) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs its system calls";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              if (!tarn_test::RefuseSystemCall(SYS_membarrier, ENOSYS)) return;
              const RseqSupport support = DetectRseq(false);
              TARN_REQUIRE(!support.remote_abort);
              if (HasOneThread()) TARN_REQUIRE(AbortAllSequences());
              StartAnotherThread();
              TARN_REQUIRE(!AbortAllSequences());
            }),
            "");
}

TEST(Rseq, ARefusedRegistrationMeansNone) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs its system calls";
  if (LibcRegisters()) GTEST_SKIP() << "libc has registered it already";
  for (const int error : {ENOSYS, EPERM}) {
    EXPECT_EQ(tarn_test::ComplaintOfChild([error] {
                if (!tarn_test::RefuseSystemCall(SYS_rseq, error)) return;
                const RseqSupport support = DetectRseq(false);
                TARN_REQUIRE(support.index == RseqIndex::kNone);
                const char* reason = error == ENOSYS ? "the kernel has no rseq" : "the kernel refused to register rseq";
                TARN_REQUIRE(strcmp(support.reason, reason) == 0);
                // The thread mode can start from here: the id field is ours and says "no slab".
                TARN_REQUIRE(ReadId(support) == -1);
              }),
              "");
  }
}

TEST(Rseq, ADeniedGetcpuIsNamed) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs its system calls";
  for (const int error : {ENOSYS, EPERM}) {
    EXPECT_EQ(InChildWithRseq([error](const RseqSupport&) {
                // An own registration has been made, and lasts.
                if (!LibcRegisters() || !tarn_test::RefuseSystemCall(SYS_getcpu, error)) return;
                const RseqSupport support = DetectRseq(false);
                TARN_REQUIRE(support.index == RseqIndex::kNone);
                const char* reason =
                    error == ENOSYS ? "rseq cannot be verified: the kernel has no getcpu, or a seccomp filter hides it"
                                    : "rseq cannot be verified: a seccomp filter denies getcpu";
                TARN_REQUIRE(strcmp(support.reason, reason) == 0);
                TARN_REQUIRE(ReadId(support) == -1);
              }),
              "");
  }
}

// As under an emulator that knows libc's area but does not keep it up to date, or after an unregistration.
TEST(Rseq, AStaleAreaMeansNone) {
  if (!kBuiltWithRseq) GTEST_SKIP() << "built without rseq";
  if (!LibcRegisters()) GTEST_SKIP() << "libc has not registered it";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              char* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
              constexpr int kUnregister = 1;
              constexpr std::uint32_t kSignature = 0x53053053;
              // glibc registers the size that it was built for, or 32 bytes where that is less.
              bool unregistered = false;
              for (const unsigned size : {32u, __rseq_size, 64u}) {
                if (!unregistered) unregistered = syscall(SYS_rseq, area, size, kUnregister, kSignature) == 0;
              }
              TARN_REQUIRE(unregistered);
              const RseqSupport support = DetectRseq(false);
              TARN_REQUIRE(support.index == RseqIndex::kNone);
              TARN_REQUIRE(strcmp(support.reason, "rseq is registered but its CPU number is wrong") == 0);
              TARN_REQUIRE(ReadId(support) == -1);
            }),
            "");
}

}  // namespace
}  // namespace tarn
