// SPDX-License-Identifier: Apache-2.0
//
// The section "Alerts", and the health in the head.
import { $, announce, element, setText } from "./dom.js";
import { clock, digits, percent, withoutZeroes } from "./format.js";
import { SortableTable } from "./table.js";

// A rule's figures are in the unit that its name ends with.
const UNITS = [["_mb_sec", "MiB/s"], ["_mb_hour", "MiB/h"], ["_ms_sec", "ms/s"], ["_mb", "MiB"], ["_ms", "ms"],
  ["_percent", "%"]];

function figure({ name }, value) {
  const unit = UNITS.find(([end]) => name.endsWith(end));
  return digits(value) + (unit ? `\u00a0${unit[1]}` : "");
}

function stateOf({ since_ms: since, threshold, value }) {
  if (since !== null) return "Alert";
  if (threshold === null) return "Off";
  return value === null ? "Waiting" : "Calm";
}

const shareOf = ({ value, threshold }) => (value !== null && threshold ? value / threshold : null);

let table;
let firing = new Set(); // names

export function makeRules() {
  table = new SortableTable($("rules-table"), "Alerts and their thresholds", [
    { key: "name", title: "Rule", text: true, value: ({ name }) => name },
    {
      key: "state", title: "State", text: true, value: stateOf,
      show: (rule, state) => element("span", { class: `badge ${state.toLowerCase()}` },
        rule.since_ms !== null ? `▲ Alert since ${clock(rule.since_ms)}` : state),
    },
    {
      key: "value", title: "Now", value: ({ value }) => value,
      show: (rule, value) => (value === null ? "–" : figure(rule, value)),
    },
    {
      key: "threshold", title: "Threshold", value: ({ threshold }) => threshold,
      show: (rule, threshold) => (threshold === null ? "off" : withoutZeroes(figure(rule, threshold))),
    },
    {
      key: "share", title: "Of the threshold", value: shareOf, show: (_, share) => (share === null ? "–" : percent(share)),
      bar: (rule) => shareOf(rule) ?? 0,
    },
    { key: "meaning", title: "What it is", text: true, value: ({ meaning }) => meaning, mark: () => "long" },
  ]);
}

export function forgetRules() {
  firing = new Set();
}

export function showRules({ rules, process }) {
  table.setRows(rules.map((rule) => ({ ...rule, rowClass: rule.since_ms !== null ? "alerting" : null })));
  const alerts = rules.filter(({ since_ms: since }) => since !== null);
  const names = alerts.map(({ name }) => name);
  $("health").dataset.state = alerts.length > 0 ? "alert" : "healthy";
  setText($("health"), alerts.length === 0 ? "✓ Healthy"
    : `▲ ${alerts.length} ${alerts.length === 1 ? "alert" : "alerts"}: ${names.join(", ")}`);
  document.title = `${alerts.length > 0 ? "▲ " : ""}${process.program} (${process.pid}) · tarn serve`;
  const said = [
    ...alerts.filter(({ name }) => !firing.has(name))
      .map((rule) => `Alert: ${rule.name}, ${rule.meaning}, is ${figure(rule, rule.value ?? 0)}`),
    ...[...firing].filter((name) => !names.includes(name)).map((name) => `Alert over: ${name}`),
  ];
  if (said.length > 0) announce(said.join(". "));
  firing = new Set(names);
}
