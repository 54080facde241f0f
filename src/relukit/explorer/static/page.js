// The page: one state, which the link holds; every number on it comes from Python.
import { ask, linkTo, readLink, writeLink } from "/wire.js";
import { CLASSES, Plane, drawLoss, drawUnits } from "/draw.js";
import { MOMENTS } from "/moments.js";

const $ = id => document.getElementById(id);
const start = () => ({ data: "spiral", points: [], widths: [32, 32], activation: "relu", init: "he", lr: 0.01, momentum: true, seed: 0, events: [] });
const linked = readLink() ?? {};
const S = { view: "train", step: 0, point: null, along: 0, drawn: [], shown: null, trained: false, kept: null, ...linked, settings: { ...start(), ...linked.settings } };
const NAMES = { relu: "ReLU", leaky_relu: "Leaky ReLU", prelu: "PReLU", elu: "ELU", gelu: "GELU", tanh: "tanh", sigmoid: "sigmoid" };
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const THUMBNAILS = 6; // while it plays, the units' pictures change each sixth step
const BOX = [[-1.25, -1.25], [1.25, 1.25]];
const plane = new Plane($("plane"), BOX);
let frame = null, found = null, curve = null, opened = null, compared = null, playing = false, dragged = null, queue = Promise.resolve(), maxStep = 20000;
const relukit = window.relukit = { state: S, fps: 0, frames: 0, spent: 0, get frame() { return frame; }, get found() { return found; }, get curve() { return curve; }, get opened() { return opened; }, get compared() { return compared; } };

const put = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const say = text => { $("message").textContent = text; };
const short = v => v === null || v === undefined ? "–" : Math.abs(v) >= 1e4 || (v && Math.abs(v) < 1e-3) ? v.toExponential(2) : String(Number(v.toPrecision(4)));
const training = () => S.view === "train" || S.view === "max";
// questions go one after the other, so that answers arrive in the order of the clicks
const then = work => (queue = queue.then(work).catch(error => { playing = false; showPlay(); say(error.message === "Failed to fetch" ? "Python has stopped; start relukit explore again." : error.message); }));
const facts = () => ({ settings: S.settings, step: S.step });

let ahead = null; // while one frame is drawn, Python computes the next
async function getFrame() {
  const asked = ahead?.step === S.step && playing ? ahead.answer : ask("frame", facts());
  ahead = null;
  frame = await asked;
  if (playing && frame.step < maxStep) { const step = frame.step + 1; ahead = { step, answer: ask("frame", { settings: S.settings, step, thumbnails: step % THUMBNAILS === 0 }) }; ahead.answer.catch(() => {}); }
  S.step = frame.step; relukit.frames += 1;
  const began = performance.now(); draw(); relukit.spent += performance.now() - began;
}

const TOLD = 3; // while it plays, numbers and curves change each third step: more often nobody can read them
function draw() {
  plane.clear();
  if (S.view === "curve") { plane.show(); return drawCurve(); }
  if (S.view === "open") { plane.show(); return drawOpened(); }
  if (!frame || !training()) { plane.show(); return put("sentence", ""); }
  $("drag-label").hidden = !found?.nearest;
  if (!found) put("point-text", "Click the plane: its piece, its formula, the way to the nearest decision boundary.");
  drawFrame();
  if (!playing || frame.step % TOLD === 0) tellFrame();
}

function drawFrame() {
  const classes = frame.kind === "classes";
  plane.box = BOX;
  frame.vertices ? plane.pieces(frame, classes, frame.kind !== "regression") : plane.contours(frame.grid, classes);
  if (frame.vertices) plane.hinges(frame.lines, frame.off_since[0]);
  plane.dots(frame.data, frame.labels, frame.kind); plane.show();
  for (const k of found?.neighbors ?? []) plane.outline(corners(frame, k), 1.2);
  if (found?.polygon) plane.outline(found.polygon);
  if (found?.nearest) plane.arrow(found.point, found.nearest);
  if (found) plane.marker(dragged?.point ?? found.point, dragged?.label ?? found.label);
}

const corners = ({ vertices, offsets, indices }, k) => Array.from(indices.subarray(offsets[k], offsets[k + 1]), i => [vertices[2 * i], vertices[2 * i + 1]]).flat();

function tellFrame() {
  drawLoss($("loss"), frame.losses); drawUnits($("units"), frame, found?.on);
  const losses = frame.losses.filter(v => v !== null);
  put("loss-ends", losses.length > 1 ? `${short(losses[0])} → ${short(losses.at(-1))}` : "");
  const rows = [["step", frame.step], ["pieces", frame.count ?? "none: smooth"], ["loss", short(frame.loss)]];
  if (frame.accuracy !== null) rows.push(["right", `${(100 * frame.accuracy).toFixed(1)} %`]);
  if (frame.area_error !== undefined) rows.push(["area of all pieces", `${short(frame.area)} (box 6.25)`]);
  if (frame.max_error !== undefined) rows.push(["largest error, exact", short(frame.max_error)]);
  numbers(rows);
  const dead = frame.off_since.flatMap((layer, k) => layer.map((at, unit) => [k + 1, unit + 1, at]).filter(e => e[2] >= 0));
  dead.sort((a, b) => b[2] - a[2]); // the latest first
  const units = dead.slice(0, 4).map(([k, u, at]) => `layer ${k} unit ${u} ${at ? `since step ${at}` : "from the start"}`).join("; ");
  $("dead").classList.toggle("fine", !dead.length);
  put("dead", dead.length ? `${dead.length} off for all data: ${units}${dead.length > 4 ? "; …" : ""}` : "Every unit is on for some row.");
  put("sentence", frame.sentence ?? (S.view === "max" ? aboutMax() : "Each patch is one exact affine piece. Long thin lines: first-layer units switch there, dashed where one is off for all data. Thick line: the decision."));
  legend(frame.kind === "classes" ? new Set(frame.color ?? frame.grid) : null, frame.kind === "regression");
  $("plane").setAttribute("aria-label", `Plane of the two inputs, step ${frame.step}, ${frame.count ?? "no exact"} pieces. Arrow keys move a point, Enter asks about it.`);
}

function legend(classes, regression) { // what the colors mean
  const names = classes ? [...classes].sort((a, b) => a - b).map(k => [CLASSES[k % 10], k]) : regression ? [["#2e74b5", "output below 0"], ["#f4f3f0", "0"], ["#e08214", "above 0"]] : [["#2e74b5", "blue: output below 0"], ["#e08214", "orange: above 0"]];
  if ($("legend").textContent === names.map(n => n[1]).join("")) return;
  $("legend").replaceChildren(...names.map(([color, name]) => { const one = document.createElement("span"), chip = document.createElement("i"); chip.style.background = color; one.append(chip, String(name)); return one; }));
}

const aboutMax = () => S.settings.widths.length < 2
  ? "One hidden layer bends along whole lines; max(0, x, y) bends along three rays that end in the origin. However long you train, an error stays: on a line through the origin that is bent on one side, it must be bent on the other too. Add a layer."
  : "Two hidden layers can: max(x, y) = y + relu(x − y), then relu again. Press “Set the weights that make it”: the error becomes 0 on the whole box, not only at samples.";

function numbers(rows) {
  const cells = $("numbers").children; // the names seldom change: then only the values are written
  if (cells.length === 2 * rows.length && rows.every(([name], k) => cells[2 * k].textContent === name)) return rows.forEach(([, value], k) => { cells[2 * k + 1].textContent = value; });
  $("numbers").replaceChildren(...described(rows));
}
const described = rows => rows.flatMap(([name, value]) => [Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value })]);

// ---- training
let rounds = 0; // pressing twice in a row must not start two loops
async function play() {
  playing = !playing; showPlay();
  const round = ++rounds;
  let last = performance.now();
  while (playing && training() && round === rounds) {
    S.step = Math.min(S.step + 1, maxStep); found = dragged = S.point = null;
    await then(getFrame);
    await new Promise(done => calm ? setTimeout(done, 500) : requestAnimationFrame(done));
    const now = performance.now(); relukit.fps = .9 * (relukit.fps || 1000 / (now - last)) + .1 * 1000 / (now - last); last = now;
    if (relukit.frames % 15 === 0) keep();
    if (S.step >= maxStep) { playing = false; showPlay(); say(`${maxStep} steps are the page's limit.`); }
  }
  if (training() && round === rounds) await then(getFrame); // the step that is shown, with its units
  keep();
}
const showPlay = () => { $("play").textContent = playing ? "Pause" : "Play"; };
function onward(steps) { then(async () => { S.step = Math.min(S.step + steps, maxStep); found = dragged = S.point = null; await getFrame(); keep(); }); }
function restart(change = {}) { then(async () => { Object.assign(S.settings, { events: [] }, change); S.step = 0; found = dragged = S.point = null; say(""); show(); if (training()) await getFrame(); keep(); }); }
function event(kind, value) { then(async () => {
  S.settings.events.push([S.step, kind, value]); say("");
  try { await getFrame(); } catch (error) { S.settings.events.pop(); throw error; }
  found = dragged = null; keep(); draw();
}); }

// ---- the point
function askPoint(p, t = 0) { then(async () => {
  S.point = p; S.along = 0; dragged = null; found = await ask("point", { ...facts(), point: p }); $("along").value = 0; tellPoint(); draw(); keep();
  if (t && found.nearest) { $("along").value = t; along(t); }
}); }
function tellPoint() {
  const { value, label, distance, slopes, offset, on, neighbors, piece } = found, names = ["x", "y"], several = slopes?.length > 1;
  const decision = k => frame.kind === "classes" ? `digit ${k}` : k ? "orange" : "blue";
  const rows = [["at", found.point.map(short).join(", ")], ["output", several ? `${short(value[label])}, the largest of ${value.length}` : short(value[0])], ["decision", decision(label)]];
  if (!found.sentence) {
    const formula = k => slopes[k].map((a, i) => `${short(a)} ${names[i]}`).concat(short(offset[k])).join(" + ").replaceAll("+ -", "− ");
    rows.push(["piece", `${piece} of ${found.count}`], [several ? `output ${label} there` : "formula there", formula(several ? label : 0)]);
    on.forEach((layer, k) => rows.push([`layer ${k + 1}`, `${layer.filter(v => v).length} units on, ${layer.filter(v => !v).length} off`]));
    rows.push([`${neighbors.length} neighbors`, neighbors.join(", ")], ["nearest boundary", distance === undefined ? "none in the box" : `${distance.toPrecision(6)} away`]);
  }
  if (dragged) rows.push([`moved ${short(S.along)} of the way`, dragged.label === label ? "still the same decision" : `the decision has flipped to ${decision(dragged.label)}`]);
  const list = document.createElement("dl");
  list.append(...described(rows));
  $("point-text").replaceChildren(list, ...(found.sentence ? [Object.assign(document.createElement("p"), { textContent: found.sentence })] : []));
}
function along(t) {
  if (!found?.nearest) return;
  const [p, q] = [found.point, found.nearest], to = p.map((v, i) => v + t * (q[i] - v));
  S.along = t;
  then(async () => { const there = await ask("point", { ...facts(), point: to }); dragged = { point: to, label: there.label }; tellPoint(); draw(); keep(); });
}

// ---- curve
function getCurve() { then(async () => {
  curve = S.drawn.length > 1 ? await ask("curve", { points: S.drawn }) : null;
  const most = curve ? curve.knots.length : 0; $("hinges").max = most; $("hinges").value = S.shown = Math.min(S.shown ?? most, most); say(""); draw(); keep();
}); }
function drawCurve() {
  plane.box = BOX; plane.axes(); plane.graph(S.drawn, "#56b4e9", 10);
  const shown = Number($("hinges").value); $("hinges-text").textContent = shown;
  if (!curve) { $("curve-text").textContent = ""; put("sentence", "Draw a curve from left to right with the mouse or a finger, or take the example."); return; }
  put("sentence", "Blue: what you drew. Red: the network with the hinges shown so far; each hinge bends it once, from its mark at the bottom on. Move the slider.");
  const f = x => curve.start + curve.knots.slice(0, shown).reduce((sum, at, k) => sum + curve.bends[k] * Math.max(0, x - at), 0);
  const xs = Array.from({ length: 400 }, (_, i) => curve.knots[0] + (curve.end - curve.knots[0]) * i / 399);
  plane.graph(xs.map(x => [x, f(x)]), "#d55e00");
  for (const at of curve.knots.slice(0, shown)) plane.graph([[at, -1.25], [at, -1.2]], "#d55e00", 4);
  const last = shown ? ` The last one: ${short(curve.bends[shown - 1])} relu(x ${curve.knots[shown - 1] < 0 ? "+" : "−"} ${short(Math.abs(curve.knots[shown - 1]))}).` : "";
  $("curve-text").textContent = `${shown} of ${curve.knots.length} hinges.${last} The whole network differs from the drawn line by at most ${short(curve.error)} on 2,001 points.`;
}

// ---- your network
function openFiles(file, rowsFile) { then(async () => {
  const fields = {};
  say("reading…");
  if (file) { const bytes = new Uint8Array(await file.arrayBuffer()); let text = ""; for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768)); Object.assign(fields, { name: file.name, content: btoa(text) }); }
  if (rowsFile) fields.rows = (await rowsFile.text()).trim().split(/\r?\n/).map(line => line.split(",").map(Number)).filter(row => row.every(Number.isFinite));
  await openModel(fields, { trained: false });
}); }
async function openModel(fields, change) {
  opened = await ask("model", fields); say(""); Object.assign(S, { view: "open", kept: opened.kept ?? null }, change); show(); draw(); keep();
}
function openAgain() { // what the link says: a dropped file, the run, or the network given at the start
  then(async () => {
    if (S.kept) return openModel({ kept: S.kept }, {});
    if (S.trained) return openModel(facts(), {});
    relukit.model ? await openModel({}, {}) : draw();
  });
}
function drawOpened() {
  if (!opened) { put("sentence", "Drop an ONNX file: its listing, its health, a plane through three rows, the smallest flip."); $("legend").replaceChildren(); $("listing").textContent = ""; $("health").replaceChildren(); numbers([]); return; }
  const several = opened.outputs > 1;
  if (opened.vertices) {
    const edge = (first, pick) => { let at = opened.vertices[first]; for (let i = first; i < opened.vertices.length; i += 2) at = pick(at, opened.vertices[i]); return at; };
    plane.box = [[edge(0, Math.min), edge(1, Math.min)], [edge(0, Math.max), edge(1, Math.max)]];
    plane.pieces(opened, several);
  }
  if (opened.grid) { plane.box = opened.window; plane.contours(opened.grid, several); }
  if (opened.data) plane.dots(opened.data, null, "rows");
  plane.show();
  if (opened.data) for (const k of [0, 1, 2]) plane.name([opened.data[2 * k], opened.data[2 * k + 1]], `row ${opened.rows[k]}`);
  opened.vertices || opened.grid ? legend(several ? new Set(opened.color ?? opened.grid) : null, false) : $("legend").replaceChildren();
  const f = opened.flip, rows = [["inputs, outputs", `${opened.inputs}, ${opened.outputs}`], ["pieces in the picture", opened.count === undefined ? "–" : `${opened.count}${opened.complete ? "" : ", stopped there"}`]];
  if (f?.distance !== null && f?.distance !== undefined) rows.push(["smallest flip of row 1", `${f.from} → ${f.to} at ${short(f.distance)} (l∞)`], ["proven to be at least", short(f.lower)]);
  numbers(rows); $("listing").textContent = opened.listing;
  const layers = document.createElement("dl");
  layers.append(...described(opened.health.layers.map(l => [l.name, `${l.units} units, ${l.dead} dead on the rows, ${l.always_on} always on, ${Math.round(100 * l.zero_share)} % zeros`])));
  $("health").replaceChildren(layers, ...opened.health.findings.map(each => Object.assign(document.createElement("p"), { textContent: each.message ?? each.what ?? String(each) })));
  put("sentence", [opened.sentence, opened.no_plane, opened.no_flip, opened.data ? `The plane through rows ${opened.rows.join(", ")}.` : "", several && opened.vertices ? "A piece has the color of the decision in its middle; the thick line is where the decision changes." : "", opened.given ? "" : "No rows were given: health, plane and flip use rows sampled from its box."].filter(Boolean).join(" "));
}

// ---- compare
function compareAll() { then(async () => {
  say("training seven networks…");
  compared = await ask("compare", { settings: { ...S.settings, events: [] }, step: 200 }); say("");
  const logs = compared.table.flatMap(row => row.start).filter(v => v > 0).map(Math.log10), low = Math.min(...logs) - .2, high = Math.max(...logs);
  $("bars").replaceChildren(...compared.table.map(row => {
    const kind = document.createElement("div"), text = document.createElement("p"), layers = document.createElement("div"), name = document.createElement("b"), field = document.createElement("canvas");
    kind.className = "kind"; layers.className = "layers"; kind.dataset.kind = row.activation; name.textContent = NAMES[row.activation];
    text.append(name, document.createElement("br"), `loss ${short(row.loss)}, ${row.accuracy === null ? "" : `${(100 * row.accuracy).toFixed(1)} % right, `}${row.count === null ? "smooth: no pieces" : `${row.count} pieces`}`);
    layers.setAttribute("role", "img"); layers.setAttribute("aria-label", `gradient by layer before training: ${row.start.map(short).join(", ")}`);
    layers.append(...row.start.map(g => { const bar = document.createElement("i"); bar.style.height = `${g > 0 ? Math.max(1, 100 * (Math.log10(g) - low) / (high - low)) : 0}%`; bar.title = short(g); return bar; }));
    field.setAttribute("role", "img"); field.setAttribute("aria-label", `what ${NAMES[row.activation]} has learned on the plane`);
    kind.append(field, text, layers);
    return kind;
  }));
  for (const kind of $("bars").children) { // drawn once they have their size on the screen
    const small = new Plane(kind.querySelector("canvas"), BOX);
    small.contours(compared[`field_${kind.dataset.kind}`], compared.kind === "classes"); small.show();
  }
  const ratio = name => { const g = compared.table.find(row => row.activation === name).start; return g[0] / g.at(-1); };
  put("sentence", `The same seed, data and ${compared.step} steps. Bars: size of the gradient by layer before training, first layer left, on a logarithmic scale. First over last layer: sigmoid ${short(ratio("sigmoid"))}, ReLU ${short(ratio("relu"))}.`);
  keep();
}); }

// ---- what the controls show
function show() {
  document.body.dataset.view = S.view; if (S.view === "compare" || S.view === "curve") $("legend").replaceChildren();
  document.querySelectorAll("nav button").forEach(b => b.dataset.view === S.view ? b.setAttribute("aria-current", "page") : b.removeAttribute("aria-current"));
  document.querySelectorAll(".for").forEach(e => { e.hidden = !e.classList.contains(S.view) || (e.classList.contains("own") && S.settings.data !== "points"); });
  $("plane").hidden = S.view === "compare";
  const s = S.settings, lr = s.events.filter(e => e[1] === "lr").at(-1)?.[2] ?? s.lr;
  $("data").value = s.data; $("depth").value = s.widths.length; $("width").value = s.widths[0]; $("activation").value = s.activation; $("init").value = s.init; $("seed").value = s.seed;
  $("lr").value = Math.log10(lr); $("lr-text").textContent = short(lr);
}
const keep = () => writeLink({ ...S, play: undefined });

function go(view) {
  playing = false; showPlay(); say("");
  then(async () => {
    S.view = view; found = dragged = null; frame = training() ? frame : null;
    if (view === "max" && S.settings.data !== "max") { Object.assign(S, { settings: { ...start(), data: "max", widths: [8] }, step: 0 }); }
    else if ((view === "train" || view === "compare") && S.settings.data === "max") { Object.assign(S, { settings: start(), step: 0 }); }
    if (view === "compare" && S.settings.widths.length < 6) S.settings.widths = Array(6).fill(16);
    show(); if (training()) await getFrame(); else { $("bars").replaceChildren(); draw(); }
    keep();
  });
  if (view === "compare") compareAll();
  if (view === "curve") getCurve();
  if (view === "open" && !opened) openAgain();
}

const limited = (id, low, high) => Math.min(high, Math.max(low, Math.round(Number($(id).value) || low)));
const widths = () => Array(limited("depth", 1, 8)).fill(limited("width", 1, 64));
document.querySelectorAll("nav button").forEach(b => { b.onclick = () => go(b.dataset.view); });
$("play").onclick = play; $("step").onclick = () => onward(1); $("reset").onclick = () => { playing = false; showPlay(); restart(); };
for (const id of ["data", "activation", "init"]) $(id).onchange = () => restart({ [id]: $(id).value });
$("seed").onchange = () => restart({ seed: limited("seed", 0, 2147483647) });
for (const id of ["depth", "width"]) $(id).onchange = () => restart({ widths: widths() });
$("lr").onchange = () => { const lr = Number((10 ** Number($("lr").value)).toPrecision(3)); $("lr-text").textContent = short(lr); S.step ? event("lr", lr) : restart({ lr }); };
$("revive").onclick = () => event("revive", 0); $("construct").onclick = () => event("construct", 0); $("run-compare").onclick = compareAll;
$("hinges").oninput = () => { S.shown = Number($("hinges").value); draw(); keep(); };
$("curve-clear").onclick = () => { S.drawn = []; S.shown = null; getCurve(); };
$("curve-example").onclick = () => { S.drawn = MOMENTS.find(m => m[1].drawn)[1].drawn; S.shown = null; getCurve(); };
$("file").onchange = () => openFiles($("file").files[0], $("rows").files[0]); $("rows").onchange = () => { if ($("file").files[0]) openFiles($("file").files[0], $("rows").files[0]); };
$("open-trained").onclick = () => then(() => openModel(facts(), { trained: true }));
$("moment-list").append(...MOMENTS.map(([title, state]) => { const item = document.createElement("li"), link = document.createElement("a"); link.textContent = title; link.href = linkTo(state); item.append(link); return item; }));
window.addEventListener("hashchange", () => location.reload()); // another state was pasted or chosen
$("along").oninput = () => along(Number($("along").value));
$("link").onclick = async () => { keep(); try { await navigator.clipboard.writeText(location.href); say("The link is copied; it holds the token too: whoever has it can use this page while it runs."); } catch { say("Copy the address from the address bar: it holds the whole state."); } };

let holding = null;
$("plane").onpointerdown = e => {
  const p = plane.point(e); $("plane").setPointerCapture(e.pointerId);
  if (S.view === "curve") { S.drawn = [p]; S.shown = null; holding = "curve"; return; }
  if (S.view !== "train") return;
  const at = dragged?.point ?? found?.point;
  if (at && found.nearest && Math.hypot(p[0] - at[0], p[1] - at[1]) < .06) { holding = "arrow"; return; }
  if (S.settings.data === "points" && !e.shiftKey) { const own = [...S.settings.points, [...p, Number($("class").value)]]; restart({ points: own }); return; }
  playing = false; showPlay(); askPoint(p);
};
$("plane").onpointermove = e => {
  if (holding === "curve") { const p = plane.point(e); if (p[0] > S.drawn.at(-1)[0] + .01) { S.drawn.push(p); draw(); } }
  if (holding === "arrow") { const p = plane.point(e), [a, b] = [found.point, found.nearest], d = b.map((v, i) => v - a[i]); const t = ((p[0] - a[0]) * d[0] + (p[1] - a[1]) * d[1]) / (d[0] ** 2 + d[1] ** 2); $("along").value = t; along(Math.max(0, Math.min(1.3, t))); }
};
$("plane").onpointerup = () => { if (holding === "curve") getCurve(); holding = null; };

let cursor = S.point ?? [0, 0];
document.onkeydown = e => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const moves = { ArrowLeft: [-.05, 0], ArrowRight: [.05, 0], ArrowUp: [0, .05], ArrowDown: [0, -.05] };
  if (e.target === $("plane") && moves[e.key]) { e.preventDefault(); cursor = cursor.map((v, i) => Math.max(-1.25, Math.min(1.25, v + moves[e.key][i]))); draw(); plane.marker(cursor); return; }
  if (e.target === $("plane") && e.key === "Enter" && S.view === "train") { askPoint(cursor); return; }
  if (/INPUT|SELECT|BUTTON|TEXTAREA/.test(e.target.tagName)) return;
  if (e.key === " " && training()) { e.preventDefault(); play(); } else if (e.key === "s" && training()) onward(1); else if (e.key === "r" && training()) $("reset").click();
};
document.ondragover = e => e.preventDefault();
document.ondrop = e => { e.preventDefault(); const files = [...e.dataTransfer.files], rows = files.find(f => f.name.endsWith(".csv")); openFiles(files.find(f => f !== rows), rows); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { plane.themed(); draw(); });
new ResizeObserver(() => { if (plane.fit()) draw(); }).observe($("plane"));

then(async () => {
  const hello = await ask("hello"); relukit.model = hello.model; maxStep = hello.max_step;
  if (hello.model && !readLink()) S.view = "open";
  show();
  const slow = setTimeout(() => say("Python compiles its loops: once, at the first start, and it takes about half a minute. `relukit doctor --compile` does it beforehand."), 2500);
  if (training()) { await getFrame(); if (S.point) askPoint(S.point, S.along); else keep(); }
  clearTimeout(slow); if (training()) say("");
  if (S.view === "compare") compareAll(); if (S.view === "curve") getCurve(); if (S.view === "open") openAgain();
  if (S.play && training() && !calm) play();
  relukit.ready = true;
});
