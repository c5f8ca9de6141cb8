// The charts of the console. Each has its peak in words and its numbers as a table.
/* global uPlot */
import { byId, bytesPerSecond, clock, day, draw, make, number, replace, seconds, table } from "/elements.js";

export const HOUR_S = 3600;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const CHARTS = [
  { key: "keys", title: "Keys stored", unit: "keys/s", format: number, least: 10,
    series: [{ name: "Keys per second", column: "keysPerSecond", color: "--accent" }] },
  { key: "delivered", title: "Delivered to participants", unit: "", format: bytesPerSecond, least: 1000,
    series: [{ name: "Bytes per second", column: "downloadBytesPerSecond", color: "--third" }] },
  { key: "delay", title: "Delay from upload to downloadable", unit: "", format: seconds, lines: true, least: 2,
    series: [{ name: "Median", column: "delayP50Seconds", color: "--accent" },
             { name: "99 % within", column: "delayP99Seconds", color: "--second", dash: [6, 4] }] },
  { key: "refused", title: "Refused requests", unit: "requests/s", format: number, least: 1,
    series: [{ name: "Requests per second", column: "refusalsPerSecond", color: "--second" }] },
];

function axes(format) {
  const common = { stroke: color("--soft"), grid: { stroke: color("--grid"), width: 1 },
    ticks: { stroke: color("--grid"), width: 1, size: 4 }, font: "12px system-ui, sans-serif" };
  return [
    { ...common, values: (_, at) => at.map((one) => clock(one * 1000).slice(0, 5)), size: 32, space: 60 },
    { ...common, values: (_, values) => values.map((one) => format(one)), size: 72, space: 36 },
  ];
}

/// From 0; never flat.
const upTo = (least) => (_, __, max) => [0, Math.max(max ?? 0, least) * 1.05];

function plot(node, options, data) {
  const width = Math.max(200, node.clientWidth);
  return new uPlot({
    width, height: 170, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    cursor: { y: false, drag: { x: false, y: false } }, legend: { show: false }, ...options,
  }, data, node);
}

function legendKey(series) {
  return make("ul", { class: "key" }, series.map((one) => make("li", null,
    draw("svg", { width: 24, height: 6, "aria-hidden": "true" },
      draw("line", { x1: 0, y1: 3, x2: 24, y2: 3, "stroke-width": 3, stroke: color(one.color), "stroke-dasharray": one.dash ? one.dash.join(" ") : "none" })),
    one.name)));
}

/// A figure with a plot, its summary in words and a table of the same numbers.
class Chart {
  constructor(parent, spec) {
    this.spec = spec;
    this.pointed = null;
    this.now = make("span", { class: "now" });
    this.place = make("div", { class: "plot", "aria-hidden": "true" });
    this.summary = make("p", { class: "summary" });
    this.rows = make("div", { class: "scroll" });
    this.details = make("details", null, make("summary", null, `${spec.title} as a table`), this.rows);
    this.details.addEventListener("toggle", () => this.showTable());
    this.key = make("div");
    this.figure = make("figure", { "data-chart": spec.key },
      make("figcaption", null, make("h3", null, spec.title), this.now),
      this.key, this.place, this.summary, this.details);
    parent.append(this.figure);
    new ResizeObserver(() => this.resize()).observe(this.place);
  }

  resize() {
    const width = this.place.clientWidth;
    if (this.uplot && width > 0 && width !== this.uplot.width) this.uplot.setSize({ width, height: 170 });
  }

  /// Colours are read anew.
  restyle() {
    this.uplot?.destroy();
    this.uplot = null;
    this.draw();
  }

  /// Shows the values where the pointer is; without one, the newest.
  pointAt(index) {
    this.pointed = index ?? null;
    this.showNow();
  }

  draw() {
    if (!this.data) return;
    if (this.uplot) this.uplot.setData(this.data);
    else {
      const hooks = { setCursor: [(uplot) => this.pointAt(uplot.cursor.idx)] };
      this.uplot = plot(this.place, { ...this.options(), hooks }, this.data);
      this.key.replaceChildren(...(this.spec.series.length > 1 ? [legendKey(this.spec.series)] : []));
    }
  }
}

export class HistoryChart extends Chart {
  options() {
    const { series, format } = this.spec;
    return {
      axes: axes(format),
      scales: { x: { time: true, range: () => [this.end - this.span, this.end] }, y: { range: upTo(this.spec.least) } },
      series: [
        {},
        ...series.map((one) => ({
          stroke: color(one.color), width: 2, dash: one.dash, points: { show: false },
          fill: this.spec.lines ? null : `${color(one.color)}24`,
        })),
      ],
    };
  }

  update(view) {
    const { history } = view;
    const { format, series, unit } = this.spec;
    this.end = Math.floor(view.at / 1000);
    // Of a gateway that was just started, ten minutes are enough to look at.
    this.span = Math.min(HOUR_S, Math.max(600, this.end - (history.at[0] ?? this.end)));
    this.data = [history.at, ...series.map((one) => history[one.column])];
    this.draw();
    const withUnit = (value) => value === null ? "–" : `${format(value)}${unit ? ` ${unit}` : ""}`;
    this.history = history;
    this.withUnit = withUnit;
    this.showNow();
    this.summary.textContent = this.inWords(history, withUnit);
    this.showTable();
  }

  showNow() {
    if (!this.history) return;
    const { series } = this.spec;
    const index = this.pointed ?? this.history.at.length - 1;
    const values = series.map((one) => this.history[one.column][index] ?? null);
    const text = series.length > 1
      ? series.map((one, of) => `${one.name} ${this.withUnit(values[of])}`).join(", ") : this.withUnit(values[0]);
    this.now.textContent = this.pointed === null ? text : `${clock(this.history.at[index] * 1000)} UTC: ${text}`;
  }

  inWords(history, withUnit) {
    const { series } = this.spec;
    const values = history[series.at(-1).column];
    let peak = -1;
    values.forEach((value, index) => {
      if (value !== null && value > 0 && (peak < 0 || value > values[peak])) peak = index;
    });
    if (history.at.length === 0) return "Nothing has been sampled yet.";
    if (peak < 0) return this.spec.lines ? "No upload became downloadable in the last hour." : "Nothing in the last hour.";
    const name = series.length > 1 ? `${series.at(-1).name} at most` : "At most";
    return `${name} ${withUnit(values[peak])}, at ${clock(history.at[peak] * 1000)} UTC.`;
  }

  /// Five minutes per row, the newest first; made only while somebody reads it.
  showTable() {
    if (!this.details.open || !this.history) return;
    const { history } = this;
    const groups = new Map();
    history.at.forEach((at, index) => {
      const start = at - at % 300;
      if (!groups.has(start)) groups.set(start, []);
      groups.get(start).push(index);
    });
    const { series, format } = this.spec;
    const columns = [{ name: "From (UTC)", key: "from" }];
    for (const one of series) columns.push({ name: `${one.name}, mean`, key: "mean" }, { name: "at most", key: "max" });
    const rows = [...groups].reverse().map(([start, indices]) => ({
      key: String(start),
      cells: [clock(start * 1000).slice(0, 5), ...series.flatMap((one) => {
        const values = indices.map((index) => history[one.column][index]).filter((value) => value !== null);
        if (values.length === 0) return ["–", "–"];
        return [format(values.reduce((a, b) => a + b, 0) / values.length), format(Math.max(...values))];
      })],
    }));
    replace(this.rows, [table({ label: `${this.spec.title}, by five minutes` }, columns, rows)]);
  }
}

export class HoursChart extends Chart {
  options() {
    return {
      axes: axes(number),
      scales: { x: { time: true, range: () => [this.data[0][0] - 1800, this.data[0].at(-1) + 1800] }, y: { range: upTo(1) } },
      series: [
        {},
        { stroke: color("--accent"), fill: color("--accent"), width: 0, points: { show: false },
          paths: uPlot.paths.bars({ size: [0.8, 60] }) },
      ],
    };
  }

  update(view) {
    const country = byId("hours-country").value;
    const chosen = view.participants.filter((one) => !country || one.country === country);
    const keys = view.hours.map((_, index) => chosen.reduce((sum, one) => sum + (one.keysByHour[index] ?? 0), 0));
    this.data = [view.hours.map((at) => at / 1000), keys];
    this.draw();
    const all = keys.reduce((a, b) => a + b, 0);
    const whom = country || "All participants";
    const peak = keys.indexOf(Math.max(...keys));
    this.summary.textContent = all === 0
      ? `${country || "No participant"} ${country ? "has not uploaded" : "has uploaded"} in the last 24 hours.`
      : `${whom}: most in the hour from ${clock(view.hours[peak]).slice(0, 5)} UTC, ${number(keys[peak])} keys.`;
    this.hours = { at: view.hours, keys, all };
    this.showNow();
    this.showTable();
  }

  showNow() {
    if (!this.hours) return;
    const { at, keys, all } = this.hours;
    this.now.textContent = this.pointed === null ? `${number(all)} keys in 24 hours`
      : `${clock(at[this.pointed]).slice(0, 5)} UTC: ${number(keys[this.pointed])} keys`;
  }

  showTable() {
    if (!this.details.open || !this.hours) return;
    const rows = this.hours.at.map((at, index) => ({
      key: String(at), cells: [`${day(at)} ${clock(at).slice(0, 5)}`, number(this.hours.keys[index])],
    })).reverse();
    replace(this.rows, [table({ label: "Keys stored by hour" },
      [{ name: "Hour (UTC)", key: "hour" }, { name: "Keys", key: "keys" }], rows)]);
  }
}
