// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/machine.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include <gnu/libc-version.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tools/tarn/topology.h"
#include "tools/tarn/usable_cpus.h"

namespace tarn::tool {
namespace {

using nlohmann::json;

std::string FirstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

json OrNull(std::string text) { return text.empty() ? json(nullptr) : json(std::move(text)); }

// The value of the first line of /proc/cpuinfo that starts with one of these names.
std::string CpuInfo(std::initializer_list<const char*> names) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    for (const std::string name : names) {
      if (line.compare(0, name.size(), name) != 0) continue;
      const std::size_t colon = line.find(':');
      if (colon == std::string::npos) continue;
      const std::size_t start = line.find_first_not_of(" \t", colon + 1);
      if (start != std::string::npos) return line.substr(start);
    }
  }
  return "";
}

// True where the CPU says that it runs under a hypervisor, which adds noise that no setting here can take away.
bool UnderHypervisor() { return (" " + CpuInfo({"flags"}) + " ").find(" hypervisor ") != std::string::npos; }

// "always [madvise] never" -> "madvise"
json Chosen(const char* path) {
  const std::string line = FirstLine(path);
  const std::size_t open = line.find('[');
  const std::size_t close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return OrNull(line);
  return line.substr(open + 1, close - open - 1);
}

int CountUsableCpus() {
  const int count = UsableCpus().count();
  return count != 0 ? count : static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

json CollectMachine() {
  json machine;
  std::string model = CpuInfo({"model name", "Model", "cpu model"});
  utsname system{};
  if (uname(&system) == 0) {
    machine["kernel"] = std::string(system.sysname) + " " + system.release;
    if (model.empty()) model = system.machine;
  } else {
    machine["kernel"] = nullptr;
  }
  machine["cpu_model"] = OrNull(std::move(model));
  machine["logical_cpus"] = CountUsableCpus();
  machine["memory_bytes"] = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  machine["libc"] = std::string("glibc ") + gnu_get_libc_version();
  machine["thp"] = {{"enabled", Chosen("/sys/kernel/mm/transparent_hugepage/enabled")},
                    {"defrag", Chosen("/sys/kernel/mm/transparent_hugepage/defrag")},
                    {"shmem_enabled", Chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled")}};
  machine["governor"] = OrNull(FirstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
  double load[3];
  machine["load_average"] = getloadavg(load, 3) == 3 ? json({load[0], load[1], load[2]}) : json(nullptr);
  machine["virtual_machine"] = UnderHypervisor();

  const Topology topology = ReadTopology();
  machine["physical_cores"] = topology.known ? json(topology.physical_cores) : json(nullptr);
  machine["numa_nodes"] = topology.known ? json(topology.numa_nodes) : json(nullptr);
  machine["topology"] = topology.lines;
  json placements = json::object();
  for (const Placement& placement : topology.placements) {
    json& entry = placements[placement.policy];
    entry["meaning"] = placement.meaning;
    if (placement.why_not.empty()) {
      entry["cpus"] = placement.cpus;
    } else {
      entry["why_not"] = placement.why_not;
    }
  }
  machine["placements"] = std::move(placements);
  return machine;
}

}  // namespace tarn::tool
