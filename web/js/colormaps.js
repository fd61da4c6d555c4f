/** Depth as colours. Positions are logarithmic in metres: 0 is the near end of the range, 1 the far end. */

import { text } from "./texts.js";

const TABLE_SIZE = 1024;

/** Where there is no surface. The same as SKY of sf_model/depth/colours.py. */
const SKY = [0.55, 0.6, 0.66];

/** Anchors from near to far, linear between, in [0, 1]. The first is RAMP of sf_model/depth/colours.py, reversed. */
const ANCHORS = {
  spatialfusion: [
    [0.98, 0.95, 0.6],
    [0.99, 0.68, 0.25],
    [0.91, 0.38, 0.3],
    [0.62, 0.17, 0.5],
    [0.25, 0.12, 0.55],
    [0.05, 0.03, 0.25],
  ],
  turbo: fromHex(
    "7a0402 b11901 d93806 f36315 fe9b2d f3c63a d1e834 a4fc3b 61fc6c 24eca6 1bcfd4 39a2fc 4675ed 4145ab 30123b",
  ),
  viridis: fromHex("fde725 addc30 5ec962 28ae80 21918c 2c728e 3b528b 472d7b 440154"),
  grey: fromHex("ffffff 000000"),
};

/** @type {{value: string, label: () => string}[]} */
export const COLORMAPS = [
  { value: "spatialfusion", label: () => "SpatialFusion" },
  { value: "turbo", label: () => "Turbo" },
  { value: "viridis", label: () => "Viridis" },
  { value: "grey", label: () => text("grey") },
];

function fromHex(colours) {
  return colours.split(" ").map((hex) => [0, 2, 4].map((start) => parseInt(hex.slice(start, start + 2), 16) / 255));
}

/** @returns {number[]} the colour at a position in [0, 1], components in [0, 1] */
function colourAt(name, position) {
  const anchors = ANCHORS[name] ?? ANCHORS.spatialfusion;
  const place = Math.min(Math.max(position, 0), 1) * (anchors.length - 1);
  const lower = Math.min(Math.floor(place), anchors.length - 2);
  const weight = place - lower;
  return anchors[lower].map((value, channel) => value * (1 - weight) + anchors[lower + 1][channel] * weight);
}

/** @returns {Uint32Array} RGBA of TABLE_SIZE colours from near to far, and of the sky */
function colourTable(name) {
  const table = new Uint8ClampedArray(4 * (TABLE_SIZE + 1)).fill(255);
  for (let index = 0; index < TABLE_SIZE; index += 1) {
    table.set(colourAt(name, index / (TABLE_SIZE - 1)).map((value) => 255 * value), 4 * index);
  }
  table.set(SKY.map((value) => 255 * value), 4 * TABLE_SIZE);
  return new Uint32Array(table.buffer);
}

/**
 * Where each pixel of a depth map is on the scale of colours. It depends on the range and not on the colour map.
 * @param {Float32Array} depth metres, not finite where there is no surface
 * @param {{near: number, far: number}} range metres
 * @returns {Uint16Array} for `colourise`
 */
export function placesOnScale(depth, { near, far }) {
  const places = new Uint16Array(depth.length);
  const logNear = Math.log(near);
  const scale = (TABLE_SIZE - 1) / (Math.log(far) - logNear);
  for (let index = 0; index < depth.length; index += 1) {
    const metres = depth[index];
    places[index] = Number.isFinite(metres)
      ? Math.min(Math.max(Math.round((Math.log(metres) - logNear) * scale), 0), TABLE_SIZE - 1)
      : TABLE_SIZE;
  }
  return places;
}

/**
 * Colour a depth map.
 * @param {Uint16Array} places of `placesOnScale`
 * @returns {Uint8ClampedArray} RGBA
 */
export function colourise(places, name) {
  const table = colourTable(name);
  const pixels = new Uint32Array(places.length);
  for (let index = 0; index < places.length; index += 1) pixels[index] = table[places[index]];
  return new Uint8ClampedArray(pixels.buffer);
}

/** @returns {string} a CSS gradient from near to far */
export function gradient(name) {
  const stops = Array.from({ length: 33 }, (_, index) => colourAt(name, index / 32));
  const css = stops.map((stop) => `rgb(${stop.map((value) => Math.round(255 * value)).join(" ")})`);
  return `linear-gradient(to right, ${css.join(", ")})`;
}
