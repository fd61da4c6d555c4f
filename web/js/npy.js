/** Reads the .npy files that nodes/host/preview.py writes. */

import { text } from "./texts.js";

const MAGIC = "\x93NUMPY";

/**
 * A float32 array of a .npy file, C order, little endian.
 * @param {ArrayBuffer} buffer
 * @returns {{shape: number[], data: Float32Array}} throws an Error for other data
 */
export function parseNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 12 || String.fromCharCode(...bytes.subarray(0, 6)) !== MAGIC) {
    throw new Error(text("unreadable"));
  }
  const view = new DataView(buffer);
  const wide = bytes[6] >= 2;
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(start, start + length));
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1].split(",").filter((part) => part.trim()).map(Number);
  if (!/'descr':\s*'<f4'/.test(header) || !/'fortran_order':\s*False/.test(header) || !shape) {
    throw new Error(text("unreadable"));
  }
  const count = shape.reduce((product, size) => product * size, 1);
  if (start + length + 4 * count > buffer.byteLength) throw new Error(text("unreadable"));
  return { shape, data: new Float32Array(buffer, start + length, count) };
}
