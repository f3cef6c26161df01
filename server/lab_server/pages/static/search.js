// @ts-check
// A search: its figures, and its numbers as its trials end.
import { tell } from "./elements.js";
import { fill } from "./figures.js";
import { keepFresh } from "./sections.js";

let state = document.getElementById("status")?.dataset.state;

/** @param {HTMLElement} section */
function made(section) {
  if (section.id === "figures") fill(section, true);
  if (section.id !== "status" || section.dataset.state === state) return;
  state = section.dataset.state;
  tell(`The search is ${state}.`);
}

fill(document.getElementById("figures"), true);
keepFresh(["status", "actions", "space", "trials", "figures"], 3000, { isOf: (kinds) => kinds.includes("state"), made });
