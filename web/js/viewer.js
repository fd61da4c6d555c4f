/**
 * The depth viewer: one element that shows depth maps in metres. It does not depend on ComfyUI. `attach.js` puts it on
 * a node.
 *
 * Picture, numbers and reading are always of one map: a new one takes the place of the old one at once, when it is
 * loaded and computed.
 *
 * @typedef {object} DepthFile one image of nodes/host/preview.py's list
 * @property {string} filename
 * @property {string} subfolder
 * @property {string} type
 * @property {number} width of the map in pixels
 * @property {number} height
 * @property {number} fov_y_deg
 * @property {number} [step] the map has every step-th pixel of the image; 1 without it
 * @property {number} [full_width] of the image; width without it
 * @property {number} [full_height]
 * @property {number} [batch] images of the batch, loaded or not
 */

import { cameraOf, distance, pixelOfImage, unproject } from "./camera.js";
import { DepthChart } from "./chart.js";
import { COLORMAPS, colourise } from "./colormaps.js";
import { DepthMap } from "./depth_map.js";
import { html } from "./elements.js";
import { Stage } from "./stage.js";
import { FIXED_RANGE, formatMetres } from "./statistics.js";
import { text } from "./texts.js";

/** Maps of one result that are kept, in values. The one on the screen is kept whatever its size. */
const KEPT_VALUES = 2 ** 25;

/** An error that the same request will meet again. */
export class FinalError extends Error {}

const RANGES = [
  { value: "fixed", label: () => `${FIXED_RANGE.near}-${FIXED_RANGE.far} m` },
  { value: "fit", label: () => text("fit") },
];

export class DepthViewer {
  /** @type {DepthFile[]} */
  #files = [];
  /** The image that is shown, or that is loading. */
  #index = 0;
  /** @type {DepthMap | null} */
  #map = null;
  /** Maps of this result, the one that was looked at last at the end. @type {Map<DepthFile, DepthMap>} */
  #kept = new Map();
  /** @type {import("./stage.js").Pixel[]} */
  #picked = [];
  /** Of the request in progress. @type {AbortController | null} */
  #loading = null;
  /** Whether the last request failed and may succeed the next time. */
  #canRetry = false;

  /**
   * @param {object} options
   * @param {(file: DepthFile, signal: AbortSignal) => Promise<ArrayBuffer>} options.load fetches a file. It throws a
   *     FinalError if the file is gone.
   * @param {string} [options.colormap] a value of COLORMAPS
   * @param {string} [options.range] "fixed" or "fit"
   * @param {(colormap: string, range: string) => void} options.onChoice is called when the user changes one of them
   */
  constructor({ load, colormap, range, onChoice }) {
    this.load = load;
    this.stage = new Stage({
      onPoint: (pixel, byKeyboard) => this.#read(pixel, byKeyboard),
      onPick: (pixel) => this.#pick(pixel),
      onClear: () => this.#measure([]),
    });
    this.chart = new DepthChart();
    this.#build(onChoice);
    this.choose(colormap, range);
    this.#message(text("empty"));
  }

  /** Show the depth maps of a result. Nothing happens if they are shown, or loading, or gone. @param {DepthFile[]} files */
  show(files) {
    const isSame = JSON.stringify(files) === JSON.stringify(this.#files);
    if (isSame && !this.#canRetry) return;
    // Copies: the host may give another object each time that it is asked for the same one.
    this.#files = files.map((file) => ({ ...file }));
    this.#kept.clear();
    this.#open(Math.min(this.#index, files.length - 1));
  }

  /** Set colour map and range. An unknown value changes nothing. */
  choose(colormap, range) {
    if (COLORMAPS.some(({ value }) => value === colormap)) this.colormap.value = colormap;
    if (RANGES.some(({ value }) => value === range)) this.range.value = range;
    this.#draw();
  }

  /** Free the memory and leave the page. It can be shown again. */
  release() {
    this.#loading?.abort();
    this.#loading = null;
    this.#canRetry = false;
    this.#files = [];
    this.#kept.clear();
    this.#map = null;
    this.#picked = [];
    this.stage.clear();
    this.#message(text("empty"));
    this.element.remove();
  }

  #build(onChoice) {
    this.colormap = select(text("colourMap"), COLORMAPS, "sf-colormap");
    this.range = select(text("range"), RANGES, "sf-range");
    for (const choice of [this.colormap, this.range]) {
      choice.addEventListener("change", () => {
        onChoice(this.colormap.value, this.range.value);
        this.#draw();
      });
    }
    this.previous = html("button", { type: "button", "aria-label": text("previousImage"), class: "sf-previous" }, "\u2039");
    this.next = html("button", { type: "button", "aria-label": text("nextImage"), class: "sf-next" }, "\u203a");
    this.previous.addEventListener("click", () => this.#open(this.#index - 1));
    this.next.addEventListener("click", () => this.#open(this.#index + 1));
    this.count = html("span", { class: "sf-count" });
    this.batch = html("span", { class: "sf-batch", hidden: "" }, this.previous, this.count, this.next);
    this.message = html("div", { class: "sf-message", role: "status" });
    // Not an <output>: a screen reader would read every move of the mouse.
    this.reading = html("span", { class: "sf-reading", "aria-live": "off" });
    this.measured = html("output", { class: "sf-measured" });
    this.note = html("div", { class: "sf-note", hidden: "" }, text("preview"));
    this.numbers = html("dl", { class: "sf-numbers" });
    this.element = html(
      "div",
      { class: "sf-viewer", role: "group", "aria-label": text("viewer") },
      html("div", { class: "sf-toolbar" }, this.colormap, this.range, this.batch),
      this.stage.element,
      this.message,
      html("div", { class: "sf-readout" }, this.reading, this.measured),
      this.chart.element,
      this.numbers,
      this.note,
    );
  }

  /** Load an image of the result, and then show it in place of the present one. */
  async #open(index) {
    const file = this.#files[index];
    if (!file) return;
    this.#loading?.abort();
    const controller = new AbortController();
    this.#loading = controller;
    this.#canRetry = false;
    this.#index = index;
    this.#navigate();
    let map = null;
    let message = "";
    try {
      map = this.#kept.get(file) ?? new DepthMap(file, await this.load(file, controller.signal));
    } catch (error) {
      if (controller.signal.aborted) return;
      this.#canRetry = !(error instanceof FinalError);
      message = error.message;
    }
    if (controller.signal.aborted) return;
    this.#loading = null;
    this.#map = map;
    this.#keep(map);
    this.#picked = [];
    this.#message(message);
    this.#navigate();
    this.#draw();
    if (map) this.#describe(map);
  }

  /** Keep a map, so that no file is asked for twice, and the latest before it as far as they are small. */
  #keep(map) {
    if (!map) return;
    this.#kept.delete(map.file);
    this.#kept.set(map.file, map);
    let values = 0;
    for (const file of [...this.#kept.keys()].reverse()) {
      values += file.width * file.height;
      if (values > KEPT_VALUES && file !== map.file) this.#kept.delete(file);
    }
  }

  /** The buttons follow the image that was asked for, the number the one that is shown. */
  #navigate() {
    const count = this.#files.length;
    const shown = this.#map ? this.#files.indexOf(this.#map.file) : -1;
    this.batch.hidden = count < 2;
    this.count.textContent = `${(shown < 0 ? this.#index : shown) + 1} / ${count}`;
    this.previous.disabled = this.#index === 0;
    this.next.disabled = this.#index === count - 1;
    this.element.setAttribute("aria-busy", String(this.#loading !== null));
  }

  #message(text) {
    this.message.textContent = text;
    this.element.classList.toggle("sf-empty", text !== "");
  }

  /** The picture and the chart: what depends on colour map and range. */
  #draw() {
    if (!this.#map) return;
    const { width, height } = this.#map.file;
    const { range, places, shares } = this.#map.view(this.range.value);
    this.stage.draw(colourise(places, this.colormap.value), width, height);
    this.chart.draw(shares, range, this.colormap.value);
  }

  /** The numbers and readings of a map that is new. */
  #describe({ file, numbers }) {
    const { width, height } = cameraOf(file);
    this.note.hidden = width === file.width && height === file.height && (file.batch ?? 1) <= this.#files.length;
    this.#list(numbers);
    this.#measure([]);
    this.#read(null);
  }

  #list({ min, median, max, skyShare }) {
    const entries = { min: formatMetres(min), median: formatMetres(median), max: formatMetres(max) };
    entries.sky = `${(100 * skyShare).toFixed(1)}%`;
    const rows = Object.entries(entries).map(([name, value]) =>
      html("div", { "data-name": name }, html("dt", {}, text(name)), html("dd", {}, value)),
    );
    this.numbers.replaceChildren(...rows);
  }

  /** @param {import("./stage.js").Pixel | null} pixel */
  #read(pixel, byKeyboard = false) {
    if (!this.#map) return;
    this.reading.setAttribute("aria-live", byKeyboard ? "polite" : "off");
    if (!pixel) {
      this.reading.textContent = text("hint");
      this.chart.point(null);
      return;
    }
    const { column, row } = pixelOfImage(this.#map.file, pixel);
    const index = this.#map.indexOf(pixel);
    const metres = this.#map.depth[index];
    const confidence = this.#map.confidence ? `, ${text("confidence")} ${this.#map.confidence[index].toFixed(2)}` : "";
    this.reading.textContent = `x ${column}, y ${row}: ${formatMetres(metres)}${confidence}`;
    this.chart.point(metres);
  }

  #pick(pixel) {
    if (!this.#map) return;
    if (!Number.isFinite(this.#map.depth[this.#map.indexOf(pixel)])) {
      this.measured.textContent = text("noStart");
      return;
    }
    this.#measure(this.#picked.length === 1 ? [this.#picked[0], pixel] : [pixel]);
  }

  #measure(picked) {
    this.#picked = picked;
    this.stage.mark(picked);
    const points = picked.map((pixel) => this.#pointOf(pixel));
    if (points.length === 2) this.measured.textContent = `${text("distance")} ${formatMetres(distance(...points))}`;
    else this.measured.textContent = points.length ? text("secondPoint") : "";
  }

  /** Where a pixel's surface is in space. */
  #pointOf(pixel) {
    const { file, depth } = this.#map;
    const { column, row } = pixelOfImage(file, pixel);
    return unproject(cameraOf(file), column, row, depth[this.#map.indexOf(pixel)]);
  }
}

function select(label, options, className) {
  const choices = options.map((option) => html("option", { value: option.value }, option.label()));
  return html("select", { class: className, "aria-label": label, title: label }, ...choices);
}
