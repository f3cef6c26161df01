// @ts-check
// A search: its figures, and its numbers as its trials end.
import { fill } from "./figures.js";
import { keepFresh } from "./sections.js";

fill(document.getElementById("figures"), true);
keepFresh(["status", "actions", "space", "trials", "figures"], 3000, {
  isOf: (kinds) => kinds.includes("state"),
  made: (section) => { if (section.id === "figures") fill(section, true); },
});
