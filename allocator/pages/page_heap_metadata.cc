// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that makes room for metadata: leaves of the page map, records, slabs.
//
// Called under the lock, which stays held during the calls: the caller cannot go on without, and a block is a share of
// all metadata that there is.
#include <algorithm>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

constexpr std::size_t kMetadataAlignmentBytes = 64;
constexpr std::size_t kBlockStepBytes = std::size_t{2} << 20;
// Of all metadata, the share that comes in one block: so a heap of a TiB is not built by thousands of calls. Chosen.
constexpr std::size_t kBlockDivisor = 8;
// Room for metadata besides the page map in the first block: a record of 100 KiB at most, and what comes later.
constexpr std::size_t kFirstOthersBytes = kBlockStepBytes * 3 / 8;

}  // namespace

std::size_t PageHeap::BytesOfMissingLeaves(PageId first_page, PageCount pages) {
  std::size_t bytes = 0;
  const std::size_t last_leaf = (first_page + pages - PageCount(1)).raw() / kPagesPerLeaf;
  for (std::size_t leaf = first_page.raw() / kPagesPerLeaf; leaf <= last_leaf; ++leaf) {
    if (!page_map.HasLeaf(leaf)) bytes += sizeof(PageMapLeaf) + kMetadataAlignmentBytes;
  }
  return bytes;
}

bool PageHeap::TryInstallLeaves(PageId first_page, PageCount pages) {
  const std::size_t last_leaf = (first_page + pages - PageCount(1)).raw() / kPagesPerLeaf;
  for (std::size_t leaf = first_page.raw() / kPagesPerLeaf; leaf <= last_leaf; ++leaf) {
    if (page_map.HasLeaf(leaf)) continue;
    void* const memory = metadata_.Allocate(sizeof(PageMapLeaf), kMetadataAlignmentBytes, MetadataKind::kPageMap);
    if (memory == nullptr) return false;
    // Not constructed member by member: that would touch a MiB. Zeroed memory is a valid leaf.
    page_map.InstallLeaf(leaf, static_cast<PageMapLeaf*>(memory));
  }
  return true;
}

bool PageHeap::EnsureLeaves(PageId first_page, PageCount pages) {
  while (!TryInstallLeaves(first_page, pages)) {
    if (!EnsureMetadata(sizeof(PageMapLeaf), kMetadataAlignmentBytes)) return false;
  }
  return true;
}

void* PageHeap::TakeMetadata(std::size_t bytes) {
  const bool limited = address_source_.IsLimited();
  void* start = metadata_source_.Take(bytes, limited);
  // Free memory stays charged to the process, and keeps addresses, until it is given up.
  if (start == nullptr && UnreserveFree()) start = metadata_source_.Take(bytes, limited);
  return start;
}

void PageHeap::AddMetadata(void* start, std::size_t bytes) {
  metadata_source_.DumpTaken(start, bytes);
  metadata_.AddBlock(start, bytes);
  if (!metadata_source_.needs_record()) return;
  metadata_source_.List(static_cast<MetadataReservation*>(
      metadata_.Allocate(sizeof(MetadataReservation), alignof(MetadataReservation), MetadataKind::kPages)));
}

// The first block:
//
//   | page map  | other metadata |
//   | no dumps  | dumps          |
//
// The page map of a small process is long and sparse, and can be made anew from the records of the spans.
bool PageHeap::EnsureMetadataFor(PageId first_page, std::size_t huge_pages) {
  const PageCount pages = PageCount::FromHugePages(huge_pages);
  const std::size_t leaf_bytes = BytesOfMissingLeaves(first_page, pages);
  const std::size_t record_bytes = Reservations::RecordBytes(huge_pages);
  if (metadata_.block_bytes() != 0) {
    if (!EnsureMetadata(leaf_bytes + record_bytes, kMetadataAlignmentBytes)) return false;
    TARN_CHECK(TryInstallLeaves(first_page, pages));
    return true;
  }
  const std::size_t page_map_bytes = RoundUp(leaf_bytes, OsPageBytes());
  const std::size_t bytes = RoundUp(page_map_bytes + kFirstOthersBytes, OsPageBytes());
  char* const start = static_cast<char*>(TakeMetadata(bytes));
  if (start == nullptr) return false;
  metadata_.AddBlock(start, page_map_bytes);
  TARN_CHECK(TryInstallLeaves(first_page, pages));
  AddMetadata(start + page_map_bytes, bytes - page_map_bytes);
  return true;
}

bool PageHeap::EnsureMetadata(std::size_t bytes, std::size_t alignment) {
  // The first reservation says where the first part of the page map lies.
  if (metadata_.block_bytes() == 0 && !AddReservation(1)) return false;
  if (metadata_.Fits(bytes, alignment)) return true;
  const std::size_t needed_bytes = RoundUp(bytes + alignment + sizeof(MetadataReservation), kBlockStepBytes);
  const std::size_t usual_bytes = metadata_.block_bytes() / kBlockDivisor / kBlockStepBytes * kBlockStepBytes;
  std::size_t block_bytes = std::max(needed_bytes, usual_bytes);
  void* start = TakeMetadata(block_bytes);
  if (start == nullptr && block_bytes != needed_bytes) {
    block_bytes = needed_bytes;
    start = TakeMetadata(block_bytes);
  }
  if (start == nullptr) return false;
  AddMetadata(start, block_bytes);
  return true;
}

Span* PageHeap::NewSpan(std::size_t objects, SpanKind kind) {
  Span* span = metadata_.NewSpan(objects, kind);
  if (span != nullptr) return span;
  if (!EnsureMetadata(kMaxSpanRecordUnits * Span::kRecordUnitBytes, Span::kRecordUnitBytes)) return nullptr;
  return metadata_.NewSpan(objects, kind);
}

void* PageHeap::AllocateMetadata(std::size_t bytes, std::size_t alignment, MetadataKind kind) {
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  if (!EnsureMetadata(bytes, alignment)) return nullptr;
  return metadata_.Allocate(bytes, alignment, kind);
}

}  // namespace tarn
