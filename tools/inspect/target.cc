// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/target.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <map>
#include <string_view>
#include <utility>

#include "tools/inspect/process_status.h"

namespace tarn::tool {

namespace {

// The beginning of the magic in all versions.
constexpr std::string_view kMagicStart = "tarn.snapshot.";
// The block is aligned so, by tarn/snapshot.h.
constexpr std::size_t kBlockAlignment = 64;
// Chosen: far more than the initialised data of any program.
constexpr std::uint64_t kMaxDataBytes = std::uint64_t{256} << 20;
// Of all mappings. Chosen: a fraction of a second.
constexpr std::uint64_t kMaxSearchedBytes = std::uint64_t{1} << 30;
// Chosen: a program has one, and one more for each further copy of the library.
constexpr int kMaxBlocks = 64;

std::string ProcPath(pid_t pid, std::string_view what) { return fmt::format("/proc/{}/{}", pid, what); }

[[noreturn]] void ThrowGone(pid_t pid) {
  throw ToolError(fmt::format("there is no process {}; pgrep -a NAME finds the number of a running program", pid));
}

// Why a process that is there cannot be looked into.
[[noreturn]] void ThrowForbidden(pid_t pid) {
  struct stat status;
  const bool is_other_user =
      stat(ProcPath(pid, "").c_str(), &status) == 0 && geteuid() != 0 && status.st_uid != geteuid();
  if (is_other_user)
    throw ToolError(
        fmt::format("not permitted to look into process {}: it belongs to another user; become that user or "
                    "root",
                    Describe(pid)));
  int scope = 0;
  std::ifstream("/proc/sys/kernel/yama/ptrace_scope") >> scope;
  if (scope > 0 && scope < 3)
    throw ToolError(
        fmt::format("not permitted to look into process {}: kernel.yama.ptrace_scope is {}, so only {} may; "
                    "run this as root, or sysctl kernel.yama.ptrace_scope=0",
                    Describe(pid), scope, scope == 1 ? "its parent and root" : "root"));
  throw ToolError(fmt::format("not permitted to look into process {}: {}", Describe(pid),
                              scope == 3 ? "kernel.yama.ptrace_scope is 3, so nobody may until the next boot"
                              : geteuid() == 0
                                  ? "even root needs the capability CAP_SYS_PTRACE here; a container gets it by "
                                    "--cap-add SYS_PTRACE"
                                  : "the program has privileges of its own (setuid) or forbids it, or a container's "
                                    "seccomp profile does; run this as root, or outside of the container"));
}

}  // namespace

std::string ProcessName(pid_t pid) {
  std::ifstream file(ProcPath(pid, "comm"));
  std::string name;
  std::getline(file, name);
  return name;
}

std::string Describe(pid_t pid) {
  const std::string name = ProcessName(pid);
  return name.empty() ? std::to_string(pid) : fmt::format("{} ({})", pid, name);
}

pid_t ParsePid(const std::string& text) {
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc() || end != text.data() + text.size() || pid <= 0)
    throw UsageError(fmt::format("{} is not the number of a process; pgrep -a NAME finds it", text));
  return pid;
}

std::vector<ProcessMapping> MapsOfTarget(const ProcessMemory& memory) {
  const pid_t pid = memory.pid();
  if (kill(pid, 0) != 0 && errno == ESRCH) ThrowGone(pid);
  std::vector<ProcessMapping> maps;
  try {
    maps = ReadMaps(pid);
  } catch (const ToolError&) {
    if (ProcessName(pid).empty()) ThrowGone(pid);
    std::ifstream file(ProcPath(pid, "maps"));
    if (!file) ThrowForbidden(pid);
    // A zombie and a kernel thread have maps, but nothing in them.
    if (StatusField(pid, "State").starts_with("Z"))
      throw ToolError(fmt::format("process {} has ended, and only waits for its parent to notice", Describe(pid)));
    throw ToolError(fmt::format("process {} is a part of the kernel, without memory of its own", Describe(pid)));
  }
  if (IsOf32Bits(maps))
    throw ToolError(fmt::format("process {} runs a program of 32 bits, for which there is no tarn", Describe(pid)),
                    kExitNotTarn);
  char byte = 0;
  if (!memory.Read(maps.front().start, &byte, 1)) {
    if (errno == EPERM) ThrowForbidden(pid);
    if (errno == ENOSYS)
      throw ToolError(fmt::format(
          "process {} cannot be read, for its /proc/PID/mem cannot be opened and there is no process_vm_readv "
          "here: a sandbox or a container's seccomp profile forbids it, or the kernel was built without "
          "CONFIG_CROSS_MEMORY_ATTACH; run this outside of the container",
          Describe(pid)));
  }
  return maps;
}

namespace {

// The blocks in a process, as far as they look like one.
class SnapshotSearch {
 public:
  explicit SnapshotSearch(const ProcessMemory& memory) : memory_(memory), bytes_(kChunkBytes, '\0') {}

  // True where a block that is in use was found.
  bool SearchMapping(const ProcessMapping& mapping);
  SnapshotPlace Take() { return std::move(found_); }

 private:
  static constexpr std::size_t kChunkBytes = std::size_t{1} << 20;
  static_assert(kChunkBytes % kBlockAlignment == 0);

  bool Consider(std::uint64_t address, const std::string& file);

  const ProcessMemory& memory_;
  std::string bytes_;
  std::uint64_t left_bytes_ = kMaxSearchedBytes;
  int blocks_ = 0;
  SnapshotPlace found_;
};

bool SnapshotSearch::SearchMapping(const ProcessMapping& mapping) {
  const std::uint64_t size = mapping.limit - mapping.start;
  if (size > kMaxDataBytes || size > left_bytes_) return false;
  left_bytes_ -= size;
  for (std::uint64_t done = 0; done < size; done += kChunkBytes) {
    const std::uint64_t start = mapping.start + done;
    const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(kChunkBytes, size - done));
    if (!memory_.Read(start, bytes_.data(), count)) {
      if (errno == EPERM) ThrowForbidden(memory_.pid());
      if (errno == ESRCH) ThrowGone(memory_.pid());
      continue;
    }
    for (std::size_t at = 0; at + kMagicStart.size() <= count; at += kBlockAlignment) {
      if (std::memcmp(bytes_.data() + at, kMagicStart.data(), kMagicStart.size()) != 0) continue;
      if (Consider(start + at, mapping.file)) return true;
    }
  }
  return false;
}

bool SnapshotSearch::Consider(std::uint64_t address, const std::string& file) {
  tarn_snapshot_block block;
  if (!memory_.Read(address, &block, sizeof(block))) return false;
  if (++blocks_ > kMaxBlocks)
    throw ToolError(
        fmt::format("process {} has more than {} places that look like tarn's snapshot, which no program "
                    "has; it is not looked into",
                    Describe(memory_.pid()), kMaxBlocks));
  SnapshotPlace place;
  place.address = address;
  place.file = file;
  SnapshotReader<ProcessMemory> reader(memory_);
  place.error = reader.Open(address);
  // A library that another allocator comes before has started, but nobody calls it.
  tarn_memstats_t stats;
  if (place.error == SnapshotError::kNone && reader.ReadMemStats(&stats) && stats.mallocs == 0)
    place.error = SnapshotError::kNotStarted;
  // The magic has changed with the version, so the layout is unknown.
  if (place.error == SnapshotError::kNoMagic) place.error = SnapshotError::kOtherVersion;
  place.library_version.assign(block.library_version, strnlen(block.library_version, sizeof(block.library_version)));
  const bool is_used = place.error == SnapshotError::kNone;
  if (is_used || found_.address == 0) found_ = std::move(place);
  return is_used;
}

}  // namespace

SnapshotPlace FindSnapshot(const ProcessMemory& memory, const std::vector<ProcessMapping>& maps) {
  // libtarn.so first: as a rule the search ends there.
  std::vector<const ProcessMapping*> parts;
  for (const ProcessMapping& mapping : maps)
    if (mapping.inode != 0 && mapping.is_writable && mapping.is_readable) parts.push_back(&mapping);
  std::stable_partition(parts.begin(), parts.end(), [](const ProcessMapping* mapping) {
    return mapping->file.substr(mapping->file.rfind('/') + 1).starts_with("libtarn");
  });
  SnapshotSearch search(memory);
  for (const ProcessMapping* mapping : parts) {
    if (mapping->file.starts_with("/dev/") || mapping->file.starts_with("/memfd:")) continue;
    if (search.SearchMapping(*mapping)) break;
  }
  return search.Take();
}

Target::Target(pid_t pid) : pid_(pid), memory_(pid), reader_(memory_) {
  const std::vector<ProcessMapping> maps = MapsOfTarget(memory_);
  char byte = 0;
  const bool was_readable = memory_.Read(maps.front().start, &byte, 1);
  place_ = FindSnapshot(memory_, maps);
  name_ = ProcessName(pid);
  const std::string who = Describe(pid);
  // Nothing is found where the program has gone during the search.
  if (place_.address == 0 && kill(pid, 0) != 0 && errno == ESRCH) ThrowGone(pid);
  if (place_.address == 0 && was_readable && memory_.is_tied() && !memory_.Read(maps.front().start, &byte, 1)) Lost();
  if (place_.address == 0)
    throw ToolError(
        fmt::format("process {} does not use tarn; tarn check {} says why, and tarn run -- COMMAND starts a "
                    "program that does",
                    who, pid),
        kExitNotTarn);
  // Opened again, now by the reader that stays.
  switch (place_.error == SnapshotError::kNone ? reader_.Open(place_.address) : place_.error) {
    case SnapshotError::kNone:
      return;
    case SnapshotError::kNotStarted:
      throw ToolError(fmt::format("process {} has {} loaded but has not allocated by it; tarn check {} says why", who,
                                  place_.file, pid),
                      kExitNotTarn);
    case SnapshotError::kOtherVersion:
    case SnapshotError::kNoMagic:
      throw ToolError(
          fmt::format("process {} uses tarn {}, whose snapshot this tarn {} does not know; use the tool that "
                      "came with {}",
                      who, place_.library_version, TARN_VERSION, place_.file));
    case SnapshotError::kUnreadable:
      Lost();
  }
}

void Target::Lost() const {
  if (kill(pid_, 0) != 0 && errno == ESRCH) throw TargetGone(fmt::format("process {} ({}) has ended", pid_, name_));
  throw TargetGone(
      fmt::format("process {} ({}) can no longer be read: it is ending, or runs another program now", pid_, name_));
}

void Target::RequireSameProgram() const {
  const tarn_snapshot_block& known = reader_.block();
  tarn_snapshot_block block;
  if (!memory_.Read(place_.address, &block, sizeof(block)) ||
      std::memcmp(block.magic, known.magic, sizeof(block.magic)) != 0 || block.start_time_ns != known.start_time_ns ||
      block.release_address != known.release_address || block.limit_request_address != known.limit_request_address)
    Lost();
}

void Target::ReadWords(std::uint64_t address, void* to, std::size_t bytes, const char* what) const {
  if (address == 0 || address % sizeof(std::uint64_t) != 0)
    throw ToolError(fmt::format("process {} uses tarn {}, which cannot be asked {}; restart it with {}", Describe(pid_),
                                place_.library_version, what, TARN_VERSION));
  if (!memory_.Read(address, to, bytes)) Lost();
  // Behind the read: no process comes back to a program that it has left.
  RequireSameProgram();
}

void Target::WriteWords(std::uint64_t address, const void* from, std::size_t bytes) const {
  // The memory of a descriptor is that of one program. Without a descriptor an exec between these two cannot be
  // excluded; it leaves other mappings behind, so that as a rule the write fails.
  RequireSameProgram();
  // A descriptor would write over what the process itself may only read.
  const auto holds = [&](const ProcessMapping& mapping) {
    return mapping.is_writable && mapping.start <= address && address < mapping.limit &&
           bytes <= mapping.limit - address;
  };
  errno = EFAULT;
  if (std::ranges::any_of(ReadMaps(pid_), holds) && memory_.Write(address, from, bytes)) return;
  const int error = errno;
  if (error == ESRCH) Lost();
  if (error == ENOSYS || error == EPERM)
    throw ToolError(fmt::format(
        "process {} can be read but not written to, for its /proc/PID/mem and process_vm_writev are refused: a "
        "sandbox or a container's seccomp profile forbids it; run this outside of the container",
        Describe(pid_)));
  RequireSameProgram();
  throw ToolError(fmt::format("process {} cannot be asked: {:#x}, where the request belongs, cannot be written ({})",
                              Describe(pid_), address, strerror(error)));
}

tarn_snapshot_release Target::ReleaseWords() const {
  tarn_snapshot_release words;
  ReadWords(reader_.block().release_address, &words, sizeof(words), "to release memory");
  return words;
}

void Target::RequestRelease(std::uint64_t number) const {
  WriteWords(reader_.block().release_address, &number, sizeof(number));
}

tarn_snapshot_limit_request Target::LimitWords() const {
  tarn_snapshot_limit_request words;
  ReadWords(reader_.block().limit_request_address, &words, sizeof(words), "for another limit");
  return words;
}

void Target::RequestLimit(std::uint64_t number, std::uint64_t bytes) const {
  const std::uint64_t words[] = {number, bytes, TARN_SNAPSHOT_LIMIT_CHECK(number, bytes)};
  static_assert(offsetof(tarn_snapshot_limit_request, check) == 2 * sizeof(words[0]));
  WriteWords(reader_.block().limit_request_address, words, sizeof(words));
}

std::vector<tarn_snapshot_option> Target::Options() const {
  // Chosen: many times what there are; the number is the target's, which may be damaged.
  constexpr std::uint32_t kMaxOptions = 1000;
  const tarn_snapshot_block& block = reader_.block();
  const auto read = [&] {
    std::vector<tarn_snapshot_option> options(std::min(block.option_count, kMaxOptions));
    if (!options.empty() &&
        !memory_.Read(block.options_address, options.data(), options.size() * sizeof(tarn_snapshot_option)))
      Lost();
    return options;
  };
  // The program may be changing a setting; what was read twice is whole.
  constexpr int kMostReads = 10;
  std::vector<tarn_snapshot_option> options = read();
  for (int i = 1; i < kMostReads; ++i) {
    std::vector<tarn_snapshot_option> again = read();
    const bool same = again.size() == options.size() &&
                      std::memcmp(again.data(), options.data(), options.size() * sizeof(tarn_snapshot_option)) == 0;
    options = std::move(again);
    if (same) break;
  }
  return options;
}

tarn_memstats_t Target::Stats() const {
  tarn_memstats_t stats;
  if (!reader_.ReadMemStats(&stats)) Lost();
  stats.rss_bytes = ResidentBytes();
  stats.peak_rss_bytes = StatusBytes(pid_, "VmHWM");
  return stats;
}

std::uint64_t Target::ResidentBytes() const { return StatusBytes(pid_, "VmRSS"); }

char Target::State() const {
  const std::string state = StatusField(pid_, "State");
  return state.empty() ? 'X' : state[0];
}

}  // namespace tarn::tool
