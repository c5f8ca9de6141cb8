// Numbers, times and elements of the page. No part of it is built from markup: whatever a name or a reason
// contains is shown as text.

// Numbers and times ---------------------------------------------------------------------------

export const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function number(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 100 || Number.isInteger(value) ? whole.format(value) : tenths.format(value);
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${value >= 100 || unit === 0 ? whole.format(value) : tenths.format(value)} ${units[unit]}`;
}

/// Decimal units, as networks have them.
export function bytesPerSecond(value) {
  const units = ["B/s", "kB/s", "MB/s", "GB/s"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value >= 100 || unit === 0 ? whole.format(value) : tenths.format(value)} ${units[unit]}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${whole.format(value * 1000)} ms`;
  if (value < 120) return `${tenths.format(value)} s`;
  return `${whole.format(value / 60)} min`;
}

export function plural(count, one, many) {
  return `${whole.format(count)} ${count === 1 ? one : many ?? one + "s"}`;
}

const pad = (value) => String(value).padStart(2, "0");
export const day = (ms) => new Date(ms).toISOString().slice(0, 10);
export const clock = (ms) => new Date(ms).toISOString().slice(11, 19);

/// "3 min ago", "in 2 h", relative to the gateway's clock.
export function relative(ms, now) {
  const past = now - ms;
  const away = Math.abs(past) / 1000;
  const text = away < 60 ? `${Math.round(away)} s`
    : away < 5400 ? `${Math.round(away / 60)} min`
    : away < 129600 ? `${Math.round(away / 3600)} h`
    : plural(Math.round(away / 86400), "day");
  return past >= 0 ? `${text} ago` : `in ${text}`;
}

// Elements ------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
export const byId = (id) => document.getElementById(id);

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
}

export function make(name, attributes, ...children) {
  const node = document.createElement(name);
  set(node, attributes ?? {});
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function draw(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  set(node, attributes);
  node.append(...children);
  return node;
}

/// Replaces what an element shows, if it is not what it shows already: what is selected stays selected.
const shownIn = new Map();
export function show(id, source, build) {
  const text = JSON.stringify(source);
  if (shownIn.get(id) === text) return;
  shownIn.set(id, text);
  replace(byId(id), [build()].flat());
}

/// A table that has the focus, so that it can be scrolled, keeps it.
export function replace(parent, children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  parent.replaceChildren(...children);
  if (focused !== null) parent.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

export function time(ms, now) {
  if (ms === null || ms === undefined) return null;
  const iso = new Date(ms).toISOString();
  return make("time", { datetime: iso, title: `${iso.slice(0, 19).replace("T", " ")} UTC` }, relative(ms, now));
}

/// A share as a bar, which says nothing that the text beside it does not.
export function bar(share, level) {
  const width = Math.max(0, Math.min(1, share)) * 100;
  const svg = draw("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { x: 0, y: 0, width: width.toFixed(2), height: 1 }));
  return make("span", { class: `bar ${level ?? ""}` }, svg);
}

/// A table whose rows become cards on a narrow page.
export function table(options, columns, rows) {
  const head = make("tr", { role: "row" }, columns.map((column) =>
    make("th", { scope: "col", role: "columnheader", class: column.text ? "text" : null }, column.name)));
  const body = rows.map((row) => make("tr", { role: "row", "data-row": row.key }, row.cells.map((cell, index) => {
    const column = columns[index];
    const attributes = { class: column.text ? "text" : null, "data-label": column.name, "data-column": column.key };
    return index === 0
      ? make("th", { ...attributes, scope: "row", role: "rowheader" }, cell)
      : make("td", { ...attributes, role: "cell" }, cell);
  })));
  return make("div", { class: "table", role: "region", "aria-label": options.label, tabindex: options.wide ? null : "0" },
    make("table", { role: "table", class: options.wide ? "wide" : null },
      make("caption", { class: "hidden" }, options.label),
      make("thead", { role: "rowgroup" }, head),
      make("tbody", { role: "rowgroup" }, body)));
}

export const sub = (...children) => make("span", { class: "sub" }, ...children);

/// Text with a sign of how bad it is, if it is.
export function marked(level, text) {
  return level ? make("span", { class: level }, text) : text;
}
