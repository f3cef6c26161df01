// @ts-check
// Slots, queue and GPUs, live.
import { keepFresh } from "./sections.js";

keepFresh(["leader", "slots", "queue", "gpus"], 2000);
