// @ts-check
// Elements of a page, and numbers as people read them.

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

/**
 * What opens a table of a picture's data.
 * @param {string} name of the picture
 */
export function summaryOf(name) {
  return element("summary", {}, "Show data", element("span", { class: "hidden" }, ` of ${name}`));
}

/** @param {number} value */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  if (size >= 1e4) return `${Number((value / 1e3).toFixed(1))}k`;
  return String(Number(value.toPrecision(4)));
}

/**
 * Has a screen reader say something of the page's run or search.
 * @param {string} sentence
 */
export function tell(sentence) {
  const told = document.getElementById("told");
  if (told) told.textContent = sentence;
}

/** @param {number} seconds since 1970 */
export function timeText(seconds) {
  return new Date(seconds * 1000).toISOString().replace(/\.\d+Z/, "Z");
}
