// SPDX-License-Identifier: Apache-2.0
//
// Writes size_class_table.h to stdout: chooses the classes and their spans by rules.h, within the limits of spec.h.
//
// Run by hand after a change of the two (README.md); a test runs it too and compares its output with the committed
// table. It does not look at the bounds of internal waste: the test does, so that a mistake here is seen.

#include <algorithm>
#include <cstddef>
#include <cstdio>

#include "size_classes/rules.h"
#include "size_classes/spec.h"

namespace {

// The largest power of two that divides the size, as far as a span guarantees it: spans start at pages.
std::size_t Alignment(std::size_t size_bytes) { return std::min(size_bytes & (~size_bytes + 1), tarn::kPageBytes); }

struct Waste {
  double worst_percent;
  double mean_percent;
};

// Internal waste over all request sizes that this class serves and the one before it does not.
Waste InternalWaste(std::size_t size_bytes, std::size_t previous_bytes) {
  const auto size = static_cast<double>(size_bytes);
  const auto most = static_cast<double>(size_bytes - previous_bytes - 1);
  return {100.0 * most / size, 100.0 * most / 2 / size};
}

}  // namespace

int main() {
  const tarn::SizeList sizes = tarn::ChooseSizes(tarn::SizeRules{});
  std::printf(
      "// SPDX-License-Identifier: Apache-2.0\n"
      "//\n"
      "// The table of size classes. Written by size_classes/generate.cc: change spec.h or rules.h and run that.\n"
      "// clang-format off\n"
      "//\n"
      "// tail: part of a span behind its last object. worst, mean: internal waste, the part of an object beyond the\n"
      "// request, over the request sizes of the class. align: the alignment of every object of the class.\n"
      "#pragma once\n"
      "\n"
      "#include \"size_classes/spec.h\"\n"
      "\n"
      "namespace tarn {\n"
      "\n"
      "inline constexpr int kSizeClassCount = %zu;\n"
      "\n"
      "inline constexpr SizeClassInfo kSizeClasses[kSizeClassCount] = {\n"
      "    //  size  pages objects batch cached  reciprocal     class    tail   worst    mean  align\n"
      "    {      0,     0,      0,    0,     0,           0},  //  0\n",
      sizes.count + 1);

  std::size_t previous_bytes = 0;
  for (std::size_t i = 0; i < sizes.count; ++i) {
    const std::size_t size = sizes.bytes[i];
    const std::size_t pages = tarn::ChooseSpanPages(size, tarn::SpanRules{});
    if (pages == 0) {
      std::fprintf(stderr, "no span of at most %zu pages suits %zu bytes\n", tarn::kMaxSpanPages, size);
      return 1;
    }
    const std::size_t span_bytes = pages * tarn::kPageBytes;
    const Waste waste = InternalWaste(size, previous_bytes);
    std::printf("    {%7zu, %5zu, %6zu, %4zu, %5zu, %11u},  // %2zu %6.2f%% %6.2f%% %6.2f%% %6zu\n", size, pages,
                span_bytes / size, tarn::BatchObjects(size), tarn::MaxCachedObjects(size), tarn::Reciprocal(size),
                i + 1, 100.0 * static_cast<double>(span_bytes % size) / static_cast<double>(span_bytes),
                waste.worst_percent, waste.mean_percent, Alignment(size));
    previous_bytes = size;
  }
  std::printf(
      "};\n"
      "\n"
      "}  // namespace tarn\n");
  return 0;
}
