/**
 * Connects the viewer with the host's front end: it attaches viewers to nodes, shows their results and releases them.
 * The rest of the viewer does not depend on ComfyUI.
 *
 * @typedef {import("./viewer.js").DepthFile} DepthFile
 */

import { fitHeight, hideHostPreview, isOpen, passWheel } from "./host.js";
import { text } from "./texts.js";
import { DepthViewer, FinalError } from "./viewer.js";

/** The key of nodes/host/preview.py in a node's results. */
export const UI_KEY = "spatialfusion_depth";
const WIDGET = "spatialfusion_depth_viewer";
let widgetCount = 0;
const COLORMAP_PROPERTY = "depth_colormap";
const RANGE_PROPERTY = "depth_range";
const MIN_WIDTH_PX = 320;
const MIN_HEIGHT_PX = 320;

/** The viewers of all nodes that have one. @type {Map<object, DepthViewer>} */
const viewers = new Map();

/**
 * Whether a node can have depth results. After a workflow in API form is opened, the host keeps the results of the one
 * before, under ids that now belong to other nodes.
 */
export function canBeInspected(node) {
  return node.comfyClass === "SpatialFusionSaveDepth" || node.outputs?.some(({ type }) => type === "MOGE_GEOMETRY");
}

/** Whether a node has the viewer before its first run. Other nodes get it with their first result. */
export function isAlwaysInspected(node) {
  return node.comfyClass === "SpatialFusionInspectDepth";
}

/** The node's viewer. It is put on the node if there is none, instead of the host's picture. */
export function attachViewer(app, api, node) {
  const present = viewers.get(node);
  if (present) return present;
  const viewer = new DepthViewer({
    load: (file, signal) => fetchArray(api, file, signal),
    colormap: node.properties?.[COLORMAP_PROPERTY],
    range: node.properties?.[RANGE_PROPERTY],
    onChoice: (colormap, range) => {
      node.properties[COLORMAP_PROPERTY] = colormap;
      node.properties[RANGE_PROPERTY] = range;
    },
  });
  viewers.set(node, viewer);
  addWidget(app, node, viewer);
  const { onAdded, onConfigure, onRemoved } = node;
  node.onAdded = function (...args) {
    onAdded?.apply(this, args);
    viewers.set(node, viewer);
  };
  node.onConfigure = function (...args) {
    onConfigure?.apply(this, args);
    viewer.choose(node.properties?.[COLORMAP_PROPERTY], node.properties?.[RANGE_PROPERTY]);
  };
  node.onRemoved = function (...args) {
    onRemoved?.apply(this, args);
    viewers.delete(node);
    viewer.release();
  };
  return viewer;
}

/**
 * Release the viewers of nodes that are in no graph of the open workflow. When another workflow is loaded, the host
 * removes the nodes of the root graph with a call of onRemoved, but not those in subgraphs.
 */
export function releaseStrays(root) {
  for (const node of [...viewers.keys()]) if (!isOpen(root, node)) node.onRemoved();
}

/** Show a node's result in its viewer. */
export function showResult(app, api, node, output) {
  hideHostPreview(node, output);
  attachViewer(app, api, node).show(output[UI_KEY]);
}

function addWidget(app, node, viewer) {
  // Every widget has another name. After an undo the new node has the same id; with the same widget name the Vue
  // rendering would keep the element of the removed node.
  widgetCount += 1;
  const widget = node.addDOMWidget(`${WIDGET}_${widgetCount}`, WIDGET, viewer.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT_PX,
  });
  // options.serialize keeps it out of the prompt, this keeps it out of widgets_values in saved workflows.
  widget.serialize = false;
  // A new node gets a readable width. A node of a saved workflow gets its own back when the host configures it.
  if (isAlwaysInspected(node) && node.size[0] < MIN_WIDTH_PX) node.setSize([MIN_WIDTH_PX, node.size[1]]);
  fitHeight(node);
  passWheel(app, viewer.element);
}

/** @param {DepthFile} file */
async function fetchArray(api, file, signal) {
  const { filename, subfolder, type } = file;
  const response = await api.fetchApi(`/view?${new URLSearchParams({ filename, subfolder, type })}`, { signal });
  if (response.status === 404) throw new FinalError(text("gone"));
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}
