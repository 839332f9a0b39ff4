// SPDX-License-Identifier: Apache-2.0
//
// A string interner: 100 000 log lines name 100 hosts, each of which is kept once.
#include <tarn/interner.h>

#include <cstdio>
#include <string>
#include <vector>

int main() {
  tarn::Interner hosts("hosts");
  std::vector<std::string_view> lines;
  std::size_t plain_bytes = 0;
  for (int i = 0; i < 100000; ++i) {
    const std::string host = "host-" + std::to_string(i % 100) + ".eu-central.example.com";
    plain_bytes += host.size();
    lines.push_back(hosts.Intern(host));
  }
  std::printf("%zu lines, %zu texts, %zu bytes instead of %zu\n", lines.size(), hosts.size(), hosts.text_bytes(),
              plain_bytes);
  // Equal texts have equal addresses.
  return hosts.size() == 100 && lines[7].data() == lines[107].data() && lines[7].data() != lines[8].data() ? 0 : 1;
}
