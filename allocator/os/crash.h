// SPDX-License-Identifier: Apache-2.0
//
// The last words: a line on stderr, then abort. The complete list of what tarn says to a program that misuses it.
#pragma once

#include <cstddef>
#include <string_view>

#include "allocator/base/attributes.h"
#include "allocator/base/check.h"
#include "allocator/base/text.h"

namespace tarn {

// A misuse by the program, with its facts. An unknown fact is zero, and the message leaves it out.
struct Misuse {
  enum Kind {
    kNotAllocated,     // no span of ours holds the address
    kInteriorPointer,  // a span of ours does, but no object starts there
    kAlreadyFree,      // the object is free already
    kSpanAlreadyFree,  // the whole span went back to the page heap already
    kWrongSize,        // the size given to a sized free is not the object's
    kRegionPointer,    // the address is an arena's or a pool's, and was given to free
    kWrongPool,        // the object is not this pool's
    kNoObjectThere,    // the pool has no object that starts there
    kStaleMark,        // the arena was reset, or rewound further, since the mark was made
    kForeignMark,      // the mark was made by another arena
    kPoolAtWork,       // the end of a pool or an arena comes from the destructor of its own object, or beside its Tick
    kNoHandle,         // the pool, arena or heap has ended, or the pointer is none of that kind
    // Accesses by the program: `call` is read, write or access.
    kUseAfterFree,
    kPastEnd,
    kBeforeStart,
    // Traces of an access.
    kEndOverwritten,
    kStartOverwritten,
    kFreedOverwritten,
    kWrongFamily,  // the object is freed by another family of functions than made it
  };

  const char* call;     // the function that the program called
  const void* address;  // the argument that is wrong
  Kind kind;
  const void* start = nullptr;  // kInteriorPointer and the last five: of the object
  std::size_t object_bytes = 0;
  std::size_t given_bytes = 0;  // kWrongSize
};

// Appends the words of the one line, "<call>(0x<address>): <what is wrong>: <facts>". The one place that words a
// misuse.
using MisuseLine = Text<256>;
void DescribeMisuse(const Misuse& misuse, MisuseLine* line);

// Prints "tarn: fatal: <call>(0x<address>): <what is wrong>: <facts>", and behind that line the stack, and aborts.
// Takes no lock, allocates nothing. Implemented by misuse/report.cc, which knows stacks.
[[noreturn]] TARN_COLD void ReportMisuse(const Misuse& misuse);
// The same without further facts. Hit paths come here by a jump, with nothing to lay out on the stack.
[[noreturn]] TARN_COLD void ReportMisuse(const char* call, const void* address, Misuse::Kind kind);
// Prints "tarn: <call>(0x<address>): ..." for a kWrongSize that is not fatal: the object is freed by its own size.
TARN_COLD void NoteMisuse(const Misuse& misuse);

// The same for a lock of tarn whose owner, this thread, will never release it: a signal handler interrupted tarn and
// jumped out by siglongjmp.
[[noreturn]] TARN_COLD void ReportAbandonedLock();

// Writes the text to stderr as it is. A closed stderr is not an error.
void WriteToStderr(std::string_view text);

// Keeps a second descriptor of stderr for what is written at the process's end, because many programs close theirs
// first (coreutils do, to see write errors). From then on WriteToStderr uses it where stderr itself is closed.
void KeepStderr();

}  // namespace tarn
