/** Fields with labels. */

import { html } from "../elements.js";

/**
 * A number with its unit.
 * @param {string} label @param {string} unit @param {number} step
 * @param {(value: number) => void} onChange is called for each finite number that is typed or stepped to
 */
export function numberField(label, unit, step, onChange) {
  const input = html("input", { type: "number", step: String(step), "aria-label": unit ? `${label} (${unit})` : label });
  const element = html("label", { class: "sfe-field" }, html("span", { class: "sfe-field-name" }, label), input);
  if (unit) element.append(html("span", { class: "sfe-unit" }, unit));
  input.addEventListener("input", () => {
    if (input.value !== "" && Number.isFinite(input.valueAsNumber)) onChange(input.valueAsNumber);
  });
  return {
    element,
    input,
    /** While the user types, the text stays as it is typed. */
    show(value, decimals = 2) {
      const shown = String(Number(value.toFixed(decimals)));
      if (hasFocus(input) && Number(input.value) !== Number(shown)) {
        // It was changed elsewhere, or it is out of range.
        if (Math.abs(input.valueAsNumber - value) > 0.5 * 10 ** -decimals) input.value = shown;
      } else if (!hasFocus(input)) input.value = shown;
    },
  };
}

/** Whether the user types here. In a shadow tree, the document does not say so. */
export const hasFocus = (element) => element.matches(":focus");

/** A choice. @param {[string, string][]} options values and what is shown */
export function choiceField(label, options, onChange) {
  const select = html("select", { "aria-label": label });
  select.append(...options.map(([value, shown]) => html("option", { value }, shown)));
  select.addEventListener("change", () => onChange(select.value));
  const element = html("label", { class: "sfe-field sfe-wide" }, html("span", { class: "sfe-field-name" }, label), select);
  return { element, select };
}

/** A tick. @param {(isOn: boolean) => void} onChange */
export function tickField(label, onChange) {
  const input = html("input", { type: "checkbox" });
  input.addEventListener("change", () => onChange(input.checked));
  return { element: html("label", { class: "sfe-tick" }, input, html("span", {}, label)), input };
}

/** A slider. @param {(value: number) => void} onChange */
export function sliderField(label, low, high, step, onChange) {
  const input = html("input", { type: "range", min: String(low), max: String(high), step: String(step), "aria-label": label });
  input.addEventListener("input", () => onChange(input.valueAsNumber));
  return { element: html("label", { class: "sfe-field sfe-wide" }, html("span", { class: "sfe-field-name" }, label), input), input };
}
