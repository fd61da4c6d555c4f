/**
 * Connects the viewer with the host's front end: it attaches viewers to nodes, shows their results and releases them.
 * The rest of the viewer does not depend on ComfyUI.
 *
 * @typedef {import("./viewer.js").DepthFile} DepthFile
 */

import { text } from "./texts.js";
import { DepthViewer } from "./viewer.js";

/** The key of nodes/host/preview.py in a node's results. */
export const UI_KEY = "spatialfusion_depth";
const WIDGET = "spatialfusion_depth_viewer";
let widgetCount = 0;
/** The widget with the host's own picture of a node's results, in the classic rendering. */
const HOST_PREVIEW = "$$canvas-image-preview";
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

/**
 * The node for a key of `app.nodeOutputs`: "7", "<subgraph's id>:7", or a path of ids through subgraph nodes.
 * Null if the open workflow has no such node.
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
export function releaseStrays(rootGraph) {
  for (const node of [...viewers.keys()]) {
    const { graph } = node;
    // A new node has no graph yet.
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
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width, MIN_WIDTH_PX), Math.max(node.size[1], height)]);
  // The classic canvas is under the widget and does not get the wheel. In the Vue rendering the node passes it on.
  viewer.element.addEventListener("wheel", (event) => {
    if (globalThis.LiteGraph?.vueNodesMode) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  }, { passive: false });
}

/** Hide the host's picture: the viewer shows the same one. The result keeps it for the queue and other clients. */
function hideHostPreview(node, output) {
  node.hideOutputImages = true; // for the Vue rendering
  node.images = output.images; // the classic rendering loads images that differ from these
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
