/** Statistics of a depth map, the axis of the chart, and the format of metres. */

import { text } from "./texts.js";

/** NEAR_M and FAR_M of sf_model/depth/colours.py: a colour always means the same metres. */
export const FIXED_RANGE = { near: 0.5, far: 100 };

/**
 * @typedef {{min: number, median: number, max: number, skyShare: number}} Statistics
 * min, median and max are NaN if there is no surface.
 */

/** @param {Float32Array} depth metres, not finite where there is no surface @returns {Statistics} */
export function statistics(depth) {
  const surface = depth.filter(Number.isFinite);
  const count = surface.length;
  if (count === 0) return { min: NaN, median: NaN, max: NaN, skyShare: 1 };
  surface.sort(); // a Float32Array sorts by value
  const median = (surface[(count - 1) >> 1] + surface[count >> 1]) / 2;
  return { min: surface[0], median, max: surface[count - 1], skyShare: 1 - count / depth.length };
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
