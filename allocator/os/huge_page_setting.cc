// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/huge_page_setting.h"

#include <atomic>
#include <cstdint>

#include "allocator/os/small_file.h"
#include "allocator/os/thread_state.h"

namespace tarn {

HugePageSetting ReadHugePageSetting() {
  SmallFile<64> file("/sys/kernel/mm/transparent_hugepage/enabled");
  // The one in brackets is in force.
  if (file.text().find("[always]") != std::string_view::npos) return HugePageSetting::kAlways;
  if (file.text().find("[madvise]") != std::string_view::npos) return HugePageSetting::kMadvise;
  return HugePageSetting::kNever;
}

HugePageSetting KnownHugePageSetting() {
  // The setting plus 1; 0: nobody has asked. Relaxed: threads that ask at the same time read the same.
  static constinit std::atomic<std::uint8_t> known = 0;
  const std::uint8_t word = known.load(std::memory_order_relaxed);
  if (word != 0) return static_cast<HugePageSetting>(word - 1);
  if (thread_state.is_background) return HugePageSetting::kNever;
  const HugePageSetting setting = ReadHugePageSetting();
  known.store(static_cast<std::uint8_t>(static_cast<std::uint8_t>(setting) + 1), std::memory_order_relaxed);
  return setting;
}

}  // namespace tarn
