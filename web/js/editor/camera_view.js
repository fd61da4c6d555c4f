/** The camera's own view: live depth, names, and the box of the selected object with its handles. */

import { html, svg } from "../elements.js";
import { clamp, LIMITS, withObject } from "./layout.js";
import { listenToDrags, placeIn } from "./gestures.js";
import { DepthPainter, paintObjects, rangeOf } from "./paint.js";
import { Raycaster } from "./raycast.js";
import { isResting, restHeight, snapped } from "./snapping.js";
import { headingAxes } from "./space.js";
import { shortened, text } from "./texts.js";

/** The longer side of the picture that is computed while something changes. */
const SIDE_PX = 512;
/** After this time without a change it is computed once more with the pixels of the screen, but not more than these. */
const REFINE_MS = 180;
const REFINED_PX = 1280;
/** A picture that takes longer is drawn with a quarter of its pixels while something moves. */
const SLOW_MS = 24;
/** Objects are not dragged nearer to the camera or farther away than this. */
const REACH_M = [0.05, 500];
const BOX_EDGES = [[0, 1], [1, 3], [3, 2], [2, 0], [4, 5], [5, 7], [7, 6], [6, 4], [0, 4], [1, 5], [2, 6], [3, 7]];

export class CameraView {
  #painter = new DepthPainter();
  #range = null;
  #lastMs = 0;
  #refining = 0;

  /**
   * @param {import("./scene.js").Scene} scene
   * @param {import("./shapes.js").Shapes} shapes
   * @param {{colours: string, names: boolean, snap: boolean}} options of the editor, shared
   * @param {{onAdd: (place: number[], event: Event) => void}} events
   */
  constructor(scene, shapes, options, events) {
    this.scene = scene;
    this.options = options;
    this.caster = new Raycaster(shapes);
    this.setPicture(1024, 1024, 100);
    this.photo = html("img", { class: "sfe-photo", alt: "", hidden: "" });
    this.canvas = html("canvas", { class: "sfe-picture" });
    this.overlay = svg("svg", { class: "sfe-overlay", "aria-hidden": "true" });
    this.frame = html("div", { class: "sfe-frame" }, this.photo, this.canvas, this.overlay);
    this.element = html(
      "div",
      { class: "sfe-stage sfe-camera", tabindex: "0", role: "application", "aria-label": text("cameraView") },
      this.frame,
    );
    /** The shown size in pixels. To ask the element while drawing would make the browser lay out the page each time. */
    this.shown = [0, 0];
    new ResizeObserver(() => this.#resize()).observe(this.frame);
    this.drags = listenToDrags(this.overlay, { onPress: (event) => this.#press(event) });
    this.overlay.addEventListener("dblclick", (event) => {
      const place = this.#onGround(event);
      if (place) events.onAdd(place, event);
    });
  }

  /** The size of the picture on the server, in pixels, and where its ground ends. */
  setPicture(width, height, groundExtentM) {
    this.aspect = width / height;
    this.serverWidth = width;
    this.groundExtentM = groundExtentM;
  }

  /** The size in pixels in which the picture is computed: not larger than the server's. */
  get size() {
    return this.#sizeWithin(SIDE_PX);
  }

  #sizeWithin(longest) {
    const side = Math.min(longest, this.serverWidth * Math.max(1, 1 / this.aspect));
    const [width, height] = this.aspect >= 1 ? [side, side / this.aspect] : [side * this.aspect, side];
    return [Math.max(Math.round(width), 1), Math.max(Math.round(height), 1)];
  }

  #resize() {
    this.shown = [this.frame.clientWidth, this.frame.clientHeight];
    if (this.camera) this.draw();
  }

  draw() {
    const moving = this.scene.inGesture;
    const share = moving && this.#lastMs > SLOW_MS ? 0.5 : 1;
    const start = performance.now();
    this.#drawPicture(this.size.map((side) => Math.max(Math.round(side * share), 1)), moving);
    const spent = performance.now() - start;
    this.#lastMs = share === 1 ? spent : Math.max(spent * 3, this.#lastMs * 0.9);
    this.frame.style.setProperty("--sfe-aspect", String(this.aspect));
    this.#drawOverlay();
    clearTimeout(this.#refining);
    if (!moving) this.#refining = setTimeout(() => this.#refine(), REFINE_MS);
  }

  #refine() {
    const screenPx = Math.max(...this.shown) * (globalThis.devicePixelRatio ?? 1);
    const size = this.#sizeWithin(Math.min(Math.round(screenPx), REFINED_PX));
    if (this.element.isConnected && size[0] > this.caster.width && !this.scene.inGesture) this.#drawPicture(size, false);
  }

  #drawPicture([width, height], moving) {
    this.caster.draw(this.scene.layout, width, height, this.groundExtentM);
    this.#paint(this.options.colours, moving);
  }

  #paint(colours, moving) {
    const { width, height, depth } = this.caster;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.image = new ImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    if (colours === "objects") paintObjects(this.caster, this.pixels);
    else {
      // The colours stay while something moves.
      if (!moving || !this.#range) this.#range = rangeOf(depth);
      this.#painter.paint(depth, this.pixels, this.#range, colours);
    }
    this.canvas.getContext("2d").putImageData(this.image, 0, 0);
  }

  /** In the overlay a pixel is one of the full picture. */
  #drawOverlay() {
    const [width, height] = this.size;
    const scale = this.camera.width / width;
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const unit = width / Math.max(this.shown[0], 1);
    const at = (point) => this.camera.toPicture(point).map((value) => value / scale);
    const parts = [];
    const { layout, selected } = this.scene;
    if (this.options.names) parts.push(...this.#names(at, unit, width));
    if (selected >= 0) parts.push(...this.#box(layout.objects[selected], at, unit));
    this.overlay.replaceChildren(...parts);
  }

  get camera() {
    return this.caster.camera;
  }

  /** The corners of an object's box in the camera's axes: low and high, left and right, back and front. */
  #corners({ position_m: [x, y, z], size_m: [width, height, length], heading_deg }) {
    const { front, right } = headingAxes(heading_deg);
    const corners = [];
    for (const up of [0, height]) {
      for (const aside of [-width / 2, width / 2]) {
        for (const ahead of [-length / 2, length / 2]) {
          const px = x + aside * right[0] + ahead * front[0];
          const pz = z + aside * right[1] + ahead * front[1];
          corners.push(this.camera.toCamera([px, -(y + up), pz]));
        }
      }
    }
    return corners;
  }

  /** The names over the objects, the selected one's first. A name that would cover another is left out. */
  #names(at, unit, width) {
    const { layout, selected } = this.scene;
    const order = layout.objects.map((thing, k) => ({ thing, isSelected: k === selected }));
    order.sort((one, other) => other.isSelected - one.isSelected || one.thing.position_m[2] - other.thing.position_m[2]);
    const taken = [];
    return order.flatMap(({ thing, isSelected }) => {
      const [x, y, z] = thing.position_m;
      const top = this.camera.toCamera([x, -(y + thing.size_m[1]), z]);
      if (top[2] < REACH_M[0]) return [];
      const [px, py] = at(top);
      if (px < 0 || px > width) return [];
      const shown = shortened(thing.name, 28);
      const place = { x: px, y: Math.max(py - (isSelected ? 24 : 6) * unit, 13 * unit), half: 3.4 * unit * shown.length };
      const isCovered = taken.some((other) => Math.abs(other.y - place.y) < 13 * unit && Math.abs(other.x - px) < other.half + place.half);
      if (isCovered) return [];
      taken.push(place);
      const label = svg("text", { class: isSelected ? "sfe-name sfe-selected" : "sfe-name", "text-anchor": "middle" });
      for (const [name, value] of [["x", px], ["y", place.y], ["font-size", 11 * unit]]) label.setAttribute(name, value.toFixed(1));
      label.textContent = shown;
      return [label];
    });
  }

  #box(thing, at, unit) {
    const corners = this.#corners(thing);
    const lines = BOX_EDGES.filter(([a, b]) => corners[a][2] > REACH_M[0] && corners[b][2] > REACH_M[0]).map(([a, b]) => {
      const [[x1, y1], [x2, y2]] = [at(corners[a]), at(corners[b])];
      return `M${x1.toFixed(1)} ${y1.toFixed(1)}L${x2.toFixed(1)} ${y2.toFixed(1)}`;
    });
    const path = lines.join("");
    const parts = [svg("path", { class: "sfe-box-halo", d: path }), svg("path", { class: "sfe-box", d: path })];
    if (this.scene.readOnly) return parts;
    const [x, y, z] = thing.position_m;
    for (const [name, up] of [["height", thing.size_m[1]], ["lift", 0]]) {
      const point = this.camera.toCamera([x, -(y + up), z]);
      if (point[2] <= REACH_M[0]) continue;
      const [px, py] = at(point);
      parts.push(svg("circle", { class: "sfe-touch", "data-handle": name, cx: px, cy: py, r: 13 * unit }));
      parts.push(svg("circle", { class: `sfe-handle sfe-${name}`, cx: px, cy: py, r: 5 * unit }));
      const arrow = 9 * unit;
      const tip = name === "height" ? -1 : 1;
      parts.push(svg("path", { class: "sfe-arrow", d: `M${px} ${py + tip * 1.6 * arrow}l${-arrow / 2} ${-tip * arrow * 0.7}h${arrow}z` }));
    }
    return parts;
  }

  #press(event) {
    const handle = event.target.getAttribute?.("data-handle");
    this.element.focus({ preventScroll: true });
    if (handle) return this.#dragUp(handle, event);
    const [x, y] = placeIn(this.overlay, event, this.caster.width, this.caster.height);
    const place = clamp(Math.floor(y), [0, this.caster.height - 1]) * this.caster.width + clamp(Math.floor(x), [0, this.caster.width - 1]);
    const found = this.caster.index[place];
    this.scene.select(found);
    return found < 0 || this.scene.readOnly ? null : this.#dragAlong(event);
  }

  #ray(event) {
    return this.camera.ray(...placeIn(this.overlay, event, this.camera.width, this.camera.height));
  }

  /** Where the ground is under the pointer, or above the horizon a place some metres ahead: [x, z]. */
  #onGround(event) {
    const ray = this.#ray(event);
    const met = this.camera.meet(ray, 0, 60);
    return met ? [met[0], met[2]] : [ray[0] * 6, ray[2] * 6];
  }

  /** Move over the level plane on which the object stands. */
  #dragAlong(event) {
    const { scene } = this;
    const index = scene.selected;
    const start = scene.thing.position_m;
    const grabbed = this.#grab(event, start);
    const from = [event.clientX, event.clientY];
    let isMoving = false;
    return {
      move: (moved) => {
        if (!isMoving && Math.hypot(moved.clientX - from[0], moved.clientY - from[1]) < 3) return;
        if (!isMoving) scene.begin();
        isMoving = true;
        const place = grabbed(moved);
        if (place) this.#put(index, place, moved.altKey);
      },
      end: () => scene.end(),
      cancel: () => scene.cancel(),
    };
  }

  /** A function from a pointer's place to the object's [x, y, z], for an object that is grabbed at this place. */
  #grab(event, [x, y, z]) {
    const foot = this.camera.toCamera([x, -y, z]);
    const { width, height } = this.camera;
    const grabbed = placeIn(this.overlay, event, width, height);
    const base = foot[2] > REACH_M[0] ? this.camera.toPicture(foot) : grabbed;
    const shift = [base[0] - grabbed[0], base[1] - grabbed[1]];
    const rayOf = (moved) => {
      const [px, py] = placeIn(this.overlay, moved, this.camera.width, this.camera.height);
      // The picture may have fewer pixels while something moves.
      const scale = this.camera.width / width;
      return this.camera.ray(px + shift[0] * scale, py + shift[1] * scale);
    };
    // From a height near the camera's, the plane is seen too flat to move on: then along the picture.
    const isFlat = Math.abs(this.camera.heightM - y) < 0.05 * foot[2];
    return (moved) => {
      const ray = rayOf(moved);
      if (isFlat) return [(ray[0] / ray[2]) * z, y, z];
      const met = this.camera.meet(ray, -y, REACH_M[1]);
      return met && met[2] > REACH_M[0] ? [met[0], y, met[2]] : null;
    };
  }

  #put(index, [x, y, z], isFree) {
    const { scene, options } = this;
    const { layout } = scene;
    if (!options.snap || isFree) {
      scene.change(withObject(layout, index, { position_m: [x, y, z] }));
      return;
    }
    const placed = snapped(layout, index, x, z, Math.min(0.012 * z, 0.3));
    const height = isResting(layout, index) ? restHeight(layout, index, placed.x, placed.z) : y;
    scene.change(withObject(layout, index, { position_m: [placed.x, height, placed.z] }));
  }

  /** Drag the top or the foot of the object up and down. */
  #dragUp(handle, event) {
    const { scene, options } = this;
    const index = scene.selected;
    const { position_m, size_m } = scene.thing;
    const [x, y, z] = position_m;
    const at = handle === "height" ? y + size_m[1] : y;
    const offset = at - this.#heightAt(event, z, x);
    scene.begin();
    return {
      move: (moved) => {
        const wanted = this.#heightAt(moved, z, x) + offset;
        if (handle === "height") {
          const height = clamp(wanted - y, LIMITS.size);
          scene.change(withObject(scene.layout, index, { size_m: [size_m[0], Math.max(height, 0.01), size_m[2]] }));
          return;
        }
        const rest = restHeight(scene.layout, index, x, z);
        const isNear = options.snap && !moved.altKey && Math.abs(wanted - rest) < 0.01 * z;
        scene.change(withObject(scene.layout, index, { position_m: [x, isNear ? rest : wanted, z] }));
      },
      end: () => scene.end(),
      cancel: () => scene.cancel(),
    };
  }

  /** The height above the ground of the pointer's ray, where it is as far ahead as (x, z). */
  #heightAt(event, z, x) {
    const [rx, ry, rz] = this.#ray(event);
    // In the upright plane through the object that faces the camera.
    const along = (x * x + z * z) / Math.max(rx * x + rz * z, 1e-6);
    return this.camera.heightM - ry * along;
  }
}
