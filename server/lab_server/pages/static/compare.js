// @ts-check
// The comparison of runs: their charts, live, and figures of results over configs.
import { atMostEvery, onChanges } from "./live.js";
import { strokeOf } from "./chart.js";
import { Board } from "./charts.js";
import { fill } from "./figures.js";

const place = document.getElementById("charts");
const board = place ? new Board(place) : null;

function legend() {
  for (const [index, line] of [...document.querySelectorAll("#legend li")].entries()) {
    const { colour, dash } = strokeOf(index);
    const key = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    key.setAttribute("aria-hidden", "true");
    key.setAttribute("viewBox", "0 0 30 10");
    const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [name, value] of Object.entries({ x1: "0", x2: "30", y1: "5", y2: "5", stroke: colour,
      "stroke-width": "3", "stroke-dasharray": dash.join(" ") })) stroke.setAttribute(name, value);
    key.append(stroke);
    line.querySelector("svg")?.remove();
    line.prepend(key);
  }
}

legend();
document.addEventListener("themechange", legend);
fill(document.getElementById("figures"));

// states, last values, and metrics that are new
const refresh = atMostEvery(async () => {
  const answer = await fetch(location.pathname + location.search);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["legend", "differences", "no-metrics"]) {
    const fresh = page.getElementById(id);
    const old = document.getElementById(id);
    if (old && fresh && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(fresh));
  }
  legend();
  board?.addNames(JSON.parse(page.getElementById("charts")?.dataset.names ?? "[]"));
}, 5000);

onChanges((changes) => {
  board?.note(changes);
  const isSeen = (/** @type {string} */ kind) => kind === "metrics" || kind === "state";
  if (changes.some(({ id, kinds }) => board?.runs.includes(id) && kinds.some(isSeen))) refresh();
}, () => {
  board?.refreshAll();
  refresh();
});
