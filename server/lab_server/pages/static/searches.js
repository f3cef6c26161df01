// @ts-check
// The list of searches, live.
import { keepFresh } from "./sections.js";

keepFresh(["searches"], 3000, { isOf: (kinds) => kinds.includes("state") });
