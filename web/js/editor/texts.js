/** The texts of the scene editor. Other languages come from locales/<language>/main.json, as the viewer's texts. */

import { translated } from "../texts.js";

/** The same as in locales/en/main.json. */
const ENGLISH = {
  editScene: "Edit scene",
  editor: "Scene editor",
  tools: "Tools",
  cameraView: "View of the camera. The list of keys tells how to move things.",
  planView: "Plan from above. The list of keys tells how to move things.",
  camera: "Camera",
  plan: "Plan",
  add: "Add",
  duplicate: "Duplicate",
  remove: "Remove",
  setDown: "Set down",
  undo: "Undo",
  redo: "Redo",
  snap: "Snap to other objects and to what is below",
  names: "Show names",
  show: "Show",
  asObjects: "Objects",
  asDepth: "Depth",
  close: "Close",
  zoomIn: "Zoom in",
  zoomOut: "Zoom out",
  fitPlan: "Show everything",
  objects: "Objects",
  noObjects: "No objects yet. Double-click the plan, or press Add.",
  selected: "Selected object",
  name: "Name",
  shape: "Shape",
  right: "right",
  up: "up",
  ahead: "ahead",
  width: "width",
  height: "height",
  length: "length",
  heading: "heading",
  confidence: "confidence",
  pitch: "pitch",
  lens: "lens",
  fieldOfView: "field of view",
  ground: "Ground",
  photo: "Photograph behind the view",
  choosePhoto: "Choose a photograph",
  removePhoto: "Remove the photograph",
  photoOpacity: "Strength",
  hint: "Click an object to select it. Double-click to add one.",
  emptyHint: "Double-click the plan to add an object.",
  searchThing: "Search for a thing, or type a name",
  things: "Things",
  keys: "Keys",
  keysNote: "In a view. With Shift the steps are larger: 10 cm, 15 degrees, 10 percent.",
  keyMove: "move by 1 cm",
  keyLift: "lift and lower by 1 cm",
  keyTurn: "turn by 1 degree",
  keyGrow: "size by 1 percent",
  keyNext: "next object, with Shift the one before",
  keyAdd: "add an object",
  keyDuplicate: "duplicate",
  keyRemove: "remove",
  keySetDown: "set down on what is below",
  keyUndo: "undo, redo",
  keyFit: "show everything in the plan",
  keyFree: "while dragging: do not snap",
  fromInput: "This is the connected layout. Take it over to change it.",
  takeOver: "Take over",
  notRunYet: "Run the workflow to see the connected layout here, or place objects by hand.",
  overInput: "Your scene takes the place of the connected layout.",
  newerInput: "A new layout has arrived. Your scene still takes its place.",
  useInput: "Use the connected layout",
  unreadable: "The saved text is no layout that can be edited here. The node still tries to read it when the workflow runs.",
  startNew: "Start a new scene",
  cameraConnected: "The connected camera takes the place of this one when the workflow runs.",
  notUploaded: "The photograph was not uploaded:",
  notLoaded: "The shapes could not be loaded. Reload the page.",
};

/** @param {keyof typeof ENGLISH} key @returns {string} the text in the front end's language */
export function text(key) {
  return translated("spatialfusionEditor", key) ?? ENGLISH[key];
}

/** A name that is not longer than there is room. @returns {string} */
export function shortened(name, length) {
  const letters = [...name];
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}\u2026` : name;
}
