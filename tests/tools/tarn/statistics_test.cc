// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of `tarn compare` and `tarn report`: medians, intervals, verdicts, thinning, hashes.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tools/tarn/compare/rss_series.h"
#include "tools/tarn/compare/sha256.h"
#include "tools/tarn/statistics.h"

namespace tarn::tool {
namespace {

TEST(Median, OddEvenAndNone) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 3, 2}), 2.5);
  EXPECT_TRUE(std::isnan(Median({})));
}

TEST(EstimateMedian, HoldsTheMedianAndIsTheSameEachTime) {
  std::vector<double> values;
  for (int i = 0; i < 101; ++i) values.push_back(i);
  const Estimate estimate = EstimateMedian(values);
  EXPECT_EQ(estimate.value, 50);
  // The order statistics that bound the median of 101 values with 95 % are about 10 to each side.
  EXPECT_GE(estimate.low, 36);
  EXPECT_LE(estimate.low, 44);
  EXPECT_GE(estimate.high, 56);
  EXPECT_LE(estimate.high, 64);
  const Estimate again = EstimateMedian(values);
  EXPECT_EQ(estimate.low, again.low);
  EXPECT_EQ(estimate.high, again.high);
}

TEST(EstimateMedian, OneOutlierMovesNothing) {
  const Estimate estimate = EstimateMedian({1, 1, 1, 1, 1, 1, 1, 1, 1, 50});
  EXPECT_EQ(estimate.value, 1);
  EXPECT_EQ(estimate.low, 1);
  EXPECT_EQ(estimate.high, 1);
}

TEST(EstimateMedian, CoversTheTrueMedianAboutAsOftenAsItSays) {
  // 300 samples of 15 values, uniform in 0..1 by a fixed sequence: the median is 0.5.
  std::uint64_t state = 1;
  int covered = 0;
  for (int i = 0; i < 300; ++i) {
    std::vector<double> values;
    for (int j = 0; j < 15; ++j) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      values.push_back(static_cast<double>(state >> 11) * 0x1p-53);
    }
    const Estimate estimate = EstimateMedian(values);
    covered += estimate.low <= 0.5 && 0.5 <= estimate.high;
  }
  EXPECT_GE(covered, 270);
}

TEST(Verdict, NeedsAnIntervalThatExcludesOneAndMoreThanTheMargin) {
  EXPECT_EQ(VerdictOf({0.9, 0.85, 0.95}, 6), "win");
  EXPECT_EQ(VerdictOf({1.1, 1.05, 1.15}, 6), "loss");
  EXPECT_EQ(VerdictOf({0.9, 0.7, 1.01}, 6), "tie");
  EXPECT_EQ(VerdictOf({1.1, 0.99, 1.2}, 6), "tie");
  EXPECT_EQ(VerdictOf({0.995, 0.993, 0.997}, 6), "tie");
  EXPECT_EQ(VerdictOf({1.005, 1.003, 1.007}, 6), "tie");
}

TEST(Verdict, OnePairTellsNothing) {
  EXPECT_EQ(VerdictOf(EstimateMedian({0.5}), 1), "unsure");
  EXPECT_EQ(VerdictOf(EstimateMedian({0.5, 0.5}), 2), "win");
}

TEST(EstimateChange, OfTwoSamplesAndWiderWithMoreConfidence) {
  const std::vector<double> before = {1.0, 1.02, 0.98, 1.01, 0.99, 1.0};
  const std::vector<double> after = {2.0, 2.06, 1.94, 2.02, 1.98, 2.0};
  const Estimate sure = EstimateChange(before, after, 0.99);
  const Estimate less = EstimateChange(before, after, 0.5);
  EXPECT_DOUBLE_EQ(sure.value, 2);
  EXPECT_LT(sure.low, less.low);
  EXPECT_GT(sure.high, less.high);
  EXPECT_GE(sure.low, 1.94 / 1.02);
  EXPECT_LE(sure.high, 2.06 / 0.98);
}

TEST(Verdict, EquivalentIsMoreThanATie) {
  EXPECT_TRUE(IsEquivalent({1.0, 0.995, 1.005}));
  EXPECT_FALSE(IsEquivalent({1.0, 0.9, 1.1}));
}

TEST(Noise, ByDistanceOrByCertainty) {
  EXPECT_FALSE(IsNoisy({1.0, 0.98, 1.02}));
  EXPECT_FALSE(IsNoisy({1.005, 1.002, 1.008}));
  EXPECT_TRUE(IsNoisy({1.04, 0.9, 1.1}));
  EXPECT_TRUE(IsNoisy({0.96, 0.9, 1.1}));
  EXPECT_TRUE(IsNoisy({1.02, 1.01, 1.03}));
}

TEST(RssSeries, StaysBoundedInOrderAndKeepsThePeak) {
  RssSeries series;
  for (int i = 0; i < 100000; ++i) series.Add(i, i == 70001 ? 1000000 : static_cast<std::uint64_t>(i % 100 + 1));
  EXPECT_LE(series.points().size(), RssSeries::kMaxPoints);
  EXPECT_GE(series.points().size(), RssSeries::kMaxPoints / 4);
  bool peak = false;
  for (std::size_t i = 0; i < series.points().size(); ++i) {
    if (i > 0) {
      EXPECT_GT(series.points()[i].seconds, series.points()[i - 1].seconds);
    }
    peak = peak || series.points()[i].bytes == 1000000;
  }
  EXPECT_TRUE(peak);
  EXPECT_GT(series.points().back().seconds, 99000);
}

TEST(RssSeries, FewPointsStayAsTheyAre) {
  RssSeries series;
  for (int i = 0; i < 100; ++i) series.Add(i, 5);
  EXPECT_EQ(series.points().size(), 100u);
}

TEST(Sha256, VectorsOfTheStandard) {
  EXPECT_EQ(Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace tarn::tool
