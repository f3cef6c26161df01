// @ts-check
// The part of x that a chart shows: chosen with the mouse, with buttons, or with keys.
import { element } from "./elements.js";

/** @typedef {{min: number, max: number}} Range */

/** @type {[string, string, string[]][]} what it does, its sign, and its keys */
const MOVES = [
  ["Zoom in", "+", ["+", "="]],
  ["Zoom out", "−", ["-", "_"]],
  ["To the left", "←", ["ArrowLeft"]],
  ["To the right", "→", ["ArrowRight"]],
  ["Whole range", "Whole range", ["0", "Home"]],
];

/**
 * @param {string} move
 * @param {Range} now
 * @param {Range} all
 * @returns {Range | null} null for all of it
 */
export function moved(move, now, all) {
  const width = now.max - now.min;
  const middle = now.min + width / 2;
  let { min, max } = now;
  if (move === "Whole range") return null;
  if (move === "Zoom in") [min, max] = [middle - width / 4, middle + width / 4];
  if (move === "Zoom out") [min, max] = [Math.max(all.min, middle - width), Math.min(all.max, middle + width)];
  if (move === "To the left") { min = Math.max(all.min, min - width / 2); max = min + width; }
  if (move === "To the right") { max = Math.min(all.max, max + width / 2); min = max - width; }
  return min <= all.min && max >= all.max ? null : { min, max };
}

/** The zoom of a chart, with its buttons. */
export class Zoom {
  /**
   * @param {() => void} changed called when somebody has chosen another part
   * @param {(x: number) => string} textOf
   * @param {string} metric
   */
  constructor(changed, textOf, metric) {
    this.changed = changed;
    this.textOf = textOf;
    /** @type {Range | null} */ this.range = null;
    /** @type {Range | null} */ this.all = null;
    // up to here all runs have what they will have: nothing is known of that after a cut, behind which they grow again
    this.end = -Infinity;
    this.numX = 0;
    this.buttons = MOVES.map(([move, sign]) => {
      const button = element("button", { class: "plain", type: "button" }, sign);
      if (sign !== move) { button.setAttribute("aria-label", move); button.title = move; }
      button.addEventListener("click", () => this.move(move));
      return button;
    });
    this.told = element("span", { class: "hidden", role: "status" });
    this.node = element("span", { class: "zoom", role: "group", "aria-label": `Zoom of ${metric}` }, ...this.buttons, this.told);
    this.refresh();
  }

  /** @param {string} move */
  move(move) {
    if (!this.all || (move === "Zoom in" && this.numX < 3)) return;
    this.choose(moved(move, this.range ?? this.all, this.all));
  }

  /**
   * @param {KeyboardEvent} event a key that was pressed in the chart
   */
  press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const move = MOVES.find(([, , keys]) => keys.includes(event.key));
    if (!move) return;
    event.preventDefault();
    this.move(move[0]);
  }

  /** @param {Range | null} range */
  choose(range) {
    this.range = range;
    this.refresh();
    this.told.textContent = range ? `shows ${this.textOf(range.min)} to ${this.textOf(range.max)}` : "shows the whole range";
    this.changed();
  }

  /** Shows all of another x. */
  reset() {
    this.range = null;
    this.all = null;
    this.refresh();
  }

  /**
   * Notes what the chart shows now.
   * @param {ArrayLike<number>} x
   * @param {number} end where the run that is furthest behind goes on
   */
  note(x, end) {
    this.numX = x.length;
    if (this.range || !x.length) return;
    this.all = { min: x[0], max: x[x.length - 1] };
    this.end = end;
  }

  /** Whether what comes is no part of what is shown. */
  isOfThePast() {
    return Boolean(this.range && this.range.max < this.end);
  }

  refresh() {
    const whole = this.buttons[this.buttons.length - 1];
    const hadFocus = document.activeElement === whole;
    whole.hidden = !this.range;
    if (hadFocus && whole.hidden) this.buttons[0].focus();
  }
}
