/**
 * The named shapes and the table of sizes, from the generated web/editor_data.json, and objects of them in the world.
 *
 * @typedef {{solid: string, matrix: Float64Array, centre: number[]}} Solid its points are matrix @ q + centre
 * @typedef {{size_m: number[], primitives: Solid[]}} Shape in the box of 1 x 1 x 1, whose foot is the origin
 * @typedef {{name: string, synonyms: string[], shape: string, size_m: number[]}} Thing
 */

import { headingAxes, multiply, transform } from "./space.js";

export class Shapes {
  /** @param {object} data of editor_data.json */
  constructor(data) {
    /** @type {Map<string, Shape>} */
    this.byName = new Map();
    for (const [name, { size_m, primitives }] of Object.entries(data.shapes)) {
      const solids = primitives.map(({ solid, matrix, centre }) => ({
        solid,
        matrix: Float64Array.from(matrix.flat()),
        centre,
      }));
      this.byName.set(name, { size_m, primitives: solids });
    }
    /** @type {Thing[]} */
    this.things = data.things;
  }

  /** @param {import("./layout.js").LayoutObject} thing @returns {Solid[]} its solids in the world */
  placed({ shape, position_m, heading_deg, size_m }) {
    const { front, right } = headingAxes(heading_deg);
    const [width, height, length] = size_m;
    const own = Float64Array.of(right[0] * width, 0, front[0] * length, 0, -height, 0, right[1] * width, 0, front[1] * length);
    const [x, y, z] = position_m;
    return this.byName.get(shape).primitives.map(({ solid, matrix, centre }) => {
      const [cx, cy, cz] = transform(own, centre);
      return { solid, matrix: multiply(own, matrix), centre: [cx + x, cy - y, cz + z] };
    });
  }
}

/** @type {Promise<Shapes> | null} */
let loading = null;

/** The shapes. They are read once. Rejects where the file cannot be read, and the next call tries again. */
export function loadShapes() {
  loading ??= (async () => {
    const response = await fetch(new URL("../../editor_data.json", import.meta.url));
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return new Shapes(await response.json());
  })().catch((error) => {
    loading = null;
    throw error;
  });
  return loading;
}
