// @ts-check
// Sections of a page that are asked for again when a run changes.
import { onChanges, atMostEvery } from "./live.js";

/**
 * Keeps sections as the server has them, but for one that has the focus.
 * @param {string[]} ids of the sections
 * @param {number} pauseMs least time between two questions
 * @param {{isOf?: (kinds: string[]) => boolean, made?: (section: HTMLElement) => void}} [options] which changes of runs
 *   matter, and what to do with a new section
 */
export function keepFresh(ids, pauseMs, { isOf = () => true, made = () => {} } = {}) {
  const refresh = atMostEvery(async () => {
    const answer = await fetch(location.pathname + location.search);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ids) {
      const fresh = page.getElementById(id);
      const old = document.getElementById(id);
      // a screen reader would read an alert anew that stands there already
      if (!old || !fresh || old.isEqualNode(fresh) || old.contains(document.activeElement)) continue;
      const section = /** @type {HTMLElement} */ (document.adoptNode(fresh));
      old.replaceWith(section);
      made(section);
    }
  }, pauseMs);
  onChanges((changes) => {
    if (!changes.some((change) => isOf(change.kinds))) return;
    refresh();
    setTimeout(refresh, pauseMs);  // what the server makes of a change comes after it: a search ends after its last run
  }, refresh);
}
