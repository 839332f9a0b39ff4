// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/vdso.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include "allocator/os/elf_symbols.h"

namespace tarn {

std::uintptr_t FindVdsoFunction(const char* name) {
  const std::uintptr_t image = ::getauxval(AT_SYSINFO_EHDR);
  if (image == 0) return 0;
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image);
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(image + header->e_phoff);
  std::uintptr_t base = image;
  const ElfW(Phdr)* dynamic_segment = nullptr;
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD) base = image + segments[i].p_offset - segments[i].p_vaddr;
    if (segments[i].p_type == PT_DYNAMIC) dynamic_segment = &segments[i];
  }
  if (dynamic_segment == nullptr) return 0;
  const auto* dynamic_section = reinterpret_cast<const ElfW(Dyn)*>(image + dynamic_segment->p_offset);
  return FindElfFunction(base, dynamic_section, name);
}

}  // namespace tarn
