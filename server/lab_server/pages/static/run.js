// @ts-check
// A run's page: charts, and what changes while it trains.
import { tell } from "./elements.js";
import { onChanges, atMostEvery } from "./live.js";
import { Board } from "./charts.js";
import { fillMedia } from "./media.js";

const status = document.getElementById("status");
const runId = status?.dataset.run ?? "";
const place = document.getElementById("charts");
const board = place ? new Board(place) : null;
/** @type {(() => void) | null} */ let refreshMedia = null;
const log = document.getElementById("log");

function showMedia() {
  const section = document.getElementById("media");
  if (section && !refreshMedia) refreshMedia = fillMedia(section, runId);
}

/**
 * Returns the lines of a log, those of standard error and warnings with what they are.
 * @param {{text: string, levels: string[]}} part
 */
function linesOf(part) {
  const texts = part.text.replace(/\n$/, "").split("\n");
  return part.levels.map((level, index) => {
    if (level === "STDOUT") return `${texts[index]}\n`;
    const line = document.createElement("span");
    const kind = document.createElement("span");
    line.className = kind.textContent = level.toLowerCase();
    kind.className = "level";
    line.append(kind, ` ${texts[index]}\n`);
    return line;
  });
}

const refreshLog = atMostEvery(async () => {
  if (!log) return;
  const answer = await fetch(`/api/v1/runs/${runId}/logs?offset=${log.dataset.next}&max_bytes=262144`);
  if (!answer.ok) return;
  const part = await answer.json();
  const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  log.dataset.next = String(part.next_offset);
  log.append(...linesOf(part));
  if (isAtEnd) log.scrollTop = log.scrollHeight;
  if (part.next_offset < part.size_bytes && part.text) refreshLog();
}, 1000);

/** @param {string} path */
async function fetchPage(path) {
  const answer = await fetch(path);
  return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
}

/** @param {Document} page */
function showWhole(page) {
  // other buttons, other history: everything but the charts and the log is the server's page
  for (const name of [".bar", "section[aria-labelledby=history-title]", "section[aria-labelledby=about-title]",
    "section[aria-labelledby=files-title]"]) {
    const old = document.querySelector(`main > ${name}`);
    const next = page.querySelector(`main > ${name}`);
    if (old && next && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(next));
  }
  const media = page.getElementById("media");
  if (media && !refreshMedia) {
    document.querySelector("section[aria-labelledby=log-title]")?.before(document.adoptNode(media));
    showMedia();
  }
}

/** whether more than what changes all the time may have changed */
let isWholeWanted = false;

const refreshStatus = atMostEvery(async () => {
  if (!status) return;
  const shown = /** @type {HTMLDetailsElement | null} */ (document.getElementById("last-values"));
  let page = await fetchPage(`/runs/${runId}/now${shown?.open ? "?values=1" : ""}`);
  if (page && (isWholeWanted || page.getElementById("status")?.dataset.state !== status.dataset.state)) {
    isWholeWanted = false;  // what changes from now on wants it again
    page = await fetchPage(`/runs/${runId}`);
    if (page) showWhole(page); else isWholeWanted = true;
  }
  const fresh = page?.getElementById("status");
  if (!page || !fresh) return;
  if (fresh.dataset.state !== status.dataset.state) tell(`The run is ${fresh.dataset.state?.toLowerCase()}.`);
  status.dataset.state = fresh.dataset.state;
  status.replaceChildren(...fresh.childNodes);
  const values = page.querySelector("#last-values > table");
  if (values) document.querySelector("#last-values > table")?.replaceWith(document.adoptNode(values));
  const names = page.getElementById("charts")?.dataset.names;
  if (!names) return;
  shown?.toggleAttribute("hidden", names === "[]");
  board?.addNames(JSON.parse(names));
}, 1500);

showMedia();
document.getElementById("last-values")?.addEventListener("toggle", refreshStatus);
if (log) log.scrollTop = log.scrollHeight;
onChanges((changes) => {
  for (const change of changes) {
    if (change.id !== runId) continue;
    if (change.kinds.includes("media") && !refreshMedia) isWholeWanted = true;
    refreshStatus();
    if (change.kinds.includes("log")) refreshLog();
    if (change.kinds.includes("media") || change.kinds.includes("truncate")) refreshMedia?.();
  }
  board?.note(changes);
}, () => {
  isWholeWanted = true;
  refreshStatus();
  refreshLog();
  board?.refreshAll();
});
