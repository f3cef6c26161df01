// @ts-check
// Slots and queue, asked for again when a run changes.
import { onChanges, atMostEvery } from "./live.js";

const refresh = atMostEvery(async () => {
  const answer = await fetch("/server");
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["leader", "slots", "queue", "gpus"]) {
    const fresh = page.getElementById(id);
    const old = document.getElementById(id);
    if (old && fresh && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(fresh));
  }
}, 2000);
onChanges(refresh, refresh);
