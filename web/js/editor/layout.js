/**
 * Layouts: scenes as JSON, as sf_model/scaffold/layout.py reads and writes them. Layouts here are never changed: each
 * change makes a new one.
 *
 * @typedef {{height_m: number, pitch_deg: number, fov_y_deg: number}} LayoutCamera
 * @typedef {object} LayoutObject
 * @property {string} name in any script
 * @property {string} shape a name of `Shapes`
 * @property {number[]} position_m [x, y, z]: right of the camera, up from the ground to the lowest point, ahead
 * @property {number} heading_deg 0 to the camera's side, 90 image right, 180 away, 270 image left
 * @property {number[]} size_m [width, height, length]
 * @property {number} confidence in [0, 1]
 * @typedef {{camera: LayoutCamera, ground: boolean, objects: LayoutObject[]}} Layout
 */

import { wholeTurn } from "./space.js";

export const VERSION = 1;
export const MAX_OBJECTS = 256;
export const MAX_NAME_LENGTH = 200;
export const LIMITS = {
  size: [0.001, 1000],
  position: [-1000, 1000],
  cameraHeight: [0, 1000],
  pitch: [-90, 90],
  fov: [1, 170],
  confidence: [0, 1],
};
/** [x, y, z], [width, height, length]. */
export const AXES = [0, 1, 2];

export const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);

/** Rounded, and without a negative zero. */
const rounded = (value, decimals) => Number(value.toFixed(decimals)) + 0;
const metres = (value, limits) => rounded(clamp(value, limits), 4);
const degrees = (value) => rounded(value, 3);

/** A camera within the limits, as it is written. @param {LayoutCamera} camera @returns {LayoutCamera} */
export function tidyCamera({ height_m, pitch_deg, fov_y_deg }) {
  return {
    height_m: metres(height_m, LIMITS.cameraHeight),
    pitch_deg: degrees(clamp(pitch_deg, LIMITS.pitch)),
    fov_y_deg: degrees(clamp(fov_y_deg, LIMITS.fov)),
  };
}

/** An object within the limits, as it is written. @param {LayoutObject} thing @returns {LayoutObject} */
export function tidyObject({ name, shape, position_m, heading_deg, size_m, confidence }) {
  return {
    name,
    shape,
    position_m: position_m.map((value) => metres(value, LIMITS.position)),
    heading_deg: degrees(wholeTurn(heading_deg)) % 360,
    size_m: size_m.map((value) => metres(value, LIMITS.size)),
    confidence: rounded(clamp(confidence, LIMITS.confidence), 3),
  };
}

/** The layout with an object changed. @param {Partial<LayoutObject>} changes */
export function withObject(layout, index, changes) {
  const objects = layout.objects.map((thing, k) => (k === index ? tidyObject({ ...thing, ...changes }) : thing));
  return { ...layout, objects };
}

/** The layout with one object more, the last. */
export function withAdded(layout, thing) {
  return { ...layout, objects: [...layout.objects, tidyObject(thing)] };
}

export function without(layout, index) {
  return { ...layout, objects: layout.objects.filter((_, k) => k !== index) };
}

/** @param {Partial<LayoutCamera>} changes */
export function withCamera(layout, changes) {
  return { ...layout, camera: tidyCamera({ ...layout.camera, ...changes }) };
}

/** A name that no object has: "chair" becomes "chair 2". */
export function freeName(layout, name) {
  const taken = new Set(layout.objects.map((thing) => thing.name));
  if (!taken.has(name)) return name;
  const stem = name.replace(/ \d+$/, "");
  for (let number = 2; ; number += 1) {
    if (!taken.has(`${stem} ${number}`)) return `${stem} ${number}`;
  }
}

/** A name as the server takes it: one line of 1 to 200 characters. Null if there is nothing left. */
export function cleanName(text) {
  // Halves of characters have no place in a file.
  const plain = text.toWellFormed?.() ?? text.replace(/[\ud800-\udfff]/g, "");
  const characters = [...plain.replace(/[\u0000-\u001f\u007f-\u009f\s]+/g, " ").trim()];
  return characters.slice(0, MAX_NAME_LENGTH).join("").trim() || null;
}

/** The strict JSON, one object a line. @param {Layout} layout @returns {string} */
export function layoutJson({ camera, ground, objects }) {
  const things = objects.map((thing) => `    ${JSON.stringify(tidyObject(thing))}`).join(",\n");
  const list = things ? `[\n${things}\n  ]` : "[]";
  return `{\n  "version": ${VERSION},\n  "camera": ${JSON.stringify(tidyCamera(camera))},\n  "ground": ${ground},\n  "objects": ${list}\n}`;
}

const isNumber = (value, [low, high]) => Number.isFinite(value) && value >= low && value <= high;
const areNumbers = (values, limits) => values?.length === 3 && AXES.every((axis) => isNumber(values[axis], limits));

function isObject(thing, shapes) {
  return (
    typeof thing?.name === "string" &&
    cleanName(thing.name) !== null &&
    shapes.byName.has(thing.shape) &&
    areNumbers(thing.position_m, LIMITS.position) &&
    areNumbers(thing.size_m, LIMITS.size) &&
    Number.isFinite(thing.heading_deg) &&
    isNumber(thing.confidence ?? 1, LIMITS.confidence)
  );
}

/**
 * A layout from a value in the strict form. Null for anything else.
 * @param {unknown} value @param {import("./shapes.js").Shapes} shapes @returns {Layout | null}
 */
export function readLayout(value, shapes) {
  const { version, camera, ground, objects } = value ?? {};
  const isCamera =
    isNumber(camera?.height_m, LIMITS.cameraHeight) &&
    isNumber(camera?.pitch_deg, LIMITS.pitch) &&
    isNumber(camera?.fov_y_deg, LIMITS.fov);
  if (version !== VERSION || !isCamera || typeof ground !== "boolean") return null;
  if (!Array.isArray(objects) || objects.length > MAX_OBJECTS || !objects.every((one) => isObject(one, shapes))) return null;
  const things = objects.map((thing) => tidyObject({ ...thing, name: cleanName(thing.name), confidence: thing.confidence ?? 1 }));
  return { camera: tidyCamera(camera), ground, objects: things };
}

/** The same from its text. */
export function parseLayout(text, shapes) {
  try {
    return readLayout(JSON.parse(text), shapes);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
