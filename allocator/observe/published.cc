// SPDX-License-Identifier: Apache-2.0

#include "allocator/observe/published.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/os/clock.h"
#include "allocator/os/stall.h"

namespace tarn {

namespace {

constexpr auto kPublishedClasses = [] {
  std::array<tarn_snapshot_size_class, kSizeClassCount> classes = {};
  for (std::size_t c = 1; c < classes.size(); ++c) {
    const SizeClassInfo& info = kSizeClasses[c];
    classes[c] = {.size_bytes = info.size_bytes,
                  .objects_per_span = info.objects_per_span,
                  .span_bytes = static_cast<std::uint32_t>(PageCount(info.span_pages).bytes()),
                  .batch_objects = info.batch_objects};
  }
  return classes;
}();
static_assert(kSizeClassCount <= 65, "readers have room for as many");

std::uint64_t AddressOf(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

// How far a member lies behind the start of its object.
std::uint32_t Offset(const void* object, const void* member) {
  return static_cast<std::uint32_t>(AddressOf(member) - AddressOf(object));
}

// Recognised by its magic from the start; everything else comes with the heap's start.
constexpr tarn_snapshot_block UnstartedBlock() {
  tarn_snapshot_block block = {};
  std::copy_n(TARN_SNAPSHOT_MAGIC, sizeof block.magic, block.magic);
  block.version = TARN_SNAPSHOT_VERSION;
  block.bytes = sizeof block;
  return block;
}

}  // namespace

alignas(64) TARN_EXPORT constinit tarn_snapshot_block own_snapshot = UnstartedBlock();

constinit tarn_registry_record own_registry[TARN_REGISTRY_RECORDS] = {};

void PublishHeap(const HeapParts& parts, std::string_view version, tarn_snapshot_block* block) {
  *block = UnstartedBlock();
  version.copy(block->library_version, sizeof block->library_version - 1);
  block->start_time_ns = RealtimeNanoseconds();
  block->size_class_count = kSizeClassCount;
  block->page_bytes = kPageBytes;
  block->size_classes_address = AddressOf(kPublishedClasses.data());
  parts.cpu_cache->Describe(block);
  const TransferCache& transfer = parts.transfer_caches[0];
  block->transfer_caches_address = AddressOf(parts.transfer_caches);
  block->transfer_cache_stride = sizeof transfer;
  block->transfer_objects_offset = Offset(&transfer, transfer.cached_objects_address());
  block->transfer_spans_offset = Offset(&transfer, transfer.central().spans());
  block->transfer_live_offset = Offset(&transfer, transfer.central().live_objects());
  if (parts.sampled_lists != nullptr) {
    const CentralFreeList& list = parts.sampled_lists[0];
    block->sampled_lists_address = AddressOf(parts.sampled_lists);
    block->sampled_list_stride = sizeof list;
    block->sampled_spans_offset = Offset(&list, list.spans());
    block->sampled_live_offset = Offset(&list, list.live_objects());
  }
  block->pages_address = AddressOf(parts.page_heap->published());
  block->profile_address = parts.profile == nullptr ? 0 : AddressOf(parts.profile->published());
  block->options_address = AddressOf(parts.options);
  block->option_count = static_cast<std::uint32_t>(parts.option_count);
  block->limits_address = AddressOf(parts.limits);
  block->scavenger_address = AddressOf(parts.scavenger);
  block->stalls_address = AddressOf(&stalls);
  block->release_address = AddressOf(parts.release);
  block->limit_request_address = AddressOf(parts.limit_request);
  block->guards_address = AddressOf(parts.guards);
  block->registry_address = AddressOf(own_registry);
  block->registry_count = TARN_REGISTRY_RECORDS;
  block->registry_record_bytes = sizeof own_registry[0];
  // Release: a reader that sees that the heap has started sees the rest.
  std::atomic_ref<std::uint64_t>(block->started).store(1, std::memory_order_release);
}

}  // namespace tarn
