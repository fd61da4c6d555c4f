/**
 * The upload button of Load Metric Depth. The host's own upload widget takes pictures that browsers know only; this one
 * sends any depth file through the same route, and the combo then shows it.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { text } from "./js/texts.js";

const NODE = "SpatialFusionLoadDepth";
const SUFFIXES = [".exr", ".png", ".npy", ".npz"];

function isDepthFile(file) {
  return SUFFIXES.some((suffix) => file.name.toLowerCase().endsWith(suffix));
}

/** Put a file into the host's input folder; returns the name under which it lies there. */
async function upload(file) {
  const body = new FormData();
  body.append("image", file);
  const response = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  const { name, subfolder } = await response.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

/** Upload a file and choose it. What goes wrong is shown as the host shows it. */
async function choose(node, file) {
  try {
    const name = await upload(file);
    const combo = node.widgets.find((widget) => widget.name === "file");
    // A new array, as a change inside the old one goes unseen by the Vue rendering.
    if (!combo.options.values.includes(name)) combo.options.values = [...combo.options.values, name];
    combo.value = name;
    combo.callback?.(name);
    node.setDirtyCanvas?.(true, true);
  } catch (error) {
    const detail = `${text("notUploaded")} ${file.name} (${error.message})`;
    app.extensionManager.toast.add({ severity: "error", summary: node.title, detail });
  }
}

function openDialog(node) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = SUFFIXES.join(",");
  input.addEventListener("change", () => {
    if (input.files.length) choose(node, input.files[0]);
  });
  input.click();
}

app.registerExtension({
  name: "SpatialFusion.LoadDepth",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const button = node.addWidget("button", "upload", null, () => openDialog(node), { serialize: false });
    button.label = text("chooseFile");
    node.onDragOver = (event) => [...(event?.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
    node.onDragDrop = (event) => {
      const file = [...event.dataTransfer.files].find(isDepthFile);
      if (file) choose(node, file);
      return Boolean(file);
    };
  },
});
