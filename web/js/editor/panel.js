/** The side panel: the list of objects, the selected one in numbers, and the camera. */

import { html } from "../elements.js";
import { choiceField, hasFocus, numberField, tickField } from "./fields.js";
import { AXES, cleanName, MAX_NAME_LENGTH, withCamera, withObject } from "./layout.js";
import { objectColour } from "./paint.js";
import { fovOfLens, lensOfFov } from "./space.js";
import { text } from "./texts.js";

const LENS_MM = [1.05, 1375];

export class Panel {
  /** @param {import("./scene.js").Scene} scene @param {import("./shapes.js").Shapes} shapes */
  constructor(scene, shapes) {
    this.scene = scene;
    this.list = html("div", { class: "sfe-list", role: "listbox", tabindex: "0", "aria-label": text("objects") });
    this.list.addEventListener("keydown", (event) => this.#onListKey(event));
    this.details = this.#makeDetails(shapes);
    this.camera = this.#makeCamera();
    this.element = html("div", { class: "sfe-panel" }, heading(text("objects")), this.list, this.details, this.camera);
  }

  draw() {
    this.#drawList();
    this.#drawDetails();
    this.#drawCamera();
  }

  #change(changes, kind) {
    const { scene } = this;
    if (scene.thing) scene.change(withObject(scene.layout, scene.selected, changes), `${kind} ${scene.selected}`);
  }

  #changeCamera(changes) {
    this.scene.change(withCamera(this.scene.layout, changes), `camera ${Object.keys(changes)}`);
  }

  #makeDetails(shapes) {
    this.name = html("input", { type: "text", maxlength: String(MAX_NAME_LENGTH), "aria-label": text("name") });
    this.name.addEventListener("input", () => {
      const name = cleanName(this.name.value);
      if (name) this.#change({ name }, "name");
    });
    const name = html("label", { class: "sfe-field sfe-wide" }, html("span", { class: "sfe-field-name" }, text("name")), this.name);
    const names = [...shapes.byName.keys()].map((shape) => [shape, shape]);
    this.shape = choiceField(text("shape"), names, (shape) => this.#change({ shape }, ""));
    const metres = (label, property, axis) =>
      numberField(label, "m", 0.05, (value) => {
        const values = AXES.map((k) => (k === axis ? value : this.scene.thing[property][k]));
        if (property === "size_m" && value <= 0) return;
        this.#change({ [property]: values }, `${property}${axis}`);
      });
    this.place = ["right", "up", "ahead"].map((label, axis) => metres(text(label), "position_m", axis));
    this.size = ["width", "height", "length"].map((label, axis) => metres(text(label), "size_m", axis));
    this.heading = numberField(text("heading"), "\u00b0", 5, (value) => this.#change({ heading_deg: value }, "heading"));
    this.confidence = numberField(text("confidence"), "", 0.05, (value) => this.#change({ confidence: value }, "confidence"));
    const rows = [this.place, this.size, [this.heading, this.confidence]].map((fields) =>
      html("div", { class: "sfe-row" }, ...fields.map(({ element }) => element)),
    );
    return html("fieldset", { class: "sfe-details" }, html("legend", {}, text("selected")), name, this.shape.element, ...rows);
  }

  #makeCamera() {
    this.cameraHeight = numberField(text("height"), "m", 0.05, (value) => this.#changeCamera({ height_m: value }));
    this.pitch = numberField(text("pitch"), "\u00b0", 1, (value) => this.#changeCamera({ pitch_deg: value }));
    this.lens = numberField(text("lens"), "mm", 1, (value) => {
      if (value >= LENS_MM[0] && value <= LENS_MM[1]) this.#changeCamera({ fov_y_deg: fovOfLens(value) });
    });
    this.fov = numberField(text("fieldOfView"), "\u00b0", 1, (value) => this.#changeCamera({ fov_y_deg: value }));
    this.ground = tickField(text("ground"), (ground) => this.scene.change({ ...this.scene.layout, ground }));
    const rows = [[this.cameraHeight, this.pitch], [this.lens, this.fov]].map((fields) =>
      html("div", { class: "sfe-row" }, ...fields.map(({ element }) => element)),
    );
    return html("fieldset", { class: "sfe-camera-fields" }, html("legend", {}, text("camera")), ...rows, this.ground.element);
  }

  #drawList() {
    const { layout, selected } = this.scene;
    while (this.list.childElementCount > layout.objects.length) this.list.lastElementChild.remove();
    layout.objects.forEach((thing, index) => {
      const item = this.list.children[index] ?? this.list.appendChild(this.#newItem(index));
      const isSelected = index === selected;
      if (item.lastElementChild.textContent !== thing.name) item.lastElementChild.textContent = thing.name;
      if (item.getAttribute("aria-selected") === String(isSelected)) return;
      item.setAttribute("aria-selected", String(isSelected));
      if (isSelected) item.scrollIntoView({ block: "nearest" });
    });
    if (selected >= 0) this.list.setAttribute("aria-activedescendant", `sfe-object-${selected}`);
    else this.list.removeAttribute("aria-activedescendant");
    this.list.dataset.empty = layout.objects.length ? "" : text("noObjects");
  }

  #newItem(index) {
    const mark = html("span", { class: "sfe-colour" });
    mark.style.background = objectColour(index);
    const item = html("div", { class: "sfe-item", role: "option", id: `sfe-object-${index}` }, mark, html("span", { dir: "auto" }));
    item.addEventListener("click", () => this.scene.select(index));
    return item;
  }

  #onListKey(event) {
    const { layout, selected } = this.scene;
    const last = layout.objects.length - 1;
    const to = { ArrowDown: Math.min(selected + 1, last), ArrowUp: Math.max(selected - 1, 0), Home: 0, End: last }[event.key];
    if (event.key === "Delete") this.scene.remove(selected);
    else if (event.key === "F2" || event.key === "Enter") {
      this.#drawDetails(); // who types at once must not add to the name that was selected before
      this.name.focus();
    }
    else if (to === undefined) return;
    else this.scene.select(to);
    event.preventDefault();
    event.stopPropagation();
  }

  #drawDetails() {
    const { thing, readOnly } = this.scene;
    this.details.disabled = !thing || readOnly;
    this.details.hidden = !thing;
    if (!thing) return;
    if (!hasFocus(this.name) || cleanName(this.name.value) !== thing.name) this.name.value = thing.name;
    this.shape.select.value = thing.shape;
    this.place.forEach((field, axis) => field.show(thing.position_m[axis]));
    this.size.forEach((field, axis) => field.show(thing.size_m[axis], 3));
    this.heading.show(thing.heading_deg, 1);
    this.confidence.show(thing.confidence);
  }

  #drawCamera() {
    const { camera, ground } = this.scene.layout;
    this.camera.disabled = this.scene.readOnly;
    this.cameraHeight.show(camera.height_m);
    this.pitch.show(camera.pitch_deg, 1);
    this.lens.show(lensOfFov(camera.fov_y_deg), 1);
    this.fov.show(camera.fov_y_deg, 1);
    this.ground.input.checked = ground;
  }
}

function heading(words) {
  return html("h3", { class: "sfe-heading" }, words);
}
