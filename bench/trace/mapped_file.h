// SPDX-License-Identifier: Apache-2.0
//
// A file as bytes, for reading.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <system_error>

namespace tarn::trace {

class MappedFile {
 public:
  // Throws a std::system_error.
  explicit MappedFile(const char* path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (file < 0 || fstat(file, &status) != 0) Fail(file);
    const auto bytes = static_cast<std::size_t>(status.st_size);
    // An empty file cannot be mapped, and has nothing to read.
    void* data = bytes == 0 ? nullptr : mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) Fail(file);
    close(file);
    bytes_ = {static_cast<const std::byte*>(data), bytes};
  }
  ~MappedFile() {
    if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  [[noreturn]] static void Fail(int file) {
    const int problem = errno;
    if (file >= 0) close(file);
    throw std::system_error(problem, std::generic_category());
  }

  std::span<const std::byte> bytes_;
};

}  // namespace tarn::trace
