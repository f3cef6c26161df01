// @ts-check
// A search: its figures, and its numbers as its trials end.
import { onChanges, atMostEvery } from "./live.js";
import { fill } from "./figures.js";

fill(document.getElementById("figures"), true);

const refresh = atMostEvery(async () => {
  const answer = await fetch(location.pathname);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["status", "trials", "figures"]) {
    const fresh = page.getElementById(id);
    const old = document.getElementById(id);
    if (!old || !fresh || old.contains(document.activeElement)) continue;
    const made = /** @type {HTMLElement} */ (document.adoptNode(fresh));
    old.replaceWith(made);
    if (id === "figures") fill(made, true);
  }
}, 3000);

onChanges((changes) => { if (changes.some((change) => change.kinds.includes("state"))) refresh(); }, refresh);
