// SPDX-License-Identifier: Apache-2.0
//
// ReadTopology with hwloc.
#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <hwloc.h>

#include "tools/tarn/topology.h"

namespace tarn::tool {
namespace {

std::string CpuList(hwloc_const_cpuset_t cpus) {
  char* text = nullptr;
  if (hwloc_bitmap_list_asprintf(&text, cpus) < 0) return "?";
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  return text;
}

std::string Size(hwloc_uint64_t bytes) {
  constexpr hwloc_uint64_t kMiB = 1 << 20;
  if (bytes >= kMiB) return fmt::format("{:.4g} MiB", static_cast<double>(bytes) / static_cast<double>(kMiB));
  return fmt::format("{} KiB", bytes >> 10);
}

std::string DescribeObject(hwloc_obj_t object) {
  char type[64];
  hwloc_obj_type_snprintf(type, sizeof type, object, 0);
  std::string text = type;
  if (object->os_index != HWLOC_UNKNOWN_INDEX && object->type != HWLOC_OBJ_MACHINE) {
    text += fmt::format(" {}", object->os_index);
  }
  if (hwloc_obj_type_is_cache(object->type) != 0 && object->attr->cache.size != 0) {
    text += ", " + Size(object->attr->cache.size);
  }
  if (object->cpuset != nullptr && object->type != HWLOC_OBJ_PU) {
    const bool one = hwloc_bitmap_weight(object->cpuset) == 1;
    text += fmt::format(": CPU{} {}", one ? "" : "s", CpuList(object->cpuset));
  }
  return text;
}

void AppendTree(hwloc_obj_t object, const std::string& indent, std::vector<std::string>* lines) {
  // A core's line names its CPUs; caches within a core say nothing about who shares what.
  lines->push_back(indent + DescribeObject(object));
  if (object->type == HWLOC_OBJ_CORE) return;
  for (hwloc_obj_t child = object->memory_first_child; child != nullptr; child = child->next_sibling) {
    AppendTree(child, indent + "  ", lines);
  }
  for (hwloc_obj_t child = object->first_child; child != nullptr; child = child->next_sibling) {
    if (child->type != HWLOC_OBJ_PU) AppendTree(child, indent + "  ", lines);
  }
}

std::vector<int> Cpus(hwloc_const_cpuset_t set) {
  std::vector<int> cpus;
  for (int cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu)) cpus.push_back(cpu);
  return cpus;
}

class Reader {
 public:
  Reader() {
    if (hwloc_topology_init(&topology_) != 0) return;
    loaded_ = hwloc_topology_load(topology_) == 0;
    if (loaded_) RestrictToOwnCpus();
  }
  ~Reader() {
    if (topology_ != nullptr) hwloc_topology_destroy(topology_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Topology Read() const {
    Topology result;
    if (!loaded_) return result;
    result.known = true;
    result.physical_cores = std::max(0, hwloc_get_nbobjs_by_type(topology_, HWLOC_OBJ_CORE));
    result.numa_nodes = std::max(0, hwloc_get_nbobjs_by_type(topology_, HWLOC_OBJ_NUMANODE));
    AppendTree(hwloc_get_root_obj(topology_), "", &result.lines);
    result.placements = {OneCpu(), SameCore(), SameCache(), DifferentCache(), DifferentNode()};
    return result;
  }

 private:
  // Leaves out CPUs that this process may not use. A topology that hwloc makes up is another machine's, and stays.
  void RestrictToOwnCpus() {
    if (hwloc_topology_is_thissystem(topology_) == 0) return;
    const hwloc_bitmap_t cpus = hwloc_bitmap_alloc();
    if (cpus == nullptr) return;
    if (hwloc_get_cpubind(topology_, cpus, HWLOC_CPUBIND_PROCESS) == 0) hwloc_topology_restrict(topology_, cpus, 0);
    hwloc_bitmap_free(cpus);
  }

  // The object of this type that encloses the core, or null.
  static hwloc_obj_t LastCache(hwloc_obj_t core) {
    hwloc_obj_t last = nullptr;
    for (hwloc_obj_t object = core->parent; object != nullptr; object = object->parent) {
      if (hwloc_obj_type_is_dcache(object->type) != 0) last = object;
    }
    return last;
  }

  // The first two cores, by number, of which `fits` is true.
  template <typename Fits>
  std::vector<int> TwoCores(Fits fits) const {
    std::vector<hwloc_obj_t> cores;
    for (hwloc_obj_t core = nullptr; (core = hwloc_get_next_obj_by_type(topology_, HWLOC_OBJ_CORE, core)) != nullptr;) {
      cores.push_back(core);
    }
    for (std::size_t i = 0; i < cores.size(); ++i) {
      for (std::size_t j = i + 1; j < cores.size(); ++j) {
        if (!fits(cores[i], cores[j])) continue;
        return {hwloc_bitmap_first(cores[i]->cpuset), hwloc_bitmap_first(cores[j]->cpuset)};
      }
    }
    return {};
  }

  static bool SameNode(hwloc_obj_t a, hwloc_obj_t b) { return hwloc_bitmap_isequal(a->nodeset, b->nodeset) != 0; }

  Placement OneCpu() const {
    const int cpu = hwloc_bitmap_first(hwloc_topology_get_topology_cpuset(topology_));
    return {"one-cpu", "all threads take turns on one CPU", {cpu}, ""};
  }

  Placement SameCore() const {
    Placement placement{"same-core", "the hardware threads of one core", {}, "no core has two hardware threads"};
    for (hwloc_obj_t core = nullptr; (core = hwloc_get_next_obj_by_type(topology_, HWLOC_OBJ_CORE, core)) != nullptr;) {
      if (hwloc_bitmap_weight(core->cpuset) < 2) continue;
      placement.cpus = Cpus(core->cpuset);
      placement.why_not.clear();
      break;
    }
    return placement;
  }

  Placement SameCache() const {
    const auto cpus = TwoCores([](hwloc_obj_t a, hwloc_obj_t b) {
      const hwloc_obj_t cache = LastCache(a);
      return cache != nullptr && cache == LastCache(b);
    });
    return {"same-cache", "two cores under one last-level cache", cpus,
            cpus.empty() ? "no two cores share a cache, by what this machine tells" : ""};
  }

  Placement DifferentCache() const {
    const auto cpus =
        TwoCores([](hwloc_obj_t a, hwloc_obj_t b) { return LastCache(a) != LastCache(b) && SameNode(a, b); });
    return {"different-cache", "two cores of one NUMA node with a last-level cache each", cpus,
            cpus.empty() ? "no NUMA node has two last-level caches" : ""};
  }

  Placement DifferentNode() const {
    const auto cpus = TwoCores([](hwloc_obj_t a, hwloc_obj_t b) { return !SameNode(a, b); });
    return {"different-node", "two cores of different NUMA nodes", cpus, cpus.empty() ? "there is one NUMA node" : ""};
  }

  hwloc_topology_t topology_ = nullptr;
  bool loaded_ = false;
};

}  // namespace

Topology ReadTopology() { return Reader().Read(); }

}  // namespace tarn::tool
