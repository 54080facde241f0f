// Pictures on canvas. Colors are told apart with any color vision: blue against orange, and Okabe and Ito's for classes.
const CLASSES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7a7a7a", "#5b3fa0", "#8c564b"];
const LEVELS = 24;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function shade(level) { // -1 blue, 0 pale, 1 orange
  const pale = [244, 243, 240], end = level < 0 ? [46, 116, 181] : [224, 130, 20], t = Math.abs(level);
  return `rgb(${pale.map((p, i) => Math.round(p + (end[i] - p) * t)).join(",")})`;
}

export class Plane {
  constructor(canvas, box) { this.canvas = canvas; this.context = canvas.getContext("2d"); this.box = box; }

  pixel(x, y) {
    const [[l, b], [r, t]] = this.box, { width: w, height: h } = this.canvas;
    return [(x - l) / (r - l) * w, h - (y - b) / (t - b) * h];
  }

  point(event) {
    const at = this.canvas.getBoundingClientRect(), [[l, b], [r, t]] = this.box;
    return [l + (event.clientX - at.left) / at.width * (r - l), t - (event.clientY - at.top) / at.height * (t - b)];
  }

  clear() { this.context.clearRect(0, 0, this.canvas.width, this.canvas.height); }

  pieces(frame, classes) {
    const c = this.context, { vertices, offsets, indices, color } = frame, at = new Float32Array(vertices.length), shades = new Map();
    const [[l, b], [r, t]] = this.box, { width: w, height: h } = this.canvas;
    for (let i = 0; i < vertices.length; i += 2) { at[i] = (vertices[i] - l) / (r - l) * w; at[i + 1] = h - (vertices[i + 1] - b) / (t - b) * h; }
    for (let k = 0; k + 1 < offsets.length; k++) {
      const key = classes ? color[k] : Math.round(Math.tanh(color[k]) * LEVELS);
      shades.has(key) ? shades.get(key).push(k) : shades.set(key, [k]);
    }
    for (const [key, pieces] of shades) {
      c.beginPath();
      for (const k of pieces) {
        for (let i = offsets[k]; i < offsets[k + 1]; i++) {
          const v = 2 * indices[i];
          i === offsets[k] ? c.moveTo(at[v], at[v + 1]) : c.lineTo(at[v], at[v + 1]);
        }
        c.closePath();
      }
      c.fillStyle = classes ? CLASSES[key % 10] : shade(key / LEVELS);
      c.fill();
    }
    c.beginPath();
    for (let k = 0; k + 1 < offsets.length; k++) for (let i = offsets[k], before = indices[offsets[k + 1] - 1]; i < offsets[k + 1]; before = indices[i++]) {
      const here = indices[i];
      if (before < here) { c.moveTo(at[2 * before], at[2 * before + 1]); c.lineTo(at[2 * here], at[2 * here + 1]); } // inner edges turn up once in each direction
    }
    c.lineWidth = offsets.length > 3000 ? 0.5 : 0.9; c.strokeStyle = css("--edge"); c.stroke();
    this.segments(frame.boundary, 3.5, "#fff"); this.segments(frame.boundary, 2, "#111");
  }

  segments(s, width, color) {
    const c = this.context; c.beginPath();
    for (let i = 0; i < s.length; i += 4) { c.moveTo(...this.pixel(s[i], s[i + 1])); c.lineTo(...this.pixel(s[i + 2], s[i + 3])); }
    c.lineWidth = width; c.strokeStyle = color; c.stroke();
  }

  contours(grid, classes) { // sampled: shading, and level lines by marching squares
    const n = Math.round(Math.sqrt(grid.length)), c = this.context, { width: w, height: h } = this.canvas, cell = w / (n - 1);
    for (let j = 0; j < n - 1; j++) for (let i = 0; i < n - 1; i++) {
      c.fillStyle = classes ? CLASSES[grid[j * n + i]] : shade(Math.tanh((grid[j * n + i] + grid[(j + 1) * n + i + 1]) / 2));
      c.fillRect(i * cell, h - (j + 1) * cell, cell + 1, cell + 1);
    }
    if (classes) return;
    for (const level of [-2, -1, 0, 1, 2]) {
      c.beginPath();
      for (let j = 0; j < n - 1; j++) for (let i = 0; i < n - 1; i++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], v = corners.map(([a, b]) => grid[b * n + a] - level), cuts = [];
        for (let k = 0; k < 4; k++) {
          const p = v[k], q = v[(k + 1) % 4];
          if ((p >= 0) === (q >= 0)) continue;
          const t = p / (p - q), [x, y] = corners[k], [X, Y] = corners[(k + 1) % 4];
          cuts.push([(x + t * (X - x)) * cell, h - (y + t * (Y - y)) * cell]);
        }
        for (let k = 0; k + 1 < cuts.length; k += 2) { c.moveTo(...cuts[k]); c.lineTo(...cuts[k + 1]); }
      }
      c.lineWidth = level ? 1.2 : 4; c.strokeStyle = level ? css("--edge") : "#111"; c.stroke();
    }
  }

  hinges(lines, off) { // first-layer lines a x + b y + c = 0; dashed where the unit is off for all data
    const c = this.context, [[l, b], [r, t]] = this.box;
    for (let k = 0; k < lines.length / 3; k++) {
      const [p, q, s] = lines.subarray(3 * k, 3 * k + 3), ends = [];
      for (const x of [l, r]) { const y = -(s + p * x) / q; if (y >= b && y <= t) ends.push([x, y]); }
      for (const y of [b, t]) { const x = -(s + q * y) / p; if (x > l && x < r) ends.push([x, y]); }
      if (ends.length < 2) continue;
      c.beginPath(); c.moveTo(...this.pixel(...ends[0])); c.lineTo(...this.pixel(...ends[1]));
      c.setLineDash(off?.[k] >= 0 ? [10, 10] : []); c.lineWidth = 1.1; c.strokeStyle = off?.[k] >= 0 ? "#777" : "rgba(11,60,110,.65)"; c.stroke(); c.setLineDash([]);
    }
  }

  dots(data, labels, kind) {
    const c = this.context, many = data.length > 1200;
    for (let i = 0; i < data.length / 2; i++) {
      const [x, y] = this.pixel(data[2 * i], data[2 * i + 1]), size = many ? 2.5 : 4.5;
      c.fillStyle = kind === "regression" ? shade(Math.tanh(labels[i])) : kind === "classes" ? CLASSES[labels[i]] : labels?.[i] ? "#b35806" : "#08519c";
      c.beginPath();
      labels?.[i] && kind === "signs" ? c.rect(x - size * .85, y - size * .85, size * 1.7, size * 1.7) : c.arc(x, y, size, 0, 7);
      c.fill(); c.lineWidth = 1; c.strokeStyle = "#fff"; c.stroke();
    }
  }

  outline(polygon) {
    const c = this.context; c.beginPath();
    for (let i = 0; i < polygon.length; i += 2) c.lineTo(...this.pixel(polygon[i], polygon[i + 1]));
    c.closePath(); c.lineWidth = 5; c.strokeStyle = "#fff"; c.stroke(); c.lineWidth = 3; c.strokeStyle = "#5b3fa0"; c.stroke();
  }

  arrow(from, to) {
    const c = this.context, [x, y] = this.pixel(...from), [X, Y] = this.pixel(...to), angle = Math.atan2(Y - y, X - x);
    for (const [width, color] of [[7, "#fff"], [3.5, "#5b3fa0"]]) {
      c.lineWidth = width; c.strokeStyle = color; c.beginPath(); c.moveTo(x, y); c.lineTo(X, Y);
      for (const turn of [2.6, -2.6]) { c.moveTo(X, Y); c.lineTo(X + 18 * Math.cos(angle + turn), Y + 18 * Math.sin(angle + turn)); }
      c.stroke();
    }
  }

  marker(p, label) {
    const c = this.context, [x, y] = this.pixel(...p);
    c.beginPath(); c.arc(x, y, 9, 0, 7); c.fillStyle = CLASSES[label ?? 7]; c.fill(); c.lineWidth = 4; c.strokeStyle = "#5b3fa0"; c.stroke();
  }

  graph(points, color, width = 5) {
    const c = this.context; c.beginPath();
    for (const p of points) c.lineTo(...this.pixel(...p));
    c.lineWidth = width; c.strokeStyle = color; c.stroke();
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

export function drawUnits(holder, frame) {
  const size = 12, total = frame.off_since.flat().length;
  if (holder.querySelectorAll("canvas").length !== total || holder.children.length !== frame.off_since.length) {
    holder.replaceChildren(...frame.off_since.map(layer => {
      const row = document.createElement("div");
      row.append(...layer.map(() => Object.assign(document.createElement("canvas"), { width: size, height: size })));
      return row;
    }));
  }
  const since = frame.off_since.flat(), image = new ImageData(size, size);
  holder.querySelectorAll("canvas").forEach((canvas, unit) => {
    for (let j = 0; j < size; j++) for (let i = 0; i < size; i++) {
      const v = frame.thumbnails[unit * size * size + (size - 1 - j) * size + i];
      image.data.set([244 - v * .75, 243 - v * .45, 240 - v * .2, 255], 4 * (j * size + i));
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    canvas.classList.toggle("off", since[unit] >= 0);
    canvas.title = since[unit] >= 0 ? `off for all data since step ${since[unit]}` : "";
  });
}
