// SPDX-License-Identifier: Apache-2.0
//
// From an address to the size class and the span that it belongs to.
//
// A radix tree of two levels: the root has one entry per GiB of user address space; a leaf has, for each of our pages
// in that GiB, one byte with the size class and one pointer to the span.
//
//   address   46          30 29             13 12        0
//             |  root (17)  |  leaf (17)     |  in page  |
//
// The class byte is what free reads. 0 means "not a plain small object: take the slow path": a large object, a
// stranger's pointer, a page that belongs to nobody. The root lies in zero-filled memory that is not touched where it
// is not used.
//
// Threads: a page's entries are written by the owner of the page at that time (the page heap hands it to one caller),
// so writers never meet. A reader that holds an object got it by a path that synchronises with its allocation. So the
// relaxed loads see the entry of that allocation. A reader with a wrong pointer sees some value, and every value is
// safe to act on: span records are never unmapped. Leaves are installed under the page heap's lock and never removed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/base/units.h"

namespace tarn {

struct Span;

inline constexpr std::size_t kLeafShift = 30;  // a leaf covers 1 GiB of addresses
inline constexpr std::size_t kPagesPerLeaf = std::size_t{1} << (kLeafShift - kPageShift);
inline constexpr std::size_t kRootEntries = std::size_t{1} << (kAddressBits - kLeafShift);

struct PageMapLeaf {
  std::atomic<SizeClass> classes[kPagesPerLeaf];  // must be first, see PageMap::root_
  std::atomic<Span*> spans[kPagesPerLeaf];
};

class PageMap {
 public:
  constexpr PageMap() = default;

  // Finds the size class of the page of `address`, which is 0 where no small span lies. False: no page of ours was ever
  // near the address, and the class is not set. Any bit pattern is a valid argument.
  TARN_ALWAYS_INLINE bool FindClass(std::uintptr_t address, SizeClass* size_class) const {
    std::uintptr_t root_index = address >> kLeafShift;
    // Keeps clang from testing the address's upper bits instead, with a copy and a shift of their own.
    asm("" : "+r"(root_index));
    if (root_index >= kRootEntries) [[unlikely]]
      return false;
    const std::uintptr_t biased_leaf = root_[root_index].load(std::memory_order_relaxed);
    if (biased_leaf == 0) [[unlikely]]
      return false;
    *size_class = reinterpret_cast<const std::atomic<SizeClass>*>(biased_leaf + (address >> kPageShift))
                      ->load(std::memory_order_relaxed);
    return true;
  }

  // The same, with 0 for no class of either kind.
  SizeClass ClassOf(std::uintptr_t address) const {
    SizeClass size_class = 0;
    return FindClass(address, &size_class) ? size_class : SizeClass{0};
  }

  // The span that `page` was registered for, or null. Large spans are registered at their first page only, unless
  // RegisterRest was called.
  Span* SpanOf(PageId page) const {
    std::uintptr_t root_index = page.raw() / kPagesPerLeaf;
    asm("" : "+r"(root_index));  // as in FindClass
    if (root_index >= kRootEntries) [[unlikely]]
      return nullptr;
    const std::uintptr_t biased_leaf = root_[root_index].load(std::memory_order_relaxed);
    if (biased_leaf == 0) [[unlikely]]
      return nullptr;
    const auto* leaf = reinterpret_cast<const PageMapLeaf*>(biased_leaf + root_index * kPagesPerLeaf);
    return leaf->spans[page.raw() % kPagesPerLeaf].load(std::memory_order_relaxed);
  }

  // The span whose pages include that of `address`, looked for at lower addresses too; null when there is none. Slow,
  // for error messages.
  Span* SpanAround(std::uintptr_t address) const;

  // Calls visit(page, span) for each entry, so once for a large span. A span may come or go at any time.
  template <typename Visit>
  void VisitSpans(Visit visit) const {
    for (std::size_t root_index = 0; root_index < kRootEntries; ++root_index) {
      const PageMapLeaf* leaf = LeafOf(PageId(root_index * kPagesPerLeaf));
      if (leaf == nullptr) continue;
      for (std::size_t i = 0; i < kPagesPerLeaf; ++i) {
        Span* span = leaf->spans[i].load(std::memory_order_relaxed);
        if (span != nullptr) visit(PageId(root_index * kPagesPerLeaf + i), span);
      }
    }
  }

  // Registers all pages of a small span, or the first page of a large one; and takes that back.
  void Register(Span* span);
  void Unregister(Span* span);
  // Takes an object with a span of its own out of the map, if the map still names the span for `page`, its first one.
  // Of several callers one gets true and owns the span; Register gives it back (heap/object.h has the protocol).
  [[nodiscard]] bool Claim(PageId page, Span* span);
  // The same for the other pages of a large span, so that it is found from any of them.
  void RegisterRest(Span* span) { StoreRest(span, span); }
  void UnregisterRest(Span* span) { StoreRest(span, nullptr); }

  // The root is a MiB, of which a page is in use.
  void LeaveOutOfDumps();

  // Leaves are installed by the page heap, from zeroed metadata. The caller is about to install one, so this looks by
  // an operation that writes. The root is memory that was never touched, where a read and then a write would take two
  // page faults.
  bool HasLeaf(std::size_t root_index) {
    std::uintptr_t none = 0;
    return !root_[root_index].compare_exchange_strong(none, 0, std::memory_order_relaxed);
  }
  void InstallLeaf(std::size_t root_index, PageMapLeaf* leaf) {
    // Release: a thread with a wrong pointer may look into the leaf at any time and must see its zeroes.
    root_[root_index].store(reinterpret_cast<std::uintptr_t>(leaf) - root_index * kPagesPerLeaf,
                            std::memory_order_release);
  }

 private:
  void StoreRest(const Span* span, Span* value);
  PageMapLeaf* LeafOf(PageId page) const {
    const std::uintptr_t root_index = page.raw() / kPagesPerLeaf;
    if (root_index >= kRootEntries) return nullptr;
    const std::uintptr_t biased_leaf = root_[root_index].load(std::memory_order_relaxed);
    return biased_leaf == 0 ? nullptr : reinterpret_cast<PageMapLeaf*>(biased_leaf + root_index * kPagesPerLeaf);
  }

  // Addresses of leaves, each minus the number of the first page that it covers. So the class byte of a page is at
  // entry + page number, and free needs no masking. 0 where there is no leaf.
  std::atomic<std::uintptr_t> root_[kRootEntries] = {};
};

extern constinit PageMap page_map;

}  // namespace tarn
