/** The raycaster's picture in colours: by depth, or by object with light as sf_model/scaffold/preview.py has it. */

import { colourise, placesOnScale } from "../colormaps.js";
import { GROUND } from "./raycast.js";

/** Positive floats by the upper 18 of their 32 bits: steps of at most 0.2%, which is finer than the scale of colours. */
const SHIFT = 14;
const BUCKETS = 1 << (31 - SHIFT);
const bucketDepths = new Float32Array(Uint32Array.from({ length: BUCKETS }, (_, k) => (k << SHIFT) | (1 << (SHIFT - 1))).buffer);

/** Colours of object indices. They repeat. The same as OBJECT_COLORS of sf_model/scaffold/preview.py. */
const OBJECT_COLOURS = [
  [0.83, 0.33, 0.27],
  [0.27, 0.5, 0.8],
  [0.9, 0.7, 0.25],
  [0.35, 0.65, 0.38],
  [0.6, 0.42, 0.72],
  [0.3, 0.68, 0.7],
  [0.88, 0.52, 0.65],
  [0.62, 0.5, 0.38],
];
const [GROUND_DARK, GROUND_LIGHT] = [[0.5, 0.5, 0.48], [0.6, 0.6, 0.58]];
const [HORIZON, ZENITH] = [[0.86, 0.9, 0.94], [0.55, 0.7, 0.88]];
const [AMBIENT, SUN] = [[0.62, 0.63, 0.67], [0.5, 0.48, 0.44]];
/** The sun is high, to the left and behind the camera. */
const TO_SUN = [-0.4, -0.72, -0.57].map((value) => value / Math.hypot(0.4, 0.72, 0.57));
/** Pixels of one object that are farther apart than this share of their depth are two surfaces. */
const STEP = 0.03;

/** @returns {string} the CSS colour of an object */
export function objectColour(index) {
  return `rgb(${OBJECT_COLOURS[index % OBJECT_COLOURS.length].map((value) => Math.round(255 * value)).join(" ")})`;
}

/** @param {Float32Array} depth @returns {{near: number, far: number}} the range of its surface */
export function rangeOf(depth) {
  let [near, far] = [Infinity, 0];
  for (let place = 0; place < depth.length; place += 1) {
    const metres = depth[place];
    if (metres < near) near = metres;
    if (metres > far && metres !== Infinity) far = metres;
  }
  if (near === Infinity) return { near: 0.5, far: 100 };
  return far / near < 1.02 ? { near: near / 1.1, far: far * 1.1 } : { near, far };
}

export class DepthPainter {
  #key = "";
  #table = new Uint32Array(0);

  /** @param {Float32Array} depth @param {Uint32Array} pixels RGBA @param {string} colormap of COLORMAPS */
  paint(depth, pixels, { near, far }, colormap) {
    const key = `${near} ${far} ${colormap}`;
    if (key !== this.#key) {
      this.#table = new Uint32Array(colourise(placesOnScale(bucketDepths, { near, far }), colormap).buffer);
      this.#key = key;
    }
    const table = this.#table;
    const bits = new Uint32Array(depth.buffer);
    for (let place = 0; place < bits.length; place += 1) pixels[place] = table[bits[place] >>> SHIFT];
  }
}

const rgba = (r, g, b) => 0xff000000 | (channel(b) << 16) | (channel(g) << 8) | channel(r);
const channel = (value) => (value >= 1 ? 255 : (255 * value + 0.5) | 0);

/** @param {import("./raycast.js").Raycaster} caster @param {Uint32Array} pixels RGBA */
export function paintObjects(caster, pixels) {
  const { width, height, camera } = caster;
  for (let row = 0; row < height; row += 1) {
    const v = (row + 0.5 - 0.5 * height) / camera.focalPx;
    paintRow(caster, pixels, row, v);
  }
}

function paintRow({ width, height, depth, index, camera }, pixels, row, v) {
  const { cos, sin, focalPx, heightM } = camera;
  const [down, ahead] = [cos * v + sin, cos - sin * v];
  const sky = skyColour(down / Math.hypot(down, ahead));
  // The ground has one depth in a row.
  const groundZ = heightM > 0 && down > 0 ? (heightM / down) * ahead : 0;
  const groundDepth = heightM / down;
  const parityZ = Math.floor(groundZ);
  const below = row + 1 < height ? width : -width;
  const vStep = below > 0 ? 1 / focalPx : -1 / focalPx;
  for (let column = 0, place = row * width; column < width; column += 1, place += 1) {
    const object = index[place];
    const u = (column + 0.5 - 0.5 * width) / focalPx;
    if (object >= 0) {
      const aside = column + 1 < width ? 1 : -1;
      pixels[place] = objectPixel(depth, index, place, aside, below, u, v, vStep, camera, OBJECT_COLOURS[object % 8]);
    } else if (object === GROUND) {
      const x = u * groundDepth;
      const pixelM = (x * x + groundZ * groundZ + heightM * heightM) / (heightM * focalPx);
      const fade = Math.min(Math.max(1.5 - 2 * pixelM, 0), 1);
      const mix = 0.5 + (((Math.floor(x) + parityZ) & 1) - 0.5) * fade;
      const k = (mix * (GROUND_STEPS - 1) + 0.5) | 0;
      pixels[place] = GROUND_TABLE[k];
    } else pixels[place] = sky;
  }
}

function skyColour(down) {
  const share = Math.sqrt(Math.min(Math.max(-down, 0), 1));
  return rgba(...HORIZON.map((low, k) => low + (ZENITH[k] - low) * share));
}

/** The ground's normal points up: the light on it is the same everywhere. */
const groundLight = AMBIENT.map((ambient, k) => ambient + SUN[k] * -TO_SUN[1]);

const GROUND_STEPS = 64;
const GROUND_TABLE = Uint32Array.from({ length: GROUND_STEPS }, (_, step) => {
  const mix = step / (GROUND_STEPS - 1);
  return rgba(...GROUND_DARK.map((dark, k) => (dark + (GROUND_LIGHT[k] - dark) * mix) * groundLight[k]));
});

/** The normal is that of the surface through the pixel and two neighbours, on the side where the surface goes on. */
function objectPixel(depth, index, place, aside, below, u, v, vStep, camera, albedo) {
  const z = depth[place];
  const right = neighbour(depth, index, place, aside) || neighbour(depth, index, place, -aside);
  const lower = neighbour(depth, index, place, below) || neighbour(depth, index, place, -below);
  const uStep = right / camera.focalPx;
  const vAway = lower === below ? vStep : -vStep;
  let facing = 0.5;
  let up = 0;
  if (right && lower) {
    const zr = depth[place + right];
    const zl = depth[place + lower];
    // Towards the two neighbours, in the camera's axes. Single numbers: an array for each pixel would be garbage.
    const az = zr - z;
    const ax = u * az + uStep * zr;
    const ay = v * az;
    const bz = zl - z;
    const bx = u * bz;
    const by = v * bz + vAway * zl;
    let nx = ay * bz - az * by;
    let ny = az * bx - ax * bz;
    let nz = ax * by - ay * bx;
    const length = Math.sqrt(nx * nx + ny * ny + nz * nz) || 1;
    const sign = nx * u + ny * v + nz > 0 ? -1 / length : 1 / length;
    nx *= sign;
    ny *= sign;
    nz *= sign;
    up = camera.cos * ny + camera.sin * nz;
    facing = Math.max(0, nx * TO_SUN[0] + up * TO_SUN[1] + (camera.cos * nz - camera.sin * ny) * TO_SUN[2]);
  }
  const hemisphere = 0.84 - 0.16 * up;
  return rgba(
    albedo[0] * (AMBIENT[0] * hemisphere + SUN[0] * facing),
    albedo[1] * (AMBIENT[1] * hemisphere + SUN[1] * facing),
    albedo[2] * (AMBIENT[2] * hemisphere + SUN[2] * facing),
  );
}

/** The step, if the pixel there is on the same surface, else 0. */
function neighbour(depth, index, place, step) {
  const there = place + step;
  if (index[there] !== index[place]) return 0;
  const between = depth[there] - depth[place];
  const reach = STEP * depth[place];
  return between < reach && -between < reach ? step : 0;
}
