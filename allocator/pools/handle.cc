// SPDX-License-Identifier: Apache-2.0

#include "allocator/pools/handle.h"

#include "allocator/heap/regions.h"
#include "allocator/os/crash.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

constexpr std::uint8_t kEnding = 0x80;

// The region that starts at the address, or null.
Span* RegionAt(const void* handle) {
  const auto address = reinterpret_cast<std::uintptr_t>(handle);
  Span* region = page_map.SpanOf(PageId::Containing(address));
  return region != nullptr && region->is_region() && region->start_address() == address ? region : nullptr;
}

}  // namespace

void OpenHandle(Span* region, HandleKind kind) {
  __atomic_store_n(&region->region_mark(), static_cast<std::uint8_t>(kind), __ATOMIC_RELEASE);
}

void BeginEnd(const void* handle, HandleKind kind, const char* call) {
  Span* region = RegionAt(handle);
  if (region == nullptr) ReportMisuse(call, handle, Misuse::kNoHandle);
  auto mark = static_cast<std::uint8_t>(kind);
  const std::uint8_t ending = mark | kEnding;
  if (__atomic_compare_exchange_n(&region->region_mark(), &mark, ending, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    return;
  }
  ReportMisuse(call, handle, mark == ending ? Misuse::kPoolAtWork : Misuse::kNoHandle);
}

void RequireHandle(const void* handle, HandleKind kind, const char* call) {
  Span* region = RegionAt(handle);
  if (region != nullptr) {
    const std::uint8_t mark = __atomic_load_n(&region->region_mark(), __ATOMIC_RELAXED);
    if ((mark & ~kEnding) == static_cast<std::uint8_t>(kind)) return;
  }
  ReportMisuse(call, handle, Misuse::kNoHandle);
}

void FreeHandle(Span* region) {
  __atomic_store_n(&region->region_mark(), std::uint8_t{0}, __ATOMIC_RELAXED);
  FreeRegion(region);
}

}  // namespace tarn
