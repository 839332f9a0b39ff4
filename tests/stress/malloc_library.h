// SPDX-License-Identifier: Apache-2.0
//
// Which file the malloc of this process comes from. A test that runs on the
// wrong allocator proves nothing, so the stress and fault tests ask.

#ifndef TARN_TESTS_STRESS_MALLOC_LIBRARY_H_
#define TARN_TESTS_STRESS_MALLOC_LIBRARY_H_

#include <dlfcn.h>

namespace tarn_test {

// The path of the file, as the loader knows it; never null.
inline const char* LibraryOfMalloc() {
  Dl_info info{};
  void* const symbol = dlsym(RTLD_DEFAULT, "malloc");
  if (symbol == nullptr || dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) {
    return "an unknown file";
  }
  return info.dli_fname;
}

}  // namespace tarn_test

#endif  // TARN_TESTS_STRESS_MALLOC_LIBRARY_H_
