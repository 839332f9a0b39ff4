// Notes, for every process that it is preloaded into, whose malloc it has.
//
// Preloaded behind libtarn.so by the tests of this directory (programs.py). A
// constructor appends one line to the file that MALLOC_WITNESS names:
//
//   pid <tab> path of the executable <tab> path of the file that malloc is in
//
// so that a test can show of each compiler pass, each worker and each child
// that it really ran on tarn. It allocates nothing itself.

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace {

__attribute__((constructor)) void Testify() {
  const char* const file_name = std::getenv("MALLOC_WITNESS");
  if (file_name == nullptr) return;
  const int error = errno;
  char executable[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
  executable[length < 0 ? 0 : length] = '\0';

  Dl_info info{};
  void* const symbol = dlsym(RTLD_DEFAULT, "malloc");
  const bool known = symbol != nullptr && dladdr(symbol, &info) != 0 && info.dli_fname != nullptr;
  char line[2 * PATH_MAX + 64];
  const int wanted = std::snprintf(line, sizeof line, "%d\t%s\t%s\n", static_cast<int>(getpid()), executable,
                                   known ? info.dli_fname : "unknown");
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
