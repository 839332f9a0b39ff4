// SPDX-License-Identifier: Apache-2.0

#include "bench/trace/pack.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "bench/trace/recording.h"

namespace tarn::trace {
namespace {

struct Call {
  std::uint64_t tag;
  std::uint64_t address;
  std::uint64_t bytes;
  std::uint64_t thread;

  RecordKind kind() const { return static_cast<RecordKind>(tag & 0xFF); }
  std::uint8_t alignment_log2() const { return static_cast<std::uint8_t>(tag >> 8); }
  std::uint64_t number() const { return tag >> 16; }
};

std::vector<Call> ReadCalls(std::span<const std::byte> recording) {
  std::vector<Call> calls;
  for (std::size_t offset = kChunkBytes; offset + kChunkBytes <= recording.size(); offset += kChunkBytes) {
    ChunkHeader header;
    std::memcpy(&header, recording.data() + offset, sizeof(header));
    const std::byte* records = recording.data() + offset + sizeof(header);
    for (std::size_t i = 0; i < kRecordsPerChunk; ++i) {
      Record record;
      std::memcpy(&record, records + i * sizeof(record), sizeof(record));
      if (record.tag != 0) calls.push_back({record.tag, record.address, record.bytes, header.thread});
    }
  }
  // The number is the upper part of the tag.
  std::ranges::sort(calls, {}, &Call::tag);
  return calls;
}

class Packer {
 public:
  explicit Packer(std::uint64_t max_events) : max_events_(max_events) {}

  PackResult Run(const std::vector<Call>& calls) {
    for (const Call& call : calls) {
      if (events_ >= max_events_) break;
      Take(call);
    }
    // A program without a single call is a trace of one thread that does nothing.
    if (threads_.empty()) threads_.emplace_back();
    for (auto& thread : threads_) result_.trace.threads.push_back(std::move(thread.events));
    result_.calls = calls.size();
    return std::move(result_);
  }

 private:
  struct Object {
    std::uint32_t thread;
    std::uint32_t index;
    std::uint64_t bytes;
  };
  struct Thread {
    std::pmr::vector<Event> events;
    std::uint32_t objects = 0;
  };

  void Take(const Call& call) {
    ++result_.packed;
    switch (call.kind()) {
      case RecordKind::kMalloc:
        return Allocate(call, Kind::kMalloc, call.bytes);
      case RecordKind::kCalloc:
        return Allocate(call, Kind::kCalloc, call.bytes);
      case RecordKind::kAligned:
        return Allocate(call, Kind::kAligned, call.bytes);
      case RecordKind::kFree:
        return Free(call);
      case RecordKind::kReallocFrom: {
        --result_.packed;  // Counts with its other half.
        const auto found = living_.find(call.address);
        if (found == living_.end()) return;
        moving_.emplace(call.bytes, found->second);
        living_.erase(found);
        return;
      }
      case RecordKind::kReallocTo:
        return Reallocate(call);
      case RecordKind::kNone:
        break;
    }
    throw TraceError("corrupt: a record of a kind that there is not");
  }

  void Allocate(const Call& call, Kind kind, std::uint64_t bytes) {
    if (const auto found = living_.find(call.address); found != living_.end()) {
      // Freed by a call that could not be seen (the recorder says which), at some time before this.
      ++result_.inferred_frees;
      Emit(call, Kind::kFree, found->second, 0);
      living_.erase(found);
    }
    const std::uint32_t thread = Emit(call, kind, {}, bytes);
    living_.emplace(call.address, Object{thread, threads_[thread].objects++, bytes});
  }

  void Free(const Call& call) {
    const auto found = living_.find(call.address);
    if (found == living_.end()) {
      ++result_.strangers;
      --result_.packed;
      return;
    }
    Emit(call, Kind::kFree, found->second, 0);
    living_.erase(found);
  }

  void Reallocate(const Call& call) {
    // Allocators differ in what realloc to nothing does, and this one has made an object.
    const std::uint64_t bytes = std::max<std::uint64_t>(call.bytes, 1);
    const auto found = moving_.find(call.number());
    if (found == moving_.end()) return Allocate(call, Kind::kMalloc, bytes);
    const std::uint32_t thread = Emit(call, Kind::kRealloc, found->second, bytes);
    moving_.erase(found);
    living_.insert_or_assign(call.address, Object{thread, threads_[thread].objects++, bytes});
  }

  // Appends an event to the calling thread, and returns that thread.
  std::uint32_t Emit(const Call& call, Kind kind, Object ended, std::uint64_t bytes) {
    const auto [found, is_new] = thread_of_.emplace(call.thread, static_cast<std::uint32_t>(threads_.size()));
    const std::uint32_t thread = found->second;
    if (is_new) {
      threads_.emplace_back();
      // The creator of a thread is not recorded; the thread that made the call before this one was there already.
      if (thread > 0) threads_[last_thread_].events.push_back({Kind::kStart, 0, thread, 0, 0}), ++events_;
    }
    const std::uint8_t alignment_log2 = kind == Kind::kAligned ? call.alignment_log2() : std::uint8_t{0};
    threads_[thread].events.push_back(
        {kind, alignment_log2, EndsObject(kind) ? ended.thread : thread, ended.index, bytes});
    ++events_;
    last_thread_ = thread;
    live_bytes_ += bytes - ended.bytes;
    result_.trace.peak_bytes = std::max(result_.trace.peak_bytes, live_bytes_);
    return thread;
  }

  const std::uint64_t max_events_;
  PackResult result_{Trace(std::pmr::get_default_resource()), 0, 0, 0, 0};
  std::uint64_t events_ = 0;
  std::uint64_t live_bytes_ = 0;
  std::uint32_t last_thread_ = 0;
  std::vector<Thread> threads_;
  std::unordered_map<std::uint64_t, std::uint32_t> thread_of_;  // by the number in the recording
  std::unordered_map<std::uint64_t, Object> living_;            // by address
  std::unordered_map<std::uint64_t, Object> moving_;            // by the number of the kReallocTo to come
};

}  // namespace

PackResult Pack(std::span<const std::byte> recording, std::uint64_t max_events) {
  RecordingHeader header;
  if (recording.size() < kChunkBytes) throw TraceError("this is no recording of libtarn_trace.so");
  std::memcpy(&header, recording.data(), sizeof(header));
  if (std::memcmp(header.magic, kRecordingMagic, sizeof(kRecordingMagic)) != 0) {
    throw TraceError("this is no recording of the libtarn_trace.so that belongs to this program");
  }
  PackResult result = Packer(std::min(max_events, kMaxEvents)).Run(ReadCalls(recording));
  header.program[sizeof(header.program) - 1] = 0;
  result.trace.program = header.program;
  return result;
}

}  // namespace tarn::trace
