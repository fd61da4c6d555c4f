/** What is edited: a layout, what is selected in it, and the way back. */

import { MAX_OBJECTS, withAdded, without } from "./layout.js";

const MAX_STEPS = 200;
/** Changes of one kind that follow within this time are one step back. */
const MERGE_MS = 700;

export class Scene {
  #past = [];
  #future = [];
  /** The layout before the gesture that is going on. */
  #before = null;
  #lastKind = "";
  #lastTime = 0;
  #listeners = new Set();

  /** @param {import("./layout.js").Layout} layout */
  constructor(layout) {
    this.layout = layout;
    /** Index of the selected object, or -1. */
    this.selected = -1;
    /** Nothing can be changed: the layout is the connected one. */
    this.readOnly = false;
  }

  /** The listener is called after each change of anything. `saved`: the layout changed for good. */
  listen(listener) {
    this.#listeners.add(listener);
  }

  get thing() {
    return this.layout.objects[this.selected] ?? null;
  }

  get inGesture() {
    return this.#before !== null;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  select(index) {
    const found = this.layout.objects[index] ? index : -1;
    if (found === this.selected) return;
    this.selected = found;
    this.#lastKind = "";
    this.#tell(false);
  }

  /** Show another layout, without a way back. */
  open(layout, readOnly) {
    this.#past = [];
    this.#future = [];
    this.#before = null;
    this.readOnly = readOnly;
    this.#put(layout);
    this.#tell(false);
  }

  /**
   * Change the layout. Returns whether that was possible.
   * @param {string} [kind] consecutive changes of one kind become one step
   */
  change(layout, kind = "") {
    if (this.readOnly || layout.objects.length > MAX_OBJECTS) return false;
    if (this.#before) {
      this.#put(layout);
      this.#tell(false);
      return true;
    }
    const now = performance.now();
    const merges = kind !== "" && kind === this.#lastKind && now - this.#lastTime < MERGE_MS;
    if (!merges) this.#remember(this.layout);
    this.#lastKind = kind;
    this.#lastTime = now;
    this.#put(layout);
    this.#tell(true);
    return true;
  }

  /** A gesture is one step back, however many changes it has. */
  begin() {
    if (!this.readOnly) this.#before = this.layout;
  }

  end() {
    const before = this.#before;
    this.#before = null;
    if (!before || before === this.layout) return;
    this.#remember(before);
    this.#lastKind = "";
    this.#tell(true);
  }

  cancel() {
    if (!this.#before) return;
    const before = this.#before;
    this.#before = null;
    this.#put(before);
    this.#tell(false);
  }

  undo() {
    this.#step(this.#past, this.#future);
  }

  redo() {
    this.#step(this.#future, this.#past);
  }

  /** Add an object and select it. */
  add(thing) {
    if (!this.change(withAdded(this.layout, thing))) return false;
    this.select(this.layout.objects.length - 1);
    return true;
  }

  remove(index) {
    if (!this.layout.objects[index]) return;
    this.change(without(this.layout, index));
    this.select(Math.min(index, this.layout.objects.length - 1));
  }

  #step(from, to) {
    if (this.readOnly || this.#before || !from.length) return;
    to.push(this.layout);
    this.#lastKind = "";
    this.#put(from.pop());
    this.#tell(true);
  }

  #remember(layout) {
    this.#past.push(layout);
    if (this.#past.length > MAX_STEPS) this.#past.shift();
    this.#future = [];
  }

  #put(layout) {
    this.layout = layout;
    if (!layout.objects[this.selected]) this.selected = -1;
  }

  #tell(saved) {
    for (const listener of this.#listeners) listener({ saved });
  }
}
