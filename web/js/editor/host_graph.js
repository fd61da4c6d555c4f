/**
 * What the editor uses of the host's graph beyond extension hooks and `../host.js`. These are internals: each is asked
 * for before it is used, and without it the editor does without.
 */

import { html } from "../elements.js";

/**
 * An element for the page that keeps the host's keys and styles out of its content. The host takes Ctrl+Z before every
 * other listener, but not while a text field has the focus. All of the content has the focus as one element.
 * @param {HTMLElement} content @param {string} style address of its style sheet
 */
export function isolated(content, style) {
  const element = html("div", { class: "sfe-isolated" });
  element.attachShadow({ mode: "open" }).append(html("link", { rel: "stylesheet", href: style }), content);
  element.type = "textarea"; // by this the host knows a text field
  return element;
}

/** Take a widget out of the node's face. It keeps its value, and the workflow keeps saving it. */
export function hideWidget(widget) {
  widget.hidden = true; // for the classic rendering
  if (widget.options) widget.options.hidden = true; // for the Vue rendering
}

export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name) ?? null;

export const inputOf = (node, name) => node.inputs?.find((input) => input.name === name) ?? null;

/** Whether something is connected to an input. A widget's input that is connected has no say any more. */
export const isLinked = (node, name) => (inputOf(node, name)?.link ?? null) !== null;

/** The value of a widget, or a number in its place. */
export const valueOf = (node, name, otherwise) => widgetOf(node, name)?.value ?? otherwise;

/** Give a widget a value as if the user had typed it. */
export function setValue(app, node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget || widget.value === value) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
  widget.value = value; // the host's callback rounds it to the widget's step
}

/** Let the host notice a change of the graph, for its undo and for the mark of unsaved workflows. */
export function noteChange(app, node) {
  node.graph?.setDirtyCanvas?.(true, true);
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

/** The results that the host has for a node. It stores them by the node's id, or by a path through subgraphs. */
export function resultOf(app, node, nodeOutputs, nodeOfLocator, root) {
  for (const [locator, output] of Object.entries(nodeOutputs(app))) {
    if (nodeOfLocator(root, locator) === node) return output;
  }
  return null;
}
