/**
 * The depth viewer: one element that shows depth maps in metres. It does not depend on ComfyUI. `attach.js` puts it on
 * a node.
 *
 * @typedef {{filename: string, subfolder: string, type: string, width: number, height: number, fov_y_deg: number}}
 *     DepthFile one image of nodes/host/preview.py's list
 * @typedef {{depth: Float32Array, confidence: Float32Array | null}} DepthMap metres, row by row; confidence in [0, 1]
 */

import { distance, unproject } from "./camera.js";
import { DepthChart } from "./chart.js";
import { COLORMAPS, colourise } from "./colormaps.js";
import { html } from "./elements.js";
import { parseNpy } from "./npy.js";
import { Stage } from "./stage.js";
import { FIXED_RANGE, fittedRange, formatMetres, statistics } from "./statistics.js";
import { text } from "./texts.js";

const RANGES = [
  { value: "fixed", label: () => `${FIXED_RANGE.near}-${FIXED_RANGE.far} m` },
  { value: "fit", label: () => text("fit") },
];

export class DepthViewer {
  /** @type {DepthFile[]} */
  #files = [];
  #index = 0;
  /** @type {DepthMap | null} */
  #map = null;
  /** @type {import("./stage.js").Pixel[]} */
  #picked = [];
  #loading = new AbortController();

  /**
   * @param {object} options
   * @param {(file: DepthFile, signal: AbortSignal) => Promise<ArrayBuffer>} options.load fetches a file
   * @param {string} [options.colormap] a value of COLORMAPS
   * @param {string} [options.range] "fixed" or "fit"
   * @param {(colormap: string, range: string) => void} options.onChoice is called when the user changes one of them
   */
  constructor({ load, colormap, range, onChoice }) {
    this.load = load;
    this.stage = new Stage({
      onPoint: (pixel) => this.#read(pixel),
      onPick: (pixel) => this.#pick(pixel),
      onClear: () => this.#measure([]),
    });
    this.chart = new DepthChart();
    this.#build(onChoice);
    this.choose(colormap, range);
    this.#message(text("empty"));
  }

  /** Show the depth maps of a result, the first one first. @param {DepthFile[]} files */
  show(files) {
    const same = JSON.stringify(files) === JSON.stringify(this.#files);
    if (same && this.#map) return;
    this.#files = files;
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
    this.#loading.abort();
    this.#files = [];
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
    this.reading = html("output", { class: "sf-reading" });
    this.measured = html("output", { class: "sf-measured" });
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
    );
  }

  async #open(index) {
    this.#loading.abort();
    this.#loading = new AbortController();
    const { signal } = this.#loading;
    const file = this.#files[index];
    if (!file) return;
    this.#index = index;
    this.batch.hidden = this.#files.length < 2;
    this.count.textContent = `${index + 1} / ${this.#files.length}`;
    this.previous.disabled = index === 0;
    this.next.disabled = index === this.#files.length - 1;
    try {
      const { shape, data } = parseNpy(await this.load(file, signal));
      if (signal.aborted) return;
      const [channels, height, width] = shape;
      const size = height * width;
      this.#map = { depth: data.subarray(0, size), confidence: channels > 1 ? data.subarray(size, 2 * size) : null };
    } catch (error) {
      if (signal.aborted) return;
      this.#map = null;
      this.#message(error.message);
      return;
    }
    this.#message("");
    this.#draw();
  }

  #message(text) {
    this.message.textContent = text;
    this.element.classList.toggle("sf-empty", text !== "");
  }

  #draw() {
    if (!this.#map) return;
    const { depth } = this.#map;
    const { width, height } = this.#files[this.#index];
    const found = statistics(depth);
    const range = this.range.value === "fit" ? fittedRange(found) : FIXED_RANGE;
    this.stage.draw(colourise(depth, this.colormap.value, range), width, height);
    this.chart.draw(depth, range, this.colormap.value);
    this.#list(found);
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
  #read(pixel) {
    if (!this.#map) return;
    if (!pixel) {
      this.reading.textContent = text("hint");
      this.chart.point(null);
      return;
    }
    const index = pixel.row * this.#files[this.#index].width + pixel.column;
    const metres = this.#map.depth[index];
    const confidence = this.#map.confidence ? `, ${text("confidence")} ${this.#map.confidence[index].toFixed(2)}` : "";
    this.reading.textContent = `x ${pixel.column}, y ${pixel.row}: ${formatMetres(metres)}${confidence}`;
    this.chart.point(metres);
  }

  #pick(pixel) {
    if (!this.#map) return;
    if (!Number.isFinite(this.#depthAt(pixel))) {
      this.measured.textContent = text("noStart");
      return;
    }
    this.#measure(this.#picked.length === 1 ? [this.#picked[0], pixel] : [pixel]);
  }

  #measure(picked) {
    this.#picked = picked;
    this.stage.mark(picked);
    const camera = this.#files[this.#index];
    const points = picked.map((pixel) => unproject(camera, pixel.column, pixel.row, this.#depthAt(pixel)));
    if (points.length === 2) this.measured.textContent = `${text("distance")} ${formatMetres(distance(...points))}`;
    else this.measured.textContent = points.length ? text("secondPoint") : "";
  }

  #depthAt({ column, row }) {
    return this.#map.depth[row * this.#files[this.#index].width + column];
  }
}

function select(label, options, className) {
  const choices = options.map((option) => html("option", { value: option.value }, option.label()));
  return html("select", { class: className, "aria-label": label, title: label }, ...choices);
}
