// @ts-check
// The table of runs: lines that change are asked for again, new runs are announced.
import { onChanges, atMostEvery } from "./live.js";

const table = /** @type {HTMLTableElement | null} */ (document.getElementById("runs"));

if (table) {
  const body = table.tBodies[0];
  /** @type {Set<string>} */ const changed = new Set();
  /** @type {Set<string>} */ const newer = new Set();
  const lineOf = (/** @type {string} */ id) => document.getElementById(`run-${id}`);

  const refresh = atMostEvery(async () => {
    const ids = [...changed].slice(0, 100);
    if (!ids.length) return;
    const query = new URLSearchParams();
    for (const id of ids) query.append("runs", id);
    for (const key of JSON.parse(table.dataset.keys ?? "[]")) query.append("k", key);
    query.set("m", table.dataset.metrics ?? "");
    const answer = await fetch(`/rows?${query}`);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ids) {
      changed.delete(id);
      const line = lineOf(id);
      const fresh = page.getElementById(`run-${id}`);
      if (!line) continue;
      if (!fresh) { line.remove(); continue; }
      if (line.contains(document.activeElement)) { changed.add(id); continue; }
      const box = /** @type {HTMLInputElement | null} */ (line.querySelector("input"));
      const freshBox = /** @type {HTMLInputElement | null} */ (fresh.querySelector("input"));
      if (box && freshBox) freshBox.checked = box.checked;
      line.replaceWith(document.adoptNode(fresh));
    }
  }, 2000);

  onChanges((changes) => {
    for (const change of changes) {
      if (lineOf(change.id)) changed.add(change.id);
      else if (change.kinds.includes("state")) newer.add(change.id);
    }
    const link = document.getElementById("newer");
    if (link && newer.size) {
      link.hidden = false;
      link.textContent = newer.size === 1 ? "1 other run changed: show" : `${newer.size} other runs changed: show`;
    }
    refresh();
  }, () => {
    for (const line of body.querySelectorAll("tr[data-run]:not([data-ended])")) {
      changed.add(/** @type {HTMLElement} */ (line).dataset.run ?? "");
    }
    refresh();
  });

  const count = () => {
    const num = body.querySelectorAll("input:checked").length;
    const place = document.getElementById("selected");
    if (place) place.textContent = num ? `${num} selected:` : "Selected runs:";
  };
  body.addEventListener("change", count);
  addEventListener("pageshow", count);  // going back restores what was selected
}
