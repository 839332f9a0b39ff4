// SPDX-License-Identifier: Apache-2.0
//
// The sections "Size classes" and "Arenas, pools and heaps".
import { $ } from "./dom.js";
import { bytes, count, percent, withoutZeroes } from "./format.js";
import { SortableTable } from "./table.js";

const showBytes = (_, value) => bytes(value);
const showCount = (_, value) => count(value);
const showShare = (_, value) => (value === null ? "–" : percent(value));

let classes;
let pools;

export function makeClasses() {
  classes = new SortableTable($("classes-table"), "Size classes", [
    { key: "size", title: "Size", value: ({ size }) => size,
      show: ({ size, name }) => name ?? withoutZeroes(bytes(size)) },
    { key: "live", title: "Live objects", value: ({ live }) => live, show: showCount },
    { key: "live_bytes", title: "Live", value: ({ liveBytes }) => liveBytes, show: showBytes },
    { key: "span_bytes", title: "In spans", help: "Memory of all spans of the class",
      value: ({ spanBytes }) => spanBytes, show: showBytes },
    { key: "occupied", title: "Occupied", value: ({ occupied }) => occupied, show: showShare,
      bar: ({ occupied }) => occupied ?? 0 },
    { key: "waste", title: "Waste", value: ({ waste }) => waste, show: showBytes, bar: ({ wasteShare }) => wasteShare },
    { key: "cached", title: "In caches", value: ({ cached }) => cached, show: showBytes },
    { key: "free", title: "Free in spans", value: ({ free }) => free, show: showBytes },
    { key: "tails", title: "Tails", help: "Ends of spans that fit no object", value: ({ tails }) => tails,
      show: showBytes },
    { key: "mallocs", title: "Allocations", help: "Since the start", value: ({ mallocs }) => mallocs, show: showCount },
  ], { key: "live_bytes", descending: true });
  const occupied = (pool) => (pool.capacity_bytes > 0 ? pool.live_bytes / pool.capacity_bytes : null);
  pools = new SortableTable($("pools-table"), "Arenas, pools and heaps with a name", [
    { key: "name", title: "Name", text: true, value: ({ name }) => name },
    { key: "kind", title: "Kind", text: true, value: ({ kind }) => kind },
    { key: "instances", title: "Instances", value: ({ instances }) => instances, show: showCount },
    { key: "live_objects", title: "Live objects", value: (pool) => pool.live_objects, show: showCount },
    { key: "live_bytes", title: "Live", value: (pool) => pool.live_bytes, show: showBytes },
    { key: "capacity", title: "Held", value: (pool) => pool.capacity_bytes, show: showBytes },
    { key: "occupied", title: "Occupied", value: occupied, show: showShare, bar: (pool) => occupied(pool) ?? 0 },
    { key: "allocations", title: "Allocations", value: ({ allocations }) => allocations, show: showCount },
    { key: "failures", title: "Refused", value: ({ failures }) => failures, show: showCount },
  ], { key: "capacity", descending: true });
}

const occupiedShare = (liveBytes, spanBytes) => (spanBytes > 0 ? Math.min(1, liveBytes / spanBytes) : null);

function rowOf(row) {
  const liveBytes = row.live * row.size_bytes;
  const cached = row.cached * row.size_bytes;
  const free = row.free * row.size_bytes;
  return {
    size: row.size_bytes, live: row.live, liveBytes, spanBytes: row.span_bytes, cached, free, tails: row.tail_bytes,
    waste: cached + free + row.tail_bytes, occupied: occupiedShare(liveBytes, row.span_bytes), mallocs: row.mallocs,
  };
}

export function showClasses(now) {
  const { figures } = now;
  const rows = now.classes.map(rowOf);
  const nothing = { cached: 0, free: 0, tails: 0, waste: 0, occupied: null };
  rows.push({
    name: "larger", size: Infinity, live: figures.large_objects, liveBytes: figures.large_bytes,
    spanBytes: figures.large_bytes, mallocs: figures.large_mallocs, ...nothing,
  });
  const mostWaste = Math.max(1, ...rows.map(({ waste }) => waste));
  for (const row of rows) row.wasteShare = row.waste / mostWaste;
  const all = { name: "all", wasteShare: 0 };
  for (const key of ["live", "liveBytes", "spanBytes", "cached", "free", "tails", "waste", "mallocs"])
    all[key] = rows.reduce((sum, row) => sum + row[key], 0);
  all.occupied = occupiedShare(all.liveBytes, all.spanBytes);
  classes.setRows(rows, all);
  $("pools").hidden = $("pools-link").hidden = now.pools.length === 0;
  pools.setRows(now.pools);
}
