/**
 * The prefix of Save Metric Depth takes %date:yyyy-MM-dd% and %Node.widget%, as the host's savers do. The host replaces
 * them in the browser, and only for its own nodes. So this asks the host's own function for ours.
 */

import { app } from "../../scripts/app.js";

const NODE = "SpatialFusionSaveDepth";

/** The prefix as it goes into the prompt. A host without the function leaves it as it is. */
function replaced(value) {
  const replace = window.comfyAPI?.utils?.applyTextReplacements;
  return typeof replace === "function" ? replace(app.graph, value) : value;
}

app.registerExtension({
  name: "SpatialFusion.SaveDepth",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const prefix = node.widgets?.find((widget) => widget.name === "filename_prefix");
    if (prefix) prefix.serializeValue = () => replaced(prefix.value);
  },
});
