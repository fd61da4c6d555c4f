/**
 * The scene editor: one element with the camera's view, the plan and the numbers of a layout. It does not depend on
 * ComfyUI. `attach.js` opens it for a node.
 *
 * @typedef {object} Picture the picture that the node makes
 * @property {number} width pixels @property {number} height pixels
 * @property {number} groundExtentM where the ground ends
 * @typedef {object} Notice a sentence above the views, with what can be done about it
 * @property {string} words
 * @property {{label: string, run: () => void}[]} actions
 * @typedef {{colours: string, names: boolean, snap: boolean, opacity: number}} Options what the user chose
 */

import { COLORMAPS } from "../colormaps.js";
import { html } from "../elements.js";
import { Actions } from "./actions.js";
import { CameraView } from "./camera_view.js";
import { choiceField, sliderField } from "./fields.js";
import { enable, iconButton, iconToggle } from "./icons.js";
import { keyList } from "./key_list.js";
import { listenToKeys } from "./keyboard.js";
import { Palette } from "./palette.js";
import { Panel } from "./panel.js";
import { PlanView } from "./plan_view.js";
import { Scene } from "./scene.js";
import { text } from "./texts.js";

/** So long after a change is it read aloud, so that a series of keys is one message. */
const SPEAK_MS = 400;

export class SceneEditor {
  #isScheduled = false;
  #speaking = 0;

  /**
   * @param {object} given
   * @param {import("./shapes.js").Shapes} given.shapes
   * @param {Options} given.options
   * @param {(layout: import("./layout.js").Layout) => void} given.onSave after each change
   * @param {(options: Options) => void} given.onOptions
   * @param {(file: File | null) => void} given.onPhoto null: the photograph is removed
   * @param {() => void} given.onClose
   */
  constructor({ shapes, options, onSave, onOptions, onPhoto, onClose }) {
    this.options = { ...options };
    this.onOptions = onOptions;
    this.scene = new Scene({ camera: { height_m: 1.6, pitch_deg: 10, fov_y_deg: 50 }, ground: true, objects: [] });
    this.actions = new Actions(this.scene, shapes);
    const events = { onAdd: (place, event) => this.openPalette(place, [event.clientX, event.clientY]) };
    this.camera = new CameraView(this.scene, shapes, this.options, events);
    this.plan = new PlanView(this.scene, shapes, this.options, events);
    this.panel = new Panel(this.scene, shapes);
    this.palette = new Palette(shapes);
    this.notice = html("div", { class: "sfe-notice", role: "status", hidden: "" });
    this.readout = html("output", { class: "sfe-readout" });
    this.spoken = html("div", { class: "sfe-spoken", role: "status" });
    this.panel.element.append(this.#makePhotoFields(onPhoto), keyList());
    this.element = html(
      "div",
      // With a place for the focus, so that a press beside its parts does not take the focus, and the keys, elsewhere.
      { class: "sfe", role: "group", tabindex: "-1", "aria-label": text("editor") },
      this.#makeBar(onClose),
      this.notice,
      html("div", { class: "sfe-body" }, this.#framed(this.camera, []), this.#framed(this.plan, this.#planButtons()), this.panel.element),
      html("div", { class: "sfe-foot" }, this.readout, this.spoken),
      this.palette.element,
    );
    this.setPhoto(null);
    listenToKeys(this.element, this);
    this.#keepFromHost();
    this.scene.listen(({ saved }) => {
      if (saved) onSave(this.scene.layout);
      this.draw();
    });
  }

  /** @param {Picture} picture */
  setPicture({ width, height, groundExtentM }) {
    this.camera.setPicture(width, height, groundExtentM);
    this.plan.aspect = width / height;
  }

  /** Show a layout. @param {boolean} readOnly the layout is the connected one */
  open(layout, readOnly) {
    this.scene.open(layout, readOnly);
    requestAnimationFrame(() => this.plan.fit());
  }

  /** @param {Notice | null} notice */
  setNotice(notice) {
    this.notice.hidden = !notice;
    if (!notice) return;
    const buttons = notice.actions.map(({ label, run }) => {
      const button = html("button", { type: "button", class: "sfe-action" }, label);
      button.addEventListener("click", () => {
        run();
        this.plan.element.focus({ preventScroll: true });
      });
      return button;
    });
    this.notice.replaceChildren(html("span", { dir: "auto" }, notice.words), ...buttons);
  }

  /** @param {string | null} address of the photograph behind the camera's view */
  setPhoto(address) {
    const { photo } = this.camera;
    photo.hidden = !address;
    if (address) photo.src = address;
    else photo.removeAttribute("src");
    this.removePhoto.hidden = !address;
    this.opacity.element.hidden = !address;
    this.#applyOpacity();
  }

  /** Draw everything once, before the browser shows the next frame. */
  draw() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.drawNow();
    });
  }

  drawNow() {
    this.camera.draw();
    this.plan.draw();
    this.panel.draw();
    this.#drawBar();
    this.#drawReadout();
    // What had the focus may be gone. Without it the keys would go to the host.
    if (this.element.isConnected && !this.element.matches(":focus-within")) this.element.focus({ preventScroll: true });
  }

  /** Ask for a thing and add it at (x, z). @param {number[]} [place] @param {[number, number]} [at] in the window */
  openPalette(place, at) {
    if (this.scene.readOnly) return;
    this.palette.open((entry) => {
      this.actions.add(entry, place ?? this.actions.placeAhead(entry, this.plan.aspect));
      this.plan.reveal(this.scene.thing);
      this.plan.element.focus({ preventScroll: true });
    }, at ?? null);
  }

  /** Give up what is being dragged. @returns {boolean} whether anything was */
  cancelDrag() {
    const dragged = [this.camera.drags, this.plan.drags].filter((drags) => drags.isDragging);
    for (const drags of dragged) drags.cancel();
    return dragged.length > 0;
  }

  #makeBar(onClose) {
    const { scene, actions, options } = this;
    const button = (name, label, run, isWordShown = false) => iconButton(name, label, run, isWordShown);
    this.buttons = {
      add: button("add", text("add"), () => this.openPalette(), true),
      duplicate: button("duplicate", text("duplicate"), () => actions.duplicate()),
      remove: button("remove", text("remove"), () => actions.remove()),
      setDown: button("setDown", text("setDown"), () => actions.setDown()),
      undo: button("undo", text("undo"), () => scene.undo()),
      redo: button("redo", text("redo"), () => scene.redo()),
    };
    const snap = iconToggle("snap", text("snap"), options.snap, (isOn) => this.#choose({ snap: isOn }));
    const names = iconToggle("names", text("names"), options.names, (isOn) => this.#choose({ names: isOn }));
    const shown = [["objects", text("asObjects")], ...COLORMAPS.map(({ value, label }) => [value, `${text("asDepth")}: ${label()}`])];
    const colours = choiceField(text("show"), shown, (value) => this.#choose({ colours: value }));
    colours.select.value = options.colours;
    const group = (...parts) => html("div", { class: "sfe-group" }, ...parts);
    const { add, duplicate, remove, setDown, undo, redo } = this.buttons;
    this.close = button("close", text("close"), onClose);
    return html(
      "div",
      { class: "sfe-bar", role: "toolbar", "aria-label": text("tools") },
      group(add, duplicate, remove, setDown),
      group(undo, redo),
      group(snap, names),
      html("div", { class: "sfe-group sfe-show" }, colours.element),
      html("div", { class: "sfe-group sfe-end" }, this.close),
    );
  }

  #planButtons() {
    return [
      iconButton("zoomIn", text("zoomIn"), () => this.plan.zoom(1.4)),
      iconButton("zoomOut", text("zoomOut"), () => this.plan.zoom(1 / 1.4)),
      iconButton("fit", text("fitPlan"), () => this.plan.fit()),
    ];
  }

  #framed(view, buttons) {
    const name = view === this.camera ? text("camera") : text("plan");
    const caption = html("div", { class: "sfe-caption", "aria-hidden": "true" }, name);
    return html("div", { class: "sfe-view" }, view.element, caption, html("div", { class: "sfe-corner" }, ...buttons));
  }

  #makePhotoFields(onPhoto) {
    const input = html("input", { type: "file", accept: "image/*", hidden: "" });
    input.addEventListener("change", () => {
      if (input.files.length) onPhoto(input.files[0]);
      input.value = "";
    });
    const choose = iconButton("photo", text("choosePhoto"), () => input.click(), true);
    this.removePhoto = iconButton("remove", text("removePhoto"), () => onPhoto(null));
    this.opacity = sliderField(text("photoOpacity"), 0, 1, 0.05, (value) => {
      this.#choose({ opacity: value });
      this.#applyOpacity();
    });
    this.opacity.input.value = String(this.options.opacity);
    const buttons = html("div", { class: "sfe-row" }, choose, this.removePhoto, input);
    return html("fieldset", { class: "sfe-photo-fields" }, html("legend", {}, text("photo")), buttons, this.opacity.element);
  }

  #applyOpacity() {
    this.camera.canvas.style.opacity = this.camera.photo.hidden ? "1" : String(1 - this.options.opacity);
  }

  #choose(changes) {
    Object.assign(this.options, changes);
    this.onOptions({ ...this.options });
    this.draw();
  }

  #drawBar() {
    const { scene, buttons } = this;
    enable(buttons.add, !scene.readOnly);
    for (const name of ["duplicate", "remove", "setDown"]) enable(buttons[name], scene.thing && !scene.readOnly);
    enable(buttons.undo, scene.canUndo);
    enable(buttons.redo, scene.canRedo);
  }

  #drawReadout() {
    const { thing, layout } = this.scene;
    const words = thing ? describe(thing) : layout.objects.length ? text("hint") : text("emptyHint");
    if (this.readout.textContent === words) return;
    this.readout.textContent = words;
    clearTimeout(this.#speaking);
    this.#speaking = setTimeout(() => {
      this.spoken.textContent = thing ? words : "";
    }, SPEAK_MS);
  }

  /** The host's canvas and shortcuts must not see what happens here. */
  #keepFromHost() {
    for (const type of ["wheel", "pointerdown", "mousedown", "contextmenu", "copy", "cut", "paste", "dblclick", "click", "drop", "dragover"]) {
      this.element.addEventListener(type, (event) => event.stopPropagation());
    }
  }
}

/** Where an object is, in words. */
function describe({ name, position_m: [x, y, z], heading_deg }) {
  const metres = (value) => `${value.toFixed(2)} m`;
  const place = [[x, "right"], [y, "up"], [z, "ahead"]].map(([value, word]) => `${text(word)} ${metres(value)}`);
  return `${name}: ${place.join(", ")}, ${text("heading")} ${Math.round(heading_deg)}\u00b0`;
}
