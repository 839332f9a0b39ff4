// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/sha256.h"

#include <sha2.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <string_view>

namespace tarn::tool {

namespace {

class Hash {
 public:
  Hash() { SHA256Init(&state_); }
  void Add(std::string_view bytes) {
    SHA256Update(&state_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  std::string Finish() {
    char digits[SHA256_DIGEST_STRING_LENGTH];
    return SHA256End(&state_, digits);
  }

 private:
  SHA2_CTX state_;
};

bool AddFile(const std::string& path, Hash* hash) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  std::array<char, 1 << 16> part;
  while (file.read(part.data(), part.size()) || file.gcount() > 0)
    hash->Add({part.data(), static_cast<std::size_t>(file.gcount())});
  return true;
}

}  // namespace

std::string Sha256(const std::string& bytes) {
  Hash hash;
  hash.Add(bytes);
  return hash.Finish();
}

std::string FileSha256(const std::string& path) {
  Hash hash;
  return AddFile(path, &hash) ? hash.Finish() : "";
}

std::string FilesSha256(const std::vector<std::string>& paths) {
  Hash hash;
  for (const std::string& path : paths) {
    if (!AddFile(path, &hash)) hash.Add("(missing)");
  }
  return hash.Finish();
}

}  // namespace tarn::tool
