/**
 * Draws rows of the five canonical solids of sf_model/rendering/intersect.py, with the same formulas. All are inscribed
 * in the cube [-0.5, 0.5]^3: box; ellipsoid; cylinder along y; cone with its apex at y = 0.5; prism with its ridge
 * along x at y = 0.5. A test compares the pixels with the server's.
 *
 * Each solid has its own loop over the pixels, without calls that a browser might not inline: this is where the editor
 * spends its time. In a row, the ray of a pixel is o + t * (a u + r), where u grows from pixel to pixel.
 *
 * @typedef {object} Row
 * @property {Float32Array} depth of the picture: metres, Infinity where nothing is
 * @property {Int16Array} index the object of each pixel
 * @property {number} first place of the row's first pixel in both
 * @property {number} count of pixels
 * @property {number} u of the first pixel
 * @property {number} step of u
 * @property {number} object what is drawn
 * @property {number} nearest no pixel of the solid is nearer than this
 */

/** Surfaces nearer than this are cut off, as on the server. */
export const NEAR_M = 0.01;
const TINY = 1e-12;

/**
 * Put an interval's first hit into a pixel, if it is the nearest there. From inside it is the far side. Of equal depths
 * the first object's is kept.
 */
function put(row, place, near, far) {
  if (!(near <= far)) return;
  const t = Math.fround(near > NEAR_M ? near : far);
  const present = row.depth[place];
  if (t > NEAR_M && (t < present || (t === present && row.object < row.index[place]))) {
    row.depth[place] = t;
    row.index[place] = row.object;
  }
}

/** Keeps the quotient of a ray parallel to a plane finite. */
const nonzero = (value) => (value < TINY && value > -TINY ? TINY : value);

function boxRow(row, [ox, oy, oz], [ax, ay, az], [rx, ry, rz]) {
  const { first, count, step, depth, nearest } = row;
  let { u } = row;
  for (let place = first; place < first + count; place += 1, u += step) {
    if (depth[place] < nearest) continue;
    const ix = 1 / nonzero(ax * u + rx);
    const mx = -ox * ix;
    const hx = ix < 0 ? -0.5 * ix : 0.5 * ix;
    let near = mx - hx;
    let far = mx + hx;
    const iy = 1 / nonzero(ay * u + ry);
    const my = -oy * iy;
    const hy = iy < 0 ? -0.5 * iy : 0.5 * iy;
    if (my - hy > near) near = my - hy;
    if (my + hy < far) far = my + hy;
    if (near > far) continue;
    const iz = 1 / nonzero(az * u + rz);
    const mz = -oz * iz;
    const hz = iz < 0 ? -0.5 * iz : 0.5 * iz;
    if (mz - hz > near) near = mz - hz;
    if (mz + hz < far) far = mz + hz;
    if (near <= far) put(row, place, near, far);
  }
}

function cylinderRow(row, [ox, oy, oz], [ax, ay, az], [rx, ry, rz]) {
  const { first, count, step, depth, nearest } = row;
  let { u } = row;
  const c = ox * ox + oz * oz - 0.25;
  for (let place = first; place < first + count; place += 1, u += step) {
    if (depth[place] < nearest) continue;
    const dx = ax * u + rx;
    const dz = az * u + rz;
    const a = Math.max(dx * dx + dz * dz, TINY);
    const b = ox * dx + oz * dz;
    const discriminant = b * b - a * c;
    if (discriminant < 0) continue;
    const root = Math.sqrt(discriminant);
    const inverse = 1 / nonzero(ay * u + ry);
    const middle = -oy * inverse;
    const half = 0.5 * Math.abs(inverse);
    put(row, place, Math.max((-b - root) / a, middle - half), Math.min((root - b) / a, middle + half));
  }
}

/** Starts from the point nearest to the centre, which keeps digits when the camera is far from a small solid. */
function ellipsoidRow(row, [ox, oy, oz], [ax, ay, az], [rx, ry, rz]) {
  const { first, count, step, depth, nearest } = row;
  let { u } = row;
  for (let place = first; place < first + count; place += 1, u += step) {
    if (depth[place] < nearest) continue;
    const dx = ax * u + rx;
    const dy = ay * u + ry;
    const dz = az * u + rz;
    const a = dx * dx + dy * dy + dz * dz;
    const closest = -(ox * dx + oy * dy + oz * dz) / a;
    const px = ox + closest * dx;
    const py = oy + closest * dy;
    const pz = oz + closest * dz;
    const slack = (0.25 - (px * px + py * py + pz * pz)) / a;
    if (slack < 0) continue;
    const half = Math.sqrt(slack);
    put(row, place, closest - half, closest + half);
  }
}

/** |xz|^2 <= r(y)^2 with r = (0.5 - y) / 2 is a double cone. The slab in y keeps the half below the apex. */
function coneRow(row, [ox, oy, oz], [ax, ay, az], [rx, ry, rz]) {
  const { first, count, step, depth, nearest } = row;
  let { u } = row;
  const drop = 0.5 * (0.5 - oy);
  const c = ox * ox + oz * oz - drop * drop;
  for (let place = first; place < first + count; place += 1, u += step) {
    if (depth[place] < nearest) continue;
    const dx = ax * u + rx;
    const dy = ay * u + ry;
    const dz = az * u + rz;
    const fall = -0.5 * dy;
    const a = dx * dx + dz * dz - fall * fall;
    const b = ox * dx + oz * dz - drop * fall;
    const discriminant = b * b - a * c;
    if (a > 0 && discriminant < 0) continue;
    const root = Math.sqrt(Math.max(discriminant, 0));
    const first_t = (-b - root) / nonzero(a);
    const second_t = (root - b) / nonzero(a);
    const high = Math.max(first_t, second_t);
    // A ray steeper than the cone's side enters the lower half once and stays in it.
    const near = a > 0 ? Math.min(first_t, second_t) : dy < 0 ? high : -Infinity;
    const far = a > 0 ? high : dy < 0 ? Infinity : Math.min(first_t, second_t);
    const inverse = 1 / nonzero(dy);
    const middle = -oy * inverse;
    const half = 0.5 * Math.abs(inverse);
    put(row, place, Math.max(near, middle - half), Math.min(far, middle + half));
  }
}

function prismRow(row, [ox, oy, oz], [ax, ay, az], [rx, ry, rz]) {
  const { first, count, step, depth, nearest } = row;
  let { u } = row;
  for (let place = first; place < first + count; place += 1, u += step) {
    if (depth[place] < nearest) continue;
    const ix = 1 / nonzero(ax * u + rx);
    const dy = ay * u + ry;
    const iy = 1 / nonzero(dy);
    const dz = az * u + rz;
    const left = nonzero(0.5 * dy - dz);
    const right = nonzero(0.5 * dy + dz);
    const leftAt = (0.25 - 0.5 * oy + oz) / left;
    const rightAt = (0.25 - 0.5 * oy - oz) / right;
    const mx = -ox * ix;
    const my = -oy * iy;
    const hx = 0.5 * Math.abs(ix);
    const hy = 0.5 * Math.abs(iy);
    let near = Math.max(mx - hx, my - hy);
    let far = Math.min(mx + hx, my + hy);
    if (left < 0) near = Math.max(near, leftAt);
    else far = Math.min(far, leftAt);
    if (right < 0) near = Math.max(near, rightAt);
    else far = Math.min(far, rightAt);
    put(row, place, near, far);
  }
}

/** @type {Record<string, (row: Row, origin: number[], a: number[], r: number[]) => void>} by the solid's name */
export const ROWS = { box: boxRow, cylinder: cylinderRow, ellipsoid: ellipsoidRow, cone: coneRow, prism: prismRow };
