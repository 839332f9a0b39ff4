// SPDX-License-Identifier: Apache-2.0
//
// How long tests wait for what must come.

#ifndef TARN_TESTS_BASE_PATIENCE_H_
#define TARN_TESTS_BASE_PATIENCE_H_

namespace tarn_test {

// A busy machine takes a hundred times as long as a quiet one. What has not come within this time hangs.
inline constexpr unsigned kPatienceSeconds = 240;

}  // namespace tarn_test

#endif  // TARN_TESTS_BASE_PATIENCE_H_
