// SPDX-License-Identifier: Apache-2.0
//
// dlsym takes the loader's lock, and costs a short process page faults. So the function is looked up in the dynamic
// symbols of libc.
#include "allocator/os/libc_function.h"

#include "allocator/os/load_order.h"

extern "C" __attribute__((weak)) const char* gnu_get_libc_version(void);

namespace tarn {

namespace {

int ReadNumber(const char** text) {
  int number = 0;
  for (; **text >= '0' && **text <= '9'; ++*text) number = 10 * number + (**text - '0');
  return number;
}

}  // namespace

std::uintptr_t FindLibcFunction(const char* name) {
  const link_map* const libc = LoadedLibc();
  return libc == nullptr ? 0 : FindFunction(*libc, name);
}

bool LibcIsGlibcFrom(int major, int minor) {
  if (gnu_get_libc_version == nullptr) return false;
  const char* text = gnu_get_libc_version();
  const int libc_major = ReadNumber(&text);
  if (*text == '.') ++text;
  const int libc_minor = ReadNumber(&text);
  return libc_major != major ? libc_major > major : libc_minor >= minor;
}

}  // namespace tarn
