// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/allocators.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include "tools/base/suggestion.h"
#include "tools/tarn/compare/proof.h"
#include "tools/tarn/program.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct Peer {
  std::string_view name;
  std::string_view soname;
  std::string_view package;  // of Debian 12
};

constexpr Peer kPeers[] = {
    {"glibc", "libc.so.6", "libc6"},
    {"mimalloc", "libmimalloc.so.2", "libmimalloc2.0"},
    {"jemalloc", "libjemalloc.so.2", "libjemalloc2"},
    {"tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"},
};

std::string OutputOf(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string output;
  char part[4096];
  while (const std::size_t size = fread(part, 1, sizeof(part), pipe)) output.append(part, size);
  pclose(pipe);
  return output;
}

// Where the loader finds a library of this soname; empty if nowhere.
std::string FindLibrary(std::string_view soname) {
  static const std::string cache = OutputOf("PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null");
  std::istringstream lines(cache);
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t arrow = line.find("=> ");
    const std::size_t begin = line.find_first_not_of(" \t");
    if (arrow == std::string::npos || line.compare(begin, soname.size() + 1, std::string(soname) + " ") != 0) continue;
    std::string path = line.substr(arrow + 3);
    // A list of several machines' libraries holds those of others, too.
    if (ReadElf(path).is_elf) return path;
  }
  return "";
}

std::string RealPath(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  std::string result = resolved != nullptr ? resolved : "";
  free(resolved);
  return result;
}

std::string PackageWithVersion(std::string_view package) {
  return OutputOf(fmt::format("dpkg-query -W -f '${{Package}} ${{Version}}' {} 2>/dev/null", package));
}

Allocator ByPath(const std::string& name, const std::string& path) {
  const std::string real = RealPath(path);
  if (real.empty()) throw UsageError(fmt::format("{}={}: there is no such file", name, path));
  const ElfFacts facts = ReadElf(real);
  if (!facts.is_elf) throw UsageError(fmt::format("{}={}: this is not a shared library of this machine", name, path));
  if (!facts.defines_malloc) throw UsageError(fmt::format("{}={}: this library defines no malloc", name, path));
  if (real.find_first_of(": \t") != std::string::npos)
    throw UsageError(fmt::format("{}={}: a path with a blank or a colon cannot be preloaded", name, path));
  return {name, real, "", {}};
}

// One item of --against, taken apart: NAME, or NAME=PATH with settings behind it.
struct Item {
  std::string name;
  std::string path;  // empty: the library of this name
  std::vector<std::string> environment;
};

Item ParseItem(const std::string& text) {
  Item item;
  const std::size_t equals = text.find('=');
  item.name = text.substr(0, equals);
  if (item.name.empty()) throw UsageError(fmt::format("--against {}: a name is missing before the =", text));
  if (equals == std::string::npos) return item;
  std::istringstream parts(text.substr(equals + 1));
  std::getline(parts, item.path, ':');
  std::string setting;
  while (std::getline(parts, setting, ':')) {
    if (setting.find('=') == std::string::npos || setting.starts_with('='))
      throw UsageError(fmt::format("--against {}: expected NAME=PATH:VARIABLE=VALUE, not \"{}\"", text, setting));
    item.environment.push_back(setting);
  }
  return item;
}

const Peer* FindPeer(const std::string& name) {
  const Peer* peer = std::ranges::find(kPeers, std::string_view(name), &Peer::name);
  return peer == std::end(kPeers) ? nullptr : peer;
}

const Peer& PeerNamed(const std::string& name) {
  if (const Peer* peer = FindPeer(name)) return *peer;
  std::vector<std::string_view> names;
  for (const Peer& known : kPeers) names.push_back(known.name);
  throw UsageError(fmt::format("unknown allocator {}{} (glibc, mimalloc, jemalloc, tcmalloc, or NAME=PATH.so)", name,
                               Suggestion(name, names)));
}

}  // namespace

std::vector<Allocator> FindAllocators(const std::string& against, const std::string& tarn_path,
                                      std::vector<std::string>* missing) {
  const auto tarn = [&](const std::string& name) { return ByPath(name, tarn_path.empty() ? FindTarn() : tarn_path); };
  std::vector<Allocator> allocators;
  std::istringstream items(against);
  std::string text;
  while (std::getline(items, text, ',')) {
    if (text.empty()) continue;
    const Item item = ParseItem(text);
    if (std::ranges::find(allocators, item.name, &Allocator::name) != allocators.end())
      throw UsageError(fmt::format("--against names {} twice", item.name));
    if (text == "tarn") continue;
    const bool by_path = text.find('=') != std::string::npos && item.path != "tarn" && FindPeer(item.path) == nullptr;
    if (by_path) {
      allocators.push_back(ByPath(item.name, item.path));
    } else if (item.path == "tarn") {
      allocators.push_back(tarn(item.name));
    } else {
      const Peer& peer = PeerNamed(item.path.empty() ? item.name : item.path);
      const std::string path = FindLibrary(peer.soname);
      if (path.empty()) {
        const std::string what = fmt::format(
            "{0} is not installed ({1} was not found): apt-get install {2}, or give "
            "{0}=PATH.so",
            item.name, peer.soname, peer.package);
        if (missing == nullptr) throw UsageError(what + "; --skip-missing goes on without it");
        missing->push_back(what);
        continue;
      }
      allocators.push_back({item.name, RealPath(path), PackageWithVersion(peer.package), {}});
    }
    allocators.back().environment = item.environment;
  }
  if (allocators.empty() && missing == nullptr)
    throw UsageError(fmt::format("--against \"{}\" names nothing to compare tarn with", against));
  if (std::ranges::find(allocators, "tarn", &Allocator::name) == allocators.end()) allocators.push_back(tarn("tarn"));
  return allocators;
}

std::string WhyNotProven(const Allocator& allocator, const Launch& launch, const Outcome& outcome) {
  const MallocUse& use = outcome.use;
  if (use.mapped.empty()) {
    return launch.watch.empty() ? "it ended before it could be looked at"
                                : fmt::format("no process of {} was seen", launch.watch);
  }
  const std::string program = std::filesystem::path(use.executable).filename();
  if (KnownElf(use.executable).defines_malloc) return fmt::format("{} has a malloc of its own", program);
  if (!use.owners.empty()) {
    if (use.owners == std::set{allocator.path}) return "";
    std::string seen;
    for (const std::string& owner : use.owners)
      seen += (seen.empty() ? "" : ", ") + std::filesystem::path(owner).filename().string();
    return fmt::format("malloc leads to {}", seen);
  }
  // It has called nothing yet, or its memory may not be read. Then the loader's order decides: of the libraries that
  // define malloc the preloaded one is the first.
  if (std::ranges::find(use.mapped, allocator.path) != use.mapped.end()) return "";
  return fmt::format("{} is not in the maps of {}", allocator.path, program);
}

}  // namespace tarn::tool
