/**
 * The axes of a scene, as in sf_model/rendering/frame.py: x right, y down, z forward, the ground at y = 0. A matrix is
 * a Float64Array of nine numbers, row by row. Layouts count heights upwards, so their y is minus this y.
 */

const RADIANS = Math.PI / 180;
/** The height of the 35 mm film of 36 x 24 mm. */
const FILM_HEIGHT_MM = 24;

export const radians = (degrees) => degrees * RADIANS;

/** Vertical field of view in degrees of a lens on 35 mm film. */
export const fovOfLens = (focalMm) => (2 * Math.atan((0.5 * FILM_HEIGHT_MM) / focalMm)) / RADIANS;

/** Focal length in mm, on 35 mm film, of a vertical field of view in degrees. */
export const lensOfFov = (fovDeg) => (0.5 * FILM_HEIGHT_MM) / Math.tan(radians(fovDeg) / 2);

/** An angle in [0, 360). */
export const wholeTurn = (degrees) => ((degrees % 360) + 360) % 360;

/** Unit (x, z) of the front and of the right-hand side of an object with this heading. */
export function headingAxes(headingDeg) {
  const angle = radians(headingDeg);
  const front = [Math.sin(angle), -Math.cos(angle)];
  return { front, right: [front[1], -front[0]] };
}

/** The heading of a direction on the ground, in [0, 360). */
export const headingOf = (x, z) => wholeTurn(Math.atan2(x, -z) / RADIANS);

export function multiply(a, b) {
  const out = new Float64Array(9);
  for (let row = 0; row < 3; row += 1) {
    for (let column = 0; column < 3; column += 1) {
      out[3 * row + column] =
        a[3 * row] * b[column] + a[3 * row + 1] * b[3 + column] + a[3 * row + 2] * b[6 + column];
    }
  }
  return out;
}

/** a @ v as an array of three. */
export function transform(a, [x, y, z]) {
  return [a[0] * x + a[1] * y + a[2] * z, a[3] * x + a[4] * y + a[5] * z, a[6] * x + a[7] * y + a[8] * z];
}

export function inverse(m) {
  const [a, b, c, d, e, f, g, h, i] = m;
  const [p, q, r] = [e * i - f * h, f * g - d * i, d * h - e * g];
  const scale = 1 / (a * p + b * q + c * r);
  return Float64Array.of(p, c * h - b * i, b * f - c * e, q, a * i - c * g, c * d - a * f, r, b * g - a * h, a * e - b * d)
    .map((value) => value * scale);
}

/** A layout's camera for pictures of a size. */
export class Camera {
  /**
   * @param {{height_m: number, pitch_deg: number, fov_y_deg: number}} camera of a layout
   * @param {number} width @param {number} height of the picture in pixels
   */
  constructor({ height_m, pitch_deg, fov_y_deg }, width, height) {
    this.width = width;
    this.height = height;
    this.heightM = height_m;
    this.cos = Math.cos(radians(pitch_deg));
    this.sin = Math.sin(radians(pitch_deg));
    this.focalPx = (0.5 * height) / Math.tan(radians(fov_y_deg) / 2);
    /** The columns are the camera's right, down and forward axes. */
    this.rotation = Float64Array.of(1, 0, 0, 0, this.cos, this.sin, 0, -this.sin, this.cos);
    this.position = [0, -height_m, 0];
  }

  /** A world point in the camera's axes: right, down, ahead. */
  toCamera([x, y, z]) {
    const down = y + this.heightM;
    return [x, this.cos * down - this.sin * z, this.sin * down + this.cos * z];
  }

  /** Where a point in the camera's axes is in the picture, in pixels from its corner. Its depth must be positive. */
  toPicture([x, y, z]) {
    return [(x / z) * this.focalPx + 0.5 * this.width, (y / z) * this.focalPx + 0.5 * this.height];
  }

  /** The world direction, of depth 1, of the ray through a point of the picture. */
  ray(pictureX, pictureY) {
    const u = (pictureX - 0.5 * this.width) / this.focalPx;
    const v = (pictureY - 0.5 * this.height) / this.focalPx;
    return [u, this.cos * v + this.sin, this.cos - this.sin * v];
  }

  /** Where a ray meets the level plane at a world y. Null where it does not, or farther than farM ahead. */
  meet([x, y, z], levelY, farM = 1000) {
    const along = (levelY + this.heightM) / y;
    return along > 0 && along < farM ? [x * along, levelY, z * along] : null;
  }
}
