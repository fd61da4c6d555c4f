/** Small pictures for buttons, drawn with lines in a square of 16. */

import { html, svg } from "../elements.js";

const PATHS = {
  add: "M8 3v10M3 8h10",
  duplicate: "M6 6h7v7H6zM10 6V3H3v7h3",
  remove: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5l.7 8.5h5.6l.7-8.5M6.8 7v3.6M9.2 7v3.6",
  undo: "M6 3.5 3 6.5l3 3M3.3 6.5H9.5a3.2 3.2 0 0 1 0 6.4H6.5",
  redo: "M10 3.5l3 3-3 3M12.7 6.5H6.5a3.2 3.2 0 0 0 0 6.4h3",
  setDown: "M8 2.5V10M5 7.3l3 3 3-3M2.5 13.3h11",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  zoomIn: "M7 7m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M10 10l3.5 3.5M7 5v4M5 7h4",
  zoomOut: "M7 7m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M10 10l3.5 3.5M5 7h4",
  snap: "M4 2.5v5.3a4 4 0 0 0 8 0V2.5M4 5.2h2.6M9.4 5.2H12M6.6 2.5v5.2a1.4 1.4 0 0 0 2.8 0V2.5",
  names: "M2.5 3h6l5 5-5.5 5.5L2.5 8zM5.6 6h.01",
  keys: "M1.8 4.5h12.4v7.2H1.8zM4 7h.01M6.7 7h.01M9.4 7h.01M12 7h.01M5 9.4h6",
  photo: "M2 4h12v8.5H2zM2 10.6l3.3-3 2.6 2.3 2.4-2 3.7 3.2M10.8 6.4h.01",
  close: "M4 4l8 8M12 4l-8 8",
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  return svg("svg", { class: "sfe-icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}

/**
 * A button with a picture, and a word where there is room.
 * @param {string} name of the picture @param {string} label read aloud and shown as a hint
 * @param {() => void} onClick
 */
export function iconButton(name, label, onClick, isWordShown = false) {
  const button = html("button", { type: "button", class: `sfe-button sfe-do-${name}`, "aria-label": label, title: label }, icon(name));
  if (isWordShown) button.append(html("span", { class: "sfe-word" }, label));
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") !== "true") onClick();
  });
  return button;
}

/** Switch a button on or off. It keeps the focus, which a disabled element would lose. */
export function enable(button, isOn) {
  button.setAttribute("aria-disabled", String(!isOn));
}

/** The same, which stays pressed. @param {(isOn: boolean) => void} onChange */
export function iconToggle(name, label, isOn, onChange) {
  const button = iconButton(name, label, () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(now));
    onChange(now);
  });
  button.setAttribute("aria-pressed", String(isOn));
  return button;
}
