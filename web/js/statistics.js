/** Statistics of a depth map, the axis of the chart, and the format of metres. */

import { text } from "./texts.js";

/** NEAR_M and FAR_M of sf_model/depth/colours.py: a colour always means the same metres. */
export const FIXED_RANGE = { near: 0.5, far: 100 };

/**
 * @typedef {{min: number, median: number, max: number, skyShare: number}} Statistics
 * min, median and max are NaN if there is no surface.
 */

/** The bits of infinity. Positive numbers have the order of their bits, and what is not finite has more than these. */
const INFINITE = 0x7f800000;

/**
 * Exact, in time that grows with the number of pixels only: nothing is sorted.
 * @param {Float32Array} depth metres above 0, not finite where there is no surface
 * @returns {Statistics}
 */
export function statistics(depth) {
  const bits = new Uint32Array(depth.buffer, depth.byteOffset, depth.length);
  const upper = new Uint32Array(INFINITE >>> 16);
  let [lowest, highest, count] = [INFINITE, 0, 0];
  for (const value of bits) {
    if (value >= INFINITE) continue;
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
    upper[value >>> 16] += 1;
    count += 1;
  }
  if (count === 0) return { min: NaN, median: NaN, max: NaN, skyShare: 1 };
  const middle = [(count - 1) >> 1, count >> 1].map((rank) => fromBits(ranked(bits, upper, rank)));
  return {
    min: fromBits(lowest),
    median: (middle[0] + middle[1]) / 2,
    max: fromBits(highest),
    skyShare: 1 - count / depth.length,
  };
}

/** The bits of the number that has this place in the order. upper: how many numbers have these upper 16 bits. */
function ranked(bits, upper, rank) {
  const [high, before] = placeOf(upper, rank);
  const lower = new Uint32Array(1 << 16);
  for (const value of bits) if (value >>> 16 === high) lower[value & 0xffff] += 1;
  const [low] = placeOf(lower, rank - before);
  return ((high << 16) | low) >>> 0;
}

/** @returns {[number, number]} the index in whose count the rank falls, and the sum of the counts before it */
function placeOf(counts, rank) {
  let before = 0;
  let index = 0;
  while (before + counts[index] <= rank) before += counts[index++];
  return [index, before];
}

function fromBits(value) {
  return new Float32Array(Uint32Array.of(value).buffer)[0];
}

/** The range from the nearest to the farthest surface. It is never empty. @param {Statistics} found */
export function fittedRange({ min, max }) {
  if (!Number.isFinite(min)) return FIXED_RANGE;
  return max / min < 1.02 ? { near: min / 1.1, far: max * 1.1 } : { near: min, far: max };
}

/** The position of metres on the axis: 0 is near, 1 is far. It may be outside. */
export function axisPosition(metres, { near, far }) {
  return Math.log(metres / near) / Math.log(far / near);
}

/**
 * Shares of the surface in equal steps of log depth. Values outside the range count in the outer bins.
 * @returns {Float64Array} the sum is 1, or 0 if there is no surface
 */
export function histogram(depth, range, bins) {
  const counts = new Float64Array(bins);
  let total = 0;
  for (const metres of depth) {
    if (!Number.isFinite(metres)) continue;
    counts[Math.min(Math.max(Math.floor(axisPosition(metres, range) * bins), 0), bins - 1)] += 1;
    total += 1;
  }
  return total ? counts.map((count) => count / total) : counts;
}

/** Round metres for the axis: 1, 2, 5 in every decade, or equal steps if these are too few. @returns {number[]} */
export function axisTicks({ near, far }) {
  const within = (value) => value >= near * 0.999 && value <= far * 1.001;
  const decades = [];
  for (let power = Math.floor(Math.log10(near)); power <= Math.ceil(Math.log10(far)); power += 1) {
    for (const digit of [1, 2, 5]) decades.push(digit * 10 ** power);
  }
  const wide = decades.filter(within);
  if (wide.length > 10) return wide.filter((value) => Math.abs(Math.log10(value) % 1) < 1e-9);
  if (wide.length >= 4) return wide;
  const raw = (far - near) / 4;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((digit) => digit * magnitude).find((value) => value >= raw);
  const ticks = [];
  for (let index = Math.ceil(near / step); index * step <= far * 1.0001; index += 1) ticks.push(index * step);
  return ticks;
}

/** Metres with four figures, so the error is at most 0.05%. @returns {string} */
export function formatMetres(metres) {
  return Number.isFinite(metres) ? `${Number(metres.toPrecision(4))} m` : text("noSurface");
}
