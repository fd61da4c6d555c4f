/** The keys of the two views. In fields and lists the keys keep their usual meaning. */

/** Metres of one press of an arrow key, and with Shift. */
export const STEP_M = { fine: 0.01, coarse: 0.1 };
const ARROWS = {
  ArrowLeft: [-1, 0, 0],
  ArrowRight: [1, 0, 0],
  ArrowUp: [0, 0, 1],
  ArrowDown: [0, 0, -1],
  PageUp: [0, 1, 0],
  PageDown: [0, -1, 0],
};
const TURNS = { ",": 1, "<": 1, ".": -1, ">": -1, ";": 1, ":": -1 };
const GROWS = { "+": 1, "=": 1, "*": 1, "-": -1, "_": -1 };

/** What is typed into: there, undo and Delete belong to the text. */
const isField = (element) => element instanceof HTMLElement && element.matches("input:not([type=checkbox], [type=range]), select, textarea");

/**
 * Listen to the keys of the whole editor.
 * @param {HTMLElement} root
 * @param {import("./editor.js").SceneEditor} editor
 */
export function listenToKeys(root, editor) {
  root.addEventListener("keydown", (event) => {
    // The host has shortcuts on the window: Delete would remove the node, and Ctrl+Z undo a change of the graph.
    event.stopPropagation();
    const isUsed = withControl(event, editor) || (isStage(event.target) && plain(event, editor));
    if (isUsed) event.preventDefault();
  });
  for (const type of ["keyup", "keypress"]) root.addEventListener(type, (event) => event.stopPropagation());
}

/** A view, or the editor itself after a press beside its parts. */
const isStage = (element) => element instanceof Element && element.matches(".sfe, .sfe-stage");

/** @returns {boolean} whether the key was used */
function withControl(event, { scene, actions }) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || isField(event.target)) return false;
  const key = event.key.toLowerCase();
  if (key === "z" && event.shiftKey) scene.redo();
  else if (key === "z") scene.undo();
  else if (key === "y") scene.redo();
  else if (key === "d") actions.duplicate();
  else return false;
  return true;
}

/** @returns {boolean} whether the key was used */
function plain(event, editor) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const { scene, actions } = editor;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = event.shiftKey ? STEP_M.coarse : STEP_M.fine;
    actions.move(...arrow.map((sign) => sign * step));
  } else if (TURNS[event.key]) actions.turn(TURNS[event.key], event.shiftKey);
  else if (GROWS[event.key]) actions.grow(GROWS[event.key], event.shiftKey);
  else if (event.key === "Delete" || event.key === "Backspace") actions.remove();
  else if (event.key === "End") actions.setDown();
  else if (event.key === "n" || event.key === "N") actions.next(event.shiftKey ? -1 : 1);
  else if (event.key === "Insert" || event.key === "a") editor.openPalette();
  else if (event.key === "f") editor.plan.fit();
  else if (event.key === "Escape" && (editor.cancelDrag() || scene.selected >= 0)) scene.select(-1);
  else if (event.key === "Escape") return false;
  else return false;
  return true;
}
