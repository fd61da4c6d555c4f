/**
 * The exact depth of a layout, by rays through the centres of the pixels, as sf_model/scaffold/raycast.py casts them.
 * It needs no WebGL.
 */

import { Outline } from "./outline.js";
import { NEAR_M, ROWS } from "./solids.js";
import { Camera, inverse, multiply, transform } from "./space.js";

/** In the index of pixels. The same as in sf_model/rendering/zbuffer.py. */
export const GROUND = -1;
export const SKY = -2;

export class Raycaster {
  /** @param {import("./shapes.js").Shapes} shapes */
  constructor(shapes) {
    this.shapes = shapes;
    this.width = 0;
    this.height = 0;
    /** Metres along the optical axis, row by row; Infinity where there is no surface. */
    this.depth = new Float32Array(0);
    /** The object of each pixel, or GROUND or SKY. */
    this.index = new Int16Array(0);
    this.outline = new Outline(0, 0);
    /** @type {Camera | null} of the last picture */
    this.camera = null;
  }

  /**
   * Draw a layout into `depth` and `index`.
   * @param {import("./layout.js").Layout} layout
   * @param {number} width @param {number} height pixels
   * @param {number} groundExtentM the depth at which the ground ends
   */
  draw(layout, width, height, groundExtentM) {
    this.#resize(width, height);
    this.camera = new Camera(layout.camera, width, height);
    this.depth.fill(Infinity);
    this.index.fill(SKY);
    for (const { solid, object } of this.#frontToBack(layout)) this.#solid(solid, object);
    // Last: of equal depths, the object's is kept, as on the server.
    if (layout.ground) this.#ground(groundExtentM);
  }

  #resize(width, height) {
    if (width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    this.depth = new Float32Array(width * height);
    this.index = new Int16Array(width * height);
    this.outline = new Outline(width, height);
  }

  /** What is in front hides what is behind before a ray is cast at it. */
  #frontToBack(layout) {
    const found = layout.objects.flatMap((thing, object) =>
      this.shapes.placed(thing).map((solid) => ({ solid, object, ahead: this.camera.toCamera(solid.centre)[2] })),
    );
    return found.sort((one, other) => one.ahead - other.ahead);
  }

  #slope(pixel, size) {
    return (pixel + 0.5 - 0.5 * size) / this.camera.focalPx;
  }

  /** The camera has no roll, so a row of the ground has one depth. */
  #ground(extentM) {
    const { width, height, depth, index, camera } = this;
    for (let row = 0; row < height; row += 1) {
      const metres = Math.fround(camera.heightM / (camera.cos * this.#slope(row, height) + camera.sin));
      if (!(metres >= NEAR_M && metres <= extentM)) continue;
      for (let place = row * width; place < (row + 1) * width; place += 1) {
        if (metres < depth[place]) {
          depth[place] = metres;
          index[place] = GROUND;
        }
      }
    }
  }

  #solid(solid, object) {
    const { camera, depth, index, outline } = this;
    if (!outline.trace(solid, camera)) return;
    const toOwn = inverse(solid.matrix);
    const own = multiply(toOwn, camera.rotation);
    const [cx, cy, cz] = solid.centre;
    const origin = transform(toOwn, [camera.position[0] - cx, camera.position[1] - cy, camera.position[2] - cz]);
    const across = [own[0], own[3], own[6]];
    const row = { depth, index, object, nearest: outline.nearest, count: 0, step: 1 / camera.focalPx, u: 0, first: 0 };
    const drawRow = ROWS[solid.solid];
    for (let y = outline.top; y < outline.bottom; y += 1) {
      const left = outline.first(y);
      row.count = outline.last(y) - left;
      if (row.count <= 0) continue;
      const v = this.#slope(y, this.height);
      row.u = this.#slope(left, this.width);
      row.first = y * this.width + left;
      drawRow(row, origin, across, [own[1] * v + own[2], own[4] * v + own[5], own[7] * v + own[8]]);
    }
  }
}
