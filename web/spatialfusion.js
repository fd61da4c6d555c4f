/**
 * The pack's front-end extension: the depth viewer on every node whose results carry metres, and the colours of the
 * pack's sockets. An ES module that the host's front end loads as it is; there is no build step.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import {
  attachViewer,
  canBeInspected,
  isAlwaysInspected,
  nodeOfLocator,
  releaseStrays,
  showResult,
  UI_KEY,
} from "./js/attach.js";
import { colourSockets } from "./js/socket_colours.js";
import { loadTexts } from "./js/texts.js";

/** Show what the front end holds as results: after a run, an undo, a switch of workflows or a look into the queue. */
function refresh(outputs = app.nodeOutputs) {
  for (const [locator, output] of Object.entries(outputs ?? {})) {
    const node = output?.[UI_KEY] ? nodeOfLocator(app.rootGraph ?? app.graph, locator) : null;
    if (node && canBeInspected(node)) showResult(app, api, node, output);
  }
}

app.registerExtension({
  name: "SpatialFusion",

  async setup() {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL("./spatialfusion.css", import.meta.url).href;
    document.head.append(link);
    colourSockets(app);
    // The host's own listener, which was added before, has stored the results by now; and what is done here is done
    // before its Vue rendering draws them.
    api.addEventListener("executed", () => refresh());
    // Waited for, so that the nodes of the first graph, which is loaded after this, show them.
    await loadTexts(app, api);
  },

  nodeCreated(node) {
    if (isAlwaysInspected(node)) attachViewer(app, api, node);
  },

  // An undo makes new nodes while the results stay.
  loadedGraphNode() {
    refresh();
  },

  // The nodes in subgraphs, of which the host does not tell.
  afterConfigureGraph() {
    releaseStrays(app.rootGraph ?? app.graph);
    refresh();
  },

  onNodeOutputsUpdated(outputs) {
    refresh(outputs);
  },
});
