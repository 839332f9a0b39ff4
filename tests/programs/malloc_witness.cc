// SPDX-License-Identifier: Apache-2.0
//
// Notes, for every process that it is preloaded into, whose malloc it has.
//
// Preloaded behind libtarn.so by the tests of this directory (programs.py). A
// constructor appends one line to the file that MALLOC_WITNESS names:
//
//   pid <tab> path of the executable <tab> path of the file that malloc is in
//
// so that a test can show of each compiler pass, each worker and each child
// that it really ran on tarn.

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

// The file that a function is in, or null.
const char* FileOf(const void* function) {
  Dl_info info{};
  return function != nullptr && dladdr(function, &info) != 0 ? info.dli_fname : nullptr;
}

// The file that the loader takes malloc from: the first one that defines it, in
// the order in which the loader looks. dlsym alone does not tell, because in an
// executable with fixed addresses that takes malloc's address, it gives a jump
// in the executable.
const char* FileOfMalloc() {
  void* const itself = dlopen(nullptr, RTLD_LAZY);
  link_map* object = nullptr;
  if (itself == nullptr || dlinfo(itself, RTLD_DI_LINKMAP, &object) != 0) return "unknown";
  for (object = object->l_next; object != nullptr; object = object->l_next) {
    void* const handle = dlopen(object->l_name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) continue;
    // This looks into what the object depends on, too, hence the comparison.
    const char* const file = FileOf(dlsym(handle, "malloc"));
    dlclose(handle);
    if (file != nullptr && std::strcmp(file, object->l_name) == 0) return object->l_name;
  }
  return "unknown";
}

__attribute__((constructor)) void Testify() {
  const char* const file_name = std::getenv("MALLOC_WITNESS");
  if (file_name == nullptr) return;
  const int error = errno;
  char executable[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
  executable[length < 0 ? 0 : length] = '\0';

  char line[2 * PATH_MAX + 64];
  const int wanted =
      std::snprintf(line, sizeof line, "%d\t%s\t%s\n", static_cast<int>(getpid()), executable, FileOfMalloc());
  // One write of a short line in append mode: lines of many processes stay whole.
  const int file = open(file_name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (file >= 0 && wanted > 0) {
    const auto bytes = std::min(static_cast<std::size_t>(wanted), sizeof line - 1);
    [[maybe_unused]] const ssize_t written = write(file, line, bytes);
  }
  if (file >= 0) close(file);
  errno = error;
}

}  // namespace
