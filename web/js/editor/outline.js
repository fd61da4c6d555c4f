/** Which pixels of each row the box around a solid covers: a row needs no rays elsewhere. */

import { NEAR_M } from "./solids.js";
import { transform } from "./space.js";

const CORNERS = [-0.5, 0.5].flatMap((x) => [-0.5, 0.5].flatMap((y) => [-0.5, 0.5].map((z) => [x, y, z])));
/** Pairs of corners that differ along one axis. */
const EDGES = CORNERS.flatMap((from, a) =>
  CORNERS.map((to, b) => [a, b, from.filter((value, axis) => value !== to[axis]).length])
    .filter(([, b, differing]) => differing === 1 && b > a)
    .map(([, b]) => [a, b]),
);
/** So far, in pixels, may rounding move an outline. */
const SLACK_PX = 1e-4;

export class Outline {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.left = new Float64Array(height);
    this.right = new Float64Array(height);
    /** The rows are those from top to bottom - 1. */
    this.top = 0;
    this.bottom = 0;
    /** The depth of the nearest corner in metres. */
    this.nearest = 0;
  }

  /** The first pixel of a row, and the one after its last. */
  first(row) {
    return Math.max(Math.ceil(this.left[row] - 0.5 - SLACK_PX), 0);
  }

  last(row) {
    return Math.min(Math.floor(this.right[row] - 0.5 + SLACK_PX) + 1, this.width);
  }

  /**
   * Find the rows of a solid's box.
   * @param {import("./shapes.js").Solid} solid @param {import("./space.js").Camera} camera
   * @returns {boolean} whether there are any
   */
  trace({ matrix, centre }, camera) {
    const corners = CORNERS.map((corner) => {
      const [x, y, z] = transform(matrix, corner);
      return camera.toCamera([x + centre[0], y + centre[1], z + centre[2]]);
    });
    const points = corners.filter(([, , z]) => z >= NEAR_M);
    if (!points.length) return false;
    const isCut = points.length < corners.length;
    this.nearest = isCut ? 0 : Math.min(...points.map(([, , z]) => z)) * (1 - 1e-6);
    if (isCut) for (const [a, b] of EDGES) this.#addCut(points, corners[a], corners[b]);
    const picture = points.map((point) => camera.toPicture(point));
    const rows = picture.map(([, y]) => y);
    this.top = Math.min(Math.max(Math.ceil(Math.min(...rows) - 0.5 - SLACK_PX), 0), this.height);
    this.bottom = Math.min(Math.max(Math.floor(Math.max(...rows) - 0.5 + SLACK_PX) + 1, 0), this.height);
    if (this.top >= this.bottom) return false;
    this.left.fill(Infinity, this.top, this.bottom);
    this.right.fill(-Infinity, this.top, this.bottom);
    // The outline of a cut box has edges that are not the box's. They are among all connections of its points.
    if (!isCut) for (const [a, b] of EDGES) this.#edge(picture[a], picture[b]);
    else picture.forEach((from, a) => picture.slice(a + 1).forEach((to) => this.#edge(from, to)));
    return true;
  }

  /** The point where an edge goes through the near plane, if it does. */
  #addCut(points, from, to) {
    if (from[2] >= NEAR_M === to[2] >= NEAR_M) return;
    const share = (NEAR_M - from[2]) / (to[2] - from[2]);
    points.push([from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1]), NEAR_M]);
  }

  /** Widen the rows that an edge crosses. A row's rays go through its middle. */
  #edge([fromX, fromY], [toX, toY]) {
    const low = Math.max(Math.ceil(Math.min(fromY, toY) - 0.5 - SLACK_PX), this.top);
    const high = Math.min(Math.floor(Math.max(fromY, toY) - 0.5 + SLACK_PX) + 1, this.bottom);
    const slope = toY === fromY ? 0 : (toX - fromX) / (toY - fromY);
    const isFlat = Math.abs(toY - fromY) < 2 * SLACK_PX;
    const [least, most] = fromX < toX ? [fromX, toX] : [toX, fromX];
    for (let row = low; row < high; row += 1) {
      const x = Math.min(Math.max(fromX + slope * (row + 0.5 - fromY), least), most);
      if ((isFlat ? least : x) < this.left[row]) this.left[row] = isFlat ? least : x;
      if ((isFlat ? most : x) > this.right[row]) this.right[row] = isFlat ? most : x;
    }
  }
}
