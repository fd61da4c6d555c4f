/** The scene editor of Compose Depth Scaffold: a button on the node opens it. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { NODE, NodeEditor } from "./js/editor/attach.js";

/** @type {Map<object, NodeEditor>} */
const editors = new Map();

app.registerExtension({
  name: "SpatialFusion.SceneEditor",

  setup() {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL("./scene_editor.css", import.meta.url).href;
    document.head.append(link);
    // The host's listener was added earlier, so it has stored the results.
    api.addEventListener("executed", () => editors.forEach((editor) => editor.refresh()));
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const editor = new NodeEditor(app, api, node);
    editors.set(node, editor);
    const { onAdded, onConfigure, onRemoved, onConnectionsChange } = node;
    node.onAdded = function (...args) {
      onAdded?.apply(this, args);
      editors.set(node, editor);
    };
    node.onConfigure = function (...args) {
      onConfigure?.apply(this, args);
      editor.configured();
    };
    node.onConnectionsChange = function (...args) {
      onConnectionsChange?.apply(this, args);
      editor.refresh();
    };
    node.onRemoved = function (...args) {
      onRemoved?.apply(this, args);
      editors.delete(node);
      editor.release();
    };
  },
});
