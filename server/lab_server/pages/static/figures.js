// @ts-check
// Figures of results over configs, in SVG: a scatter, parallel coordinates, and a search's history.
import { element, short as shortNumber, summaryOf, text } from "./elements.js";

/** @typedef {{id: string, title: string, number?: number, configs: Record<string, string>, metrics: Record<string, number>}} Result */
/** @typedef {{keys: string[], metrics: string[], direction?: string, runs: Result[]}} Results */

const W = 560;
const H = 300;
const PAD = { left: 62, right: 16, top: 28, bottom: 40 };

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | string)} children
 */
function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * Where texts lie between 0 and 1: numbers by their size, over decades on a logarithm; other texts in order.
 * @param {string[]} texts
 */
function scaleOf(texts) {
  const distinct = [...new Set(texts)];
  const numbers = distinct.map(Number);
  if (distinct.every((t, i) => t !== "" && Number.isFinite(numbers[i]))) {
    let [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const isLog = low > 0 && high / low >= 20;
    const on = (/** @type {number} */ v) => (isLog ? Math.log10(v) : v);
    [low, high] = [on(low), on(high)];
    const at = (/** @type {string} */ t) => (high === low ? 0.5 : (on(Number(t)) - low) / (high - low));
    const own = [...distinct].sort((a, b) => Number(a) - Number(b));
    const isClear = own.length <= 6 && own.every((t, i) => i === 0 || at(t) - at(own[i - 1]) > 0.09);
    const isWhole = !isLog && high - low >= 4 && numbers.every(Number.isInteger);
    const even = [0, 0.25, 0.5, 0.75, 1].map((q) => low + q * (high - low))
      .map((v) => String(isWhole ? Math.round(v) : Number((isLog ? 10 ** v : v).toPrecision(3))));
    return { at, ticks: isClear ? own : even };
  }
  const sorted = [...distinct].sort();
  const at = (/** @type {string} */ t) => (sorted.length === 1 ? 0.5 : sorted.indexOf(t) / (sorted.length - 1));
  return { at, ticks: sorted.slice(0, 12) };
}

/**
 * From blue over grey to orange, which all can tell; the text beside it says the value, too.
 * @param {number} part
 */
function colourOf(part) {
  const [a, b] = part < 0.5 ? [[31, 119, 200], [140, 140, 140]] : [[140, 140, 140], [215, 110, 10]];
  const t = part < 0.5 ? part * 2 : part * 2 - 1;
  return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * t)).join(",")})`;
}

/** @param {string} label */
function short(label) {
  const value = Number(label);
  const isNumber = label !== "" && Number.isFinite(value);
  const written = !isNumber ? label : Math.abs(value) < 1e6 ? text(value) : shortNumber(value);
  return written.length > 14 ? `${written.slice(0, 13)}…` : written;
}

/**
 * Where a label begins, so that it is whole in the picture.
 * @param {number} x
 * @param {string} label
 */
function anchorOf(x, label) {
  const half = 3.5 * label.length;
  return x < half ? "start" : x + half > W ? "end" : "middle";
}

/**
 * @param {string} caption
 * @param {SVGElement} picture
 * @param {HTMLElement} data
 */
function figure(caption, picture, data) {
  picture.setAttribute("class", "figure");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", caption);
  return element("figure", { class: "chart" }, element("figcaption", {}, caption), picture,
    element("details", {}, summaryOf(caption), data));
}

/**
 * @param {string[]} head
 * @param {string[][]} lines
 */
function table(head, lines) {
  const made = element("table", {}, element("thead", {}, element("tr", {}, ...head.map((h) => element("th", { scope: "col" }, h)))),
    element("tbody", {}, ...lines.map((line) => element("tr", {}, ...line.map((cell) => element("td", {}, cell))))));
  return element("div", { class: "data", tabindex: "0", role: "region", "aria-label": `Data of ${head.at(-1)}` }, made);
}

/**
 * @param {{x: string[], y: string[]}} columns
 * @param {string} xLabel
 * @param {string} yLabel
 */
function frame(columns, xLabel, yLabel) {
  const [xs, ys] = [scaleOf(columns.x), scaleOf(columns.y)];
  const place = {
    x: (/** @type {string} */ t) => PAD.left + xs.at(t) * (W - PAD.left - PAD.right),
    y: (/** @type {string} */ t) => H - PAD.bottom - ys.at(t) * (H - PAD.top - PAD.bottom),
  };
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}` });
  for (const tick of xs.ticks) {
    picture.append(svg("line", { class: "axis", x1: place.x(tick), x2: place.x(tick), y1: PAD.top, y2: H - PAD.bottom }),
      svg("text", { x: place.x(tick), y: H - PAD.bottom + 15, "text-anchor": anchorOf(place.x(tick), short(tick)) }, short(tick)));
  }
  for (const tick of ys.ticks) {
    picture.append(svg("line", { class: "axis", x1: PAD.left, x2: W - PAD.right, y1: place.y(tick), y2: place.y(tick) }),
      svg("text", { x: PAD.left - 6, y: place.y(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  picture.append(svg("text", { x: (W + PAD.left) / 2, y: H - 6, "text-anchor": "middle" }, xLabel),
    svg("text", { x: 4, y: 11 }, yLabel));
  return { picture, place };
}

/**
 * @param {Results} results
 * @param {string} key
 * @param {string} metric
 */
function scatter(results, key, metric) {
  const runs = results.runs.filter((run) => metric in run.metrics && key in run.configs);
  const y = runs.map((run) => String(run.metrics[metric]));
  const { picture, place } = frame({ x: runs.map((run) => run.configs[key]), y }, key, metric);
  runs.forEach((run, i) => {
    picture.append(svg("circle", { cx: place.x(run.configs[key]), cy: place.y(y[i]), r: 5, fill: "var(--accent)", "fill-opacity": 0.75 },
      svg("title", {}, `${run.title}: ${metric} ${text(run.metrics[metric])}`)));
  });
  return figure(`${metric} over ${key}`, picture,
    table(["run", key, metric], runs.map((run) => [run.title, run.configs[key], text(run.metrics[metric])])));
}

/**
 * @param {Results} results
 * @param {string} metric
 */
function parallel(results, metric) {
  const runs = results.runs.filter((run) => metric in run.metrics);
  const keys = results.keys.filter((key) => runs.every((run) => key in run.configs)).slice(0, 8);
  const columns = [...keys, metric];
  const textOf = (/** @type {Result} */ run, /** @type {string} */ column) => (column === metric ? String(run.metrics[metric]) : run.configs[column]);
  const scales = columns.map((column) => scaleOf(runs.map((run) => textOf(run, column))));
  const x = (/** @type {number} */ i) => 40 + (i * (W - 100)) / Math.max(1, columns.length - 1);
  const y = (/** @type {number} */ part) => H - 26 - part * (H - 66);
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}` });
  for (const run of runs) {
    const parts = columns.map((column, i) => scales[i].at(textOf(run, column)));
    const points = parts.map((part, i) => `${x(i)},${y(part)}`).join(" ");
    picture.append(svg("polyline", { points, fill: "none", stroke: colourOf(parts[parts.length - 1]), "stroke-width": 1.8, "stroke-opacity": 0.8 },
      svg("title", {}, `${run.title}: ${metric} ${text(run.metrics[metric])}`)));
  }
  columns.forEach((column, i) => {
    picture.append(svg("line", { class: "axis", x1: x(i), x2: x(i), y1: y(0), y2: y(1) }),
      svg("text", { x: x(i), y: i % 2 ? 26 : 12, "text-anchor": anchorOf(x(i), short(column)) }, short(column)));
    for (const tick of scales[i].ticks) {
      picture.append(svg("text", { x: x(i) + 4, y: y(scales[i].at(tick)) + 4 }, short(tick)));
    }
  });
  return figure(`Configs of runs by ${metric}`, picture,
    table(["run", ...columns], runs.map((run) => [run.title, ...columns.map((column) => short(textOf(run, column)))])));
}

/**
 * @param {Results} results
 * @param {string} metric
 */
function history(results, metric) {
  const runs = results.runs.filter((run) => metric in run.metrics && run.number !== undefined);
  const y = runs.map((run) => String(run.metrics[metric]));
  const { picture, place } = frame({ x: runs.map((run) => String(run.number)), y }, "trial", metric);
  /** @type {number | null} */ let best = null;
  const steps = [];
  const isBetter = (/** @type {number} */ a, /** @type {number} */ b) => (results.direction === "max" ? a > b : a < b);
  for (const [i, run] of runs.entries()) {
    const value = run.metrics[metric];
    picture.append(svg("circle", { cx: place.x(String(run.number)), cy: place.y(y[i]), r: 4, fill: "var(--accent)", "fill-opacity": 0.7 },
      svg("title", {}, `${run.title}: ${text(value)}`)));
    if (best !== null) steps.push(`${place.x(String(run.number))},${place.y(String(best))}`);
    if (best === null || isBetter(value, best)) best = value;
    steps.push(`${place.x(String(run.number))},${place.y(String(best))}`);
  }
  picture.append(svg("polyline", { points: steps.join(" "), fill: "none", stroke: "var(--good)", "stroke-width": 2 }));
  return figure(`${metric} of each trial, and the best so far`, picture,
    table(["trial", metric], runs.map((run) => [String(run.number), text(run.metrics[metric])])));
}

/**
 * Fills a section with figures, if there is something to see.
 * @param {HTMLElement | null} place
 * @param {boolean} [isSearch]
 */
export function fill(place, isSearch = false) {
  if (!place) return;
  /** @type {Results} */ const results = JSON.parse(place.dataset.results ?? "null");
  if (!results || results.runs.length < 2 || !results.metrics.length) return;
  if (!isSearch && !results.keys.length) return;
  place.hidden = false;
  const figures = element("div", { class: "charts" });
  const draw = (/** @type {string} */ metric) => {
    const made = isSearch ? [history(results, metric)] : [];
    if (results.keys.length > 1 || isSearch) made.push(parallel(results, metric));
    for (const key of results.keys.slice(0, 6)) made.push(scatter(results, key, metric));
    figures.replaceChildren(...made);
  };
  if (results.metrics.length > 1) {
    const select = element("select", {}, ...results.metrics.map((m) => element("option", {}, m)));
    select.addEventListener("change", () => draw(/** @type {HTMLSelectElement} */ (select).value));
    place.append(element("div", { class: "bar" }, element("label", {}, "Result ", select)));
  }
  draw(results.metrics[0]);
  place.append(figures);
}
