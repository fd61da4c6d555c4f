/**
 * Where the viewer meets the host's front end: which node it sits on, which results it shows, how it goes away.
 * The rest of the viewer knows nothing of ComfyUI.
 *
 * @typedef {import("./viewer.js").DepthFile} DepthFile
 */

import { text } from "./texts.js";
import { DepthViewer } from "./viewer.js";

/** The key of nodes/host/preview.py in a node's results. */
export const UI_KEY = "spatialfusion_depth";
const WIDGET = "spatialfusion_depth_viewer";
let widgetCount = 0;
/** The host's own picture of a node's results in the classic rendering: a widget of this name. */
const HOST_PREVIEW = "$$canvas-image-preview";
const COLORMAP_PROPERTY = "depth_colormap";
const RANGE_PROPERTY = "depth_range";
const MIN_WIDTH_PX = 320;
const MIN_HEIGHT_PX = 320;

/** Nodes that have a viewer, from when they get it until they are removed. @type {Map<object, DepthViewer>} */
const viewers = new Map();

/**
 * Whether a node can have such results at all. When a workflow in API form is opened, the host keeps the results of the
 * one before, under numbers that now are other nodes'.
 */
export function canBeInspected(node) {
  return node.comfyClass === "SpatialFusionSaveDepth" || node.outputs?.some(({ type }) => type === "MOGE_GEOMETRY");
}

/** Whether a node has the viewer before it has run; the others get it with their first result. */
export function isAlwaysInspected(node) {
  return node.comfyClass === "SpatialFusionInspectDepth";
}

/**
 * The node that a key of `app.nodeOutputs` means: "7", "<subgraph's id>:7", or a path of ids through subgraph nodes.
 * Null where the open workflow has none.
 */
export function nodeOfLocator(rootGraph, locator) {
  const parts = String(locator).split(":");
  const last = parts.pop();
  let graph = rootGraph;
  for (const part of parts) {
    graph = graph?.subgraphs?.get?.(part) ?? graph?.getNodeById(part)?.subgraph ?? null;
  }
  return graph?.getNodeById(last) ?? null;
}

/** Put a viewer on a node, in place of the host's picture; the one that is there if it has one. */
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
 * Release the viewers of nodes that are in no graph of the open workflow: when another is loaded, the host tells the
 * nodes of the outermost graph that they are removed, but not those in subgraphs.
 */
export function releaseStrays(rootGraph) {
  for (const node of [...viewers.keys()]) {
    const { graph } = node;
    // A node that is just being made has no graph yet.
    if (!graph) continue;
    const open = graph === rootGraph || rootGraph.subgraphs?.get(graph.id) === graph;
    if (!open || graph.getNodeById(node.id) !== node) node.onRemoved();
  }
}

/** Show a node's result in its viewer. */
export function showResult(app, api, node, output) {
  hideHostPreview(node, output);
  attachViewer(app, api, node).show(output[UI_KEY]);
}

function addWidget(app, node, viewer) {
  // A name of its own each: after an undo the Vue rendering would keep showing the removed node's element, as the new
  // node has the same id and a widget of the same name.
  widgetCount += 1;
  const widget = node.addDOMWidget(`${WIDGET}_${widgetCount}`, WIDGET, viewer.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT_PX,
  });
  // Both are needed: options.serialize keeps it out of the prompt, this out of the saved workflow's widgets_values.
  widget.serialize = false;
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width, MIN_WIDTH_PX), Math.max(node.size[1], height)]);
  // The classic canvas lies beneath the widget and would not hear the wheel; the Vue rendering's nodes pass it on.
  viewer.element.addEventListener("wheel", (event) => {
    if (globalThis.LiteGraph?.vueNodesMode) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  }, { passive: false });
}

/** The viewer shows the same picture, with metres. The result keeps it, for the queue's and other clients' sake. */
function hideHostPreview(node, output) {
  node.hideOutputImages = true; // the Vue rendering asks this
  node.images = output.images; // the classic one loads images that differ from these
  node.imgs = undefined;
  const index = node.widgets?.findIndex((widget) => widget.name === HOST_PREVIEW) ?? -1;
  if (index >= 0) {
    node.widgets[index].onRemove?.();
    node.widgets.splice(index, 1);
  }
}

/** @param {DepthFile} file */
async function fetchArray(api, file, signal) {
  const { filename, subfolder, type } = file;
  const response = await api.fetchApi(`/view?${new URLSearchParams({ filename, subfolder, type })}`, { signal });
  if (!response.ok) throw new Error(text("gone"));
  return response.arrayBuffer();
}
