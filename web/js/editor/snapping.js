/** Objects seen from above: what they stand on, and which edges of others are near. */

import { headingAxes } from "./space.js";

/** Half of the extents in x and z of an object's rectangle, which may be turned. */
export function halfExtents({ heading_deg, size_m }) {
  const { front, right } = headingAxes(heading_deg);
  const [width, , length] = size_m;
  return [0, 1].map((axis) => 0.5 * (Math.abs(right[axis]) * width + Math.abs(front[axis]) * length));
}

/** A point on the ground in an object's axes: [to its right, to its front], from its centre. */
export function ownPlace({ position_m, heading_deg }, x, z) {
  const { front, right } = headingAxes(heading_deg);
  const [dx, dz] = [x - position_m[0], z - position_m[2]];
  return [dx * right[0] + dz * right[1], dx * front[0] + dz * front[1]];
}

function holds(thing, x, z) {
  const [aside, ahead] = ownPlace(thing, x, z);
  return Math.abs(aside) <= thing.size_m[0] / 2 && Math.abs(ahead) <= thing.size_m[2] / 2;
}

/**
 * The height on which an object would stand at (x, z): the top of the highest object under its centre that is larger
 * and no higher than `below`, or the ground.
 */
export function restHeight(layout, index, x, z, below = Infinity) {
  const area = ({ size_m }) => size_m[0] * size_m[2];
  const own = layout.objects[index];
  const tops = layout.objects
    .filter((other, k) => k !== index && area(other) > area(own) && holds(other, x, z))
    .map((other) => other.position_m[1] + other.size_m[1])
    .filter((top) => top <= below + 1e-6);
  return Math.max(0, ...tops);
}

/** Whether an object stands on the ground or on another one. */
export function isResting(layout, index) {
  const [x, y, z] = layout.objects[index].position_m;
  return Math.abs(restHeight(layout, index, x, z, y) - y) < 0.005;
}

/**
 * The place near (x, z) at which the object's edges or centre are in line with those of others, or with the middle.
 * @param {number} reachM so far it may be moved
 * @returns {{x: number, z: number, guides: {axis: 0 | 1, at: number}[]}} guides: the lines, by their x (axis 0) or z
 */
export function snapped(layout, index, x, z, reachM) {
  const [halfX, halfZ] = halfExtents(layout.objects[index]);
  const others = layout.objects.filter((_, k) => k !== index).map((other) => {
    const [hx, hz] = halfExtents(other);
    const [ox, , oz] = other.position_m;
    return [[ox - hx, ox, ox + hx], [oz - hz, oz, oz + hz]];
  });
  const guides = [];
  const place = [[x, halfX], [z, halfZ]].map(([centre, half], axis) => {
    const lines = others.flatMap((other) => other[axis]);
    if (axis === 0) lines.push(0);
    let best = { distance: reachM, shift: 0, at: null };
    for (const at of lines) {
      for (const offset of [-half, 0, half]) {
        const shift = at - (centre + offset);
        if (Math.abs(shift) < best.distance) best = { distance: Math.abs(shift), shift, at };
      }
    }
    if (best.at !== null) guides.push({ axis, at: best.at });
    return centre + best.shift;
  });
  return { x: place[0], z: place[1], guides };
}

/** An angle, moved to a multiple of 15 degrees that is near. */
export function snappedHeading(degrees, reachDeg = 4) {
  const near = Math.round(degrees / 15) * 15;
  return Math.abs(near - degrees) <= reachDeg ? near : degrees;
}
