/**
 * Everything that the pack uses of the host's front end beyond extension hooks, node.addDOMWidget and api.fetchApi.
 * These are internals: each is asked for before it is used, and without it the pack does without.
 */

/** The widget with the host's own picture of a node's results, in the classic rendering. */
const HOST_PREVIEW = "$$canvas-image-preview";

/** The graph that holds all others. */
export function rootGraph(app) {
  return app.rootGraph ?? app.graph;
}

/** The results that the front end has, by the locator of their node. @returns {Record<string, object>} */
export function nodeOutputs(app) {
  return app.nodeOutputs ?? {};
}

/**
 * The node for a key of `nodeOutputs`: "7", "<subgraph's id>:7", or a path of ids through subgraph nodes.
 * Null if the open workflow has no such node.
 */
export function nodeOfLocator(root, locator) {
  const parts = String(locator).split(":");
  const last = parts.pop();
  let graph = root;
  for (const part of parts) {
    graph = graph?.subgraphs?.get?.(part) ?? graph?.getNodeById?.(part)?.subgraph ?? null;
  }
  return graph?.getNodeById?.(last) ?? null;
}

/** Whether a node is in the open workflow. A new node, which has no graph yet, is taken as one. */
export function isOpen(root, node) {
  const { graph } = node;
  if (!graph) return true;
  const open = graph === root || root.subgraphs?.get?.(graph.id) === graph;
  return open && graph.getNodeById?.(node.id) === node;
}

/**
 * Let the wheel over an element zoom the canvas. The classic canvas is under the element and does not get it. In the
 * Vue rendering the node passes it on.
 */
export function passWheel(app, element) {
  element.addEventListener("wheel", (event) => {
    if (globalThis.LiteGraph?.vueNodesMode || !app.canvas?.processMouseWheel) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  }, { passive: false });
}

/** Make a node high enough for its widgets. Its width stays, and its height where that is enough. */
export function fitHeight(node) {
  const needed = node.computeSize?.()[1] ?? 0;
  if (needed > node.size[1]) node.setSize([node.size[0], needed]);
}

/**
 * Hide the host's own picture of a node's results, from now on. The result keeps it for the queue and other clients.
 * Both renderings draw `node.imgs`; the classic one makes a widget for them when it draws a node that has some.
 */
export function hideHostPreview(node, output) {
  node.hideOutputImages = true; // for the Vue rendering
  node.images = output.images; // the classic rendering loads images that differ from these
  if (!Object.getOwnPropertyDescriptor(node, "imgs")?.get) {
    // The host sets them again after each run, and whenever it draws a node whose results are not these.
    Object.defineProperty(node, "imgs", { configurable: true, enumerable: false, get: () => undefined, set: () => {} });
  }
  const index = node.widgets?.findIndex((widget) => widget.name === HOST_PREVIEW) ?? -1;
  if (index < 0) return;
  node.widgets[index].onRemove?.();
  node.widgets.splice(index, 1);
}

/** Show an error as one of the host's messages, or in the console of a host without these. */
export function showError(app, summary, detail) {
  const { toast } = app.extensionManager ?? {};
  if (toast?.add) toast.add({ severity: "error", summary, detail });
  else if (toast?.error) toast.error(summary, { description: detail });
  else console.error(`${summary}: ${detail}`);
}

/** @returns {string} the language of the front end */
export function language(app) {
  return app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en";
}

/** Choose a value of a combo widget, which may be new. */
export function chooseValue(widget, value) {
  const { values } = widget.options ?? {};
  // A new array, because the Vue rendering does not see a change inside the old one.
  if (Array.isArray(values) && !values.includes(value)) widget.options.values = [...values, value];
  widget.value = value;
  widget.callback?.(value);
}
