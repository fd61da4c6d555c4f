/**
 * The pinhole camera of sf_model/depth/metric_depth.py: square pixels, the principal point in the middle, OpenCV axes
 * (x right, y down, z forward), metres. A pixel (column, row) is its centre.
 *
 * @typedef {{width: number, height: number, fov_y_deg: number}} Camera
 * @typedef {[number, number, number]} Point
 */

/** @param {Camera} camera @returns {number} the focal length in pixels */
function focalPx({ height, fov_y_deg }) {
  return (0.5 * height) / Math.tan((fov_y_deg * Math.PI) / 360);
}

/** @param {Camera} camera @returns {Point} the point of a pixel with this depth along the optical axis */
export function unproject(camera, column, row, depthM) {
  const focal = focalPx(camera);
  return [
    ((column + 0.5 - camera.width / 2) / focal) * depthM,
    ((row + 0.5 - camera.height / 2) / focal) * depthM,
    depthM,
  ];
}

/**
 * The camera of the image that a depth map was taken from. A preview has every step-th pixel of it.
 * @param {import("./viewer.js").DepthFile} file @returns {Camera}
 */
export function cameraOf({ width, height, full_width, full_height, fov_y_deg }) {
  return { width: full_width ?? width, height: full_height ?? height, fov_y_deg };
}

/** The pixel of the image that a pixel of its depth map is. As _thinned of nodes/host/preview.py. */
export function pixelOfImage(file, { column, row }) {
  const { width, height } = cameraOf(file);
  const step = file.step ?? 1;
  const first = (size) => Math.min(step >> 1, size - 1);
  return { column: column * step + first(width), row: row * step + first(height) };
}

/** @param {Point} a @param {Point} b @returns {number} */
export function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

/**
 * The pixel at a position in a box that shows a picture with object-fit: contain.
 * @param {{left: number, top: number, width: number, height: number}} box on the screen, at any zoom
 * @returns {{column: number, row: number} | null} null outside the picture
 */
export function pixelUnder(box, pictureWidth, pictureHeight, clientX, clientY) {
  const scale = Math.min(box.width / pictureWidth, box.height / pictureHeight);
  const x = (clientX - box.left - (box.width - pictureWidth * scale) / 2) / scale;
  const y = (clientY - box.top - (box.height - pictureHeight * scale) / 2) / scale;
  if (!(x >= 0 && y >= 0 && x < pictureWidth && y < pictureHeight)) return null;
  return { column: Math.floor(x), row: Math.floor(y) };
}
