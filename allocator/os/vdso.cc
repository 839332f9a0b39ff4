// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/vdso.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include "allocator/os/elf_symbols.h"

namespace tarn {

// The base is that of the first loaded segment, as the kernel's own reader has it (tools/testing/selftests/vDSO).
std::uintptr_t FindImageFunction(std::uintptr_t image, const char* name) {
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image);
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(image + header->e_phoff);
  const ElfW(Phdr)* loaded = nullptr;
  const ElfW(Phdr)* dynamic = nullptr;
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD && loaded == nullptr) loaded = &segments[i];
    if (segments[i].p_type == PT_DYNAMIC) dynamic = &segments[i];
  }
  if (loaded == nullptr || dynamic == nullptr) return 0;
  const std::uintptr_t base = image + loaded->p_offset - loaded->p_vaddr;
  const auto* dynamic_section = reinterpret_cast<const ElfW(Dyn)*>(image + dynamic->p_offset);
  return FindElfFunction(base, dynamic_section, name);
}

std::uintptr_t FindVdsoFunction(const char* name) {
  const std::uintptr_t image = ::getauxval(AT_SYSINFO_EHDR);
  return image == 0 ? 0 : FindImageFunction(image, name);
}

}  // namespace tarn
