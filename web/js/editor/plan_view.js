/** The plan: the scene from above in metres, with the camera at the bottom and what it sees. */

import { html, svg } from "../elements.js";
import { clamp } from "./layout.js";
import { footprint } from "./footprints.js";
import { listenToDrags } from "./gestures.js";
import { objectColour } from "./paint.js";
import { HANDLES, PlanDrags } from "./plan_drags.js";
import { halfExtents } from "./snapping.js";
import { headingAxes, radians } from "./space.js";
import { shortened, text } from "./texts.js";

/** Pixels a metre. */
const SCALES = [0.2, 2000];
/** Distances of the grid's lines in metres, with at least this many pixels between them. */
const GRID_M = [0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100, 250, 500];
const GRID_PX = 34;
const HANDLE_PX = 9;
const TURN_PX = 26;
/** Half of a side that is longer than this has room for a handle in its middle. */
const ROOM_PX = 22;

export class PlanView {
  /** The view follows the scene until the user moves it. */
  #isFitted = false;
  #isOwn = false;
  /** The lines on which the dragged object snapped. */
  guides = [];

  /** The same arguments as CameraView's. */
  constructor(scene, shapes, options, events) {
    this.scene = scene;
    this.shapes = shapes;
    this.options = options;
    this.aspect = 1;
    /** Pixels a metre, and the point (x, z) in the middle. */
    this.scale = 40;
    this.middle = [0, 4];
    this.grid = svg("g", { class: "sfe-grid" });
    this.cone = svg("path", { class: "sfe-cone" });
    this.things = svg("g", {});
    this.top = svg("g", {});
    this.surface = svg("svg", { class: "sfe-surface", "aria-hidden": "true" }, this.grid, this.cone, this.things, this.top);
    this.element = html(
      "div",
      { class: "sfe-stage sfe-plan", tabindex: "0", role: "application", "aria-label": text("planView") },
      this.surface,
    );
    this.planDrags = new PlanDrags(this);
    this.drags = listenToDrags(this.surface, {
      onPress: (event) => {
        this.element.focus({ preventScroll: true });
        return this.planDrags.press(event);
      },
      onPinch: (from, to) => this.#pinch(from, to),
    });
    this.surface.addEventListener("dblclick", (event) => events.onAdd(this.toWorld(event.clientX, event.clientY), event));
    this.element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    /** In pixels. To ask the element while drawing would make the browser lay out the page each time. */
    this.size = [0, 0];
    new ResizeObserver(() => this.#resize()).observe(this.surface);
  }

  #resize() {
    this.size = [this.surface.clientWidth, this.surface.clientHeight];
    if (this.#isOwn) this.draw();
    else this.fit();
  }

  /** Where a point of the ground is in the plan, in pixels. */
  toPlan(x, z) {
    const [width, height] = this.size;
    return [width / 2 + (x - this.middle[0]) * this.scale, height / 2 - (z - this.middle[1]) * this.scale];
  }

  /** The point (x, z) of the ground at a place in the window. */
  toWorld(clientX, clientY) {
    const box = this.surface.getBoundingClientRect();
    const [width, height] = this.size;
    // The canvas of the host may show the plan larger or smaller.
    const px = ((clientX - box.left) / box.width) * width;
    const py = ((clientY - box.top) / box.height) * height;
    return [this.middle[0] + (px - width / 2) / this.scale, this.middle[1] - (py - height / 2) / this.scale];
  }

  /** Show the camera and every object. */
  fit() {
    const [width, height] = this.size;
    if (!width || !height) return;
    let [left, right, near, far] = [-1.5, 1.5, -0.6, 6];
    for (const thing of this.scene.layout.objects) {
      const [hx, hz] = halfExtents(thing);
      const [x, , z] = thing.position_m;
      left = Math.min(left, x - hx);
      right = Math.max(right, x + hx);
      near = Math.min(near, z - hz);
      far = Math.max(far, z + hz);
    }
    const margin = 30;
    const scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (far - near));
    this.scale = clamp(scale, SCALES);
    this.middle = [(left + right) / 2, (near + far) / 2];
    this.#isFitted = true;
    this.#isOwn = false;
    this.draw();
  }

  /** Show everything, if an object is not in the plan. */
  reveal(thing) {
    if (!thing) return;
    const [px, py] = this.toPlan(thing.position_m[0], thing.position_m[2]);
    const [width, height] = this.size;
    if (px < 0 || py < 0 || px > width || py > height) this.fit();
  }

  zoom(factor, around = this.middle) {
    const before = this.scale;
    this.scale = clamp(before * factor, SCALES);
    const share = before / this.scale;
    this.middle = this.middle.map((value, axis) => around[axis] + (value - around[axis]) * share);
    this.#isOwn = true;
    this.draw();
  }

  /** Move the view by metres to the right and ahead. */
  pan(right, ahead) {
    this.middle = [this.middle[0] + right, this.middle[1] + ahead];
    this.#isOwn = true;
    this.draw();
  }

  draw() {
    const [width, height] = this.size;
    if (!width || !height) return;
    if (!this.#isFitted) {
      this.fit();
      return;
    }
    this.surface.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#drawGrid(width, height);
    this.#drawCone();
    this.#drawThings();
    this.top.replaceChildren(...this.#guideLines(width, height), this.#cameraMark(), ...this.#handles());
  }

  #drawGrid(width, height) {
    const step = GRID_M.find((metres) => metres * this.scale >= GRID_PX) ?? GRID_M.at(-1);
    const [left, top] = this.#corner(0, 0, width, height);
    const [right, bottom] = this.#corner(width, height, width, height);
    const lines = [];
    const marks = [];
    for (let k = Math.ceil(left / step); k * step <= right; k += 1) {
      const [px] = this.toPlan(k * step, 0);
      lines.push(`M${px.toFixed(1)} 0V${height}`);
      if (k) marks.push(this.#mark(k * step, px, height - 4, "middle"));
    }
    for (let k = Math.ceil(bottom / step); k * step <= top; k += 1) {
      const [, py] = this.toPlan(0, k * step);
      lines.push(`M0 ${py.toFixed(1)}H${width}`);
      if (py > 20 && py < height - 20) marks.push(this.#mark(k * step, 4, py - 3, "start"));
    }
    const [px, py] = this.toPlan(0, 0);
    const axes = svg("path", { class: "sfe-axes", d: `M${px} 0V${height}M0 ${py}H${width}` });
    this.grid.replaceChildren(svg("path", { d: lines.join("") }), axes, ...marks);
  }

  #corner(px, py, width, height) {
    return [this.middle[0] + (px - width / 2) / this.scale, this.middle[1] - (py - height / 2) / this.scale];
  }

  #mark(metres, x, y, anchor) {
    const label = svg("text", { class: "sfe-metres", x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor });
    label.textContent = `${Number(metres.toFixed(2))} m`;
    return label;
  }

  /** The part of the ground that the camera sees; without ground, or with the camera in it, the sides of its view. */
  #drawCone() {
    const { height_m, pitch_deg, fov_y_deg } = this.scene.layout.camera;
    const [cos, sin] = [Math.cos(radians(pitch_deg)), Math.sin(radians(pitch_deg))];
    const slope = Math.tan(radians(fov_y_deg) / 2);
    const far = 1000;
    // Half of what is seen at a place z of the ground, which is at the depth height * sin + z * cos.
    const half = (z) => this.aspect * slope * Math.max(height_m * sin + z * cos, 0);
    const down = cos * slope + sin;
    const nearest = down > 1e-6 ? clamp((height_m / down) * (cos - sin * slope), [-far, far]) : far;
    const up = sin - cos * slope;
    const farthest = up > 1e-6 ? clamp((height_m / up) * (cos + sin * slope), [nearest, far]) : far;
    const points = [[-half(nearest), nearest], [-half(farthest), farthest], [half(farthest), farthest], [half(nearest), nearest]];
    const path = points.map(([x, z]) => this.toPlan(x, z).map((value) => clamp(value, [-1e5, 1e5]).toFixed(1)).join(" "));
    this.cone.setAttribute("d", `M${path.join("L")}Z`);
  }

  #drawThings() {
    const { layout, selected } = this.scene;
    while (this.things.childElementCount > layout.objects.length) this.things.lastElementChild.remove();
    layout.objects.forEach((thing, index) => {
      const part = this.things.children[index] ?? this.things.appendChild(newThing());
      this.#place(part, thing, index, index === selected);
    });
  }

  #place(part, thing, index, isSelected) {
    const { front, right } = headingAxes(thing.heading_deg);
    const [x, , z] = thing.position_m;
    const [px, py] = this.toPlan(x, z);
    const [across, along] = [thing.size_m[0] * this.scale, thing.size_m[2] * this.scale];
    const matrix = [right[0] * across, -right[1] * across, front[0] * along, -front[1] * along, px, py];
    const [shape, box, arrow, label] = part.children;
    part.setAttribute("class", isSelected ? "sfe-thing sfe-selected" : "sfe-thing");
    part.setAttribute("data-index", String(index));
    part.style.setProperty("--sfe-colour", objectColour(index));
    for (const path of [shape, box]) path.setAttribute("transform", `matrix(${matrix.map((value) => value.toFixed(3)).join(" ")})`);
    if (shape.dataset.shape !== thing.shape) {
      shape.dataset.shape = thing.shape;
      shape.setAttribute("d", footprint(this.shapes, thing.shape));
    }
    const reach = along / 2;
    const [fx, fy] = [front[0], -front[1]];
    const tip = [px + fx * (reach + 8), py + fy * (reach + 8)];
    const foot = [px + fx * (reach + 1), py + fy * (reach + 1)];
    arrow.setAttribute("d", `M${tip[0]} ${tip[1]}L${foot[0] - fy * 5} ${foot[1] + fx * 5}L${foot[0] + fy * 5} ${foot[1] - fx * 5}Z`);
    const shown = this.options.names ? shortened(thing.name, 24) : "";
    if (label.textContent !== shown) label.textContent = shown;
    const below = halfExtents(thing)[1] * this.scale;
    label.setAttribute("x", px.toFixed(1));
    label.setAttribute("y", (py + below + 13).toFixed(1));
  }

  #cameraMark() {
    const [px, py] = this.toPlan(0, 0);
    const mark = svg("g", { class: "sfe-eye", transform: `translate(${px.toFixed(1)} ${py.toFixed(1)})` });
    mark.append(svg("rect", { x: -7, y: -5, width: 14, height: 12, rx: 2 }), svg("path", { d: "M-5 -5L-7 -11H7L5 -5Z" }));
    return mark;
  }

  #guideLines(width, height) {
    return this.guides.map(({ axis, at }) => {
      const [px, py] = this.toPlan(at, at);
      return svg("path", { class: "sfe-guide", d: axis === 0 ? `M${px} 0V${height}` : `M0 ${py}H${width}` });
    });
  }

  /** Where the handles of an object are, in pixels of the plan. */
  handlePlaces(thing) {
    const { front, right } = headingAxes(thing.heading_deg);
    const [x, , z] = thing.position_m;
    const [px, py] = this.toPlan(x, z);
    const [halfWidth, halfLength] = [(thing.size_m[0] / 2) * this.scale, (thing.size_m[2] / 2) * this.scale];
    // Small objects keep their handles apart, and have none at their sides.
    const [w, l] = [Math.max(halfWidth, 14), Math.max(halfLength, 14)];
    const isShown = ({ aside, ahead }) => (ahead || l > ROOM_PX) && (aside || w > ROOM_PX);
    const at = (aside, ahead) => [px + right[0] * aside + front[0] * ahead, py - right[1] * aside - front[1] * ahead];
    const places = HANDLES.filter(isShown).map(({ name, aside, ahead }) => ({ name, at: at(aside * w, ahead * l) }));
    return { places, turn: at(0, l + TURN_PX), from: at(0, l) };
  }

  #handles() {
    const { thing, readOnly } = this.scene;
    if (!thing || readOnly) return [];
    const { places, turn, from } = this.handlePlaces(thing);
    const parts = [
      svg("path", { class: "sfe-stem", d: `M${from.join(" ")}L${turn.join(" ")}` }),
      svg("circle", { class: "sfe-handle sfe-turn", cx: turn[0], cy: turn[1], r: 6 }),
      svg("circle", { class: "sfe-touch", "data-handle": "turn", cx: turn[0], cy: turn[1], r: 13 }),
    ];
    for (const { name, at: [px, py] } of places) {
      const corner = HANDLE_PX / 2;
      const angle = thing.heading_deg;
      const turned = `rotate(${-angle} ${px} ${py})`;
      const square = { x: px - corner, y: py - corner, width: HANDLE_PX, height: HANDLE_PX, rx: 2, transform: turned };
      parts.push(svg("rect", { class: "sfe-handle", ...square }));
      parts.push(svg("circle", { class: "sfe-touch", "data-handle": name, cx: px, cy: py, r: 11 }));
    }
    return parts;
  }

  #wheel(event) {
    event.preventDefault();
    event.stopPropagation();
    const pixels = event.deltaMode === 1 ? 30 * event.deltaY : event.deltaY;
    this.zoom(Math.exp(-clamp(pixels, [-300, 300]) / 300), this.toWorld(event.clientX, event.clientY));
  }

  #pinch(from, to) {
    const middle = ([one, other]) => [(one.clientX + other.clientX) / 2, (one.clientY + other.clientY) / 2];
    const apart = ([one, other]) => Math.max(Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), 1);
    const around = this.toWorld(...middle(from));
    this.zoom(apart(to) / apart(from), around);
    const now = this.toWorld(...middle(to));
    this.pan(around[0] - now[0], around[1] - now[1]);
  }
}

function newThing() {
  const box = svg("path", { class: "sfe-bounds", d: "M-0.5 -0.5H0.5V0.5H-0.5Z" });
  const label = svg("text", { class: "sfe-label", "text-anchor": "middle" });
  return svg("g", {}, svg("path", { class: "sfe-shape" }), box, svg("path", { class: "sfe-front" }), label);
}
