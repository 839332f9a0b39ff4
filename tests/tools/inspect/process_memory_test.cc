// SPDX-License-Identifier: Apache-2.0
//
// The memory of another process, which may do anything: run another program, hide its file, and hold what looks like a
// snapshot or an ELF file and is none.

#include "tools/inspect/process_memory.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tools/inspect/process_maps.h"
#include "tools/inspect/target.h"

namespace tarn::tool {
namespace {

volatile std::uint64_t g_word = 4711;

// A child that waits for a byte, and then runs `cat`, which waits for ever.
class Child {
 public:
  Child() {
    int order[2];
    int report[2];
    if (pipe2(order, O_CLOEXEC) != 0 || pipe2(report, O_CLOEXEC) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      char byte = 0;
      if (read(order[0], &byte, 1) != 1) _exit(1);
      if (dup2(order[0], STDIN_FILENO) < 0) _exit(1);
      // The end of this descriptor reports the exec.
      execl("/bin/cat", "cat", nullptr);
      _exit(1);
    }
    close(order[0]);
    close(report[1]);
    order_ = order[1];
    report_ = report[0];
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(order_);
    close(report_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  void RunAnotherProgram() const {
    char byte = 'x';
    ASSERT_EQ(write(order_, &byte, 1), 1);
    ASSERT_EQ(read(report_, &byte, 1), 0);
  }

 private:
  pid_t pid_ = 0;
  int order_ = -1;
  int report_ = -1;
};

std::uint64_t AddressOf(const volatile void* object) { return reinterpret_cast<std::uintptr_t>(object); }

TEST(ProcessMemory, IsThatOfOneProgram) {
  const Child child;
  const ProcessMemory memory(child.pid());
  if (!memory.is_tied()) GTEST_SKIP() << "/proc/PID/mem cannot be opened here";
  std::uint64_t word = 0;
  ASSERT_TRUE(memory.Read(AddressOf(&g_word), &word, sizeof word));
  EXPECT_EQ(word, 4711u);
  word = 4712;
  ASSERT_TRUE(memory.Write(AddressOf(&g_word), &word, sizeof word));
  EXPECT_EQ(g_word, 4711u);
  word = 0;
  ASSERT_TRUE(memory.Read(AddressOf(&g_word), &word, sizeof word));
  EXPECT_EQ(word, 4712u);

  child.RunAnotherProgram();
  // Of the new program everything that it can read and write.
  const std::vector<ProcessMapping> maps = ReadMaps(child.pid());
  const ProcessMemory again(child.pid());
  int readable = 0;
  for (const ProcessMapping& mapping : maps) {
    if (!mapping.is_readable || !mapping.is_writable) continue;
    if (!again.Read(mapping.start, &word, sizeof word)) continue;
    ++readable;
    EXPECT_FALSE(memory.Read(mapping.start, &word, sizeof word)) << mapping.file;
    EXPECT_FALSE(memory.Write(mapping.start, &word, sizeof word)) << mapping.file;
  }
  EXPECT_GT(readable, 0);
}

TEST(ProcessMemory, GoesOnWithoutAFile) {
  const Child child;
  rlimit files;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit none = {0, files.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const ProcessMemory memory(child.pid());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  EXPECT_FALSE(memory.is_tied());
  std::uint64_t word = 0;
  if (!memory.Read(AddressOf(&g_word), &word, sizeof word) && (errno == ENOSYS || errno == EPERM))
    GTEST_SKIP() << "process_vm_readv is refused here";
  EXPECT_EQ(word, 4711u);
  word = 4713;
  EXPECT_TRUE(memory.Write(AddressOf(&g_word), &word, sizeof word));
  word = 0;
  EXPECT_TRUE(memory.Read(AddressOf(&g_word), &word, sizeof word));
  EXPECT_EQ(word, 4713u);
  EXPECT_FALSE(memory.Read(0, &word, sizeof word));
}

// Pages of this process, as if they were the writable part of a file.
struct Pages {
  explicit Pages(std::size_t size) : bytes(size) {
    at = static_cast<unsigned char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (at == MAP_FAILED) std::abort();
  }
  ~Pages() { munmap(at, bytes); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ProcessMapping mapping() const {
    ProcessMapping mapping;
    mapping.start = AddressOf(at);
    mapping.limit = mapping.start + bytes;
    mapping.inode = 1;
    mapping.is_readable = mapping.is_writable = mapping.is_executable = true;
    mapping.file = "/usr/lib/libx.so";
    return mapping;
  }

  std::size_t bytes;
  unsigned char* at;
};

TEST(IsOf32Bits, ByTheLastMapping) {
  const std::string low =
      "08048000-08049000 r-xp 00000000 fd:00 1 /bin/x\nfffdd000-100000000 rw-p 00000000 00:00 0 [stack]\n";
  EXPECT_TRUE(IsOf32Bits(ParseMaps(low)));
  EXPECT_FALSE(IsOf32Bits(ParseMaps(low + "7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0 [stack]\n")));
  EXPECT_FALSE(IsOf32Bits(ReadMaps(getpid())));
  EXPECT_FALSE(IsOf32Bits({}));
}

// A block of another version, which is found where there are few.
TEST(FindSnapshot, RefusesAProcessFullOfBlocks) {
  const Pages pages(std::size_t{4} << 20);
  const ProcessMemory memory(getpid());
  const auto put = [&](std::size_t place) {
    tarn_snapshot_block block = {};
    std::memcpy(block.magic, "tarn.snapshot.9", sizeof block.magic);
    std::memcpy(block.library_version, "9.9.9", 6);
    std::memcpy(pages.at + place, &block, sizeof block);
  };
  // Across the border of what is read at once.
  put((std::size_t{1} << 20) - 64);
  const SnapshotPlace place = FindSnapshot(memory, {pages.mapping()});
  EXPECT_EQ(place.error, SnapshotError::kOtherVersion);
  EXPECT_EQ(place.library_version, "9.9.9");
  EXPECT_EQ(place.address, AddressOf(pages.at) + (std::size_t{1} << 20) - 64);

  for (std::size_t i = 0; i < 1000; ++i) put(i * 512);
  EXPECT_THROW(FindSnapshot(memory, {pages.mapping()}), ToolError);
}

// The notes of an ELF file that says it has very many segments are not looked for.
TEST(ReadCode, BelievesNoHeader) {
  const Pages pages(std::size_t{8} << 20);
  Elf64_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phoff = sizeof header;
  header.e_phnum = 2;
  constexpr std::uint64_t kNotesAt = std::uint64_t{6} << 20;
  struct {
    Elf64_Nhdr head = {4, 2, NT_GNU_BUILD_ID};
    char name[4] = {'G', 'N', 'U', 0};
    unsigned char id[4] = {0xAB, 0xCD, 0, 0};
  } note;
  Elf64_Phdr load = {};
  load.p_type = PT_LOAD;
  Elf64_Phdr notes = {};
  notes.p_type = PT_NOTE;
  notes.p_vaddr = kNotesAt;
  notes.p_filesz = sizeof note;
  const auto write = [&] {
    std::memcpy(pages.at, &header, sizeof header);
    std::memcpy(pages.at + sizeof header, &load, sizeof load);
    std::memcpy(pages.at + sizeof header + sizeof load, &notes, sizeof notes);
    std::memcpy(pages.at + kNotesAt, &note, sizeof note);
  };
  const auto build_id = [&] { return ReadCode(ProcessMemory(getpid()), {pages.mapping()}).at(0).build_id; };
  write();
  EXPECT_EQ(build_id(), "abcd");
  header.e_phnum = 60'000;
  write();
  EXPECT_EQ(build_id(), "");
  header.e_phnum = 2;
  notes.p_filesz = std::uint64_t{1} << 40;
  write();
  EXPECT_EQ(build_id(), "");
}

}  // namespace
}  // namespace tarn::tool
