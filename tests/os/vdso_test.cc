// SPDX-License-Identifier: Apache-2.0
//
// Functions of the vDSO, and of images that other systems than Linux map as theirs.

#include "allocator/os/vdso.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>
#include <time.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace tarn {
namespace {

constexpr const char* kClockGettime = "__vdso_clock_gettime";

TEST(Vdso, FindsAFunctionThatWorks) {
  if (getauxval(AT_SYSINFO_EHDR) == 0) GTEST_SKIP() << "no vDSO";
  const std::uintptr_t function = FindVdsoFunction(kClockGettime);
  if (function == 0) GTEST_SKIP() << "the vDSO has no " << kClockGettime;
  timespec time = {};
  EXPECT_EQ(reinterpret_cast<int (*)(clockid_t, timespec*)>(function)(CLOCK_MONOTONIC, &time), 0);
  EXPECT_GT(time.tv_sec + time.tv_nsec, 0);
  EXPECT_EQ(FindVdsoFunction("__vdso_no_such_function"), 0u);
}

// A file of one loaded segment with one function, as a linker would make it for this address.
class Image {
 public:
  static constexpr std::uintptr_t kFunctionOffset = 0x345;
  static constexpr char kName[] = "__vdso_clock_gettime";

  Image(std::uintptr_t file_address, bool gnu_hash) {
    file_ = {};
    file_.header.e_phoff = offsetof(File, segments);
    file_.header.e_phnum = 3;
    file_.segments[0].p_type = PT_LOAD;
    file_.segments[0].p_vaddr = file_address;
    file_.segments[0].p_filesz = file_.segments[0].p_memsz = sizeof(File);
    file_.segments[1].p_type = PT_DYNAMIC;
    file_.segments[1].p_offset = offsetof(File, dynamic);
    file_.segments[1].p_vaddr = file_address + offsetof(File, dynamic);
    file_.segments[2].p_type = PT_NOTE;
    const auto at = [&](std::size_t offset) { return file_address + offset; };
    file_.dynamic[0] = {DT_SYMTAB, {at(offsetof(File, symbols))}};
    file_.dynamic[1] = {DT_STRTAB, {at(offsetof(File, strings))}};
    if (gnu_hash) {
      file_.dynamic[2] = {DT_GNU_HASH, {at(offsetof(File, gnu_hash))}};
    } else {
      file_.dynamic[2] = {DT_HASH, {at(offsetof(File, hash))}};
    }
    file_.dynamic[3].d_tag = DT_NULL;
    file_.symbols[1].st_name = 1;
    file_.symbols[1].st_shndx = 1;
    file_.symbols[1].st_value = at(kFunctionOffset);
    std::memcpy(file_.strings + 1, kName, sizeof(kName));
    file_.hash[1] = 2;
    // One bucket, the first hashed symbol is the first one, one word for the Bloom filter.
    std::uint32_t hash = 5381;
    for (const char* c = kName; *c != '\0'; ++c) hash = hash * 33 + static_cast<unsigned char>(*c);
    const std::uint32_t table[] = {1, 1, 1, 0, 0, 0, 1, hash | 1};
    std::memcpy(file_.gnu_hash, table, sizeof(table));
  }

  std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(&file_); }

 private:
  struct File {
    ElfW(Ehdr) header;
    ElfW(Phdr) segments[3];
    ElfW(Dyn) dynamic[4];
    ElfW(Sym) symbols[2];
    char strings[32];
    std::uint32_t hash[8];
    std::uint32_t gnu_hash[8];
  };
  File file_;
};

// Linux maps an image that was linked for address 0; gVisor, WSL 1 and old kernels one for the end of the address
// space. Nobody relocates it.
TEST(Vdso, IsReadWhateverItsFileAddresses) {
  constexpr std::uintptr_t kAtTheEnd = 0xffffffffff700000;
  constexpr std::uintptr_t kAboveTheImage = 0x7fffffff0000;
  for (const std::uintptr_t file_address : {std::uintptr_t{0}, std::uintptr_t{0x400000}, kAboveTheImage, kAtTheEnd}) {
    for (const bool gnu_hash : {false, true}) {
      const auto image = std::make_unique<Image>(file_address, gnu_hash);
      EXPECT_EQ(FindImageFunction(image->address(), kClockGettime), image->address() + Image::kFunctionOffset)
          << std::hex << file_address << (gnu_hash ? ", gnu" : ", old") << " hash";
      EXPECT_EQ(FindImageFunction(image->address(), "__vdso_getcpu"), 0u);
    }
  }
}

TEST(Vdso, AnImageWithoutSegmentsHasNothing) {
  const std::vector<std::uintptr_t> empty(sizeof(ElfW(Ehdr)) / sizeof(std::uintptr_t));
  EXPECT_EQ(FindImageFunction(reinterpret_cast<std::uintptr_t>(empty.data()), kClockGettime), 0u);
}

}  // namespace
}  // namespace tarn
