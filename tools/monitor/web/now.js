// SPDX-License-Identifier: Apache-2.0
//
// The section "Now", and the head of the page.
import { $, element, setText } from "./dom.js";
import { bytes, bytesParts, clock, count, duration, nanoseconds, percent, rate } from "./format.js";
import { limitOf } from "./server.js";

const MIB = 1 << 20;
const HIGH_SHARE = 0.9;
const inParts = (text) => text.split("\u00a0");

// {key, title, help, value(now), none: for null, parts(value): number and unit, more(now), share(now): of a bar}
const TILES = [
  {
    key: "live_bytes", title: "Live", help: "Objects of the program, by their size classes",
    value: ({ figures }) => figures.live_bytes,
    more: ({ figures }) => `${count(figures.live_objects)} objects`,
  },
  {
    key: "resident_bytes", title: "Resident", help: "Memory of the whole process, as the kernel counts it",
    value: ({ figures }) => figures.resident_bytes,
    more: ({ figures }) => `at most ${bytes(figures.peak_resident_bytes)}`,
  },
  {
    key: "limit_bytes", title: "Limit", help: "The lower one of the soft and the hard limit",
    value: ({ figures }) => limitOf(figures), none: "none",
    more: ({ figures }) => (limitOf(figures) === null ? "not bounded"
      : `${percent(figures.resident_bytes / limitOf(figures))} resident`),
    share: ({ figures }) => (limitOf(figures) === null ? null : figures.resident_bytes / limitOf(figures)),
  },
  {
    key: "returned_bytes", title: "Returned", help: "Free pages that were given back to the kernel",
    value: ({ figures }) => figures.returned_bytes,
    more: ({ figures }) => `${bytes(figures.total_returned_bytes)} since the start`,
  },
  {
    key: "alloc_rate", title: "Allocating", help: "Within the last interval",
    value: ({ rates }) => rates.alloc_mb_sec * MIB, parts: (value) => inParts(rate(value)),
    more: ({ rates }) => `${rate(rates.freed_mb_sec * MIB)} freed`,
  },
  {
    key: "fragmentation_percent", title: "Unused in spans", help: "Memory in spans that holds no live object",
    value: ({ figures }) => figures.fragmentation_percent, parts: (value) => inParts(percent(value / 100)),
    more: ({ figures }) => `of ${bytes(figures.in_use_bytes)}`,
  },
  {
    key: "requested_bytes", title: "Asked for", help: "By the program, in what is live; estimated from samples",
    value: ({ figures }) => figures.requested_bytes || null, none: "unknown",
    more: ({ figures }) => (figures.requested_bytes
      ? `${percent(Math.max(0, 1 - figures.requested_bytes / Math.max(1, figures.live_bytes)))} lost to rounding`
      : "no samples"),
  },
  {
    key: "pause_ms", title: "Longest stall", help: "Of a slow path, within the last interval",
    value: ({ rates }) => rates.pause_ms, parts: (value) => inParts(nanoseconds(Math.round(value * 1e6))),
    more: ({ figures }) => `${nanoseconds(figures.longest_stall_ns)} since the start`,
  },
];

// The parts of what is mapped; of what was never used there is a text alone, for it is often far more than all else.
const PARTS = [
  ["live", "Live objects", "Objects of the program"],
  ["cached", "In caches", "Free objects in caches of CPUs and between them"],
  ["span_free", "Free in spans", "Free objects in spans, and the tails of spans"],
  ["free_pages", "Free pages", "Free pages that still have memory"],
  ["metadata", "Own records", "The allocator's own records"],
  ["returned", "Returned", "Free pages that were given back to the kernel: addresses without memory"],
];

export function makeNow() {
  for (const tile of TILES) {
    tile.number = element("span", { class: "big" });
    tile.unit = element("span", { class: "unit" });
    tile.figure = element("dd", { class: "figure", "data-figure": tile.key }, tile.number, " ", tile.unit);
    tile.text = element("dd", { class: "quiet" });
    tile.bar = tile.share ? element("dd", { class: "meter", "aria-hidden": "true", hidden: true }) : null;
    $("tiles").append(element("div", { class: "tile", title: tile.help }, element("dt", {}, tile.title), tile.figure,
      tile.text, tile.bar));
  }
  for (const [key, title, help] of PARTS) {
    $("parts-bar").append(element("div", { class: `part part-${key}` }));
    const swatch = element("span", { class: `swatch part-${key}`, "aria-hidden": "true" });
    $("parts").append(element("div", { title: help }, element("dt", {}, swatch, title), element("dd")));
  }
  $("parts").append(element("div", { title: "Address space that was never used" }, element("dt", {}, "Reserved"),
    element("dd")));
}

function showProcess({ process, time_ms: now }) {
  setText($("program"), process.program);
  const threads = `${count(process.threads)} ${process.threads === 1 ? "thread" : "threads"}`;
  setText($("process"), [`PID ${process.pid}`, `tarn ${process.version}`, `up ${duration((now - process.start_ms) / 1000)}`,
    threads, `${duration(process.cpu_s)} of CPU`].join(" · "));
  setText($("as-of"), clock(now));
  $("as-of").setAttribute("datetime", new Date(now).toISOString());
}

function showTile(tile, now) {
  const value = tile.value(now);
  const [number, unit] = value === null ? [tile.none, ""] : (tile.parts ?? bytesParts)(value);
  setText(tile.number, number);
  setText(tile.unit, unit);
  tile.figure.dataset.value = value ?? "";
  setText(tile.text, tile.more(now));
  if (!tile.bar) return;
  const share = tile.share(now);
  tile.bar.hidden = share === null;
  tile.bar.style.setProperty("--share", Math.min(1, share ?? 0).toFixed(4));
  tile.bar.classList.toggle("high", share > HIGH_SHARE);
}

export function showNow(now) {
  showProcess(now);
  for (const tile of TILES) showTile(tile, now);
  const { parts } = now.figures;
  const all = Math.max(1, PARTS.reduce((sum, [key]) => sum + parts[key], 0));
  PARTS.forEach(([key], index) => {
    $("parts-bar").children[index].style.flexGrow = String(parts[key] / all);
    setText($("parts").children[index].lastElementChild, `${bytes(parts[key])} · ${percent(parts[key] / all)}`);
  });
  setText($("parts").lastElementChild.lastElementChild, `${bytes(parts.reserved)} of addresses`);
}
