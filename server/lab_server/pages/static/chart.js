// @ts-check
// The chart of a metric: its lines, its zoom by mouse and keys, and its points as a table.
import { element, short, summaryOf, text, timeText } from "./elements.js";
import { Zoom } from "./zoom.js";

/** @typedef {import("./curves.js").Chart} Chart */
/** @typedef {import("./curves.js").Curve} Curve */
/** @typedef {import("./charts.js").Board} Board */

// Okabe and Ito's colours, which the colour-blind can tell, darker on white; with dashes from the ninth on.
const LIGHT = ["#0060a8", "#b34700", "#007a57", "#a3357c", "#7a6400", "#3d7ea6", "#7a1f1f", "#444444"];
const DARK = ["#6db6ff", "#ffa24d", "#4fd6ab", "#f08fc6", "#f0e442", "#a5d8f0", "#ff8c8c", "#d0d0d0"];
const MANY = 16;
const EARLY_MS = 120;
const HEIGHT = 240;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

/** @param {number} index */
export function strokeOf(index) {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const colours = isDark ? DARK : LIGHT;
  return { colour: colours[index % colours.length], dash: DASHES[Math.floor(index / colours.length) % DASHES.length] };
}

/**
 * What a chart has of one metric, at the x where that has something.
 * @param {Chart} chart
 * @param {string} metric
 * @param {string} main
 * @returns {Chart}
 */
function partOf(chart, metric, main) {
  const curves = chart.curves.filter((curve) => curve.metric === metric);
  /** @type {number[]} */ const keep = [];
  for (let i = 0; i < chart.x.length; i += 1) {
    if (curves.some((curve) => !Number.isNaN(curve.columns[main][i]))) keep.push(i);
  }
  if (keep.length === chart.x.length) return { ...chart, curves };
  const pick = (/** @type {Float64Array} */ column) => Float64Array.from(keep, (i) => column[i]);
  return { ...chart, x: pick(chart.x), curves: curves.map((curve) => ({ ...curve,
    columns: Object.fromEntries(Object.entries(curve.columns).map(([name, column]) => [name, pick(column)])) })) };
}

/**
 * The x at which the run that is furthest behind has its last point; a run that has none is behind all.
 * @param {Chart} chart
 * @param {string} main
 * @param {number} numRuns
 */
function endOf(chart, main, numRuns) {
  if (chart.curves.length < numRuns) return -Infinity;
  return Math.min(...chart.curves.map(({ columns }) => chart.x[columns[main].findLastIndex((v) => !Number.isNaN(v))]));
}

/**
 * The lines, and the bands around them, as uPlot takes them.
 * @param {Chart} chart
 * @param {string} main
 * @param {(run: string) => {colour: string, dash: number[]}} strokeOfRun
 */
function linesOf(chart, main, strokeOfRun) {
  const clean = (/** @type {Float64Array} */ column) => Array.from(column, (v) => (Number.isNaN(v) ? null : v));
  /** @type {any[]} */ const columns = [chart.x];
  /** @type {any[]} */ const series = [{}];
  /** @type {any[]} */ const bands = [];
  // without a GPU, lines of more than a pixel take thirty times as long to draw
  const width = chart.curves.length > MANY ? 1 : 1.75;
  for (const curve of chart.curves) {
    const { colour, dash } = strokeOfRun(curve.run);
    if (curve.columns.min) {
      const at = series.length;
      columns.push(clean(curve.columns.max), clean(curve.columns.min));
      for (let i = 0; i < 2; i += 1) series.push({ stroke: "transparent", points: { show: false }, spanGaps: true });
      bands.push({ series: [at, at + 1], fill: `${colour}2b` });
    }
    columns.push(clean(curve.columns[main]));
    series.push({ stroke: colour, width, dash, spanGaps: true, points: { show: chart.x.length < 3 } });
  }
  return { columns, series, bands };
}

/**
 * The part of y that a chart shows: as uPlot chooses it, but -1 to 1 and not 0 to 100 where all is 0.
 * @param {any} _plot
 * @param {number | null} min
 * @param {number | null} max
 */
function rangeOf(_plot, min, max) {
  if (min === null || max === null) return [null, null];
  // @ts-ignore - a global of the vendored script
  return min === 0 && max === 0 ? [-1, 1] : window.uPlot.rangeNum(min, max, 0.1, true);
}

/** @param {Chart} chart */
function notesOf(chart) {
  const notFinite = chart.curves.reduce((sum, curve) => sum + curve.num_not_finite, 0);
  const missing = chart.withoutAxis.length;
  return [
    notFinite ? `${chart.x.length ? "" : "nothing to draw: "}${notFinite} NaN or infinite` : "",
    missing ? `${missing} of the runs cannot be shown over this x` : "",
    chart.numLeftOut ? `${chart.numLeftOut} curves left out` : "",
  ].filter(Boolean);
}

/** A metric's chart. */
export class Figure {
  /**
   * @param {Board} board
   * @param {string} metric
   */
  constructor(board, metric) {
    this.board = board;
    this.metric = metric;
    this.isVisible = false;
    // whether even what it shows of the past is not right any more
    this.isOld = false;
    /** @type {any} */ this.plot = null;
    this.asked = 0;
    /** @type {Chart | null} */ this.chart = null;
    this.place = element("div", { class: "plot" });
    this.note = element("p", { class: "note" });
    this.zoom = new Zoom(() => this.onZoom(), (x) => this.xText(x), metric);
    this.data = element("details", {}, summaryOf(metric));
    this.data.addEventListener("toggle", () => this.fillData());
    const caption = element("figcaption", {}, element("span", {}, metric), this.zoom.node);
    caption.addEventListener("keydown", (event) => this.zoom.press(event));
    this.node = element("figure", { class: "chart", "data-metric": metric, "aria-label": metric }, caption, this.place, this.note, this.data);
  }

  /** Asks for another part of x; until it comes, what is there of that part is shown. */
  onZoom() {
    this.node.setAttribute("aria-busy", "true");
    const range = this.zoom.range ?? this.zoom.all;
    const early = setTimeout(() => { if (this.plot && range) this.plot.setScale("x", range); }, EARLY_MS);
    // if the server restarts, the next event asks again
    this.board.fetchOne(this).catch(() => this.node.removeAttribute("aria-busy")).finally(() => clearTimeout(early));
  }

  /** @param {number} x */
  xText(x) {
    return this.board.x === "wall" ? timeText(x) : `${this.board.x} ${text(x)}`;
  }

  /** Draws what there is as wide as its place is now. */
  fit() {
    const width = this.place.clientWidth;
    if (this.plot && this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
  }

  /** @param {Chart} whole */
  show(whole) {
    this.node.removeAttribute("aria-busy");
    this.isOld = false;
    const main = this.board.smoothing ? "smooth" : "mean";
    const chart = this.chart = partOf(whole, this.metric, main);
    this.zoom.note(chart.x, endOf(chart, main, this.board.runs.length));
    const { columns, series, bands } = linesOf(chart, main, (run) => strokeOf(this.board.runs.indexOf(run)));
    this.note.textContent = notesOf(chart).join("; ");
    const shape = JSON.stringify([series.length, chart.curves.map((c) => c.run), this.board.settings()]);
    if (this.plot && this.shape === shape) {
      this.fit();
      this.plot.setData(columns);
    } else {
      this.plot?.destroy();
      this.shape = shape;
      this.plot = this.make(columns, series, bands);
    }
    this.label(chart.curves, main);
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
      width: this.place.clientWidth, height: HEIGHT, series, bands,
      scales: { x: { time: isWall }, y: this.board.isLog ? { distr: 3 } : { range: rangeOf } },
      axes: [{ ...axis, size: 32, values: isWall ? undefined : (/** @type {any} */ _u, /** @type {number[]} */ v) => v.map(short) },
        { ...axis, size: 62, values: (/** @type {any} */ _u, /** @type {number[]} */ v) => v.map((n) => (n === null ? "" : short(n))) }],
      legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: false } },
      hooks: {
        setSelect: [(/** @type {any} */ plot) => {
          if (plot.select.width < 4) return;
          const min = plot.posToVal(plot.select.left, "x");
          const max = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          this.zoom.choose({ min, max });
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
      const title = this.board.titles[curve.run];
      return `${title ? `${title}: ` : ""}from ${text(values[0] ?? NaN)} to ${text(values.at(-1) ?? NaN)}`;
    });
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", `${this.metric} over ${this.board.x}. ${parts.join("; ")}`);
  }

  fillData() {
    const chart = this.chart;
    if (!chart || !(/** @type {HTMLDetailsElement} */ (this.data).open)) return;
    const main = this.board.smoothing ? "smooth" : "mean";
    const head = element("tr", {}, element("th", { scope: "col" }, this.board.x),
      ...chart.curves.map((c) => element("th", { scope: "col", class: "num" }, this.board.titles[c.run] ?? this.metric)));
    const every = Math.ceil(chart.x.length / 200) || 1;
    const lines = [];
    for (let i = 0; i < chart.x.length; i += 1) {
      if (i % every && i < chart.x.length - 1) continue;
      lines.push(element("tr", {}, element("th", { scope: "row" }, this.board.x === "wall" ? timeText(chart.x[i]) : text(chart.x[i])),
        ...chart.curves.map((c) => element("td", { class: "num" }, text(c.columns[main][i])))));
    }
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
    if (every > 1) table.prepend(element("caption", {}, `one of ${every} x, and the last`));
    const region = element("div", { class: "data", tabindex: "0", role: "region", "aria-label": `Data of ${this.metric}` }, table);
    this.data.querySelector(".data")?.remove();
    this.data.append(region);
  }
}
