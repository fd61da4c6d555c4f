/**
 * The picture: it turns mouse, touch and keyboard into pixels, and draws the measured points over the image.
 *
 * @typedef {{column: number, row: number}} Pixel
 */

import { pixelUnder } from "./camera.js";
import { html, svg } from "./elements.js";
import { text } from "./texts.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** Pictures up to this size are enlarged with visible pixels, because the user reads single pixels. */
const PIXELATED_UP_TO = 512;

export class Stage {
  /** @type {Pixel | null} */
  #pixel = null;
  #size = { width: 0, height: 0 };

  /**
   * @param {object} events
   * @param {(pixel: Pixel | null, byKeyboard: boolean) => void} events.onPoint
   * @param {(pixel: Pixel) => void} events.onPick
   * @param {() => void} events.onClear
   * onPoint: read this pixel (null: none). onPick: measure from or to it. onClear: remove the measurement.
   */
  constructor(events) {
    this.events = events;
    this.canvas = html("canvas", { class: "sf-picture" });
    this.overlay = svg("svg", { class: "sf-overlay", preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" });
    this.element = html("div", { class: "sf-stage", tabindex: "0", role: "application", "aria-label": text("picture") });
    this.element.append(this.canvas, this.overlay);
    this.#listen();
  }

  /** @param {Uint8ClampedArray} pixels RGBA */
  draw(pixels, width, height) {
    // The picture may be another one now, with fewer pixels.
    if (width !== this.#size.width || height !== this.#size.height) this.#pixel = null;
    this.#size = { width, height };
    this.canvas.width = width;
    this.canvas.height = height;
    this.canvas.style.imageRendering = Math.max(width, height) <= PIXELATED_UP_TO ? "pixelated" : "auto";
    this.canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** Show nothing, and free the picture's memory. */
  clear() {
    this.#size = { width: 0, height: 0 };
    this.#pixel = null;
    this.canvas.width = 0;
    this.canvas.height = 0;
    this.overlay.replaceChildren();
  }

  /** Draw the picked pixels and the line between two. @param {Pixel[]} picked */
  mark(picked) {
    const radius = Math.max(this.#size.width, this.#size.height) / 90;
    const centres = picked.map(({ column, row }) => [column + 0.5, row + 0.5].map(String));
    const dots = centres.map(([cx, cy]) => svg("circle", { cx, cy, r: String(radius) }));
    const lines = [];
    if (centres.length === 2) {
      const [[x1, y1], [x2, y2]] = centres;
      lines.push(svg("line", { class: "sf-halo", x1, y1, x2, y2 }), svg("line", { x1, y1, x2, y2 }));
    }
    this.overlay.replaceChildren(...lines, ...dots);
  }

  #listen() {
    const element = this.element;
    // A drag on the picture must not move the node or pan the canvas.
    for (const type of ["pointerdown", "pointermove", "pointerup"]) {
      element.addEventListener(type, (event) => event.stopPropagation());
    }
    element.addEventListener("pointermove", (event) => this.#point(this.#under(event)));
    element.addEventListener("pointerdown", (event) => this.#point(this.#under(event)));
    element.addEventListener("pointerleave", () => this.#point(null));
    element.addEventListener("click", (event) => {
      const pixel = this.#under(event);
      if (pixel) this.events.onPick(pixel);
    });
    element.addEventListener("keydown", (event) => this.#onKey(event));
  }

  #under(event) {
    const { width, height } = this.#size;
    if (!width) return null;
    return pixelUnder(this.canvas.getBoundingClientRect(), width, height, event.clientX, event.clientY);
  }

  #point(pixel, byKeyboard = false) {
    this.#pixel = pixel;
    this.events.onPoint(pixel, byKeyboard);
  }

  #onKey(event) {
    const { width, height } = this.#size;
    if (!width || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) this.#step(arrow, event.shiftKey ? 10 : 1);
    else if ((event.key === "Enter" || event.key === " ") && this.#pixel) this.events.onPick(this.#pixel);
    else if (event.key === "Escape") this.events.onClear();
    else return;
    // Else the host uses the key too: arrows move nodes.
    event.preventDefault();
    event.stopPropagation();
  }

  #step([right, down], pixels) {
    const { width, height } = this.#size;
    const from = this.#pixel ?? { column: Math.floor(width / 2), row: Math.floor(height / 2) };
    this.#point({
      column: Math.min(Math.max(from.column + right * pixels, 0), width - 1),
      row: Math.min(Math.max(from.row + down * pixels, 0), height - 1),
    }, true);
  }
}
