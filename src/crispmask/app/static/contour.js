// The outline of a mask as a path: marching squares over its 8-bit probabilities, through the points of probability 1/2.

const LEVEL = 127.5;
const [TOP, RIGHT, BOTTOM, LEFT] = [0, 1, 2, 3];
// The directed lines through a cell, by which of its corners are inside: 1 top left, 2 top right, 4 bottom right,
// 8 bottom left. Every line ends at the side where one of the neighbouring cell begins.
const LINES = [
  [], [[LEFT, TOP]], [[TOP, RIGHT]], [[LEFT, RIGHT]], [[RIGHT, BOTTOM]], [[LEFT, TOP], [RIGHT, BOTTOM]], [[TOP, BOTTOM]],
  [[LEFT, BOTTOM]], [[BOTTOM, LEFT]], [[BOTTOM, TOP]], [[TOP, RIGHT], [BOTTOM, LEFT]], [[BOTTOM, RIGHT]], [[RIGHT, LEFT]],
  [[RIGHT, TOP]], [[TOP, LEFT]], [],
];

/**
 * @param {Uint8Array} alpha width * height values, row by row; from 128 on a pixel is inside.
 * @param {number} width
 * @param {number} height
 * @param {{x: number, y: number, sx: number, sy: number}} place where the first pixel begins, and the size of one.
 * @returns {Path2D} closed lines, to be filled by the even-odd rule.
 */
export function contour(alpha, width, height, place) {
  const path = new Path2D();
  const across = width + 2, down = height + 2; // with a rim that is outside, so that every line closes
  const padded = new Uint8Array(across * down);
  for (let y = 0; y < height; y++) padded.set(alpha.subarray(y * width, (y + 1) * width), (y + 1) * across + 1);

  // A side of a cell is twice the number of its first corner, plus one if it is vertical.
  const next = new Int32Array(2 * across * down).fill(-1);
  const starts = [];
  for (let y = 0; y < down - 1; y++) {
    for (let x = 0; x < across - 1; x++) {
      const i = y * across + x;
      const inside = (padded[i] > LEVEL) | ((padded[i + 1] > LEVEL) << 1)
        | ((padded[i + across + 1] > LEVEL) << 2) | ((padded[i + across] > LEVEL) << 3);
      if (inside === 0 || inside === 15) continue;
      const sides = [2 * i, 2 * (i + 1) + 1, 2 * (i + across), 2 * i + 1];
      for (const [from, to] of LINES[inside]) {
        next[sides[from]] = sides[to];
        starts.push(sides[from]);
      }
    }
  }
  const point = (side, draw) => {
    const i = side >> 1, vertical = side & 1;
    const first = padded[i], second = padded[i + (vertical ? across : 1)];
    const t = (LEVEL - first) / (second - first);
    // The corners of cells are the centres of pixels.
    const x = (i % across) - 0.5 + (vertical ? 0 : t), y = Math.floor(i / across) - 0.5 + (vertical ? t : 0);
    path[draw](place.x + x * place.sx, place.y + y * place.sy);
  };
  for (const start of starts) {
    if (next[start] < 0) continue;
    point(start, "moveTo");
    for (let side = start; next[side] >= 0;) {
      const following = next[side];
      next[side] = -1;
      side = following;
      if (side !== start) point(side, "lineTo");
    }
    path.closePath();
  }
  return path;
}
