/** The list of keys, for the side panel. */

import { html } from "../elements.js";
import { text } from "./texts.js";

const ROWS = [
  [["\u2190 \u2191 \u2193 \u2192"], "keyMove"],
  [["Page \u2191", "Page \u2193"], "keyLift"],
  [[",", "."], "keyTurn"],
  [["+", "-"], "keyGrow"],
  [["N"], "keyNext"],
  [["A"], "keyAdd"],
  [["Ctrl D"], "keyDuplicate"],
  [["Del"], "keyRemove"],
  [["End"], "keySetDown"],
  [["Ctrl Z", "Ctrl Y"], "keyUndo"],
  [["F"], "keyFit"],
  [["Alt"], "keyFree"],
];

export function keyList() {
  const rows = ROWS.map(([keys, words]) => {
    const caps = keys.map((key) => html("kbd", {}, key));
    return html("div", {}, html("dt", {}, ...caps), html("dd", {}, text(words)));
  });
  return html("details", { class: "sfe-keys" }, html("summary", {}, text("keys")), html("p", {}, text("keysNote")), html("dl", {}, ...rows));
}
