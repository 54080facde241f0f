// Pixels of many small convex polygons and thin lines. Without a GPU a canvas path of 5,000 polygons takes ten times longer.
// A pixel is one number, 0xAABBGGRR: browsers run on little-endian machines.
export const pack = ([r, g, b]) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
const WHITE = pack([255, 255, 255]);

export class Raster {
  constructor(width, height) {
    this.width = width; this.height = height;
    this.image = new ImageData(width, height); this.pixels = new Uint32Array(this.image.data.buffer);
    this.left = new Float32Array(height); this.right = new Float32Array(height);
  }

  // A pixel belongs to the polygon that holds its center. Neighbors share corners, and each edge is walked downward from
  // the same end whichever side asks, so that no pixel between them is missed or taken twice.
  polygon(at, indices, from, to, color) {
    const { left, right, width, height, pixels } = this;
    let top = height, bottom = 0;
    for (let i = from; i < to; i++) {
      const row = Math.ceil(at[2 * indices[i] + 1] - 0.5);
      if (row < top) top = row;
      if (row > bottom) bottom = row;
    }
    if (top < 0) top = 0;
    if (bottom > height) bottom = height;
    for (let row = top; row < bottom; row++) { left[row] = width; right[row] = 0; }
    for (let i = from, before = 2 * indices[to - 1]; i < to; i++) {
      const here = 2 * indices[i], down = at[before + 1] < at[here + 1], a = down ? before : here, b = down ? here : before;
      const x = at[a], y = at[a + 1], first = Math.max(Math.ceil(y - 0.5), 0), end = Math.min(Math.ceil(at[b + 1] - 0.5), height);
      if (first < end) {
        const slope = (at[b] - x) / (at[b + 1] - y);
        for (let row = first, cut = x + (first + 0.5 - y) * slope; row < end; row++, cut += slope) {
          if (cut < left[row]) left[row] = cut;
          if (cut > right[row]) right[row] = cut;
        }
      }
      before = here;
    }
    for (let row = top; row < bottom; row++) {
      const start = row * width, end = start + Math.min(Math.ceil(right[row] - 0.5), width);
      for (let p = start + Math.max(Math.ceil(left[row] - 0.5), 0); p < end; p++) pixels[p] = color;
    }
  }

  // A line one pixel wide, as by Wu (1991): each step along the longer axis splits its ink over two pixels across it.
  hair(x, y, X, Y, ink, strength) {
    const { pixels } = this, steep = Math.abs(Y - y) > Math.abs(X - x), forward = steep ? y < Y : x < X;
    const a = steep ? (forward ? y : Y) : forward ? x : X, b = steep ? (forward ? x : X) : forward ? y : Y;
    const A = steep ? (forward ? Y : y) : forward ? X : x, B = steep ? (forward ? X : x) : forward ? Y : y, slope = A > a ? (B - b) / (A - a) : 0;
    const size = steep ? this.height : this.width, across = (steep ? this.width : this.height) - 1, along = steep ? this.width : 1, aside = steep ? 1 : this.width;
    const first = Math.max(Math.ceil(a - 0.5), 0), end = Math.min(Math.ceil(A - 0.5), size), most = Math.round(strength * 256);
    for (let k = first, at = b + (first + 0.5 - a) * slope - 0.5; k < end; k++, at += slope) {
      const low = Math.floor(at);
      if (low < 0 || low >= across) continue;
      const far = Math.round(most * (at - low)), p = k * along + low * aside;
      pixels[p] = blend(pixels[p], ink, most - far); pixels[p + aside] = blend(pixels[p + aside], ink, far);
    }
  }

  // A line of any width: each step along the longer axis inks a span across it, the ends of the span in part.
  // `dash` leaves out every other stretch of that many steps.
  line(x, y, X, Y, width, ink, strength, dash = 0) {
    const { pixels } = this, steep = Math.abs(Y - y) > Math.abs(X - x);
    let a = steep ? y : x, b = steep ? x : y, A = steep ? Y : X, B = steep ? X : Y;
    if (a > A) [a, A, b, B] = [A, a, B, b];
    const slope = A > a ? (B - b) / (A - a) : 0, half = width / 2 * Math.sqrt(1 + slope * slope), over = width > 1.5 ? width / 4 : 0;
    const size = steep ? this.height : this.width, across = steep ? this.width : this.height, along = steep ? this.width : 1, aside = steep ? 1 : this.width;
    const first = Math.max(Math.ceil(a - over - 0.5), 0), end = Math.min(Math.ceil(A + over - 0.5), size);
    for (let k = first; k < end; k++) {
      if (dash && Math.floor(k / dash) % 2) continue;
      const middle = b + (k + 0.5 - a) * slope, low = middle - half, high = middle + half, last = Math.min(Math.ceil(high), across);
      for (let j = Math.max(Math.floor(low), 0); j < last; j++) {
        const p = k * along + j * aside, covered = Math.min(high, j + 1) - Math.max(low, j);
        pixels[p] = blend(pixels[p], ink, Math.round(256 * strength * covered));
      }
    }
  }

  // A disc or a square with a pale ring, its middle at (x, y).
  dot(x, y, size, ink, square) {
    const { width, height, pixels } = this, reach = Math.ceil(size + 2), I = Math.floor(x), J = Math.floor(y);
    for (let j = Math.max(J - reach, 0); j <= Math.min(J + reach, height - 1); j++) for (let i = Math.max(I - reach, 0); i <= Math.min(I + reach, width - 1); i++) {
      const dx = Math.abs(i + 0.5 - x), dy = Math.abs(j + 0.5 - y), away = (square ? Math.max(dx, dy) + size * 0.12 : Math.sqrt(dx * dx + dy * dy)) - size, p = j * width + i;
      if (away < 1.5) pixels[p] = blend(pixels[p], WHITE, away < 0.5 ? 256 : Math.round(256 * (1.5 - away)));
      if (away < 0.5) pixels[p] = blend(pixels[p], ink, away < -0.5 ? 256 : Math.round(256 * (0.5 - away)));
    }
  }
}

function blend(pixel, ink, share) { // share of ink in 256ths; red and blue at once, two bytes apart, so that neither runs into the other
  const rest = 256 - share;
  const rb = ((Math.imul(pixel & 0xff00ff, rest) + Math.imul(ink & 0xff00ff, share)) >>> 8) & 0xff00ff;
  const g = ((Math.imul(pixel & 0x00ff00, rest) + Math.imul(ink & 0x00ff00, share)) >>> 8) & 0x00ff00;
  return 0xff000000 | rb | g;
}
