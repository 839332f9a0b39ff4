// SPDX-License-Identifier: Apache-2.0
//
// A chart over time by uPlot, with what a canvas lacks: values by keyboard, and names for screen readers.
import uPlot from "uplot";
import { element, setText } from "./dom.js";
import { clock, withoutZeroes } from "./format.js";

const HEIGHT = 200;
const POWERS_OF_TWO = Array.from({ length: 61 }, (_, exponent) => 2 ** exponent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  // `series`: [{title, colour: a CSS variable, dash, fill, outside: it does not stretch the scale by itself}]
  constructor(figure, { title, format, series }) {
    this.title = title;
    this.format = format;
    this.series = series.map((each) => ({ ...each, shown: true }));
    this.data = [[], ...series.map(() => [])];
    this.at = null; // the index that is looked at; null: the newest
    this.range = [0, 1];

    this.when = element("span", { class: "quiet" });
    this.plot = element("div", {
      class: "plot", role: "slider", tabindex: "0", "aria-label": `${title}: time`,
      "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0", "aria-valuetext": "no values yet",
    });
    this.legend = element("div", { class: "chart-legend", role: "group", "aria-label": `${title}: lines` });
    this.buttons = this.series.map((each, index) => {
      each.text = element("span", { class: "value" }, "–");
      const sample = element("span", { class: `line ${each.dash ? "dashed" : ""}`, "aria-hidden": "true" });
      sample.style.setProperty("--line", `var(${each.colour})`);
      return element("button", { type: "button", "aria-pressed": "true", onclick: () => this.toggle(index) },
        sample, each.title, " ", each.text);
    });
    this.legend.append(...this.buttons);
    figure.append(element("figcaption", {}, element("h3", {}, title), this.when), this.plot, this.legend);

    this.chart = new uPlot({
      width: this.plot.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { time: true, range: () => this.range }, y: { range: (_, __, most) => [0, this.top(most)] } },
      axes: [
        this.axis({ space: 70, values: (_, splits) => splits.map((second) => this.timeLabel(second)) }),
        this.axis({
          size: 72, space: 32, incrs: POWERS_OF_TWO,
          values: (_, splits) => splits.map((value) => withoutZeroes(format(value))),
        }),
      ],
      series: [{}, ...this.series.map((each) => ({
        label: each.title,
        stroke: () => colour(each.colour),
        width: 2,
        dash: each.dash,
        fill: each.fill ? () => colour(each.fill) : undefined,
        points: { show: (chart) => chart.data[0].length < 2 },
        spanGaps: false,
      }))],
      hooks: { setCursor: [(chart) => this.look(chart.cursor.left >= 0 ? chart.cursor.idx : null)] },
    }, this.data, this.plot);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => this.chart.setCursor({ left: -10, top: -10 }));
    new ResizeObserver(() => {
      const width = this.plot.clientWidth;
      if (width > 0 && width !== this.chart.width) this.chart.setSize({ width, height: HEIGHT });
    }).observe(this.plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.chart.redraw());
  }

  // Seconds since 1970, and a row of numbers for each line.
  setData(times, rows, [from, to]) {
    this.range = [from, to];
    this.data = [times, ...rows];
    this.chart.setData(this.data);
    this.say();
  }

  axis(more) {
    return {
      stroke: () => colour("--quiet"),
      grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { stroke: () => colour("--grid"), width: 1 },
      font: "12px system-ui, sans-serif",
      ...more,
    };
  }

  timeLabel(second) {
    const text = clock(second * 1000);
    return this.range[1] - this.range[0] > 600 ? text.slice(0, 5) : text;
  }

  // A limit far above all else would press the other lines together, so it is drawn only when they come near it.
  top(most) {
    let top = 0;
    this.series.forEach((each, index) => {
      if (!each.shown || each.outside) return;
      this.data[index + 1].forEach((value, place) => {
        if (value > top && this.data[0][place] >= this.range[0]) top = value;
      });
    });
    if (most !== null && most !== undefined && most <= top * 2) top = Math.max(top, most);
    return top > 0 ? top * 1.08 : 1;
  }

  toggle(index) {
    const each = this.series[index];
    each.shown = !each.shown;
    this.buttons[index].setAttribute("aria-pressed", String(each.shown));
    this.chart.setSeries(index + 1, { show: each.shown });
  }

  look(index) {
    this.at = index;
    this.say();
  }

  // The values at the cursor, or the newest ones.
  say() {
    const [times, ...rows] = this.data;
    const index = this.at !== null && this.at !== undefined && this.at < times.length ? this.at : times.length - 1;
    if (index < 0) return;
    const time = clock(times[index] * 1000);
    setText(this.when, this.at === null ? "newest values" : `at ${time}`);
    const texts = rows.map((row, line) => {
      const value = row[index];
      const text = value === null || value === undefined ? "none" : this.format(value);
      setText(this.series[line].text, text);
      return `${this.series[line].title} ${text}`;
    });
    this.plot.setAttribute("aria-valuemax", String(times.length - 1));
    this.plot.setAttribute("aria-valuenow", String(index));
    this.plot.setAttribute("aria-valuetext", `${time}: ${texts.join(", ")}`);
  }

  key(event) {
    const last = this.data[0].length - 1;
    const first = this.data[0].findIndex((time) => time >= this.range[0]);
    if (last < 0 || first < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.at ?? last;
    const page = Math.max(1, Math.round((last - first) / 10));
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, PageDown: at - page,
      PageUp: at + page, Home: first, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const index = Math.max(first, Math.min(last, to));
    this.chart.setCursor({ left: this.chart.valToPos(this.data[0][index], "x"), top: 10 });
  }
}
