// SPDX-License-Identifier: Apache-2.0
//
// The last words: every message as a user reads it, and where it goes when stderr is closed.

#include "allocator/os/crash.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>

#include "tests/os/in_child.h"

namespace tarn {
namespace {

using tarn_test::ChildEnd;
using tarn_test::RunInChild;

void* const kAddress = reinterpret_cast<void*>(0x7f0012345678);

// The stack stands behind the line, see tests/misuse.
std::string FirstLine(const std::string& output) { return output.substr(0, output.find('\n') + 1); }

std::string WordsOf(Misuse::Kind kind) {
  const ChildEnd end = RunInChild([kind] { ReportMisuse("free", kAddress, kind); });
  EXPECT_EQ(end.signal, SIGABRT);
  return FirstLine(end.output);
}

TEST(Crash, EveryMisuseHasItsLine) {
  EXPECT_EQ(WordsOf(Misuse::kNotAllocated), "tarn: fatal: free(0x7f0012345678): pointer was not allocated by tarn\n");
  EXPECT_EQ(WordsOf(Misuse::kInteriorPointer),
            "tarn: fatal: free(0x7f0012345678): pointer is inside an object, not at its start\n");
  EXPECT_EQ(WordsOf(Misuse::kAlreadyFree), "tarn: fatal: free(0x7f0012345678): object is already free\n");
  EXPECT_EQ(WordsOf(Misuse::kSpanAlreadyFree), "tarn: fatal: free(0x7f0012345678): span is already free\n");
  EXPECT_EQ(WordsOf(Misuse::kWrongSize), "tarn: fatal: free(0x7f0012345678): size does not match the object\n");
}

TEST(Crash, SaysWhatIsKnown) {
  const Misuse inside = {.call = "free",
                         .address = kAddress,
                         .kind = Misuse::kInteriorPointer,
                         .start = reinterpret_cast<const void*>(0x7f0012345000),
                         .object_bytes = 8192};
  EXPECT_EQ(FirstLine(RunInChild([=] { ReportMisuse(inside); }).output),
            "tarn: fatal: free(0x7f0012345678): pointer is inside an object, not at its start: the object of 8192 "
            "bytes starts at 0x7f0012345000\n");
  const Misuse wrong_size = {.call = "operator delete",
                             .address = kAddress,
                             .kind = Misuse::kWrongSize,
                             .object_bytes = 264,
                             .given_bytes = 24};
  EXPECT_EQ(FirstLine(RunInChild([=] { ReportMisuse(wrong_size); }).output),
            "tarn: fatal: operator delete(0x7f0012345678): size does not match the object: 24 bytes were given, the "
            "object has 264\n");
  const ChildEnd end = RunInChild([=] { NoteMisuse(wrong_size); });
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(
      end.output,
      "tarn: operator delete(0x7f0012345678): size does not match the object: 24 bytes were given, the object has "
      "264; it is freed by its own size\n");
}

TEST(Crash, NamesTheCallAndNull) {
  const ChildEnd end = RunInChild([] { ReportMisuse("operator delete", nullptr, Misuse::kAlreadyFree); });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(FirstLine(end.output), "tarn: fatal: operator delete(0x0): object is already free\n");
}

TEST(Crash, AFailedCheckNamesItsPlace) {
  const ChildEnd end = RunInChild([] { CheckFailed("a == b", "room/file.cc", 42); });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(end.output, "tarn: fatal: check failed: a == b (room/file.cc:42)\n");
}

TEST(Crash, LongTextsArriveWhole) {
  const std::string text(200000, 'x');
  const ChildEnd end = RunInChild([&text] { WriteToStderr(text); });
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.output, text);
}

TEST(Crash, AClosedStderrIsNoError) {
  const ChildEnd end = RunInChild([] {
    close(2);
    WriteToStderr("nobody reads this\n");
  });
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.output, "");
}

TEST(Crash, AKeptStderrOutlivesTheProgramsOwn) {
  const ChildEnd end = RunInChild([] {
    KeepStderr();
    WriteToStderr("before\n");
    close(2);
    WriteToStderr("after\n");
  });
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.output, "before\nafter\n");
}

TEST(Crash, AKeptStderrLeavesTheLowDescriptorsAlone) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const int before = dup(0);
              close(before);
              KeepStderr();
              const int after = dup(0);
              TARN_REQUIRE(after == before);
            }),
            "");
}

}  // namespace
}  // namespace tarn
