// SPDX-License-Identifier: Apache-2.0
//
// tarn size-classes: the table of sizes that the allocator serves.
#include "size_classes/size_classes.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct ClassRow {
  int size_class;
  std::size_t size_bytes;
  std::size_t span_bytes;
  std::size_t objects;
  double tail;   // part of the span behind its last object
  double worst;  // largest part of an object that its request did not ask for
};

ClassRow DescribeClass(int size_class) {
  const SizeClassInfo& info = kSizeClasses[size_class];
  const std::size_t smaller = size_class > 1 ? kSizeClasses[size_class - 1].size_bytes : 0;
  const std::size_t size = info.size_bytes;
  const std::size_t span = std::size_t{info.span_pages} * kPageBytes;
  const std::size_t objects = info.objects_per_span;
  return {size_class,
          size,
          span,
          objects,
          static_cast<double>(span - objects * size) / static_cast<double>(span),
          static_cast<double>(size - smaller - 1) / static_cast<double>(size)};
}

int RunSizeClasses(std::optional<std::uint64_t> request_bytes, const Invocation& invocation) {
  int first = 1;
  int last = kSizeClassCount - 1;
  if (request_bytes) {
    if (*request_bytes > kMaxSmallBytes)
      throw ToolError(fmt::format("{} bytes have no class: above {} a request gets pages of its own", *request_bytes,
                                  kMaxSmallBytes));
    first = last = MallocSizeClass(*request_bytes);
  }
  if (invocation.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (int i = first; i <= last; ++i) {
      const ClassRow row = DescribeClass(i);
      rows.push_back({{"class", row.size_class},
                      {"size_bytes", row.size_bytes},
                      {"span_bytes", row.span_bytes},
                      {"objects_per_span", row.objects},
                      {"tail_waste", row.tail},
                      {"worst_waste", row.worst}});
    }
    const nlohmann::json document = {{"schema", "tarn-size-classes/1"},
                                     {"page_bytes", kPageBytes},
                                     {"max_small_bytes", kMaxSmallBytes},
                                     {"classes", rows}};
    WriteResult(invocation, document.dump(1) + "\n");
    return kExitOk;
  }
  std::string text =
      fmt::format("{:>5} {:>9} {:>9} {:>8} {:>7} {:>7}\n", "class", "size", "span", "objects", "tail", "worst");
  for (int i = first; i <= last; ++i) {
    const ClassRow row = DescribeClass(i);
    text += fmt::format("{:>5} {:>9} {:>9} {:>8} {:>6.2f}% {:>6.2f}%\n", row.size_class, row.size_bytes, row.span_bytes,
                        row.objects, 100 * row.tail, 100 * row.worst);
  }
  WriteResult(invocation, text);
  return kExitOk;
}

Prepared PrepareSizeClasses() {
  auto request_bytes = std::make_shared<std::optional<std::uint64_t>>();
  return {{{"[BYTES]", "BYTES", "show only the class that serves malloc(BYTES)", request_bytes.get()}},
          [request_bytes](const Invocation& invocation) { return RunSizeClasses(*request_bytes, invocation); }};
}

}  // namespace

extern const Verb kSizeClassesVerb;
const Verb kSizeClassesVerb = {
    .name = "size-classes",
    .summary = "show the sizes that requests are rounded up to",
    .examples = {{"tarn size-classes", "show the table of sizes"},
                 {"tarn size-classes 100", "which size malloc(100) gets"}},
    .details =
        "Sizes in bytes. tail: the part of a span behind its last object. worst: the part of an object that is "
        "lost when the request is one byte above the class before.",
    .prepare = PrepareSizeClasses,
};

}  // namespace tarn::tool
