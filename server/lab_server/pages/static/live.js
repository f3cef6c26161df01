// @ts-check
// What happens on the server, for all tabs of this browser by one stream: HTTP/1.1 gives a browser six
// connections to a server, over all tabs. The tab that has the lock reads the stream and tells the others.

const CHANNEL = "lab-events";
const LOCK = "lab-events";

/** @typedef {{id: string, kinds: string[], state: string, step: number, last_seq: number}} Change */

/** @typedef {{kind: string, changes?: Change[], id?: string, text?: string}} Message */

/** @type {Set<(changes: Change[]) => void>} */
const listeners = new Set();
/** @type {Set<() => void>} */
const catchUps = new Set();
const channel = new BroadcastChannel(CHANNEL);
let lastId = "";
let lastText = "";
let isLeader = false;

/** @param {string} text */
function show(text) {
  const place = document.getElementById("live");
  if (!place || place.textContent === text) return;
  // a screen reader need not say on every page that it is live, as all are; only what is lost, and found again
  place.setAttribute("aria-live", text === "live" && !place.textContent ? "off" : "polite");
  place.textContent = text;
  place.classList.toggle("lost", text !== "live");
}

/** @param {Message} message */
function receive(message) {
  if (message.id) lastId = message.id;
  if (message.kind === "changes" && message.changes) for (const listener of listeners) listener(message.changes);
  if (message.kind === "ask" && isLeader && lastText) channel.postMessage({ kind: "status", text: lastText, id: lastId });
  if (message.kind !== "status") return;
  const text = message.text ?? "";
  show(text);
  // what happened between the answer that is the page and the stream is in no event
  if (text === "live" && lastText !== "live") for (const catchUp of catchUps) catchUp();
  lastText = text;
}

/** @param {Message} message */
function tell(message) {
  receive(message);
  channel.postMessage(message);
}

channel.addEventListener("message", (event) => receive(event.data));

/** Reads the stream for as long as this tab lives. */
function lead() {
  isLeader = true;
  return new Promise(() => {
    const open = () => {
      const url = lastId ? `/api/v1/events?cursor=${lastId}` : "/api/v1/events";
      const source = new EventSource(url);
      source.addEventListener("hello", (event) => tell({ kind: "status", text: "live", id: event.lastEventId }));
      source.addEventListener("runs", (event) => {
        tell({ kind: "changes", changes: JSON.parse(event.data).runs, id: event.lastEventId });
      });
      source.addEventListener("end", (event) => {
        const error = JSON.parse(event.data).error;
        if (error.code !== "UNAUTHENTICATED" && error.code !== "PERMISSION_DENIED") return;
        source.close();
        tell({ kind: "status", text: error.message });
      });
      source.addEventListener("error", () => {
        // a server that restarts refuses connections; one that refuses the request ends the source for good
        tell({ kind: "status", text: "not live: connecting again" });
        if (source.readyState === EventSource.CLOSED) {
          lastId = "";  // it may be of before the server was restored; pages catch up by themselves
          fetch("/api/v1/server").then((answer) => {
            if (answer.status === 401) tell({ kind: "status", text: "logged out: reload to log in" });
            else setTimeout(open, 3000);
          }, () => setTimeout(open, 3000));
        }
      });
    };
    open();
  });
}

/**
 * Calls back with the runs that changed, from now on.
 * @param {(changes: Change[]) => void} listener
 * @param {() => void} catchUp called whenever the page begins to be live: anything may have changed before.
 */
export function onChanges(listener, catchUp) {
  listeners.add(listener);
  catchUps.add(catchUp);
  if (listeners.size > 1) return;
  channel.postMessage({ kind: "ask" });
  if (navigator.locks) navigator.locks.request(LOCK, lead);
  else lead();
}

/**
 * Returns a function that calls another at most once in a time, and at last once after the last call;
 * nothing while the tab is hidden, and once when it is shown again.
 * @param {() => (void | Promise<void>)} work
 * @param {number} pauseMs
 */
export function atMostEvery(work, pauseMs) {
  let isWanted = false;
  let isBusy = false;
  const run = async () => {
    if (isBusy || !isWanted || document.hidden) return;
    isWanted = false;
    isBusy = true;
    try {
      await work();
    } catch { /* the server restarts; the next event asks again */ }
    setTimeout(() => { isBusy = false; run(); }, pauseMs);
  };
  document.addEventListener("visibilitychange", run);
  return () => { isWanted = true; run(); };
}
