// SPDX-License-Identifier: Apache-2.0
//
// The file that the recorder writes and `trace_tool pack` reads: the calls of one process, as they were made.
//
// It is an intermediate: large, quickly written, read once on the machine that wrote it. What is kept and shipped is
// the trace (trace.h) that pack makes of it.
//
// The file is a row of chunks of kChunkBytes. The first one holds the RecordingHeader. Each of the others belongs to
// one thread, which has it mapped and writes its records there; a thread that fills a chunk takes the next free one.
// Nothing is flushed, so a process that is killed leaves everything that it did up to then.
//
// Order. Every record has a number from one counter of the process. An allocation takes its number after the allocator
// has returned, and a deallocation before the allocator is called. So all records of an address are in the order of
// what happened there: it is freed (number), then really freed, then really allocated, then allocated (number). A
// realloc does both, and is two records. The order of the numbers is the order of the trace.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn::trace {

inline constexpr std::size_t kChunkBytes = std::size_t{256} << 10;  // chosen: some 10 000 calls for two system calls

enum class RecordKind : std::uint8_t {
  kNone,  // A record that was never written, at the end of a chunk: a file is zeros where nobody wrote.
  kMalloc,
  kCalloc,
  kAligned,
  kFree,
  kReallocFrom,  // `bytes` is the number of the kReallocTo that belongs to it
  kReallocTo,
};

struct Record {
  std::uint64_t tag;      // number << 16 | log2 of the alignment << 8 | RecordKind; written last
  std::uint64_t address;  // of the object
  std::uint64_t bytes;    // requested
};

inline constexpr std::uint64_t MakeTag(std::uint64_t number, unsigned alignment_log2, RecordKind kind) {
  return number << 16 | std::uint64_t{alignment_log2} << 8 | static_cast<std::uint64_t>(kind);
}

inline constexpr char kRecordingMagic[8] = {'t', 'a', 'r', 'n', 'r', 'e', 'c', '1'};

struct RecordingHeader {
  char magic[8];
  char program[256];  // name of the process, ends with a zero
};

// At the start of every chunk but the first; as large as a record, so that the records behind it fill the rest.
struct ChunkHeader {
  std::uint64_t thread;  // from 1, in the order of their first calls
  std::uint64_t unused[2];
};

inline constexpr std::size_t kRecordsPerChunk = (kChunkBytes - sizeof(ChunkHeader)) / sizeof(Record);

}  // namespace tarn::trace
