// @ts-check
// Charts of metrics: those on screen are asked for together, zooming asks again, and the settings are in the
// page's address.
import { fetchCurves } from "./curves.js";
import { atMostEvery } from "./live.js";

/** @typedef {import("./curves.js").Chart} Chart */
/** @typedef {import("./curves.js").Curve} Curve */

// Okabe and Ito's colours, which the colour-blind can tell, darker on white; with dashes from the ninth on.
const LIGHT = ["#0060a8", "#b34700", "#007a57", "#a3357c", "#7a6400", "#3d7ea6", "#7a1f1f", "#444444"];
const DARK = ["#6db6ff", "#ffa24d", "#4fd6ab", "#f08fc6", "#f0e442", "#a5d8f0", "#ff8c8c", "#d0d0d0"];
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const FIRST = 12;

/** @param {number} index */
export function strokeOf(index) {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const colours = isDark ? DARK : LIGHT;
  return { colour: colours[index % colours.length], dash: DASHES[Math.floor(index / colours.length) % DASHES.length] };
}

/** @param {number} value */
export function text(value) {
  if (Number.isNaN(value)) return "";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  return Number(value.toPrecision(4)).toString();
}

/**
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A metric's chart. */
class Figure {
  /**
   * @param {Board} board
   * @param {string} metric
   */
  constructor(board, metric) {
    this.board = board;
    this.metric = metric;
    this.isVisible = false;
    /** @type {any} */ this.plot = null;
    /** @type {{min: number, max: number} | null} */ this.zoom = null;
    /** @type {Chart | null} */ this.chart = null;
    this.place = element("div", { class: "plot" });
    this.note = element("p", { class: "note" });
    this.whole = element("button", { class: "plain", type: "button", hidden: "" }, "Whole range");
    this.data = element("details", {}, element("summary", {}, "Show data"));
    this.data.addEventListener("toggle", () => this.fillData());
    this.whole.addEventListener("click", () => { this.zoom = null; this.board.refresh(); });
    this.node = element("figure", { class: "chart", "data-metric": metric },
      element("figcaption", {}, element("span", {}, metric), this.whole), this.place, this.note, this.data);
  }

  /** @param {Chart} chart */
  show(chart) {
    const curves = chart.curves.filter((curve) => curve.metric === this.metric);
    const main = this.board.smoothing ? "smooth" : "mean";
    // of the x of all charts, those at which this one has something
    const keep = [];
    for (let i = 0; i < chart.x.length; i += 1) {
      if (curves.some((curve) => !Number.isNaN(curve.columns[main][i]))) keep.push(i);
    }
    const pick = (/** @type {Float64Array} */ column) => keep.map((i) => column[i]);
    const x = pick(chart.x);
    this.chart = { ...chart, x: Float64Array.from(x), curves: curves.map((curve) => ({ ...curve,
      columns: Object.fromEntries(Object.entries(curve.columns).map(([n, c]) => [n, Float64Array.from(pick(c))])) })) };
    const clean = (/** @type {number[]} */ column) => column.map((v) => (Number.isNaN(v) ? null : v));
    /** @type {any[]} */ const columns = [x];
    /** @type {any[]} */ const series = [{}];
    /** @type {any[]} */ const bands = [];
    const hasBands = curves.length <= 6;
    for (const curve of curves) {
      const { colour, dash } = strokeOf(this.board.runs.indexOf(curve.run));
      if (hasBands) {
        const at = series.length;
        columns.push(clean(pick(curve.columns.max)), clean(pick(curve.columns.min)));
        for (let i = 0; i < 2; i += 1) series.push({ stroke: "transparent", points: { show: false }, spanGaps: true });
        bands.push({ series: [at, at + 1], fill: `${colour}2b` });
      }
      columns.push(clean(pick(curve.columns[main])));
      series.push({ stroke: colour, width: 1.75, dash, spanGaps: true, points: { show: x.length < 3 } });
    }
    const notFinite = curves.reduce((sum, curve) => sum + curve.num_not_finite, 0);
    const missing = chart.withoutAxis.length;
    this.note.textContent = [
      notFinite ? `${notFinite} NaN or infinite` : "",
      missing ? `${missing} of the runs cannot be shown over this x` : "",
      chart.numLeftOut ? `${chart.numLeftOut} curves left out` : "",
    ].filter(Boolean).join("; ");
    const shape = JSON.stringify([series.length, curves.map((c) => c.run), this.board.settings(), this.place.clientWidth]);
    this.whole.hidden = !this.zoom;
    if (this.plot && this.shape === shape) {
      this.plot.setData(columns);
    } else {
      this.plot?.destroy();
      this.shape = shape;
      this.plot = this.make(columns, series, bands);
    }
    this.label(curves, main);
    if (/** @type {HTMLDetailsElement} */ (this.data).open) this.fillData();
  }

  /**
   * @param {any[]} columns
   * @param {any[]} series
   * @param {any[]} bands
   */
  make(columns, series, bands) {
    const style = getComputedStyle(document.documentElement);
    const axis = { stroke: style.getPropertyValue("color") || "#888", grid: { stroke: "#88888840", width: 1 },
      ticks: { stroke: "#88888880", width: 1 }, font: "12px system-ui" };
    const isWall = this.board.x === "wall";
    // @ts-ignore - a global of the vendored script
    return new window.uPlot({
      width: this.place.clientWidth, height: 240, series, bands,
      scales: { x: { time: isWall }, y: { distr: this.board.isLog ? 3 : 1 } },
      axes: [{ ...axis, values: isWall ? undefined : (/** @type {any} */ _u, /** @type {number[]} */ v) => v.map(short) },
        { ...axis, size: 62, values: (/** @type {any} */ _u, /** @type {number[]} */ v) => v.map((n) => (n === null ? "" : short(n))) }],
      legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: false } },
      hooks: {
        setSelect: [(/** @type {any} */ plot) => {
          if (plot.select.width < 4) return;
          const min = plot.posToVal(plot.select.left, "x");
          const max = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          this.zoom = { min, max };
          this.board.refresh();
        }],
      },
    }, columns, this.place);
  }

  /**
   * What a screen reader says of the picture.
   * @param {Curve[]} curves
   * @param {string} main
   */
  label(curves, main) {
    const parts = curves.slice(0, 6).map((curve) => {
      const values = [...curve.columns[main]].filter((v) => !Number.isNaN(v));
      const name = this.board.titles[curve.run] ?? curve.run;
      return `${name}: from ${text(values[0] ?? NaN)} to ${text(values.at(-1) ?? NaN)}`;
    });
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", `${this.metric} over ${this.board.x}. ${parts.join("; ")}`);
  }

  fillData() {
    const chart = this.chart;
    if (!chart || !(/** @type {HTMLDetailsElement} */ (this.data).open)) return;
    const main = this.board.smoothing ? "smooth" : "mean";
    const head = element("tr", {}, element("th", { scope: "col" }, this.board.x),
      ...chart.curves.map((c) => element("th", { scope: "col", class: "num" }, this.board.titles[c.run] ?? c.run)));
    const every = Math.ceil(chart.x.length / 200) || 1;
    const lines = [];
    for (let i = 0; i < chart.x.length; i += 1) {
      if (i % every && i < chart.x.length - 1) continue;
      lines.push(element("tr", {}, element("th", { scope: "row" }, text(chart.x[i])),
        ...chart.curves.map((c) => element("td", { class: "num" }, text(c.columns[main][i])))));
    }
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
    if (every > 1) table.prepend(element("caption", {}, `one of ${every} x, and the last`));
    const region = element("div", { class: "data", tabindex: "0", role: "region", "aria-label": `Data of ${this.metric}` }, table);
    this.data.querySelector(".data")?.remove();
    this.data.append(region);
  }
}

/** @param {number} value */
function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  if (size >= 1e4) return `${Number((value / 1e3).toFixed(1))}k`;
  return String(Number(value.toPrecision(4)));
}

/** Charts of some runs, one a metric. */
export class Board {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    /** @type {string[]} */ this.runs = JSON.parse(place.dataset.runs ?? "[]");
    /** @type {Record<string, string>} */ this.titles = JSON.parse(place.dataset.titles ?? "{}");
    /** @type {string[]} */ this.names = [];
    /** @type {Map<string, Figure>} */ this.figures = new Map();
    const query = new URLSearchParams(location.search);
    this.x = query.get("x") ?? "step";
    this.smoothing = Number(query.get("smooth") ?? 0) || 0;
    this.isLog = query.get("log") === "1";
    this.filter = query.get("metric") ?? "";
    place.hidden = false;
    this.refresh = atMostEvery(() => this.fetch(), 1000);
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const figure = this.figures.get(/** @type {HTMLElement} */ (entry.target).dataset.metric ?? "");
        if (figure) figure.isVisible = entry.isIntersecting;
      }
      this.refresh();
    }, { rootMargin: "150px" });
    place.append(this.controls());
    this.setNames(JSON.parse(place.dataset.names ?? "[]"));
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (place.clientWidth === width) return;
      width = place.clientWidth;
      this.refresh();
    }).observe(place);
    document.addEventListener("themechange", () => {
      for (const figure of this.figures.values()) figure.shape = "";
      this.refresh();
    });
  }

  settings() {
    return [this.x, this.smoothing, this.isLog, document.documentElement.dataset.theme];
  }

  controls() {
    const x = element("select", {}, ...[["step", "step"], ["epoch", "epoch"], ["relative", "time since start"],
      ["wall", "clock time"]].map(([value, label]) => element("option",
      value === this.x ? { value, selected: "" } : { value }, label)));
    const smooth = element("select", {}, ...[0, 10, 100, 1000, 10000].map((n) => element("option",
      n === this.smoothing ? { value: String(n), selected: "" } : { value: String(n) }, n ? `over ${n} steps` : "none")));
    const log = element("input", this.isLog ? { type: "checkbox", checked: "" } : { type: "checkbox" });
    const filter = element("input", { value: this.filter, size: "16", placeholder: "loss" });
    const change = () => {
      this.x = /** @type {HTMLSelectElement} */ (x).value;
      this.smoothing = Number(/** @type {HTMLSelectElement} */ (smooth).value);
      this.isLog = /** @type {HTMLInputElement} */ (log).checked;
      this.filter = /** @type {HTMLInputElement} */ (filter).value.trim();
      for (const figure of this.figures.values()) figure.zoom = null;
      const url = new URL(location.href);
      const set = (/** @type {string} */ name, /** @type {string} */ value) => {
        if (value) url.searchParams.set(name, value); else url.searchParams.delete(name);
      };
      set("x", this.x === "step" ? "" : this.x);
      set("smooth", this.smoothing ? String(this.smoothing) : "");
      set("log", this.isLog ? "1" : "");
      set("metric", this.filter);
      history.replaceState(null, "", url);
      this.setNames(this.names);
      this.refresh();
    };
    for (const input of [x, smooth, log, filter]) input.addEventListener("change", change);
    this.hiddenNote = element("span", { class: "faint" });
    return element("div", { class: "controls bar" }, element("label", {}, "x ", x),
      element("label", {}, "Smoothing ", smooth), element("label", {}, log, " logarithmic"),
      element("label", {}, "Metrics with ", filter), this.hiddenNote);
  }

  /** @param {string[]} names */
  setNames(names) {
    this.names = names;
    let chosen = names.filter((name) => name.includes(this.filter));
    if (!this.filter) {
      chosen = chosen.filter((name) => !name.startsWith("system."));
      const main = chosen.filter((name) => name.split(".").length < 3);
      if (main.length) chosen = main;
    }
    const rank = (/** @type {string} */ n) => (n.includes("loss") ? 0 : n.includes("acc") ? 1 : 2);
    chosen = [...chosen].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1)).slice(0, FIRST);
    for (const [name, figure] of this.figures) {
      if (chosen.includes(name)) continue;
      this.watcher.unobserve(figure.node);
      figure.plot?.destroy();
      figure.node.remove();
      this.figures.delete(name);
    }
    for (const name of chosen) {
      if (this.figures.has(name)) continue;
      const figure = new Figure(this, name);
      this.figures.set(name, figure);
      this.place.append(figure.node);
      this.watcher.observe(figure.node);
    }
    const num = names.length - chosen.length;
    if (this.hiddenNote) this.hiddenNote.textContent = num > 0 ? `${num} more metrics: filter to see them` : "";
    const none = document.getElementById("no-metrics");
    if (none) none.hidden = names.length > 0;
  }

  async fetch() {
    const shown = [...this.figures.values()].filter((figure) => figure.isVisible);
    const together = shown.filter((figure) => !figure.zoom);
    const wanted = { runs: this.runs, x: this.x, smoothing: this.smoothing, buckets: 500 };
    const jobs = shown.filter((figure) => figure.zoom).map(async (figure) => {
      figure.show(await fetchCurves({ ...wanted, metrics: [figure.metric], ...figure.zoom }));
    });
    if (together.length) {
      jobs.push(fetchCurves({ ...wanted, metrics: together.map((figure) => figure.metric) }).then((chart) => {
        for (const figure of together) figure.show(chart);
      }));
    }
    await Promise.all(jobs);
  }
}
