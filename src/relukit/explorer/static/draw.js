import { Raster, pack } from "/raster.js";

// Pictures on canvas. Colors are told apart with any color vision: blue against orange, and Okabe and Ito's for classes.
export const CLASSES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7a7a7a", "#5b3fa0", "#8c564b"];
const LEVELS = 24, PALE = [244, 243, 240], BLUE = [46, 116, 181], ORANGE = [224, 130, 20];
const [INK, WHITE, EDGE, HINGE, GREY] = [[17, 17, 17], [255, 255, 255], [20, 25, 35], [11, 60, 110], [119, 119, 119]].map(pack);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = hex => (hex.length === 4 ? [1, 2, 3].map(i => parseInt(hex[i] + hex[i], 16)) : [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)));
const mix = level => PALE.map((p, i) => Math.round(p + ((level < 0 ? BLUE : ORANGE)[i] - p) * Math.abs(level))); // -1 blue, 0 pale, 1 orange
const SHADES = Array.from({ length: 2 * LEVELS + 1 }, (_, k) => pack(mix((k - LEVELS) / LEVELS))), CLASS_PIXELS = CLASSES.map(hex => pack(rgb(hex)));
const shade = value => SHADES[LEVELS + Math.round(Math.tanh(value) * LEVELS)];

// Fields, lines and dots go straight into pixels, which `show` puts on the canvas; arrow, marker and curves are canvas paths above them.
export class Plane {
  constructor(canvas, box) { this.canvas = canvas; this.context = canvas.getContext("2d", { alpha: false, willReadFrequently: true }); this.box = box; this.fit(); }

  fit() { // as many pixels as the screen shows; true if that has changed
    const shown = this.canvas.clientWidth || 700, size = Math.round(Math.min(shown * Math.min(devicePixelRatio, 2), 1200));
    this.unit = size / shown;
    if (this.raster && this.canvas.width === size) return false;
    this.canvas.width = this.canvas.height = size; this.raster = new Raster(size, size);
    return true;
  }

  pixel(x, y) {
    const [[l, b], [r, t]] = this.box, { width: w, height: h } = this.canvas;
    return [(x - l) / (r - l) * w, h - (y - b) / (t - b) * h];
  }

  point(event) {
    const at = this.canvas.getBoundingClientRect(), [[l, b], [r, t]] = this.box;
    return [l + (event.clientX - at.left) / at.width * (r - l), t - (event.clientY - at.top) / at.height * (t - b)];
  }

  clear() { this.raster.pixels.fill(this.ground ??= pack(rgb(css("--panel")))); }
  themed() { this.ground = undefined; }
  show() { this.context.putImageData(this.raster.image, 0, 0); }

  pieces(frame, classes, decided = true) {
    const { vertices, offsets, indices, color } = frame, at = new Float32Array(vertices.length), { raster } = this, { width: w, height: h } = this.canvas;
    const [[l, b], [r, t]] = this.box;
    for (let i = 0; i < vertices.length; i += 2) { at[i] = (vertices[i] - l) / (r - l) * w; at[i + 1] = h - (vertices[i + 1] - b) / (t - b) * h; }
    for (let k = 0; k + 1 < offsets.length; k++) raster.polygon(at, indices, offsets[k], offsets[k + 1], classes ? CLASS_PIXELS[color[k] % 10] : shade(color[k]));
    const strength = offsets.length > 3000 ? 0.2 : 0.32; // fainter where there are many
    for (let k = 0; k + 1 < offsets.length; k++) for (let i = offsets[k], before = indices[offsets[k + 1] - 1]; i < offsets[k + 1]; before = indices[i++]) {
      const here = indices[i]; // inner edges turn up once in each direction
      if (before < here) raster.hair(at[2 * before], at[2 * before + 1], at[2 * here], at[2 * here + 1], EDGE, strength);
    }
    if (decided) { this.segments(frame.boundary, 3.5, WHITE); this.segments(frame.boundary, 2, INK); }
  }

  segments(s, width, ink) {
    for (let i = 0; i < s.length; i += 4) this.raster.line(...this.pixel(s[i], s[i + 1]), ...this.pixel(s[i + 2], s[i + 3]), width * this.unit, ink, 1);
  }

  contours(grid, classes) { // sampled: shading between the samples, and level lines by marching squares
    const n = Math.round(Math.sqrt(grid.length)), { raster, unit } = this, { width: w, height: h } = this.canvas, cell = w / (n - 1);
    for (let row = 0; row < h; row++) {
      const v = (h - row - 0.5) / cell, j = Math.min(Math.floor(v), n - 2), q = v - j;
      for (let column = 0; column < w; column++) {
        const u = (column + 0.5) / cell, i = Math.min(Math.floor(u), n - 2), p = u - i, a = j * n + i;
        raster.pixels[row * w + column] = classes ? CLASS_PIXELS[grid[a + (p > 0.5) + n * (q > 0.5)]]
          : shade((1 - q) * ((1 - p) * grid[a] + p * grid[a + 1]) + q * ((1 - p) * grid[a + n] + p * grid[a + n + 1]));
      }
    }
    if (classes) return;
    for (const level of [-2, -1, 1, 2, 0]) for (let j = 0; j < n - 1; j++) for (let i = 0; i < n - 1; i++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], v = corners.map(([a, b]) => grid[b * n + a] - level), cuts = [];
      for (let k = 0; k < 4; k++) {
        const p = v[k], q = v[(k + 1) % 4];
        if ((p >= 0) === (q >= 0)) continue;
        const t = p / (p - q), [x, y] = corners[k], [X, Y] = corners[(k + 1) % 4];
        cuts.push([(x + t * (X - x)) * cell, h - (y + t * (Y - y)) * cell]);
      }
      for (let k = 0; k + 1 < cuts.length; k += 2) raster.line(...cuts[k], ...cuts[k + 1], (level ? 1 : 2.5) * unit, level ? EDGE : INK, level ? 0.4 : 1);
    }
  }

  hinges(lines, off) { // first-layer lines a x + b y + c = 0; dashed where the unit is off for all data
    const { raster, unit } = this, [[l, b], [r, t]] = this.box;
    for (let k = 0; k < lines.length / 3; k++) {
      const [p, q, s] = lines.subarray(3 * k, 3 * k + 3), ends = [], dead = off?.[k] >= 0;
      for (const x of [l, r]) { const y = -(s + p * x) / q; if (y >= b && y <= t) ends.push([x, y]); }
      for (const y of [b, t]) { const x = -(s + q * y) / p; if (x > l && x < r) ends.push([x, y]); }
      if (ends.length > 1) raster.line(...this.pixel(...ends[0]), ...this.pixel(...ends[1]), unit * 1.2, dead ? GREY : HINGE, dead ? 1 : 0.65, dead ? Math.round(7 * unit) : 0);
    }
  }

  dots(data, labels, kind) {
    const size = (data.length > 2400 ? 2.2 : 3.9) * this.unit * Math.min(1, Math.max(.5, this.canvas.clientWidth / 600)), two = [pack(rgb("#08519c")), pack(rgb("#b35806"))];
    for (let i = 0; i < data.length / 2; i++) {
      const ink = kind === "regression" ? shade(labels[i]) : kind === "classes" ? CLASS_PIXELS[labels[i]] : labels ? two[labels[i] ? 1 : 0] : INK;
      this.raster.dot(...this.pixel(data[2 * i], data[2 * i + 1]), size, ink, kind === "signs" && labels[i] === 1);
    }
  }

  outline(polygon, width = 2.6) {
    const c = this.context; c.beginPath();
    for (let i = 0; i < polygon.length; i += 2) c.lineTo(...this.pixel(polygon[i], polygon[i + 1]));
    c.closePath(); c.lineWidth = (width + 1.9) * this.unit; c.strokeStyle = "#fff"; c.stroke(); c.lineWidth = width * this.unit; c.strokeStyle = "#5b3fa0"; c.stroke();
  }

  arrow(from, to) {
    const c = this.context, u = this.unit, [x, y] = this.pixel(...from), [X, Y] = this.pixel(...to), angle = Math.atan2(Y - y, X - x);
    for (const [width, color] of [[6 * u, "#fff"], [3 * u, "#5b3fa0"]]) {
      c.lineWidth = width; c.strokeStyle = color; c.beginPath(); c.moveTo(x, y); c.lineTo(X, Y);
      for (const turn of [2.6, -2.6]) { c.moveTo(X, Y); c.lineTo(X + 15 * u * Math.cos(angle + turn), Y + 15 * u * Math.sin(angle + turn)); }
      c.stroke();
    }
  }

  marker(p, label) {
    const c = this.context, [x, y] = this.pixel(...p);
    c.beginPath(); c.arc(x, y, 8 * this.unit, 0, 7); c.fillStyle = CLASSES[label ?? 7]; c.fill(); c.lineWidth = 3.5 * this.unit; c.strokeStyle = "#5b3fa0"; c.stroke();
  }

  axes() { // of a drawn curve: both lines through 0, and where 1 lies
    const c = this.context, ink = css("--line");
    for (const at of [-1, -.5, 0, .5, 1]) { this.graph([[at, -1.25], [at, 1.25]], ink, at ? .6 : 1.6); this.graph([[-1.25, at], [1.25, at]], ink, at ? .6 : 1.6); }
    c.fillStyle = css("--quiet"); c.font = `${12 * this.unit}px system-ui, sans-serif`;
    for (const at of [-1, 1]) { const [x, y] = this.pixel(at, 0), [X, Y] = this.pixel(0, at); c.fillText(at, x + 4 * this.unit, y - 4 * this.unit); c.fillText(at, X + 4 * this.unit, Y - 4 * this.unit); }
  }

  name(p, text) { // beside a dot
    const c = this.context, [x, y] = this.pixel(...p), u = this.unit;
    c.font = `600 ${13 * u}px system-ui, sans-serif`; c.lineWidth = 3.5 * u; c.lineJoin = "round"; c.strokeStyle = "#fff"; c.fillStyle = "#111";
    c.strokeText(text, x + 8 * u, y - 7 * u); c.fillText(text, x + 8 * u, y - 7 * u);
  }

  graph(points, color, width = 5) {
    const c = this.context; c.beginPath();
    for (const p of points) c.lineTo(...this.pixel(...p));
    c.lineWidth = width * this.unit; c.strokeStyle = color; c.stroke();
  }
}

export function drawLoss(canvas, losses) {
  const c = canvas.getContext("2d"), { width: w, height: h } = canvas; c.clearRect(0, 0, w, h);
  const logs = losses.filter(v => v !== null).map(v => Math.log10(Math.max(v, 1e-12)));
  if (logs.length < 2) return;
  const low = Math.min(...logs), high = Math.max(...logs, low + 1e-6);
  c.beginPath(); logs.forEach((v, i) => c.lineTo(i / (logs.length - 1) * (w - 4) + 2, h - 6 - (v - low) / (high - low) * (h - 12)));
  c.lineWidth = 3; c.strokeStyle = css("--accent"); c.stroke();
}

const SIDE = 12, SHOWN = 20, STEP = 22, ACROSS = 13; // samples across a unit's picture; its pixels, with a gap; units in a row, as in page.css

// One canvas for each layer's pictures, and above each picture an element that tells: a canvas for each unit takes longer than the plane.
export function drawUnits(holder, frame, on) {
  if (holder.children.length !== frame.off_since.length || frame.off_since.some((layer, k) => holder.children[k].children.length !== layer.length + 1)) {
    holder.replaceChildren(...frame.off_since.map(layer => {
      const row = document.createElement("div"), canvas = document.createElement("canvas");
      Object.assign(canvas, { width: ACROSS * STEP, height: Math.ceil(layer.length / ACROSS) * STEP });
      row.append(canvas, ...layer.map(() => document.createElement("i")));
      return row;
    }));
  }
  let first = 0;
  frame.off_since.forEach((layer, k) => {
    const [canvas, ...cells] = holder.children[k].children;
    layer.forEach((since, unit) => {
      const off = since >= 0, title = `layer ${k + 1} unit ${unit + 1}${off ? `: off for all data since step ${since}` : ""}`;
      const kind = off ? "off" : on?.[k]?.[unit] ? "on" : "";
      if (cells[unit].title !== title) cells[unit].title = title;
      if (cells[unit].className !== kind) cells[unit].className = kind;
    });
    if (frame.thumbnails) paintUnits(canvas, layer, frame.thumbnails.subarray(first * SIDE * SIDE));
    first += layer.length;
  });
}

function paintUnits(canvas, layer, thumbnails) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height), pixels = new Uint32Array(image.data.buffer);
  layer.forEach((since, unit) => {
    const left = unit % ACROSS * STEP, top = Math.floor(unit / ACROSS) * STEP;
    for (let j = 0; j < SHOWN; j++) for (let i = 0; i < SHOWN; i++) {
      const v = thumbnails[(unit * SIDE + SIDE - 1 - Math.floor(j * SIDE / SHOWN)) * SIDE + Math.floor(i * SIDE / SHOWN)];
      pixels[(top + j) * canvas.width + left + i] = pack(since >= 0 ? [170 - v * .2, 170 - v * .2, 170 - v * .2] : [244 - v * .75, 243 - v * .45, 240 - v * .2]);
    }
  });
  context.putImageData(image, 0, 0);
}
