/**
 * The pinhole camera of sf_model/depth/metric_depth.py: square pixels, the principal point in the middle, OpenCV axes
 * (x right, y down, z forward), metres. A pixel (column, row) means its middle.
 *
 * @typedef {{width: number, height: number, fov_y_deg: number}} Camera
 * @typedef {[number, number, number]} Point
 */

/** @param {Camera} camera @returns {number} the focal length in pixels */
export function focalPx({ height, fov_y_deg }) {
  return (0.5 * height) / Math.tan((fov_y_deg * Math.PI) / 360);
}

/** @param {Camera} camera @returns {Point} the point in space that a pixel with this depth along the axis shows */
export function unproject(camera, column, row, depthM) {
  const focal = focalPx(camera);
  return [
    ((column + 0.5 - camera.width / 2) / focal) * depthM,
    ((row + 0.5 - camera.height / 2) / focal) * depthM,
    depthM,
  ];
}

/** @param {Point} a @param {Point} b @returns {number} */
export function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

/**
 * The pixel of a picture that is fitted into a box (object-fit: contain), under a position in that box.
 * @param {{left: number, top: number, width: number, height: number}} box on the screen, at any zoom
 * @returns {{column: number, row: number} | null} null beside the picture
 */
export function pixelUnder(box, pictureWidth, pictureHeight, clientX, clientY) {
  const scale = Math.min(box.width / pictureWidth, box.height / pictureHeight);
  const x = (clientX - box.left - (box.width - pictureWidth * scale) / 2) / scale;
  const y = (clientY - box.top - (box.height - pictureHeight * scale) / 2) / scale;
  if (!(x >= 0 && y >= 0 && x < pictureWidth && y < pictureHeight)) return null;
  return { column: Math.floor(x), row: Math.floor(y) };
}
