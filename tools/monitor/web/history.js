// SPDX-License-Identifier: Apache-2.0
//
// The section "Over time": what the server has seen within the last hour, continued from what it says now.
import { Chart } from "./chart.js";
import { $, element } from "./dom.js";
import { bytes, clock, rate } from "./format.js";
import { limitOf } from "./server.js";

const HOUR_MS = 3600e3;
const LEAST_SPAN_S = 60; // a young process fills the chart all the same
const ROWS_SHOWN = 60;

// The columns of api/history that are shown, and the same of api/now.
const COLUMNS = {
  times_ms: (now) => now.time_ms,
  live_bytes: ({ figures }) => figures.live_bytes,
  in_use_bytes: ({ figures }) => figures.in_use_bytes,
  resident_bytes: ({ figures }) => figures.resident_bytes,
  returned_bytes: ({ figures }) => figures.returned_bytes,
  limit_bytes: ({ figures }) => limitOf(figures),
  total_alloc_bytes: ({ figures }) => figures.total_alloc_bytes,
  total_freed_bytes: ({ figures }) => figures.total_freed_bytes,
  total_returned_bytes: ({ figures }) => figures.total_returned_bytes,
};

let memory;
let rates;
let history = null;

export function makeHistory() {
  memory = new Chart($("memory-chart"), {
    title: "Memory", format: bytes, series: [
      { title: "Live", colour: "--line-live", fill: "--fill-live" },
      { title: "In spans", colour: "--line-spans", dash: [2, 3] },
      { title: "Resident", colour: "--line-resident" },
      { title: "Returned", colour: "--line-returned", dash: [8, 3, 2, 3] },
      { title: "Limit", colour: "--line-limit", dash: [8, 5], outside: true },
    ],
  });
  rates = new Chart($("rates-chart"), {
    title: "Rates", format: rate, series: [
      { title: "Allocated", colour: "--line-live", fill: "--fill-live" },
      { title: "Freed", colour: "--line-resident", dash: [8, 3] },
      { title: "Returned", colour: "--line-returned", dash: [2, 3] },
    ],
  });
  for (const radio of document.querySelectorAll('input[name="span"]')) radio.addEventListener("change", showHistory);
  $("values").addEventListener("toggle", showHistory);
}

export function setHistory(columns) {
  history = columns;
}

export function needsHistory(pid) {
  return history?.pid !== pid;
}

export function continueHistory(now) {
  if (now.time_ms <= (history.times_ms.at(-1) ?? 0)) return;
  for (const [name, value] of Object.entries(COLUMNS)) history[name].push(value(now));
  while (history.times_ms[0] < now.time_ms - HOUR_MS) for (const name of Object.keys(COLUMNS)) history[name].shift();
}

// Between each two times the difference of a total, per second.
function ratesOf(times, totals) {
  return totals.map((total, index) => {
    if (index === 0) return null;
    const seconds = (times[index] - times[index - 1]) / 1000;
    const difference = total - totals[index - 1];
    return seconds > 0 && difference >= 0 ? difference / seconds : null;
  });
}

export function showHistory() {
  if (!history || history.times_ms.length === 0) return;
  const times = history.times_ms.map((time) => time / 1000);
  const span = Number(document.querySelector('input[name="span"]:checked').value);
  const to = times.at(-1);
  const from = Math.max(to - span, Math.min(times[0], to - LEAST_SPAN_S));
  const [allocated, freed, returned] = ["total_alloc_bytes", "total_freed_bytes", "total_returned_bytes"]
    .map((name) => ratesOf(history.times_ms, history[name]));
  memory.setData(times, [history.live_bytes, history.in_use_bytes, history.resident_bytes, history.returned_bytes,
    history.limit_bytes], [from, to]);
  rates.setData(times, [allocated, freed, returned], [from, to]);
  if ($("values").open) showValues(from * 1000, allocated);
}

function showValues(from, allocated) {
  const chosen = [...history.times_ms.keys()].filter((index) => history.times_ms[index] >= from).reverse();
  const step = Math.max(1, Math.ceil(chosen.length / ROWS_SHOWN));
  const cell = (text) => element("td", { class: "number" }, text);
  const rowOf = (index) => element("tr", {},
    element("th", { scope: "row", class: "text" }, clock(history.times_ms[index])),
    ...["live_bytes", "in_use_bytes", "resident_bytes", "returned_bytes"].map((name) => cell(bytes(history[name][index]))),
    cell(history.limit_bytes[index] === null ? "none" : bytes(history.limit_bytes[index])),
    cell(allocated[index] === null ? "–" : rate(allocated[index])));
  const heads = ["Time", "Live", "In spans", "Resident", "Returned", "Limit", "Allocated"].map((head, index) =>
    element("th", { scope: "col", class: index === 0 ? "text" : "number" }, head));
  $("values-table").replaceChildren(
    element("caption", { class: "unseen" }, "Memory and rates over time, the newest first"),
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...chosen.filter((_, place) => place % step === 0).map(rowOf)));
}
