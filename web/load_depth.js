/**
 * The upload button of Load Metric Depth. The host's upload widget only takes pictures that browsers can show. This one
 * sends any depth file through the same route and selects it in the combo.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chooseValue, showError } from "./js/host.js";
import { text } from "./js/texts.js";

const NODE = "SpatialFusionLoadDepth";
const SUFFIXES = [".exr", ".png", ".npy", ".npz"];

function isDepthFile(file) {
  return SUFFIXES.some((suffix) => file.name.toLowerCase().endsWith(suffix));
}

/** Put a file into the host's input folder. Returns its name there. */
async function upload(file) {
  const body = new FormData();
  body.append("image", file);
  const response = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  const { name, subfolder } = await response.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

/** Upload a file and choose it. An error is shown as one of the host's messages. */
async function choose(node, file) {
  try {
    const name = await upload(file);
    chooseValue(node.widgets.find((widget) => widget.name === "file"), name);
    node.setDirtyCanvas?.(true, true);
  } catch (error) {
    showError(app, node.title, `${text("notUploaded")} ${file.name} (${error.message})`);
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
