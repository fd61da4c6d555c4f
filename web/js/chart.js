/** A histogram above a scale bar. Both have the same axis of log metres. */

import { gradient } from "./colormaps.js";
import { html, svg } from "./elements.js";
import { axisPosition, axisTicks, formatMetres } from "./statistics.js";
import { text } from "./texts.js";

export const BINS = 64;
const HEIGHT = 40;

export class DepthChart {
  constructor() {
    this.bars = svg("path", { class: "sf-bars" });
    this.cursor = svg("line", { class: "sf-cursor", y1: "0", y2: String(HEIGHT), visibility: "hidden" });
    this.plot = svg(
      "svg",
      { class: "sf-histogram", viewBox: `0 0 ${BINS} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      this.bars,
      this.cursor,
    );
    this.plot.setAttribute("aria-label", text("histogram"));
    this.bar = html("div", { class: "sf-scale-bar" });
    this.ticks = html("div", { class: "sf-ticks", "aria-label": text("scale") });
    this.element = html("div", { class: "sf-chart" }, this.plot, this.bar, this.ticks);
    this.range = { near: 1, far: 10 };
  }

  /**
   * @param {Float64Array} shares of the surface, BINS of them, from near to far
   * @param {{near: number, far: number}} range metres
   * @param {string} colormap
   */
  draw(shares, range, colormap) {
    this.range = range;
    const tallest = Math.max(...shares) || 1;
    const columns = Array.from(shares, (share, bin) => {
      const height = (share / tallest) * HEIGHT;
      return share ? `M${bin} ${HEIGHT}v${-height.toFixed(2)}h1V${HEIGHT}z` : "";
    });
    this.bars.setAttribute("d", columns.join(""));
    this.bar.style.background = gradient(colormap);
    this.ticks.replaceChildren(...axisTicks(range).map((metres) => this.#tick(metres)));
    this.point(null);
  }

  /** Mark a depth on the axis. Null or infinity: no mark. @param {number | null} metres */
  point(metres) {
    const isVisible = metres !== null && Number.isFinite(metres);
    this.cursor.setAttribute("visibility", isVisible ? "visible" : "hidden");
    if (!isVisible) return;
    const x = String(Math.min(Math.max(axisPosition(metres, this.range), 0), 1) * BINS);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
  }

  #tick(metres) {
    const label = html("span", {}, formatMetres(metres));
    const position = Math.min(Math.max(axisPosition(metres, this.range), 0), 1);
    label.style.left = `${(100 * position).toFixed(2)}%`;
    // Keep the outer labels inside the node.
    label.style.transform = `translateX(${(-100 * Math.min(Math.max(position, 0.04), 0.96)).toFixed(0)}%)`;
    return label;
  }
}
