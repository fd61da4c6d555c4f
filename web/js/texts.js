/**
 * The texts of the pack's own elements. English is here. Other languages come from locales/<language>/main.json, which
 * the host serves with the node translations.
 */

import { language } from "./host.js";

/** The same as in locales/en/main.json. */
const ENGLISH = {
  chooseFile: "choose depth file to upload",
  chooseMesh: "choose mesh file to upload",
  empty: "Run the workflow to see the depth.",
  hint: "Point to read, click two points to measure.",
  noSurface: "no surface",
  noStart: "There is no surface here to measure from.",
  secondPoint: "Click the second point.",
  distance: "distance",
  confidence: "confidence",
  colourMap: "Colour map",
  range: "Range of the colours",
  fit: "Fit",
  grey: "Grey",
  min: "min",
  median: "median",
  max: "max",
  sky: "sky",
  previousImage: "Previous image",
  nextImage: "Next image",
  viewer: "Depth viewer",
  picture:
    "Depth image. Arrow keys move the reading, with Shift by ten pixels; Enter sets a point; Escape clears.",
  histogram: "Histogram of depth",
  scale: "Scale in metres",
  gone: "The depth is no longer on the server. Run the workflow again.",
  preview: "A preview. Inspect Metric Depth shows every pixel and every image.",
  unreadable: "The server's answer is no depth that this page can read. Reload the page.",
  notUploaded: "The file was not uploaded:",
};

let translations = {};

/** @param {keyof typeof ENGLISH} key @returns {string} the text in the front end's language */
export function text(key) {
  return translated("spatialfusionViewer", key) ?? ENGLISH[key];
}

/** A text of a section of main.json in the front end's language. Undefined if there is none. */
export function translated(section, key) {
  return translations[section]?.[key];
}

/** Load the texts in the front end's language. If there are none, the texts stay English. Never throws. */
export async function loadTexts(app, api) {
  try {
    const wanted = language(app);
    if (wanted === "en") return;
    const response = await api.fetchApi("/i18n");
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    translations = (await response.json())[wanted] ?? {};
  } catch (error) {
    console.warn("SpatialFusion: no translations from the server, so its texts are English.", error);
  }
}
