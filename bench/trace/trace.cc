// SPDX-License-Identifier: Apache-2.0

#include "bench/trace/trace.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace tarn::trace {
namespace {

// The file: this header, in the byte order of x86-64 and little-endian aarch64, and the payload, deflated by zlib.
struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t threads;
  std::uint64_t events;
  std::uint64_t peak_bytes;
  std::uint64_t payload_bytes;     // before deflating
  std::uint64_t compressed_bytes;  // all that follows the header
  std::uint32_t compressed_crc;
  std::uint32_t header_crc;  // of all before it
};
static_assert(sizeof(Header) == 56);
static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'t', 'a', 'r', 'n', 't', 'r', 'c', '\n'};
constexpr std::uint32_t kVersion = 1;

// An operation is one byte: its Kind, and whether the object that ends is of another thread.
constexpr std::uint8_t kForeign = 0x80;

std::uint32_t Crc(const void* data, std::size_t bytes) {
  return static_cast<std::uint32_t>(crc32_z(0, static_cast<const Bytef*>(data), bytes));
}

using Bytes = std::pmr::vector<std::byte>;

void PutNumber(Bytes& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::byte>(value | 0x80));
  out.push_back(static_cast<std::byte>(value));
}

std::uint64_t ZigZag(std::int64_t value) {
  return static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
}
std::int64_t UnZigZag(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

// The rest of a column or of the payload, still to be read.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::uint8_t Byte() { return std::to_integer<std::uint8_t>(Take(1)[0]); }

  std::uint64_t Number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = Byte();
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    throw TraceError("corrupt: a number is too long");
  }

  std::span<const std::byte> Take(std::uint64_t bytes) {
    if (bytes > rest_.size()) throw TraceError("corrupt: a column ends too early");
    const auto taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }

  bool at_end() const { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
};

// The objects that a thread has made and not ended itself, a bit for each index. Programs end young objects more than
// old ones. So the rank from the young end is a small number, often 0; a difference of indices would be large, and
// never come again. Counts of words and blocks make it quick to pass over the many that are gone.
class LivingObjects {
 public:
  LivingObjects(std::size_t capacity, std::pmr::memory_resource* memory)
      : words_((capacity / kBlockObjects + 1) * kBlockWords, 0, memory),
        in_word_(words_.size(), 0, memory),
        in_block_(capacity / kBlockObjects + 1, 0, memory) {}

  // Indices come in order.
  void Add(std::uint32_t index) {
    words_[index / 64] |= std::uint64_t{1} << index % 64;
    ++in_word_[index / 64];
    ++in_block_[index / kBlockObjects];
    ++living_;
    last_block_ = index / kBlockObjects;
  }

  void Remove(std::uint32_t index) {
    words_[index / 64] &= ~(std::uint64_t{1} << index % 64);
    --in_word_[index / 64];
    --in_block_[index / kBlockObjects];
    --living_;
  }

  // Returns the number of younger ones.
  std::uint32_t RankOf(std::uint32_t index) const {
    const std::size_t block = index / kBlockObjects;
    auto rank = static_cast<std::uint32_t>(std::popcount(words_[index / 64] >> index % 64 >> 1));
    for (std::size_t word = index / 64 + 1; word < (block + 1) * kBlockWords; ++word) rank += in_word_[word];
    for (std::size_t later = block + 1; later <= last_block_; ++later) rank += in_block_[later];
    return rank;
  }

  // The object that `rank` living ones are younger than.
  std::uint32_t AtRank(std::uint64_t rank) const {
    if (rank >= living_) throw TraceError("corrupt: an object ends that does not live");
    std::size_t block = last_block_;
    for (; rank >= in_block_[block]; --block) rank -= in_block_[block];
    std::size_t word = (block + 1) * kBlockWords - 1;
    for (; rank >= in_word_[word]; --word) rank -= in_word_[word];
    std::uint64_t bits = words_[word];
    for (; rank > 0; --rank) bits &= ~std::bit_floor(bits);
    return static_cast<std::uint32_t>(word * 64 + static_cast<std::size_t>(std::bit_width(bits)) - 1);
  }

 private:
  static constexpr std::size_t kBlockWords = 32;  // chosen
  static constexpr std::size_t kBlockObjects = kBlockWords * 64;

  std::pmr::vector<std::uint64_t> words_;
  std::pmr::vector<std::uint8_t> in_word_;  // the number of bits that are set in each word
  std::pmr::vector<std::uint32_t> in_block_;
  std::uint64_t living_ = 0;
  std::size_t last_block_ = 0;
};

std::size_t CountObjects(const std::pmr::vector<Event>& events) {
  return static_cast<std::size_t>(std::ranges::count_if(events, [](const Event& e) { return MakesObject(e.kind); }));
}

// Writes the events of one thread as three columns, because like deflates best beside like: operations; sizes and
// alignments; the objects and threads that they refer to.
void PutThread(Bytes& out, const std::pmr::vector<Event>& events, std::uint32_t self) {
  std::pmr::memory_resource* memory = out.get_allocator().resource();
  Bytes columns[3] = {Bytes(memory), Bytes(memory), Bytes(memory)};
  auto& [operations, sizes, references] = columns;
  LivingObjects living(CountObjects(events), memory);
  std::uint32_t objects = 0;
  std::uint32_t last_foreign = 0;
  for (const Event& event : events) {
    const bool is_foreign = EndsObject(event.kind) && event.thread != self;
    operations.push_back(static_cast<std::byte>(static_cast<std::uint8_t>(event.kind) | (is_foreign ? kForeign : 0)));
    if (event.kind == Kind::kAligned) sizes.push_back(std::byte{event.alignment_log2});
    if (MakesObject(event.kind)) PutNumber(sizes, event.bytes);
    if (event.kind == Kind::kStart || is_foreign) PutNumber(references, event.thread);
    if (is_foreign) {
      PutNumber(references, ZigZag(std::int64_t{event.index} - std::int64_t{last_foreign}));
      last_foreign = event.index;
    } else if (EndsObject(event.kind)) {
      PutNumber(references, living.RankOf(event.index));
      living.Remove(event.index);
    }
    if (MakesObject(event.kind)) living.Add(objects++);
  }
  for (const Bytes& column : columns) {
    PutNumber(out, column.size());
    out.insert(out.end(), column.begin(), column.end());
  }
}

std::pmr::vector<Event> TakeThread(Reader& payload, std::uint32_t self, std::pmr::memory_resource* memory) {
  const auto operations = payload.Take(payload.Number());
  Reader sizes(payload.Take(payload.Number()));
  Reader references(payload.Take(payload.Number()));
  std::pmr::vector<Event> events(memory);
  events.reserve(operations.size());
  LivingObjects living(operations.size(), memory);
  std::uint32_t objects = 0;
  std::uint32_t last_foreign = 0;
  for (const std::byte operation : operations) {
    const auto code = std::to_integer<std::uint8_t>(operation);
    const bool is_foreign = (code & kForeign) != 0;
    if ((code & ~kForeign) >= kKinds) throw TraceError("corrupt: an operation that there is not");
    Event event{static_cast<Kind>(code & ~kForeign), 0, self, 0, 0};
    if (is_foreign && !EndsObject(event.kind)) throw TraceError("corrupt: an operation that there is not");
    if (event.kind == Kind::kAligned) event.alignment_log2 = sizes.Byte();
    if (MakesObject(event.kind)) event.bytes = sizes.Number();
    if (event.kind == Kind::kStart || is_foreign) {
      event.thread = static_cast<std::uint32_t>(std::min<std::uint64_t>(references.Number(), kMaxThreads));
    }
    if (is_foreign) {
      event.index = last_foreign += static_cast<std::uint32_t>(UnZigZag(references.Number()));
    } else if (EndsObject(event.kind)) {
      event.index = living.AtRank(references.Number());
      living.Remove(event.index);
    }
    if (MakesObject(event.kind)) living.Add(objects++);
    events.push_back(event);
  }
  if (!sizes.at_end() || !references.at_end()) throw TraceError("corrupt: a column is too long");
  return events;
}

// Holds a trace to what trace.h promises, by running it: each thread goes on until it needs an object that is not there
// yet. A thread that cannot go on before the others have ended never could.
class LegalityCheck {
 public:
  LegalityCheck(const Trace& trace, std::pmr::memory_resource* memory)
      : trace_(trace),
        objects_(memory),
        positions_(trace.threads.size(), 0, memory),
        started_(trace.threads.size(), 0, memory) {
    objects_.reserve(trace.threads.size());
    for (const auto& events : trace.threads) objects_.emplace_back(CountObjects(events), kNotMade);
    made_.assign(trace.threads.size(), 0);
  }

  void Run() {
    if (trace_.threads.empty()) throw TraceError("not legal: it has no thread");
    started_[0] = 1;
    for (bool has_moved = true; has_moved;) {
      has_moved = false;
      for (std::uint32_t thread = 0; thread < trace_.threads.size(); ++thread) {
        while (started_[thread] && positions_[thread] < trace_.threads[thread].size() && Step(thread)) has_moved = true;
      }
    }
    for (std::uint32_t thread = 0; thread < trace_.threads.size(); ++thread) {
      if (positions_[thread] < trace_.threads[thread].size()) throw TraceError("not legal: a thread waits for ever");
      if (!started_[thread]) throw TraceError("not legal: a thread is never started");
    }
  }

 private:
  enum State : std::uint8_t { kNotMade, kLives, kEnded };

  // Does the next event of a thread; false if it has to wait.
  bool Step(std::uint32_t thread) {
    const Event& event = trace_.threads[thread][positions_[thread]];
    if (event.thread >= trace_.threads.size()) throw TraceError("not legal: there is no such thread");
    if (EndsObject(event.kind)) {
      if (event.index >= objects_[event.thread].size()) throw TraceError("not legal: an object that is never made");
      std::uint8_t& object = objects_[event.thread][event.index];
      if (object == kNotMade) return false;
      if (object == kEnded) throw TraceError("not legal: an object ends twice");
      object = kEnded;
    } else if (event.kind == Kind::kStart) {
      if (started_[event.thread]) throw TraceError("not legal: a thread is started twice");
      started_[event.thread] = 1;
    }
    if (MakesObject(event.kind)) {
      if (event.bytes > kMaxBytes) throw TraceError("not legal: a size above 2^48");
      objects_[thread][made_[thread]++] = kLives;
    }
    if (event.alignment_log2 > kMaxAlignmentLog2) throw TraceError("not legal: an alignment above 2^40");
    ++positions_[thread];
    return true;
  }

  const Trace& trace_;
  std::pmr::vector<std::pmr::vector<std::uint8_t>> objects_;
  std::pmr::vector<std::size_t> positions_;
  std::pmr::vector<std::uint8_t> started_;
  std::pmr::vector<std::size_t> made_{objects_.get_allocator()};
};

void CheckHeader(const Header& header, std::span<const std::byte> file) {
  if (header.version != kVersion) {
    throw TraceError("version " + std::to_string(header.version) + " of the format, and this program reads version " +
                     std::to_string(kVersion) + "; use the replay of the build that made the trace");
  }
  if (header.header_crc != Crc(&header, offsetof(Header, header_crc)))
    throw TraceError("corrupt: the header's checksum is wrong");
  if (header.compressed_bytes > file.size() - sizeof(Header))
    throw TraceError("truncated: it is shorter than its header says");
  if (header.compressed_bytes < file.size() - sizeof(Header))
    throw TraceError("corrupt: it is longer than its header says");
  if (header.compressed_crc != Crc(file.data() + sizeof(Header), header.compressed_bytes)) {
    throw TraceError("corrupt: the checksum is wrong");
  }
  // Deflate makes at most 1032 bytes of one.
  if (header.payload_bytes / 1040 > header.compressed_bytes + 1 || header.threads > kMaxThreads ||
      header.events > kMaxEvents) {
    throw TraceError("corrupt: the header's numbers cannot be");
  }
}

void* AllocateForZlib(void* opaque, uInt count, uInt bytes) {
  return static_cast<std::pmr::memory_resource*>(opaque)->allocate(std::size_t{count} * bytes);
}
// The resources in use give back everything at the end, or need no size.
void FreeForZlib(void* /*opaque*/, void* /*object*/) {}

// `out` has the size that the payload must have.
void Inflate(std::span<const std::byte> in, Bytes& out) {
  std::pmr::monotonic_buffer_resource memory(out.get_allocator().resource());
  z_stream stream{};
  stream.zalloc = AllocateForZlib;
  stream.zfree = FreeForZlib;
  stream.opaque = static_cast<std::pmr::memory_resource*>(&memory);
  if (inflateInit(&stream) != Z_OK) throw TraceError("zlib cannot be started");
  std::size_t read = 0;
  std::size_t written = 0;
  int result = Z_OK;
  // zlib counts in 32 bits.
  constexpr std::size_t kStep = std::numeric_limits<uInt>::max();
  while (result == Z_OK) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data() + read));
    stream.avail_in = static_cast<uInt>(std::min(in.size() - read, kStep));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + written);
    stream.avail_out = static_cast<uInt>(std::min(out.size() - written, kStep));
    const uInt in_before = stream.avail_in;
    const uInt out_before = stream.avail_out;
    result = inflate(&stream, Z_NO_FLUSH);
    read += in_before - stream.avail_in;
    written += out_before - stream.avail_out;
  }
  inflateEnd(&stream);
  if (result != Z_STREAM_END || read != in.size() || written != out.size()) {
    throw TraceError("corrupt: its data does not inflate to what the header says");
  }
}

}  // namespace

std::pmr::vector<std::byte> Write(const Trace& trace, std::pmr::memory_resource* memory) {
  LegalityCheck(trace, memory).Run();
  Bytes payload(memory);
  PutNumber(payload, trace.program.size());
  const auto* name = reinterpret_cast<const std::byte*>(trace.program.data());
  payload.insert(payload.end(), name, name + trace.program.size());
  Header header{};
  for (std::uint32_t thread = 0; thread < trace.threads.size(); ++thread) {
    PutThread(payload, trace.threads[thread], thread);
    header.events += trace.threads[thread].size();
  }

  uLongf compressed_bytes = compressBound(payload.size());
  Bytes file(sizeof(Header) + compressed_bytes, memory);
  const int result = compress2(reinterpret_cast<Bytef*>(file.data() + sizeof(Header)), &compressed_bytes,
                               reinterpret_cast<const Bytef*>(payload.data()), payload.size(), Z_BEST_COMPRESSION);
  if (result != Z_OK) throw TraceError("zlib cannot compress it");
  file.resize(sizeof(Header) + compressed_bytes);

  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.threads = static_cast<std::uint32_t>(trace.threads.size());
  header.peak_bytes = trace.peak_bytes;
  header.payload_bytes = payload.size();
  header.compressed_bytes = compressed_bytes;
  header.compressed_crc = Crc(file.data() + sizeof(Header), compressed_bytes);
  header.header_crc = Crc(&header, offsetof(Header, header_crc));
  std::memcpy(file.data(), &header, sizeof(header));
  return file;
}

Trace Read(std::span<const std::byte> file, std::pmr::memory_resource* memory) {
  Header header;
  if (file.size() < sizeof(kMagic) || std::memcmp(file.data(), kMagic, sizeof(kMagic)) != 0) {
    throw TraceError("this is no trace; `trace_tool pack` makes one of a recording");
  }
  if (file.size() < sizeof(header)) throw TraceError("truncated: it ends within its header");
  std::memcpy(&header, file.data(), sizeof(header));
  CheckHeader(header, file);

  Bytes payload(header.payload_bytes, memory);
  Inflate(file.subspan(sizeof(Header)), payload);
  Reader reader(payload);
  Trace trace(memory);
  const auto name = reader.Take(reader.Number());
  trace.program.assign(reinterpret_cast<const char*>(name.data()), name.size());
  trace.peak_bytes = header.peak_bytes;
  trace.threads.reserve(header.threads);
  std::uint64_t events = 0;
  for (std::uint32_t thread = 0; thread < header.threads; ++thread) {
    trace.threads.push_back(TakeThread(reader, thread, memory));
    events += trace.threads.back().size();
  }
  if (!reader.at_end() || events != header.events) throw TraceError("corrupt: the number of events is wrong");
  LegalityCheck(trace, memory).Run();
  return trace;
}

}  // namespace tarn::trace
