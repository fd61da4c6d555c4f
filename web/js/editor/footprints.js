/** Shapes seen from above, as SVG paths in the box of 1 x 1: x to the object's right, y to its front. */

import { transform } from "./space.js";

const ROUND = Array.from({ length: 24 }, (_, k) => [Math.cos((k * Math.PI) / 12) / 2, Math.sin((k * Math.PI) / 12) / 2]);
const SQUARE = [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]];
/** Points whose hull seen from any side is nearly the solid's. */
const POINTS = {
  box: [-0.5, 0.5].flatMap((y) => SQUARE.map(([x, z]) => [x, y, z])),
  cylinder: [-0.5, 0.5].flatMap((y) => ROUND.map(([x, z]) => [x, y, z])),
  cone: [[0, 0.5, 0], ...ROUND.map(([x, z]) => [x, -0.5, z])],
  prism: [...SQUARE.map(([x, z]) => [x, -0.5, z]), [-0.5, 0.5, 0], [0.5, 0.5, 0]],
  ellipsoid: [0, 0.3, 0.45].flatMap((y) =>
    [-y, y].flatMap((level) => ROUND.map(([x, z]) => [x * Math.sqrt(1 - 4 * y * y), level, z * Math.sqrt(1 - 4 * y * y)])),
  ),
};

/** @type {Map<string, string>} */
const paths = new Map();

/** @param {import("./shapes.js").Shapes} shapes @param {string} name @returns {string} the `d` of a path */
export function footprint(shapes, name) {
  const present = paths.get(name);
  if (present) return present;
  const parts = shapes.byName.get(name).primitives.map(({ solid, matrix, centre }) => {
    const points = POINTS[solid].map((point) => {
      const [x, , z] = transform(matrix, point);
      return [x + centre[0], z + centre[2]];
    });
    return `M${hull(points).map(([x, z]) => `${x.toFixed(4)} ${z.toFixed(4)}`).join("L")}Z`;
  });
  const path = parts.join("");
  paths.set(name, path);
  return path;
}

/** The convex hull, counter-clockwise (Andrew's monotone chain). @param {number[][]} points */
export function hull(points) {
  const sorted = [...points].sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  const chain = (ordered) => {
    const found = [];
    for (const point of ordered) {
      while (found.length > 1 && turn(found.at(-2), found.at(-1), point) <= 0) found.pop();
      found.push(point);
    }
    found.pop();
    return found;
  };
  return [...chain(sorted), ...chain(sorted.reverse())];
}

function turn([ax, ay], [bx, by], [cx, cy]) {
  return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
}
