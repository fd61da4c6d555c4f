/** One loaded depth map and what is computed from it: each number once, whatever the user looks at. */

import { BINS } from "./chart.js";
import { placesOnScale } from "./colormaps.js";
import { parseNpy } from "./npy.js";
import { FIXED_RANGE, fittedRange, histogram, statistics } from "./statistics.js";
import { text } from "./texts.js";

/**
 * @typedef {object} RangeView
 * @property {{near: number, far: number}} range metres
 * @property {Uint16Array} places of the pixels on the scale of colours
 * @property {Float64Array} shares of the histogram
 */

export class DepthMap {
  /** @type {Map<string, RangeView>} */
  #views = new Map();

  /**
   * @param {import("./viewer.js").DepthFile} file
   * @param {ArrayBuffer} buffer the contents of the file. Throws an Error if they are not those of such a file.
   */
  constructor(file, buffer) {
    const { shape, data } = parseNpy(buffer);
    const [channels, height, width] = shape;
    if (height !== file.height || width !== file.width) throw new Error(text("unreadable"));
    const size = height * width;
    this.file = file;
    /** Metres, row by row. Not finite where there is no surface. */
    this.depth = data.subarray(0, size);
    /** In [0, 1]. Null where it is 1 everywhere. */
    this.confidence = channels > 1 ? data.subarray(size, 2 * size) : null;
    this.numbers = statistics(this.depth);
  }

  /** @param {string} name "fixed" or "fit" @returns {RangeView} */
  view(name) {
    const present = this.#views.get(name);
    if (present) return present;
    const range = name === "fit" ? fittedRange(this.numbers) : FIXED_RANGE;
    const view = {
      range,
      places: placesOnScale(this.depth, range),
      shares: histogram(this.depth, range, BINS),
    };
    this.#views.set(name, view);
    return view;
  }

  /** The index of a pixel in `depth` and `confidence`. */
  indexOf({ column, row }) {
    return row * this.file.width + column;
  }
}
