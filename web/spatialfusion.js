/**
 * The pack's front-end extension: the depth viewer on every node with metric results, and the setting that limits it.
 * The host's front end loads this ES module directly; there is no build step.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import {
  attachViewer,
  canBeInspected,
  isAlwaysInspected,
  releaseStrays,
  showResult,
  UI_KEY,
} from "./js/attach.js";
import { nodeOfLocator, nodeOutputs, rootGraph } from "./js/host.js";
import { loadTexts } from "./js/texts.js";

/** Show the results that the front end has: after a run, an undo, a change of workflow or a look into the queue. */
function refresh(outputs = nodeOutputs(app)) {
  for (const [locator, output] of Object.entries(outputs)) {
    const node = output?.[UI_KEY] ? nodeOfLocator(rootGraph(app), locator) : null;
    if (node && canBeInspected(node)) showResult(app, api, node, output);
  }
}

app.registerExtension({
  name: "SpatialFusion",

  // nodes/host/settings.py reads it. Other languages are in locales/<language>/settings.json.
  settings: [
    {
      id: "SpatialFusion.ShowDepth",
      category: ["SpatialFusion", "SpatialFusion", "ShowDepth"],
      name: "Show the depth on every node that makes one",
      tooltip: "Off: only Inspect Metric Depth and Save Metric Depth show it. It applies from the next run on.",
      type: "boolean",
      defaultValue: true,
    },
  ],

  async setup() {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL("./spatialfusion.css", import.meta.url).href;
    document.head.append(link);
    // The host's listener was added earlier, so it has stored the results. Its Vue rendering draws them only later.
    api.addEventListener("executed", () => refresh());
    // The first graph is loaded after this. Wait, so that its nodes have the texts.
    await loadTexts(app, api);
  },

  nodeCreated(node) {
    if (isAlwaysInspected(node)) attachViewer(app, api, node);
  },

  // An undo makes new nodes and keeps the results.
  loadedGraphNode() {
    refresh();
  },

  // For the nodes in subgraphs, which the host does not report.
  afterConfigureGraph() {
    releaseStrays(rootGraph(app));
    refresh();
  },

  onNodeOutputsUpdated(outputs) {
    refresh(outputs);
  },
});
