// SPDX-License-Identifier: Apache-2.0
//
// A result document's judgement of tarn: ratios and verdicts, the best peer, and all of it in one sentence.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/tarn/report/document.h"

namespace tarn::tool::report {

inline constexpr const char* kSubject = "tarn";

// True if the reference differs from itself in this measure. A noisy clock says nothing about bytes, nor about CPU
// time.
bool TooNoisy(const BenchWorkload& workload, const std::string& measure);

// The name of a measure of this workload for readers.
std::string NameOf(const BenchWorkload& workload, const std::string& measure);

// The measures that have a line in the tables, and what a reader calls them; what counts comes first.
std::vector<std::pair<std::string, std::string>> LinesOf(const BenchWorkload& workload);

// `allocator` to the reference of the workload; the verdict is "noisy" where the machine was too noisy to tell.
std::optional<RatioResult> RatioOf(const BenchWorkload& workload, const std::string& allocator,
                                   const std::string& measure);

// Why there is no ratio: "failed 6 of 6" and the like.
std::string WhyNone(const BenchWorkload& workload, const std::string& allocator);

struct BestPeer {
  std::string name;
  RatioResult ratio;  // tarn / the peer
};

// The peer with the smallest median. It is chosen after the fact, which favours the peers.
std::optional<BestPeer> FindBestPeer(const BenchWorkload& workload, const std::string& measure);

// All allocators that any workload has results of, in the document's order; the subject first, the references next.
std::vector<std::string> AllocatorsOf(const BenchDocument& document);

// Those of them that have ratios: without the reference, if all workloads have the same one.
std::vector<std::string> ComparedAllocators(const BenchDocument& document);

// The reference of all workloads, or `otherwise` where they have several.
std::string ReferenceOf(const BenchDocument& document, const std::string& otherwise);

struct Mean {
  double ratio = 0;       // geometric; 0 of no workloads
  std::size_t count = 0;  // of workloads that have this ratio
};

// An empty measure is what each workload is about.
Mean GeometricMean(const BenchDocument& document, const std::string& allocator, const std::string& measure);

// Of the ratios of tarn to the best peer of each workload.
Mean GeometricMeanToPeers(const BenchDocument& document, const std::string& measure);

// The median of the operations per second of an allocator; 0 where the workload does not count them.
double OperationsPerSecond(const BenchWorkload& workload, const std::string& allocator);

// "1 error", "2 errors".
std::string Counted(std::size_t count, const char* one, const char* many);

// The top of the report as plain text: wins, ties and losses of tarn against the reference and the best
// peer, the means, the largest loss, and what does not count.
std::string Headline(const BenchDocument& document);

}  // namespace tarn::tool::report
