/** Connects the scene editor with a Compose Depth Scaffold: its widgets, its results and its inputs. */

import { html } from "../elements.js";
import { nodeOfLocator, nodeOutputs, rootGraph, showError } from "../host.js";
import { SceneEditor } from "./editor.js";
import { hideWidget, isLinked, isolated, noteChange, resultOf, setValue, valueOf, widgetOf } from "./host_graph.js";
import { layoutJson, parseLayout, readLayout, tidyCamera, withCamera } from "./layout.js";
import { loadShapes } from "./shapes.js";
import { text } from "./texts.js";

export const NODE = "SpatialFusionComposeDepth";
/** The key of nodes/scaffold/node_layouts.py in a node's results. */
const UI_KEY = "spatialfusion_layout";
const STYLE = new URL("../../scene_editor.css", import.meta.url).href;
const LAYOUT = "edited_layout";
const CAMERA_WIDGETS = { height_m: "camera_height_m", pitch_deg: "camera_pitch_deg", fov_y_deg: "fov_y_deg" };
const PICTURE_WIDGETS = ["width", "height", "ground_extent_m"];
const FOCAL_WIDGETS = ["focal_length_mm", "focal_length_px"];
/** The longer side of a full-frame sensor. */
const FULL_FRAME_MM = 36;
/** What the user chose is saved with the node, under these names. */
const PROPERTIES = { colours: "scene_colours", names: "scene_names", snap: "scene_snap", opacity: "scene_photo_strength" };
const USUAL = { colours: "spatialfusion", names: true, snap: true, opacity: 0.5 };
const PHOTO = "scene_photo";

export class NodeEditor {
  /** @type {SceneEditor | null} */
  #editor = null;
  #shapes = null;
  /** While the editor writes widgets, their callbacks are its own. */
  #isWriting = false;

  constructor(app, api, node) {
    this.app = app;
    this.api = api;
    this.node = node;
    const widget = widgetOf(node, LAYOUT);
    if (widget) hideWidget(widget);
    this.button = node.addWidget("button", "edit_scene", null, () => this.open(), { serialize: false });
    this.button.serialize = false; // not in the saved workflow either
    this.button.label = text("editScene");
    this.#followWidgets();
  }

  /** Open the editor in a dialog over the page. */
  async open() {
    try {
      this.#shapes ??= await loadShapes();
    } catch (error) {
      showError(this.app, this.node.title, `${text("notLoaded")} (${error.message})`);
      return;
    }
    this.#editor ??= this.#make();
    if (this.dialog.open) return;
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.refresh();
    this.#editor.plan.element.focus({ preventScroll: true });
  }

  /** Show what the node has now: after a run, an undo of the host or a change of a widget. */
  refresh() {
    if (!this.#editor || !this.dialog.open) return;
    const shown = this.#editor.scene;
    // What is being dragged is not in the node yet. The end of the drag comes here again.
    if (shown.inGesture) return;
    const { layout, readOnly, notice } = this.#state();
    this.#editor.setPicture(this.#picture());
    if (shown.readOnly !== readOnly || layoutJson(shown.layout) !== layoutJson(layout)) this.#editor.open(layout, readOnly);
    this.#editor.setNotice(notice);
    this.#editor.setPhoto(this.#photoAddress());
    this.#editor.draw();
  }

  /** The node is gone. */
  release() {
    this.dialog?.close();
    this.dialog?.remove();
  }

  #make() {
    const options = Object.fromEntries(
      Object.entries(PROPERTIES).map(([name, property]) => [name, this.node.properties?.[property] ?? USUAL[name]]),
    );
    const editor = new SceneEditor({
      shapes: this.#shapes,
      options,
      onSave: (layout) => this.#save(layout),
      onOptions: (chosen) => {
        for (const [name, property] of Object.entries(PROPERTIES)) this.node.properties[property] = chosen[name];
      },
      onPhoto: (file) => this.#choosePhoto(file),
      onClose: () => this.dialog.close(),
    });
    this.dialog = html("dialog", { class: "sfe-dialog", "aria-label": text("editor") }, isolated(editor.element, STYLE));
    this.dialog.addEventListener("close", () => this.dialog.remove());
    // A press beside the dialog would take the focus out of it, and the keys would go to the host.
    this.dialog.addEventListener("mousedown", (event) => {
      if (event.target === this.dialog) event.preventDefault();
    });
    return editor;
  }

  #picture() {
    const number = (name, otherwise) => Number(valueOf(this.node, name, otherwise)) || otherwise;
    return { width: number("width", 1024), height: number("height", 1024), groundExtentM: number("ground_extent_m", 100) };
  }

  /** The layout that arrived at the socket at the last run, or null. */
  #connected() {
    if (!isLinked(this.node, "layout")) return null;
    const output = resultOf(this.app, this.node, nodeOutputs, nodeOfLocator, rootGraph(this.app));
    return readLayout(output?.[UI_KEY]?.[0]?.layout, this.#shapes);
  }

  /** A scene without objects, with the camera of the widgets. */
  #empty() {
    const camera = Object.fromEntries(Object.entries(CAMERA_WIDGETS).map(([name, widget]) => [name, Number(valueOf(this.node, widget, 0))]));
    camera.fov_y_deg = this.#fov();
    return { camera: tidyCamera(camera), ground: Boolean(valueOf(this.node, "ground", true)), objects: [] };
  }

  /** The vertical field of view in degrees that the widgets say. A focal length comes first, as in sf_model/depth/lens.py. */
  #fov() {
    const { width, height } = this.#picture();
    const millimetres = Number(valueOf(this.node, "focal_length_mm", 0));
    const pixels = Number(valueOf(this.node, "focal_length_px", 0)) || (millimetres * Math.max(width, height)) / FULL_FRAME_MM;
    return pixels > 0 ? (360 / Math.PI) * Math.atan((0.5 * height) / pixels) : Number(valueOf(this.node, "fov_y_deg", 0));
  }

  #state() {
    const written = String(valueOf(this.node, LAYOUT, ""));
    const connected = this.#connected();
    const edited = written.trim() ? parseLayout(written, this.#shapes) : null;
    if (written.trim() && !edited) {
      return { layout: this.#empty(), readOnly: true, notice: { words: text("unreadable"), actions: [this.#startNew()] } };
    }
    if (edited) return { layout: edited, readOnly: false, notice: this.#editedNotice(connected, edited) };
    if (connected) {
      return { layout: connected, readOnly: true, notice: { words: text("fromInput"), actions: [this.#takeOver(connected)] } };
    }
    const words = isLinked(this.node, "layout") ? text("notRunYet") : null;
    return { layout: this.#empty(), readOnly: false, notice: words ? { words, actions: [] } : this.#cameraNotice() };
  }

  #editedNotice(connected, edited) {
    if (!connected) {
      if (!isLinked(this.node, "layout")) return this.#cameraNotice();
      return { words: text("overInput"), actions: [this.#useInput()] };
    }
    if (layoutJson(connected) === layoutJson(edited)) return this.#cameraNotice();
    const isNew = this.node.properties?.scene_taken !== undefined && this.node.properties.scene_taken !== layoutJson(connected);
    return { words: text(isNew ? "newerInput" : "overInput"), actions: [this.#takeOver(connected), this.#useInput()] };
  }

  #cameraNotice() {
    return isLinked(this.node, "camera_info") ? { words: text("cameraConnected"), actions: [] } : null;
  }

  #takeOver(layout) {
    return {
      label: text("takeOver"),
      run: () => {
        this.node.properties.scene_taken = layoutJson(layout);
        // Over an edited scene it is a change, which undo takes back.
        if (this.#editor.scene.readOnly) this.#save(layout);
        else this.#editor.scene.change(layout);
      },
    };
  }

  #useInput() {
    return { label: text("useInput"), run: () => this.#write("") };
  }

  #startNew() {
    return { label: text("startNew"), run: () => this.#write("") };
  }

  #save(layout) {
    this.#write(layoutJson(layout), layout);
  }

  /** Put the text into the node. The camera and the ground of a layout go into their widgets too. */
  #write(written, layout = null) {
    this.#put(LAYOUT, written);
    if (layout) {
      for (const [name, widget] of Object.entries(CAMERA_WIDGETS)) this.#put(widget, layout.camera[name]);
      this.#put("ground", layout.ground);
      for (const widget of FOCAL_WIDGETS) if (widgetOf(this.node, widget)) this.#put(widget, 0); // the field of view says it now
    }
    noteChange(this.app, this.node);
    this.#label();
    this.refresh();
  }

  /** The camera's widgets and the scene's camera are one: whoever changes one changes the other. */
  #followWidgets() {
    for (const [name, widget] of Object.entries(CAMERA_WIDGETS)) {
      this.#follow(widget, () => this.#change((layout) => withCamera(layout, { [name]: Number(valueOf(this.node, widget, 0)) })));
    }
    for (const widget of FOCAL_WIDGETS) {
      this.#follow(widget, () => this.#change((layout) => withCamera(layout, { fov_y_deg: this.#fov() })));
    }
    this.#follow("ground", () => this.#change((layout) => ({ ...layout, ground: Boolean(valueOf(this.node, "ground", true)) })));
    for (const name of PICTURE_WIDGETS) this.#follow(name, () => this.refresh());
    this.#follow(LAYOUT, () => this.#takeText());
  }

  #follow(name, then) {
    const widget = widgetOf(this.node, name);
    if (!widget) return;
    const { callback } = widget;
    widget.callback = function (...args) {
      callback?.apply(this, args);
      then();
    };
  }

  /** The user has changed a widget. @param {(layout: object) => object} change the same for the edited scene */
  async #change(change) {
    if (this.#isWriting) return;
    if (String(valueOf(this.node, LAYOUT, "")).trim()) {
      this.#shapes ??= await loadShapes();
      // Read only now: while the shapes were loaded, the host may have given the node another text.
      const edited = parseLayout(String(valueOf(this.node, LAYOUT, "")), this.#shapes);
      if (edited) this.#put(LAYOUT, layoutJson(change(edited)));
    }
    this.refresh();
  }

  /** Give the widgets the camera and the ground of the text, which may come from elsewhere. */
  #takeText() {
    if (this.#isWriting) return;
    const { camera, ground } = parsed(String(valueOf(this.node, LAYOUT, ""))) ?? {};
    for (const [name, widget] of Object.entries(CAMERA_WIDGETS)) {
      if (Number.isFinite(camera?.[name])) this.#put(widget, camera[name]);
    }
    if (typeof ground === "boolean") this.#put("ground", ground);
    this.#label();
    this.refresh();
  }

  #put(widget, value) {
    this.#isWriting = true;
    setValue(this.app, this.node, widget, value);
    this.#isWriting = false;
  }

  /** The button says how many objects there are. */
  #label() {
    const count = parsed(String(valueOf(this.node, LAYOUT, "")))?.objects?.length;
    this.button.label = count ? `${text("editScene")} (${count})` : text("editScene");
  }

  /** After the host has given the node the values of a workflow. */
  configured() {
    this.#takeText();
  }

  #photoAddress() {
    const name = this.node.properties?.[PHOTO];
    if (!name) return null;
    const place = name.lastIndexOf("/");
    const query = { filename: name.slice(place + 1), subfolder: name.slice(0, Math.max(place, 0)), type: "input" };
    return this.api.apiURL(`/view?${new URLSearchParams(query)}`);
  }

  /** Put a photograph into the host's input folder, so that the workflow can name it. */
  async #choosePhoto(file) {
    try {
      this.node.properties[PHOTO] = file ? await this.#upload(file) : "";
      noteChange(this.app, this.node);
      this.refresh();
    } catch (error) {
      showError(this.app, this.node.title, `${text("notUploaded")} ${file.name} (${error.message})`);
    }
  }

  async #upload(file) {
    const body = new FormData();
    body.append("image", file);
    const response = await this.api.fetchApi("/upload/image", { method: "POST", body });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    const { name, subfolder } = await response.json();
    return subfolder ? `${subfolder}/${name}` : name;
  }
}

/** The value of a JSON text, or null. */
function parsed(written) {
  try {
    return JSON.parse(written);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
