// @ts-check
// What a run tracked beside metrics, in its page: asked for when it is on screen, with a slider over its steps.
import { element } from "./elements.js";
import { atMostEvery } from "./live.js";

/**
 * Shows it in a section; returns what to call when there may be more.
 * @param {HTMLElement} section
 * @param {string} runId
 */
export function fillMedia(section, runId) {
  /** @type {number | null} the step that is shown, null for the last */
  let at = null;
  let isVisible = false;
  const place = element("div", { "aria-live": "off" });

  const refresh = atMostEvery(async () => {
    if (!isVisible) return;
    const answer = await fetch(`/runs/${runId}/media${at === null ? "" : `?at=${at}`}`);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("media-shown");
    if (!fresh || place.querySelector(":focus:not([type=range])")) return;
    const shown = document.adoptNode(fresh);
    const hadFocus = place.contains(document.activeElement);
    const range = slider(shown);
    place.replaceChildren(shown);
    if (hadFocus) range?.focus();
  }, 300);

  /** @param {HTMLElement} shown */
  function slider(shown) {
    /** @type {number[]} */ const steps = JSON.parse(shown.dataset.steps ?? "[]");
    const form = shown.querySelector("form.steps");
    if (!form || steps.length < 2) { form?.remove(); return null; }
    const now = steps.indexOf(Number(shown.dataset.at));
    const range = /** @type {HTMLInputElement} */ (element("input", { type: "range", min: "0",
      max: String(steps.length - 1), value: String(now), "aria-valuetext": `step ${steps[now]}` }));
    const told = element("output", {}, `step ${steps[now]} of ${steps[steps.length - 1]}`);
    range.addEventListener("input", () => {
      const index = Number(range.value);
      at = index === steps.length - 1 ? null : steps[index];
      told.textContent = `step ${steps[index]} of ${steps[steps.length - 1]}`;
      range.setAttribute("aria-valuetext", `step ${steps[index]}`);
      refresh();
    });
    form.replaceWith(element("div", { class: "bar" }, element("label", {}, "Step ", range), told));
    return range;
  }

  section.querySelector("p")?.replaceWith(place);
  new IntersectionObserver((entries) => {
    isVisible = entries.some((entry) => entry.isIntersecting);
    if (isVisible && !place.firstChild) refresh();
  }, { rootMargin: "150px" }).observe(section);
  return refresh;
}
