// SPDX-License-Identifier: Apache-2.0
//
// Makes a profile of stacks that a process tells, with the tool's symbolizer: for profile_pprof_test.py.
//
//   profile_make PID FILE [DEBUG_DIRECTORY] < stacks
//
// A line of the input is an object's size and the addresses of the calls in hexadecimal, the innermost first. Each
// stands for one live object.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/inspect/profile/file.h"
#include "tools/inspect/symbolizer.h"

using tarn::tool::Profile;

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  try {
    const pid_t pid = std::atoi(argv[1]);
    Profile profile = tarn::tool::NewHeapProfile(524288);
    tarn::tool::AddMappings(tarn::tool::ReadCode(tarn::tool::ProcessMemory(pid), tarn::tool::ReadMaps(pid)), &profile);
    std::unordered_map<std::uint64_t, std::uint32_t> locations;
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      std::int64_t size = 0;
      words >> std::dec >> size >> std::hex;
      Profile::Sample sample;
      for (std::uint64_t address = 0; words >> address;) {
        const auto [found, is_new] = locations.try_emplace(address, profile.locations.size());
        if (is_new) {
          Profile::Location location;
          location.mapping = FindMapping(profile, address);
          location.address = address;
          profile.locations.push_back(std::move(location));
        }
        sample.locations.push_back(found->second);
      }
      sample.values = {1, size, 1, size};
      profile.samples.push_back(std::move(sample));
    }
    std::vector<std::string> directories;
    if (argc > 3) directories.push_back(argv[3]);
    tarn::tool::Symbolizer symbolizer(pid, directories);
    symbolizer.Symbolize(&profile);
    for (const std::string& note : symbolizer.TakeNotes()) std::cerr << note << "\n";
    std::ofstream(argv[2], std::ios::binary) << ProfileFileBytes(profile);
  } catch (const tarn::tool::ProfileError& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
