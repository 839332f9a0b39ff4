#include "allocator/os/huge_page_setting.h"

#include "allocator/os/small_file.h"

namespace tarn {

HugePageSetting ReadHugePageSetting() {
  SmallFile<64> file("/sys/kernel/mm/transparent_hugepage/enabled");
  // The one in brackets is in force.
  if (file.text().find("[always]") != std::string_view::npos) return HugePageSetting::kAlways;
  if (file.text().find("[madvise]") != std::string_view::npos) return HugePageSetting::kMadvise;
  return HugePageSetting::kNever;
}

}  // namespace tarn
