// SPDX-License-Identifier: Apache-2.0
//
// How a program under fault_injector says where faults may begin and end.
//
// The mark is a system call that does nothing: prctl with an operation that no
// kernel knows, and the mark as its second argument. Without a tracer it just
// fails, so a marked program also runs by itself.

#ifndef TARN_TESTS_FAULTS_MARKER_H_
#define TARN_TESTS_FAULTS_MARKER_H_

#include <sys/prctl.h>

#include <cerrno>

namespace tarn_test {

// "tarn" in ASCII; prctl's own operations are small numbers or begin with "VM".
inline constexpr int kMarkOperation = 0x7461726E;

enum class Mark : unsigned long {
  kBegin = 1,  // The program has started; faults may happen from here on.
  kEnd = 2,    // No more faults; everything must work again.
};

inline void SetMark(Mark mark) {
  const int error = errno;
  prctl(kMarkOperation, static_cast<unsigned long>(mark), 0UL, 0UL, 0UL);
  errno = error;
}

}  // namespace tarn_test

#endif  // TARN_TESTS_FAULTS_MARKER_H_
