/**
 * Colours of the pack's socket types. A user's palette with colours for these types wins.
 * The classic canvas reads them from the host's tables, the Vue rendering from CSS variables.
 */

const COLOURS = {
  SPATIALFUSION: { dark: "#ff9e64", light: "#b8540f" },
  SPATIALFUSION_OBJECTS: { dark: "#d7a65f", light: "#8a6116" },
  MOGE_GEOMETRY: { dark: "#4fd6be", light: "#0f7f6c" },
  DA3_GEOMETRY: { dark: "#41a6b5", light: "#1d6a7a" },
};

function theme() {
  return document.querySelector("html.dark-theme, body.dark-theme") ? "dark" : "light";
}

/** Set the colours in both renderings. */
export function colourSockets(app) {
  for (const table of [app.canvas.default_connection_color_byType, globalThis.LGraphCanvas?.link_type_colors]) {
    if (table) fillTable(table);
  }
  const sheet = new CSSStyleSheet();
  // A palette sets these variables inline, on the same or a deeper element, so it wins.
  sheet.replaceSync(`:root { ${variables("light")} } .dark-theme { ${variables("dark")} }`);
  document.adoptedStyleSheets.push(sheet);
}

function variables(name) {
  return Object.entries(COLOURS).map(([type, colours]) => `--color-datatype-${type}: ${colours[name]};`).join(" ");
}

/**
 * Fill a table with getters. At every change of palette the host empties the entries of types that are not in it; a
 * getter then gives the pack's colour.
 */
function fillTable(table) {
  for (const [type, colours] of Object.entries(COLOURS)) {
    let palette = table[type] ?? "";
    Object.defineProperty(table, type, {
      configurable: true,
      enumerable: true,
      get: () => palette || colours[theme()],
      set: (value) => {
        palette = value ?? "";
      },
    });
  }
}
