/** The palette: shapes and things to add, found by typing. */

import { html, svg } from "../elements.js";
import { footprint } from "./footprints.js";
import { text } from "./texts.js";

const MAX_SHOWN = 120;

/** @typedef {{name: string, shape: string, size_m: number[], words: string[]}} Entry the words: its name, and other names */

export class Palette {
  /** @type {((entry: Entry) => void) | null} */
  #onChoose = null;
  #active = 0;

  /** @param {import("./shapes.js").Shapes} shapes */
  constructor(shapes) {
    this.shapes = shapes;
    this.entries = entriesOf(shapes);
    this.search = html("input", {
      type: "search",
      class: "sfe-search",
      role: "combobox",
      "aria-expanded": "true",
      "aria-controls": "sfe-palette-list",
      "aria-label": text("searchThing"),
      placeholder: text("searchThing"),
      autocomplete: "off",
      spellcheck: "false",
    });
    this.list = html("div", { class: "sfe-choices", role: "listbox", id: "sfe-palette-list", "aria-label": text("things") });
    this.element = html("dialog", { class: "sfe-palette", "aria-label": text("add") }, this.search, this.list);
    this.search.addEventListener("input", () => this.#show());
    this.element.addEventListener("keydown", (event) => this.#onKey(event));
    // A press beside it closes it.
    this.element.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      if (event.target === this.element && !isInside(this.element, event)) this.element.close();
    });
    this.element.addEventListener("close", (event) => event.stopPropagation());
  }

  /** Ask for a thing. @param {(entry: Entry) => void} onChoose @param {[number, number] | null} at in the window */
  open(onChoose, at) {
    this.#onChoose = onChoose;
    this.search.value = "";
    this.element.showModal();
    this.#show();
    this.#moveTo(at);
    this.search.focus();
  }

  #moveTo(at) {
    const { style, offsetWidth, offsetHeight } = this.element;
    const [left, top] = at ?? [(innerWidth - offsetWidth) / 2, (innerHeight - offsetHeight) / 3];
    style.left = `${Math.max(Math.min(left, innerWidth - offsetWidth - 8), 8)}px`;
    style.top = `${Math.max(Math.min(top, innerHeight - offsetHeight - 8), 8)}px`;
  }

  /** What is found by a synonym has its name. */
  #found() {
    const wanted = this.search.value.trim().toLowerCase();
    if (!wanted) return this.entries;
    const found = this.entries.flatMap((entry) => {
      const name = entry.words.find((word) => word.startsWith(wanted)) ?? entry.words.find((word) => word.includes(wanted));
      if (!name) return [];
      const rank = name === wanted ? 0 : name.startsWith(wanted) ? 1 : name.includes(` ${wanted}`) ? 2 : 3;
      return [{ entry: { ...entry, name }, rank }];
    });
    return found.sort((one, other) => one.rank - other.rank).map(({ entry }) => entry);
  }

  #show() {
    this.shown = this.#found().slice(0, MAX_SHOWN);
    // What is in no table is a box with this name.
    const typed = this.search.value.trim();
    if (typed && !this.shown.some(({ name }) => name === typed.toLowerCase())) {
      this.shown.push({ name: typed, shape: "box", size_m: [1, 1, 1], words: [typed] });
    }
    this.list.replaceChildren(...this.shown.map((entry, k) => this.#choice(entry, k)));
    this.#activate(0);
  }

  #choice(entry, k) {
    const size = entry.size_m.map((value) => Number(value.toPrecision(3))).join(" \u00d7 ");
    const picture = svg("svg", { class: "sfe-mini", viewBox: "-0.6 -0.6 1.2 1.2", "aria-hidden": "true" });
    const [width, , length] = entry.size_m;
    const longest = Math.max(width, length);
    const scale = `scale(${-width / longest} ${length / longest})`;
    picture.append(svg("path", { d: footprint(this.shapes, entry.shape), transform: scale }));
    const name = html("span", { class: "sfe-choice-name" }, entry.name);
    const choice = html("div", { class: "sfe-choice", role: "option", id: `sfe-choice-${k}` }, picture, name);
    choice.append(html("span", { class: "sfe-choice-size" }, `${size} m`));
    choice.addEventListener("click", () => this.#choose(k));
    choice.addEventListener("pointermove", () => this.#activate(k, false));
    return choice;
  }

  #activate(k, scrolls = true) {
    this.list.children[this.#active]?.setAttribute("aria-selected", "false");
    this.#active = k;
    const choice = this.list.children[k];
    if (!choice) return;
    choice.setAttribute("aria-selected", "true");
    this.search.setAttribute("aria-activedescendant", choice.id);
    if (scrolls) choice.scrollIntoView({ block: "nearest" });
  }

  #choose(k) {
    const entry = this.shown[k];
    if (!entry) return;
    this.element.close();
    this.#onChoose?.(entry);
  }

  #onKey(event) {
    event.stopPropagation();
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key === "Enter") this.#choose(this.#active);
    else if (steps[event.key]) {
      this.#activate(Math.min(Math.max(this.#active + steps[event.key], 0), this.shown.length - 1));
    } else if (event.key === "Escape") this.element.close();
    else return;
    event.preventDefault();
  }
}

function isInside(element, { clientX, clientY }) {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return clientX >= left && clientX <= right && clientY >= top && clientY <= bottom;
}

/** The shapes, and after them the things of the table that have another name. @returns {Entry[]} */
function entriesOf(shapes) {
  const entries = [...shapes.byName].map(([name, { size_m }]) => ({ name, shape: name, size_m, words: [name] }));
  for (const { name, shape, size_m, synonyms } of shapes.things) {
    const same = entries.find((entry) => entry.name === name);
    if (same) same.words.push(...synonyms);
    else entries.push({ name, shape, size_m, words: [name, ...synonyms] });
  }
  return entries;
}
