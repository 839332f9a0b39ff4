// SPDX-License-Identifier: Apache-2.0
//
// ReadTopology of a tool that was built without hwloc.
#include "tools/tarn/topology.h"

namespace tarn::tool {

Topology ReadTopology() { return {}; }

}  // namespace tarn::tool
