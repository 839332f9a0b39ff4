// SPDX-License-Identifier: Apache-2.0
//
// The section "Live heap": allocation sites, the flame graph, and the difference of two moments. A profile costs the
// server time, so one is taken only when it is wanted.
import { $, announce, element, setText } from "./dom.js";
import { Flame } from "./flame.js";
import { bytes, clock, count, percent, shortFile, signed } from "./format.js";
import { ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE, TYPES, readHeap, sitesOf, treeOf, ownCalls } from "./heap.js";
import { Unavailable, ask } from "./server.js";
import { SortableTable } from "./table.js";

const SITES_SHOWN = 100;

let heap = null;
let mark = null; // an earlier heap
let generation = 0; // of the process: what was asked for before it changed is not shown
let sites;
let flame;

const chosenType = () => TYPES.find(({ key }) => key === $("value").value);
const formatOf = (type) => (type.bytes ? bytes : count);
const seen = (profile) => (profile && $("own").checked ? ownCalls(profile) : profile);
const earlier = () => ($("difference").checked ? mark : null);

function showSite(site) {
  const find = element("button", {
    type: "button", class: "plain", "data-key": site.key, title: `Find ${site.name} in the flame graph`,
    onclick: () => findInFlame(site.name),
  }, site.name);
  const place = site.file && element("span", { class: "quiet place", title: site.file },
    `${shortFile(site.file)}${site.line ? `:${site.line}` : ""}`);
  return element("span", { class: "site" }, find, place || null);
}

const siteColumn = { key: "site", title: "Function", text: true, value: ({ name }) => name, show: showSite };

function sumColumn(key, title, help, value, format, withBar = false) {
  const bar = (site) => value(site) / Math.max(1, heap.total[INUSE_SPACE]);
  return { key, title, help, value, show: (_, sum) => format(sum), bar: withBar ? bar : null };
}

function changeColumn(key, title, help, value, format) {
  const sign = (change) => (change > 0 ? "▲ " : change < 0 ? "▼ " : "");
  return {
    key, title, help, value, show: (_, change) => sign(change) + signed(change, format),
    mark: (site) => (value(site) > 0 ? "grew" : value(site) < 0 ? "shrank" : ""),
  };
}

const SITE_COLUMNS = [
  siteColumn,
  sumColumn("self", "Live", "Allocated here and still live", ({ self }) => self[INUSE_SPACE], bytes, true),
  sumColumn("objects", "Objects", "Live objects that were allocated here", ({ self }) => self[INUSE_OBJECTS], count),
  sumColumn("total", "With callees", "Live, allocated here and in what this called", ({ total }) => total[INUSE_SPACE],
    bytes, true),
  sumColumn("allocated", "Allocated", "Allocated here since the start", ({ self }) => self[ALLOC_SPACE], bytes),
];
const CHANGE_COLUMNS = [
  siteColumn,
  changeColumn("change", "Change", "Of what is live and was allocated here",
    ({ selfChange }) => selfChange[INUSE_SPACE], bytes),
  changeColumn("objects", "Objects", "Change of the live objects",
    ({ selfChange }) => selfChange[INUSE_OBJECTS], count),
  changeColumn("total", "With callees", "Change with what this called",
    ({ totalChange }) => totalChange[INUSE_SPACE], bytes),
  sumColumn("self", "Live now", "Allocated here and still live", ({ self }) => self[INUSE_SPACE], bytes, true),
  sumColumn("allocated", "Allocated since", "Allocated here since the mark",
    ({ selfChange }) => selfChange[ALLOC_SPACE], bytes),
];

export function makeHeap() {
  for (const { key, title } of TYPES) $("value").append(element("option", { value: key }, title));
  for (const [colour, text] of [["grown", "grew (+)"], ["shrunk", "shrank (−)"], ["same", "as it was"]])
    $("flame-legend").append(element("span", {},
      element("span", { class: "swatch", "data-colour": colour, "aria-hidden": "true" }), text));
  $("flame-legend").append("The width is the larger one of both moments.");
  sites = new SortableTable($("sites-table"), "Allocation sites", SITE_COLUMNS, { key: "self", descending: true });
  sites.limit = SITES_SHOWN;
  flame = new Flame($("flame"), {
    details: $("flame-details"),
    found: showFound,
    zoomed: (isZoomed) => { $("flame-reset").disabled = !isZoomed; },
  });
  $("take").addEventListener("click", takeHeap);
  $("mark").addEventListener("click", markMoment);
  $("difference").addEventListener("change", () => {
    // The difference of a moment to itself says nothing.
    if ($("difference").checked && heap === mark) takeHeap();
    else showHeap();
  });
  $("own").addEventListener("change", showHeap);
  $("value").addEventListener("change", showFlame);
  $("sites-filter").addEventListener("input", showSites);
  $("flame-search").addEventListener("input", () => flame.search($("flame-search").value.trim()));
  $("flame-search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") flame.focusFound();
  });
  $("flame-reset").addEventListener("click", () => {
    // A button that has become useless cannot keep the focus.
    $("flame-search").focus();
    flame.reset();
  });
}

// Of another process nothing is left.
export function forgetHeap() {
  heap = mark = null;
  generation += 1;
  $("difference").checked = false;
  $("difference").disabled = true;
}

// Returns whether there is a new one.
export async function takeHeap() {
  const asked = generation;
  $("take").setAttribute("aria-disabled", "true");
  setText($("taken"), "Taking a profile …");
  try {
    const taken = readHeap(await ask("api/heap"));
    if (asked !== generation) return false;
    heap = taken;
    showHeap();
    return true;
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    announce(error.message);
    setText($("heap-note"), error.message);
    return false;
  } finally {
    $("take").removeAttribute("aria-disabled");
    showTaken();
  }
}

async function markMoment() {
  if (!(await takeHeap())) return;
  mark = heap;
  $("difference").disabled = false;
  showHeap();
  announce(`Marked at ${clock(mark.timeMs)}`);
}

function showTaken() {
  setText($("taken"), !heap ? "No profile was taken yet"
    : `Profile taken at ${clock(heap.timeMs)}${mark ? ` · marked at ${clock(mark.timeMs)}` : ""}`);
}

function noteOf(before) {
  if (heap.rateBytes === 0) return "Sampling is off in this process (TARN_PROFILE_RATE), so there is no profile.";
  if (heap.stacks.length === 0) return "Not a single allocation was sampled yet.";
  const change = before && heap.total[INUSE_SPACE] - before.total[INUSE_SPACE];
  return `Estimated from samples, one every ${bytes(heap.rateBytes)} on average: ${bytes(heap.total[INUSE_SPACE])} live` +
    (before ? `, ${signed(change, bytes)} since the mark.` : ".");
}

function showHeap() {
  showTaken();
  if (!heap) return;
  const before = earlier();
  setText($("heap-note"), noteOf(before));
  const columns = before ? CHANGE_COLUMNS : SITE_COLUMNS;
  if (sites.columns !== columns) sites.setColumns(columns, { key: before ? "change" : "self", descending: true });
  showSites();
  showFlame();
}

function showSites() {
  if (!heap) return;
  const before = earlier();
  const term = $("sites-filter").value.trim().toLowerCase();
  const found = sitesOf(seen(heap), seen(before)).filter(({ name, file, total, totalChange }) =>
    (before ? totalChange : total).some((value) => value !== 0) &&
    (name.toLowerCase().includes(term) || file.toLowerCase().includes(term)));
  sites.setRows(found);
  setText($("sites-note"), found.length > SITES_SHOWN
    ? `The first ${SITES_SHOWN} of ${count(found.length)}; the filter finds others.`
    : found.length > 0 ? "" : term ? "No site has this in its name or file." : "There are no sites to show.");
}

function showFlame() {
  if (!heap) return;
  const type = chosenType();
  const before = earlier();
  flame.show(treeOf(seen(heap), type, seen(before)), { format: formatOf(type), isDifference: Boolean(before) });
  $("flame-legend").hidden = !before;
}

function showFound(frames, value, share) {
  const text = !$("flame-search").value.trim() ? ""
    : frames === 0 ? "Nothing was found."
      : `Found in ${count(frames)} ${frames === 1 ? "frame" : "frames"}: ${formatOf(chosenType())(value)}, ` +
        `${percent(share)} of what is shown.`;
  setText($("flame-details"), text);
  if (text) announce(text);
}

function findInFlame(name) {
  $("flame-search").value = name;
  flame.search(name);
  $("flame-heading").scrollIntoView({ block: "start" });
  flame.focusFound();
}
