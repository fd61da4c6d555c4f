/** What a press in the plan begins: moving the plan or an object, turning it, or changing its size. */

import { clamp, LIMITS, withObject } from "./layout.js";
import { isResting, ownPlace, restHeight, snapped, snappedHeading } from "./snapping.js";
import { headingAxes, headingOf } from "./space.js";

/** The sides and corners of an object's rectangle: -1, 0 or 1 to its right and to its front. */
export const HANDLES = [-1, 0, 1].flatMap((aside) =>
  [-1, 0, 1].filter((ahead) => aside || ahead).map((ahead) => ({ name: `size ${aside} ${ahead}`, aside, ahead })),
);
/** Presses that move less than this are clicks. */
const CLICK_PX = 3;
const SNAP_PX = 8;
const MIN_SIZE_M = 0.01;

export class PlanDrags {
  /** @param {import("./plan_view.js").PlanView} plan */
  constructor(plan) {
    this.plan = plan;
  }

  get #scene() {
    return this.plan.scene;
  }

  /** @param {PointerEvent} event @returns {import("./gestures.js").Drag | null} */
  press(event) {
    if (event.button === 1) return this.#pan(event);
    const handle = event.target.getAttribute?.("data-handle");
    if (handle === "turn") return this.#turn();
    const size = HANDLES.find(({ name }) => name === handle);
    if (size) return this.#resize(size, event);
    const index = event.target.closest?.("[data-index]")?.dataset.index;
    if (index === undefined) return this.#pan(event);
    this.#scene.select(Number(index));
    return this.#scene.readOnly ? this.#pan(event) : this.#move(event);
  }

  #isClick(event, moved) {
    return Math.hypot(moved.clientX - event.clientX, moved.clientY - event.clientY) < CLICK_PX;
  }

  #pan(event) {
    const { plan } = this;
    const grabbed = plan.toWorld(event.clientX, event.clientY);
    let isMoved = false;
    return {
      move: (moved) => {
        isMoved ||= !this.#isClick(event, moved);
        if (!isMoved) return;
        const now = plan.toWorld(moved.clientX, moved.clientY);
        plan.pan(grabbed[0] - now[0], grabbed[1] - now[1]);
      },
      end: () => {
        if (!isMoved) this.#scene.select(-1);
      },
      cancel: () => {},
    };
  }

  #gesture(move) {
    const { plan } = this;
    const scene = this.#scene;
    return {
      move,
      end: () => {
        plan.guides = [];
        scene.end();
        plan.draw();
      },
      cancel: () => {
        plan.guides = [];
        scene.cancel();
      },
    };
  }

  #move(event) {
    const { plan } = this;
    const scene = this.#scene;
    const index = scene.selected;
    const [x, y, z] = scene.thing.position_m;
    const grabbed = plan.toWorld(event.clientX, event.clientY);
    const wasResting = isResting(scene.layout, index);
    let isMoved = false;
    return this.#gesture((moved) => {
      if (!isMoved && this.#isClick(event, moved)) return;
      if (!isMoved) scene.begin();
      isMoved = true;
      const now = plan.toWorld(moved.clientX, moved.clientY);
      let place = { x: x + now[0] - grabbed[0], z: z + now[1] - grabbed[1], guides: [] };
      let height = y;
      if (plan.options.snap && !moved.altKey) {
        place = snapped(scene.layout, index, place.x, place.z, SNAP_PX / plan.scale);
        if (wasResting) height = restHeight(scene.layout, index, place.x, place.z);
      }
      plan.guides = place.guides;
      scene.change(withObject(scene.layout, index, { position_m: [place.x, height, place.z] }));
    });
  }

  #turn() {
    const { plan } = this;
    const scene = this.#scene;
    const index = scene.selected;
    scene.begin();
    return this.#gesture((moved) => {
      const [x, , z] = scene.layout.objects[index].position_m;
      const [px, pz] = plan.toWorld(moved.clientX, moved.clientY);
      const exact = headingOf(px - x, pz - z);
      const heading = plan.options.snap && !moved.altKey ? snappedHeading(exact) : Math.round(exact * 10) / 10;
      scene.change(withObject(scene.layout, index, { heading_deg: heading }));
    });
  }

  /** The opposite side or corner stays where it is. With Shift, a corner keeps the proportions. */
  #resize({ aside, ahead }, event) {
    const { plan } = this;
    const scene = this.#scene;
    const index = scene.selected;
    const before = scene.thing;
    const [width, height, length] = before.size_m;
    const grabbed = ownPlace(before, ...plan.toWorld(event.clientX, event.clientY));
    scene.begin();
    return this.#gesture((moved) => {
      const now = ownPlace(before, ...plan.toWorld(moved.clientX, moved.clientY));
      const grown = (size, side, axis) => clamp(Math.max(size + side * (now[axis] - grabbed[axis]), MIN_SIZE_M), LIMITS.size);
      let size = [aside ? grown(width, aside, 0) : width, height, ahead ? grown(length, ahead, 1) : length];
      if (aside && ahead && moved.shiftKey) {
        const ratio = Math.max(size[0] / width, size[2] / length);
        size = before.size_m.map((value) => value * ratio);
      }
      const { front, right } = headingAxes(before.heading_deg);
      const [toSide, toFront] = [(aside * (size[0] - width)) / 2, (ahead * (size[2] - length)) / 2];
      const [x, y, z] = before.position_m;
      const place = [x + right[0] * toSide + front[0] * toFront, y, z + right[1] * toSide + front[1] * toFront];
      scene.change(withObject(scene.layout, index, { size_m: size, position_m: place }));
    });
  }
}
