// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/page_map.h"

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/span.h"

namespace tarn {

constinit PageMap page_map;

namespace {

bool HoldsSmallObjects(const Span* span) {
  return span->kind == SpanKind::kSmall || span->kind == SpanKind::kSampled || span->kind == SpanKind::kChecked;
}

}  // namespace

void PageMap::LeaveOutOfDumps() {
  const std::size_t os_page_bytes = OsPageBytes();
  const std::uintptr_t start = RoundUp(reinterpret_cast<std::uintptr_t>(root_), os_page_bytes);
  const std::uintptr_t end = reinterpret_cast<std::uintptr_t>(root_ + kRootEntries) / os_page_bytes * os_page_bytes;
  tarn::LeaveOutOfDumps(reinterpret_cast<void*>(start), end - start);
}

void PageMap::Register(Span* span) {
  if (!HoldsSmallObjects(span)) {
    LeafOf(span->first_page)->spans[span->first_page.raw() % kPagesPerLeaf].store(span, std::memory_order_relaxed);
    return;
  }
  // A free of a sampled or a checked object has to take the slow path.
  const SizeClass size_class = span->kind == SpanKind::kSmall ? span->size_class : SizeClass{0};
  for (std::size_t i = 0; i < span->pages.raw(); ++i) {
    const PageId page = span->first_page + PageCount(i);
    PageMapLeaf* leaf = LeafOf(page);
    leaf->classes[page.raw() % kPagesPerLeaf].store(size_class, std::memory_order_relaxed);
    leaf->spans[page.raw() % kPagesPerLeaf].store(span, std::memory_order_relaxed);
  }
}

void PageMap::Unregister(Span* span) {
  const std::size_t registered_pages = HoldsSmallObjects(span) ? span->pages.raw() : 1;
  for (std::size_t i = 0; i < registered_pages; ++i) {
    const PageId page = span->first_page + PageCount(i);
    PageMapLeaf* leaf = LeafOf(page);
    leaf->classes[page.raw() % kPagesPerLeaf].store(0, std::memory_order_relaxed);
    leaf->spans[page.raw() % kPagesPerLeaf].store(nullptr, std::memory_order_relaxed);
  }
}

bool PageMap::Claim(PageId page, Span* span) {
  PageMapLeaf* leaf = LeafOf(page);
  // Relaxed: what the owner of an object knows of its span came with the object. Only the one winner matters.
  return leaf != nullptr &&
         leaf->spans[page.raw() % kPagesPerLeaf].compare_exchange_strong(span, nullptr, std::memory_order_relaxed);
}

void PageMap::StoreRest(const Span* span, Span* value) {
  for (std::size_t i = 1; i < span->pages.raw(); ++i) {
    const PageId page = span->first_page + PageCount(i);
    LeafOf(page)->spans[page.raw() % kPagesPerLeaf].store(value, std::memory_order_relaxed);
  }
}

Span* PageMap::SpanAround(std::uintptr_t address) const {
  const PageId page = PageId::Containing(address);
  std::uintptr_t candidate = page.raw();
  while (candidate / kPagesPerLeaf < kRootEntries) {
    const PageMapLeaf* leaf = LeafOf(PageId(candidate));
    if (leaf == nullptr) {
      // Large spans may cross from one GiB into the next. One that covers a whole GiB has a mapping of its own and is
      // not worth a longer walk.
      if (candidate / kPagesPerLeaf + 1 < page.raw() / kPagesPerLeaf || candidate < kPagesPerLeaf) return nullptr;
      candidate = candidate / kPagesPerLeaf * kPagesPerLeaf - 1;
      continue;
    }
    Span* span = leaf->spans[candidate % kPagesPerLeaf].load(std::memory_order_relaxed);
    if (span != nullptr) return page < span->first_page + span->pages ? span : nullptr;
    if (candidate == 0) return nullptr;
    --candidate;
  }
  return nullptr;
}

}  // namespace tarn
