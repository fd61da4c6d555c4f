/**
 * The upload buttons of the nodes that read files. The host's upload widgets only take pictures that browsers can show,
 * and meshes for its own 3D viewer. These send any file through the same route and select it in the combo.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chooseValue, showError } from "./js/host.js";
import { text } from "./js/texts.js";

/** By node: the combo with the files, the endings of their names, and the text of the button. */
const UPLOADS = {
  SpatialFusionLoadDepth: {
    widget: "file",
    suffixes: [".exr", ".png", ".npy", ".npz", ".tif", ".tiff", ".pfm"],
    label: () => text("chooseFile"),
  },
  SpatialFusionScaffoldMesh: {
    widget: "model_file",
    suffixes: [".glb", ".gltf", ".obj", ".stl"],
    label: () => text("chooseMesh"),
  },
};

function isWanted(file, suffixes) {
  return suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix));
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
    chooseValue(node.widgets.find((widget) => widget.name === UPLOADS[node.comfyClass].widget), name);
    node.setDirtyCanvas?.(true, true);
  } catch (error) {
    showError(app, node.title, `${text("notUploaded")} ${file.name} (${error.message})`);
  }
}

function openDialog(node) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = UPLOADS[node.comfyClass].suffixes.join(",");
  input.addEventListener("change", () => {
    if (input.files.length) choose(node, input.files[0]);
  });
  input.click();
}

app.registerExtension({
  name: "SpatialFusion.Uploads",

  nodeCreated(node) {
    const wanted = UPLOADS[node.comfyClass];
    if (!wanted) return;
    const button = node.addWidget("button", "upload", null, () => openDialog(node), { serialize: false });
    button.label = wanted.label();
    node.onDragOver = (event) => [...(event?.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
    node.onDragDrop = (event) => {
      const file = [...event.dataTransfer.files].find((dropped) => isWanted(dropped, wanted.suffixes));
      if (file) choose(node, file);
      return Boolean(file);
    };
  },
});
