// @ts-check
// Charts of metrics: those on screen are asked for together, zooming asks again, and the settings are in the
// page's address.
import { Figure } from "./chart.js";
import { fetchCurves } from "./curves.js";
import { element } from "./elements.js";
import { atMostEvery } from "./live.js";

/** @typedef {import("./live.js").Change} Change */

const FIRST = 12;
const MAX_BANDS = 6;
const BUCKETS = 500;
// so long at most a chart does not show what is too little to be seen
const LONGEST_MS = 10_000;

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
    // what charts do not show yet: more points, or that some are taken back
    this.isBehind = this.isCut = false;
    this.askedAt = -Infinity;
    /** @type {Map<string, number>} by run, the step when they were asked for last */ this.steps = new Map();
    place.hidden = false;
    this.refresh = atMostEvery(() => this.fetch(), 1000);
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const figure = this.figures.get(/** @type {HTMLElement} */ (entry.target).dataset.metric ?? "");
        if (!figure) continue;
        figure.isVisible = entry.isIntersecting;
        if (figure.isVisible) figure.fit();
      }
      this.refresh();
    }, { rootMargin: "150px" });
    place.append(this.controls());
    this.setNames(JSON.parse(place.dataset.names ?? "[]"));
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (place.clientWidth === width) return;
      width = place.clientWidth;
      for (const figure of this.figures.values()) if (figure.isVisible) figure.fit();
      this.refreshAll();
    }).observe(place);
    document.addEventListener("themechange", () => {
      for (const figure of this.figures.values()) figure.shape = "";
      this.refreshAll();
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
      for (const figure of this.figures.values()) figure.zoom.reset();
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

  /**
   * Adds charts of metrics that are new. None goes: a run that begins anew has nothing measured for a moment.
   * @param {string[]} names
   */
  addNames(names) {
    this.setNames([...new Set([...this.names, ...names])]);
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
    chosen = [...chosen].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, "en", { numeric: true })).slice(0, FIRST);
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
    const others = names.filter((name) => !chosen.includes(name));
    if (this.hiddenNote) {
      this.hiddenNote.textContent = others.length ? `${others.length} more, such as ${others[0]}: write a part of a name to see them` : "";
    }
    const none = document.getElementById("no-metrics");
    if (none) none.hidden = names.length > 0;
  }

  /**
   * Takes note of changes: asks again once they can be seen.
   * @param {Change[]} changes
   */
  note(changes) {
    const ours = changes.filter((change) => this.runs.includes(change.id));
    const tells = (/** @type {string} */ kind) => ours.some((change) => change.kinds.includes(kind));
    this.isBehind ||= tells("metrics");
    this.isCut ||= tells("truncate");
    const isSeen = tells("state") || performance.now() - this.askedAt > LONGEST_MS
      || ours.some((change) => this.isBucketMore(change));
    if (!this.isCut && !(this.isBehind && isSeen)) return;
    for (const change of ours) this.steps.set(change.id, change.step);
    this.refresh();
  }

  /**
   * Whether a run has come so much further that it can be seen: less than a bucket more moves nothing by a pixel.
   * @param {Change} change
   */
  isBucketMore({ id, step }) {
    const all = [...this.figures.values()].flatMap((figure) => figure.zoom.all ?? []);
    if (!all.length) return true;
    const bucket = Math.max(...all.map(({ min, max }) => max - min)) / BUCKETS;
    if (this.x === "relative" || this.x === "wall") return performance.now() - this.askedAt >= 1000 * bucket;
    const more = Math.abs(step - (this.steps.get(id) ?? Infinity));
    return (this.x === "step" ? more : more * Math.max(...all.map(({ max }) => max)) / step) >= bucket;
  }

  /** Asks for all charts again, whatever has changed. */
  refreshAll() {
    for (const figure of this.figures.values()) figure.isOld = true;
    this.refresh();
  }

  /** What all charts ask for. */
  wanted() {
    const asked = { runs: this.runs, x: this.x, smoothing: this.smoothing };
    if (this.runs.length <= MAX_BANDS) return { ...asked, buckets: BUCKETS, columns: ["mean", "min", "max"] };
    // of more curves, bands would hide each other, and drawing takes as long as a curve has points
    const [first] = this.figures.values();
    return { ...asked, buckets: Math.max(100, Math.min(BUCKETS, Math.round(first.place.clientWidth / 1.5))), columns: ["mean"] };
  }

  async fetch() {
    if (this.isCut) for (const figure of this.figures.values()) figure.zoom.end = -Infinity;
    this.isCut = this.isBehind = false;
    this.askedAt = performance.now();
    const shown = [...this.figures.values()].filter((figure) => figure.isVisible);
    const zoomed = shown.filter(({ zoom, isOld }) => zoom.range && (isOld || !zoom.isOfThePast()));
    const jobs = zoomed.map((figure) => this.fetchOne(figure));
    const together = shown.filter((figure) => !figure.zoom.range);
    if (together.length) jobs.push(this.fetchAll(together));
    try {
      await Promise.all(jobs);
    } catch (error) {
      setTimeout(this.refresh, LONGEST_MS);  // what comes next may not ask again, and of a run that ended nothing comes
      throw error;
    }
  }

  /**
   * Asks for the part of a chart that is shown, at once.
   * @param {Figure} figure
   */
  async fetchOne(figure) {
    await this.fetchAll([figure], figure.zoom.range ?? {});
  }

  /**
   * Asks for charts of one range; an answer that a newer question has overtaken is not shown.
   * @param {Figure[]} figures
   * @param {{min?: number, max?: number}} range
   */
  async fetchAll(figures, range = {}) {
    const asked = figures.map((figure) => { figure.asked += 1; return figure.asked; });
    const chart = await fetchCurves({ ...this.wanted(), metrics: figures.map((figure) => figure.metric), ...range });
    figures.forEach((figure, i) => { if (figure.asked === asked[i]) figure.show(chart); });
  }
}
