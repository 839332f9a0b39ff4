// SPDX-License-Identifier: Apache-2.0
//
// Where CPUs lie to each other, from hwloc: what a report prints, and which CPUs a placement means.
#pragma once

#include <string>
#include <vector>

namespace tarn::tool {

// Where the threads of a measured command may run. `why_not` says why this machine has no such CPUs; `cpus` is empty
// then.
struct Placement {
  std::string policy;
  std::string meaning;
  std::vector<int> cpus;
  std::string why_not;
};

struct Topology {
  bool known = false;              // false in a tool built without hwloc
  std::vector<std::string> lines;  // a small tree, indented by two blanks
  int physical_cores = 0;
  int numa_nodes = 0;
  // one-cpu, same-core, same-cache, different-cache, different-node, in this order.
  std::vector<Placement> placements;
};

// Of the CPUs that this process may run on.
Topology ReadTopology();

}  // namespace tarn::tool
