/** What buttons and keys do with a scene. */

import { freeName, withObject } from "./layout.js";
import { halfExtents, restHeight } from "./snapping.js";
import { headingAxes, radians } from "./space.js";

/** Degrees of one press of a key, and with Shift. */
const TURN_DEG = { fine: 1, coarse: 15 };
/** Factors of one press of a key, and with Shift. */
const GROW = { fine: 1.01, coarse: 1.1 };

export class Actions {
  /** @param {import("./scene.js").Scene} scene @param {import("./shapes.js").Shapes} shapes */
  constructor(scene, shapes) {
    this.scene = scene;
    this.shapes = shapes;
  }

  /**
   * Add a thing that stands at (x, z), on what is there, with its front to the camera.
   * @param {{name: string, shape: string, size_m: number[]}} kind
   */
  add({ name, shape, size_m }, [x, z]) {
    const { scene } = this;
    const thing = { name: freeName(scene.layout, name), shape, position_m: [x, 0, z], heading_deg: 0, size_m, confidence: 1 };
    const layout = { ...scene.layout, objects: [...scene.layout.objects, thing] };
    const height = restHeight(layout, layout.objects.length - 1, x, z);
    return scene.add({ ...thing, position_m: [x, height, z] });
  }

  /** A free place on the ground for a new thing, in the middle of what the camera sees, or as near to that as can be. */
  placeAhead({ size_m }, aspect) {
    const { camera, objects } = this.scene.layout;
    const [halfX, halfZ] = [size_m[0] / 2, size_m[2] / 2];
    const isFree = (x, z) =>
      objects.every((other) => {
        const [otherX, otherZ] = halfExtents(other);
        const [ox, , oz] = other.position_m;
        return Math.abs(ox - x) > otherX + halfX || Math.abs(oz - z) > otherZ + halfZ;
      });
    const slope = aspect * Math.tan(radians(camera.fov_y_deg) / 2);
    const nearest = Math.max(4, 1.5 * Math.max(...size_m));
    for (const factor of [1, 1.25, 1.5, 0.75, 2, 3]) {
      const z = nearest * factor;
      const room = slope * (z * Math.cos(radians(camera.pitch_deg)) - halfZ) - halfX;
      const step = Math.max(halfX, 0.3);
      for (let aside = 0; aside <= room; aside += step) {
        for (const x of [aside, -aside]) if (isFree(x, z)) return [x, z];
      }
    }
    return [0, nearest];
  }

  /** A copy to the right of the selected object. */
  duplicate() {
    const { scene } = this;
    const { thing } = scene;
    if (!thing) return;
    const { right } = headingAxes(thing.heading_deg);
    const side = right[0] < 0 ? -1 : 1;
    const shift = side * (thing.size_m[0] + Math.min(0.2, thing.size_m[0] / 2));
    const [x, y, z] = thing.position_m;
    scene.add({ ...thing, name: freeName(scene.layout, thing.name), position_m: [x + right[0] * shift, y, z + right[1] * shift] });
  }

  remove() {
    this.scene.remove(this.scene.selected);
  }

  /** Put the selected object onto the ground, or onto the object below it. */
  setDown() {
    const { scene } = this;
    if (!scene.thing) return;
    const [x, y, z] = scene.thing.position_m;
    const height = restHeight(scene.layout, scene.selected, x, z, y > 0 ? y : Infinity);
    scene.change(withObject(scene.layout, scene.selected, { position_m: [x, height, z] }));
  }

  /** Move the selected object by metres to the right, up and ahead. */
  move(right, up, ahead) {
    const { thing } = this.scene;
    if (!thing) return;
    const [x, y, z] = thing.position_m;
    this.#set({ position_m: [x + right, y + up, z + ahead] }, "move");
  }

  turn(sign, isCoarse) {
    const { thing } = this.scene;
    if (thing) this.#set({ heading_deg: thing.heading_deg + sign * (isCoarse ? TURN_DEG.coarse : TURN_DEG.fine) }, "turn");
  }

  grow(sign, isCoarse) {
    const { thing } = this.scene;
    const factor = (isCoarse ? GROW.coarse : GROW.fine) ** sign;
    if (thing) this.#set({ size_m: thing.size_m.map((value) => value * factor) }, "grow");
  }

  /** Select the next object, or the one before. */
  next(step) {
    const count = this.scene.layout.objects.length;
    if (!count) return;
    const from = this.scene.selected < 0 && step < 0 ? 0 : this.scene.selected;
    this.scene.select((from + step + count) % count);
  }

  #set(changes, kind) {
    const { scene } = this;
    scene.change(withObject(scene.layout, scene.selected, changes), kind);
  }
}
