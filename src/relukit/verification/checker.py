"""Checks a certificate of `relukit verify` from the network's file and the property's text alone.

Stands by itself: NumPy and fractions, its own readers and bounds, no code of what finds proofs: `python checker.py CERT NETWORK PROPERTY [--exact]`.

A claim is a box of inputs x, rows over the outputs y (or over the values before ReLU layer number `layer`) and x, and a tree; it says that
max_r (C y + D x + d)_r > 0 in the box. The tree cuts the box at inputs (`split < n`, at `value`) or by the phase of gate `split - n` (first child
on). At a `fresh` node the gates that are open above are bounded anew; other nodes use the bounds from above. At a leaf the rows are added with
`weights` >= 0 and the phases of split gates with `beta` >= 0: one backward substitution must give a number above 0. Any weights are admissible.
A fresh inner node with weights (`row` >= 0) hands down a plane below the same sum: at most 0 at a counterexample, and bounds need hold only there.

Boxes are worked on together. Units off in all of them are left out and those on in all multiplied out, so that rows are over the few that differ.
Rounding (float64): a computed sum of n products is off by at most g |a|.|b|, g = n u / (1 - n u), in any order (Higham 2002). Every substitution
widens its bound by `eps` times the magnitudes it went through. With `exact` all numbers are fractions; bounds handed down are rounded outward.
"""
# fmt: off
import functools
import gzip
import hashlib
import io
import re
import struct
import sys
from fractions import Fraction

import numpy as np

U, TINY, CHUNK = 2.0**-53, 1e-290, 200_000
class Rejected(Exception):
    """The certificate does not prove the property."""
def demand(holds, why):
    if not holds:
        raise Rejected(why)
def varint(buffer, at):  # a number of a protobuf message, and where it ends
    end = at + 1 if buffer[at] < 128 else next(k for k in range(at, len(buffer)) if buffer[k] < 128) + 1
    return buffer[at] if end == at + 1 else sum((byte & 127) << 7 * k for k, byte in enumerate(buffer[at:end])), end
def message(buffer):  # fields of a protobuf message: number -> list of integers or bytes
    at, found = 0, {}
    while at < len(buffer):
        key, at = varint(buffer, at)
        size, at = varint(buffer, at) if key & 7 in (0, 2) else ({1: 8, 5: 4}[key & 7], at)
        value, at = (size, at) if key & 7 == 0 else (bytes(buffer[at : at + size]), at + size)
        found.setdefault(key >> 3, []).append(value)
    return found
def integers(values):  # repeated signed integers, packed or not
    out, at, packed = [v for v in values if isinstance(v, int)], 0, b"".join(v for v in values if isinstance(v, bytes))
    while at < len(packed):
        value, at = varint(packed, at)
        out.append(value)
    return [v - (1 << 64) if v >> 63 else v for v in out]
def tensor(buffer):
    kind = {1: "<f4", 6: "<i4", 7: "<i8", 11: "<f8"}.get((m := message(buffer)).get(2, [0])[0])
    demand(kind and m.get(14, [0])[0] == 0, "a tensor is neither float32, float64, int32 nor int64, or lies in another file")
    raw = m[9][0] if 9 in m else b"".join(m.get(4 if kind == "<f4" else 10, []))
    flat = np.frombuffer(raw, kind) if raw or kind[1] == "f" else np.array(integers(m.get(5 if kind == "<i4" else 7, [])))
    return flat.reshape(integers(m.get(1, []))).astype(np.float64 if kind[1] == "f" else np.int64)
def attribute(m):
    return m[4][0] if 4 in m else struct.unpack("<f", m[2][0])[0] if 2 in m else tensor(m[5][0]) if 5 in m else integers(m.get(8, m.get(3, [])))
def convolution(K, b, shape, given):  # a 2-D convolution as a matrix over flat values, its bias, and the shape of what it gives
    (C, H, W), (O, I, kh, kw), (top, left, low, right), groups = shape, K.shape, given.get("pads", [0] * 4), given.get("group", [1])[0]
    (sy, sx), (dy, dx) = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    demand(given.get("auto_pad", b"NOTSET") == b"NOTSET" and min(top, left, low, right) >= 0 and I * groups == C and O % groups == 0, "a convolution is padded by a rule, or does not fit")
    place = np.pad(np.arange(C * H * W).reshape(shape), ((0, 0), (top, low), (left, right)), constant_values=-1)
    h, w = (H + top + low - dy * (kh - 1) - 1) // sy + 1, (W + left + right - dx * (kw - 1) - 1) // sx + 1
    demand(h > 0 and w > 0 and O * h * w * C * H * W < 5e7, "a convolution is empty, or too large for a matrix")
    M = np.zeros((O, h, w, C * H * W + 1))  # what falls on the padding goes to the last column
    for o, c, i, j in np.ndindex(K.shape):
        at = place[o // (O // groups) * I + c, i * dy : i * dy + sy * h : sy, j * dx : j * dx + sx * w : sx][:h, :w]
        M[o, np.arange(h)[:, None], np.arange(w), at] = K[o, c, i, j]
    return M.reshape(O * h * w, -1)[:, :-1], np.repeat(b, h * w), (O, h, w)
def read_onnx(content):
    """Layers (W, b, which units are ReLUs, these first) from an ONNX file; each maps the state before it, and carries along what is read later."""
    # A value is (start, rows over the state, constant, shape): units of the state from `start` on, or rows whose entries are all exact.
    graph = message(message(content)[7][0])
    constants = {message(t)[8][0]: tensor(t) for t in graph.get(5, [])}
    inputs = [message(i) for i in graph[11] if message(i)[1][0] not in constants]
    demand(len(inputs) == len(graph[12]) == 1, "the checker reads networks with one input and one output")
    dims = [max(message(d).get(1, [1])[0], 1) for d in message(message(message(inputs[0][2][0])[1][0])[2][0]).get(1, [])]
    constants |= {n[2][0]: np.asarray(attribute(message(n[5][0]))) for n in map(message, graph[1]) if n[4][0] == b"Constant"}
    nodes, output = [n for n in map(message, graph[1]) if n[4][0] != b"Constant"], message(graph[12][0])[1][0]
    left = [name for node in nodes for name in node.get(1, [])] + [output]  # what is still to be read
    shape, layers = tuple(dims[1:] if len(dims) > 1 else dims), []
    values, size = {inputs[0][1][0]: (0, None, None, shape)}, int(np.prod(shape))
    length, place = lambda shape: int(np.prod(shape)), lambda W, start: np.pad(W, ((0, 0), (start, size - start - W.shape[1])))
    written = lambda start, M, c, shape: (place(np.eye(length(shape)), start) if M is None else M, np.zeros(length(shape)) if c is None else c)
    def close(relu=None):  # one more layer: the units of a value as ReLUs, then all values that are read later
        nonlocal size
        kept = [k for k in values if k in left]
        M, c = zip(*(written(*values[k]) for k in ([] if relu is None else [relu]) + kept))
        starts = np.cumsum([0] + [len(v) for v in c]).tolist()
        layers.append((np.concatenate(M), np.concatenate(c), np.arange(starts[-1]) < (0 if relu is None else starts[1])))
        size, shape = starts[-1], values.get(relu, [None] * 4)[3]
        values.update({k: (at, None, None, values[k][3]) for k, at in zip(kept, starts[relu is not None :])})
        return 0, None, None, shape
    for node in nodes:
        names, out, op, given = node.get(1, []), node[2][0], node[4][0].decode(), {a[1][0].decode(): attribute(a) for a in map(message, node.get(5, []))}
        mine, other, added = [s for s in names if s in values], [constants[s] for s in names if s not in values and s in constants], op in ("Add", "Sub")
        demand(mine and len(mine) + len(other) == len([s for s in names if s]), f"{op} reads what the checker does not know")
        if (added or op in ("MatMul", "Gemm", "Conv")) and any(values[s][2 if added and other else 1] is not None for s in mine):
            close()  # so that no product of matrices is rounded
        for s in mine:
            left.remove(s)
        (start, M, c, shape), first, sign = values[mine[0]], names[0] == mine[0], -1 if op == "Sub" else 1
        if op == "Relu":
            values[out] = close(mine[0])
        elif op == "MatMul" and first and length(shape) == shape[-1] == len(other[0]) and other[0].ndim == 2:
            values[out] = (None, place(other[0].T, start), None, (*shape[:-1], other[0].shape[1]))
        elif op == "Gemm" and first and given.get("alpha", 1) == given.get("beta", 1) == 1 and given.get("transA", [0])[0] == 0:
            W = other[0] if given.get("transB", [0])[0] else other[0].T
            demand(W.ndim == 2 and W.shape[1] == length(shape), "a matrix does not fit the value before it")
            values[out] = (None, place(W, start), np.broadcast_to(other[1].ravel(), len(W)) if len(other) > 1 else None, (len(W),))
        elif op == "Conv" and first and len(shape) == 3 and other[0].ndim == 4:
            W, c, shape = convolution(other[0], other[1] if len(other) > 1 else np.zeros(len(other[0])), shape, given)
            values[out] = (None, place(W, start), c, shape)
        elif added and len(mine) == 2:
            demand(shape == values[mine[1]][3], f"{op} of values that differ in shape")
            values[out] = (None, written(*values[mine[0]])[0] + sign * written(*values[mine[1]])[0], None, shape)
        elif added and (first or op == "Add"):
            c = sign * np.broadcast_to(other[0], np.broadcast_shapes(other[0].shape, (1, *shape))).reshape(length(shape))
            values[out] = (None, written(*values[mine[0]])[0], c, shape)
        else:
            demand(op in ("Flatten", "Reshape", "Dropout", "Identity"), f"the checker does not read the operator {op} here")
            values[out] = (start, M, c, (length(shape),) if op in ("Flatten", "Reshape") else shape)
    demand(output in values, "the last operator is not the output")
    return close() and layers
def content(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        return file.read()
def read_network(path):
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as a:
            count = sum(bool(re.fullmatch(r"W\d+", k)) for k in a.files)
            layers = [(a[f"W{k}"].astype(float), a[f"b{k}"].ravel().astype(float), np.full(len(a[f"W{k}"]), k < count - 1)) for k in range(count)]
    else:
        layers = read_onnx(content(path))
    for k, (W, b, _) in enumerate(layers):
        demand(W.ndim == 2 and len(W) == len(b) and (k == 0 or W.shape[1] == len(layers[k - 1][1])) and np.isfinite(W).all() and np.isfinite(b).all(), f"layer {k} does not fit, or is not finite")
    return layers
def read_property(path, n, m):  # counterexamples as a list of (lower, upper, rows): x in the box and every row (c, d, e) has c.y + d.x + e <= 0
    text, tensors, names = re.sub(r"\"[^\"\n]*\"|;[^\n]*", "", content(path).decode()), {}, {}
    demand(len(re.findall(r"declare-network", text)) < 2 and "declare-hidden" not in text, "certificates are about one network without hidden values")
    for kind, name, shape in re.findall(r"\(\s*declare-(input|output)\s+(\w+)\s+\w+\s*(\[[^\]]*\])?", text):
        demand(all(s != (kind == "output") for s, _ in tensors.values()), "several inputs or outputs")
        tensors[name] = (kind == "output", [int(v) for v in re.findall(r"\d+", shape)])
    text, stack = re.sub(r"(\w)\s+\[", r"\1[", re.sub(r"\[[\d,\s]*\]", lambda f: re.sub(r"\s", "", f[0]), text)), [[]]
    for token in re.findall(r"[()]|[^\s()]+", text):
        done = stack.pop() if token == ")" else token
        (stack if token == "(" else stack[-1]).append([] if token == "(" else done)
    demand(len(stack) == 1 and all(isinstance(t, list) and re.fullmatch(r"assert|declare-.*|vnnlib-version", str(t[0])) for t in stack[0]), "the property is no list of declarations and assertions")
    def variable(word):  # (side, index) of X_3, Y_0 or an entry X[0,3] of a declared tensor; None for a number
        if word not in names:
            old, new = re.fullmatch(r"([XY])_(\d+)", word), re.fullmatch(r"(\w+?)(?:\[([\d,]*)\])?", word)
            if old and not tensors:
                names[word] = ("XY".index(old[1]), int(old[2]))
            elif new and new[1] in tensors:
                (side, shape), place = tensors[new[1]], [int(v) for v in re.findall(r"\d+", new[2] or "")]
                demand(len(place) == len(shape) and all(p < s for p, s in zip(place, shape)), f"{word} is outside its tensor")
                names[word] = (int(side), int(np.ravel_multi_index(place, shape)) if place else 0)
            else:
                return None
            demand(names[word][1] < (n, m)[names[word][0]], f"{word} is not a variable of this network")
        return names[word]
    def linear(t):
        if isinstance(t, str):
            return {variable(t): Fraction(1)} if variable(t) else {(): Fraction(float(t))}
        demand(t[0] in ("+", "-", "*") and len(t) > 1, f"unknown arithmetic {t[0]}")
        total, *parts = [linear(p) for p in (["0"] if t[0] == "-" and len(t) == 2 else []) + t[1:]]
        for p in parts:
            if t[0] == "*":
                demand(not (any(total) and any(p)), "a product of variables")
                total, p = (p, total) if any(p) else (total, p)
            total = {k: v * p.get((), Fraction(0)) for k, v in total.items()} if t[0] == "*" else {k: total.get(k, Fraction(0)) + p.get(k, Fraction(0)) * (1 if t[0] == "+" else -1) for k in {**total, **p}}
        return total
    def cases(t):
        if t[0] in ("and", "or"):
            return [c for p in t[1:] for c in cases(p)] if t[0] == "or" else functools.reduce(lambda found, p: [a + b for a in found for b in cases(p)], t[1:], [[]])
        left, right = linear(t[1]), linear(t[2])
        row = {k: left.get(k, Fraction(0)) - right.get(k, Fraction(0)) for k in {**left, **right}}
        minus = {k: -v for k, v in row.items()}
        table = {"<=": [[row]], "<": [[row]], ">=": [[minus]], ">": [[minus]], "==": [[row, minus]], "=": [[row, minus]], "!=": [[row], [minus]]}
        demand(t[0] in table and len(t) == 3, f"unknown condition {t[0]}")
        return table[t[0]]
    return [box_and_rows(c, n, m) for c in cases(["and", *(t[1] for t in stack[0] if t[0] == "assert")])]
def down(value):  # the largest float64 that is at most a fraction
    return float(value) if Fraction(float(value)) <= value else float(np.nextafter(float(value), -np.inf))
def box_and_rows(case, n, m):
    lower, upper, rows = np.full(n, -np.inf), np.full(n, np.inf), []
    for row in case:
        used, rest = {k: v for k, v in row.items() if k and v != 0}, row.get((), Fraction(0))
        if len(used) == 1 and (one := next(iter(used.items())))[0][0] == 0:
            (_, i), c = one
            lower[i], upper[i] = (lower[i], min(upper[i], -down(rest / c))) if c > 0 else (max(lower[i], down(-rest / c)), upper[i])
            continue
        demand(all(Fraction(float(v)) == v for v in used.values()), "a coefficient is not a float64 number")
        c, d = (np.array([float(used.get((side, i), 0)) for i in range(size)]) for side, size in ((1, m), (0, n)))
        rows.append((c, d, down(rest)))
    return lower, upper, rows
class Bounder:  # backward substitution through one network, for batches of boxes whose nodes above have known bounds
    def __init__(self, layers, exact=False):
        self.exact, self.tiny = exact, 0 if exact else TINY
        self.layers, widest = [(self.number(W), self.number(b), relu) for W, b, relu in layers], max(max(W.shape) for W, _, _ in layers)
        # Per layer three sums of at most so many products, the lines, the running constant, and the error's own rounding.
        self.rounding = lambda most: 0 if exact else 1.06 * U * (3 * max(most, widest) + 2 * len(layers) + 40)
        self.eps, self.outward = self.rounding(0), (lambda v: self.number(np.vectorize(down, otypes=[float])(v)) if v.size else v) if exact else (lambda v: v)
        self.absolute, self.relus = [abs(W) for W, _, _ in self.layers], [k for k, layer in enumerate(layers) if layer[2].any()]
        self.first, self.gates = np.cumsum([0] + [layers[k][2].sum() for k in self.relus]), [(k, j) for k in self.relus for j in range(layers[k][2].sum())]
        self.inputs, self.outputs, self.ends = layers[0][0].shape[1], len(layers[-1][1]), np.cumsum([len(b) for _, b, _ in layers])[:-1]
    def number(self, array):
        return np.vectorize(Fraction, otypes=[object])(array) if self.exact and np.size(array) else np.asarray(array, object if self.exact else float)
    def interval(self, lo, hi):  # bounds of the values of every layer before its ReLU over one box
        found = []
        for (W, b, relu), A in zip(self.layers, self.absolute):
            slack = self.eps * (A @ np.maximum(abs(lo), abs(hi)) + abs(b)) + self.tiny
            found.append((np.maximum(W, 0) @ lo + np.minimum(W, 0) @ hi + b - slack, np.maximum(W, 0) @ hi + np.minimum(W, 0) @ lo + b + slack))
            lo, hi = (np.where(relu, np.maximum(v, 0), v) for v in found[-1])
        return found
    def sizes(self, bounds, lo, hi):  # for each layer |W| |largest input| + |b| over one box: what rounding is measured by
        reach = [np.maximum(abs(lo), abs(hi)), *(np.maximum(abs(L), abs(H)) * ((H > 0) | ~relu) for (L, H), (_, _, relu) in zip(bounds, self.layers))]
        return [A @ far + abs(b) for A, (_, b, _), far in zip(self.absolute, self.layers, reach)]
    def fold(self, at, top, bounds, reach, size, split):
        """The units kept of each layer before `at`, and rows of their z, and of `top` = (C, D, d) over layer `at`, for boxes together.
        Rows are over the kept h of the layers before, the nearest first, over x, 1, and what rounding can change. Units that are off in all boxes are
        left out; those on in all are multiplied out, or kept where that costs less: rows end at a layer of which nothing is multiplied out.
        """
        on, off = ([s(v, w[2]) for v, w in zip(bounds, self.layers)] for s in (lambda v, relu: (v[0] >= 0).all(axis=0) | ~relu, lambda v, relu: (v[1] <= 0).all(axis=0) & relu))
        kept = lambda units: [np.union1d(np.flatnonzero(v), [j for i, j in split if i == k]).astype(int) if split else np.flatnonzero(v) for k, v in enumerate(units)]
        inner, every = kept(~(a | b) for a, b in zip(on, off)), kept(a | ~b for a, b in zip(on, off))
        u, v, far = [len(k) for k in inner], [self.inputs] + [len(k) for k in every], [np.maximum(abs(L), abs(H)).max(axis=0) for L, H in bounds]
        cost = [(1 + sum(u[i + 1 :])) * (u[i] * (self.inputs + sum(u[:i]) + 60) + self.layers[i][0].size / len(bounds[0][0]) - v[i + 1] * (v[i] + 60)) for i in range(at)]
        keep, (C, D, d), (W, b, _), rows, parts, start = inner if sum(cost) < 0 else every, top, self.layers[at], {}, [], {at: 0}
        eps, least = self.rounding(sum(map(len, keep)) + len(d)), self.tiny * (1 + reach.sum() + sum(s.sum() for s in size))
        coef, const, off = C @ W, C @ b + d, 2 * eps * (abs(C) @ size[at] + abs(d) + abs(D) @ reach) + least
        for i in range(at - 1, -2, -1):
            here, most = (keep[i], far[i][keep[i]]) if i >= 0 else (np.arange(self.inputs), reach)
            parts.append((i, coef[:, here], most))
            more = here[:0] if i < 0 or keep is every else np.setdiff1d(np.flatnonzero(on[i]), here) if split else np.flatnonzero(on[i])
            if len(more):
                (W, b, _), coef = self.layers[i], coef[:, more]
                off, const, coef = off + eps * (abs(coef) @ size[i][more]) + least, const + coef @ b[more], coef @ W[more]
            else:  # nothing is left to multiply out: these rows end here
                for k, s in start.items():
                    own, z = slice(s, s + (len(keep[k]) if k < at else len(d))), far[k][keep[k]] if k < at else 0
                    z = np.maximum(sum(abs(p[own]) @ m for j, p, m in parts if j < k) + abs(const[own]), z)
                    rows[k] = np.concatenate([*(p[own] for j, p, _ in parts if j < k), const[own, None], (off[own] + eps * z + least)[:, None]], axis=1)
                parts, start, const, off, coef = [], {}, const[:0], off[:0], self.layers[i][0][:0]
            if i >= 0:
                start[i], *(coef, const, off) = len(const), *(np.concatenate(v) for v in ((coef, self.layers[i][0][here]), (const, self.layers[i][1][here]), (off, 0 * here)))
        return keep, rows, eps, least
    def substitute(self, folded, k, S, lines, D=0, beta=None):  # planes over x, shapes (boxes, rows, n) and (boxes, rows), below rows `S` over what is kept before layer k, plus D x
        keep, rows, eps, least = folded
        for i in range(k - 1, -1, -1):
            (low, more, turn), s, rest = lines[i], S[..., : len(keep[i])], S[..., len(keep[i]) :]
            negative = np.minimum(s, np.zeros(s.shape, s.dtype))  # quicker than against one 0
            coef, turn = s * low, negative @ turn  # the error |coef| e is coef e - 2 negative up e
            coef += np.multiply(negative, more, out=negative)  # where negative, `low + (up - low)`: one rounding of a number up to 1
            if beta is not None:
                coef += beta[i][:, None]
                turn[..., 1] += 2 * (abs(beta[i]) @ rows[i][:, -1])[:, None]
            S = (coef.reshape(coef.shape[0] * coef.shape[1], -1 if coef.size else 0) @ rows[i]).reshape(*coef.shape[:2], -1)
            S[..., S.shape[-1] - rest.shape[-1] :] += rest
            S[..., -2:] += turn
        return S[..., :-2] + D, S[..., -2] if self.exact else S[..., -2] - 1.001 * S[..., -1] - least - (eps + 4 * U) * abs(S[..., -2])
    @np.errstate(all="ignore")
    def lowest(self, coef, const, lo, hi, plane):  # least values of rows over boxes where a plane (boxes, n + 1) is at most 0, too: any multiple of it may be added, one of n is best
        middle = (lo + hi) / 2
        half = np.maximum(hi - middle, middle - lo) * (1 if self.exact else 1 + 4 * U) + self.tiny
        reach, g, g0, c = (abs(middle) + half)[..., None], plane[:, None, :-1], plane[:, -1:], np.empty((coef.shape[2], *const.shape), const.dtype)
        g0 = g0 + (g @ middle[..., None])[:, 0] - 2 * self.eps * (abs(g0) + (abs(g) @ reach)[:, 0])
        const = const + (coef @ middle[..., None])[..., 0] - 2 * self.eps * (abs(const) + (abs(coef) @ reach)[..., 0]) - self.tiny * (1 + reach.sum())
        np.multiply(coef.transpose(2, 0, 1), half.T[..., None], out=c)  # inputs first: sums are quick
        best, g = const - abs(c).sum(axis=0), g.transpose(2, 0, 1) * half.T[..., None]
        for i in np.flatnonzero((g != 0).any(axis=(1, 2))):
            each = (times := np.fmax(-c[i] / np.where(g[i] == 0, 1, g[i]), 0)) * g
            each += c
            best = np.fmax(best, const + times * g0 - np.abs(each, out=each).sum(axis=0))  # passes over NaN
        return best
    def refresh(self, folded, bounds, lo, hi, plane, fresh, phased=()):
        """Bound anew, in `bounds`, each gate that is open in its box (lo, hi), shape (boxes, n), or split there, where `fresh`; the lines of all boxes."""
        lines, (keep, rows, _, _) = [], folded
        for k, (L, H) in enumerate(bounds):
            want, mine = (L < 0) & (H > 0) & self.layers[k][2], [(p, j, sign) for p, i, j, sign in phased if i == k]
            want[[m[0] for m in mine], [m[1] for m in mine]] = True
            want = want[:, keep[k]] & fresh[:, None]
            each, both, most = want.sum(axis=1), np.concatenate([rows[k], rows[k] * np.where(np.arange(rows[k].shape[1]) < rows[k].shape[1] - 1, -1, 1)]), max(1, CHUNK // (2 * rows[k].shape[1]))
            left, step = np.argsort(-each, kind="stable")[: np.count_nonzero(each)], max(1, most // max(each.max(), 1))
            for some in (left[j : j + step] for j in range(0, len(left), step)):  # boxes with about as many rows
                which, line = np.argsort(~want[some], axis=1, kind="stable")[:, : each[some[0]]], [tuple(v[some] for v in line) for line in lines]
                for part in (which[:, j : j + most] for j in range(0, which.shape[1], most)):
                    S = both[np.concatenate([part, part + len(rows[k])], axis=1)]
                    low, to = self.outward(self.lowest(*self.substitute(folded, k, S, line), lo[some], hi[some], plane[some])), (some[:, None], keep[k][part])
                    low = low if self.exact else np.where(np.isfinite(low), low, np.nan)  # fmax and fmin pass over NaN
                    L[to], H[to] = np.fmax(L[to], low[:, : part.shape[1]]), np.fmin(H[to], -low[:, part.shape[1] :])
            for p, j, sign in mine:  # a gate that is 0 throughout goes by its phase: the other bound, 0, is loosened
                bounds[k][sign > 0][p, j] = bounds[k][sign > 0][p, j] or sign
            L, H, relu = L[:, keep[k]], H[:, keep[k]], self.layers[k][2][keep[k]]
            open_, whole = (L < 0) & (H > 0) & relu, (L >= 0) | ~relu  # h >= low z where a coefficient is positive, h <= up (z - L) where it is negative
            up, low = (np.where(open_, v, whole * 1) for v in (H / np.where(open_, H - L, 1), (H > -L) * 1))
            lines.append((low[:, None], (up - low)[:, None], np.stack([np.where(open_, -up * L, 0), -2 * up * rows[k][:, -1]], axis=-1)))
        return lines
class Claim:  # one claim of a certificate, its arrays checked for shape, kind and range; it is about layer `at`
    def __init__(self, arrays, prefix, net):
        get = lambda name, kind: np.asarray(arrays[prefix + name]).astype(kind, casting="safe")
        n, self.layer = net.inputs, int(get("layer", np.int64).item())
        demand(0 <= self.layer <= len(net.relus), "a claim about a layer that does not exist")
        self.lower, self.upper, self.d = get("lower", float).reshape(n), get("upper", float).reshape(n), get("d", float).ravel()
        self.at, R = [*net.relus, len(net.layers) - 1][self.layer], len(self.d)
        self.C, self.D = get("C", float).reshape(R, len(net.layers[self.at][1])), get("D", float).reshape(R, n)
        self.split, self.fresh, self.row, self.child = (get(k, np.int64) for k in ("split", "fresh", "row", "child"))
        self.value, self.weights, beta = get("value", float), get("weights", float).reshape(-1, R), get("beta", float)
        count, inner, owner, gate = len(self.split), self.split >= 0, get("beta_row", np.int64), get("beta_gate", np.int64)
        demand(R and all(np.isfinite(v).all() for v in (self.lower, self.upper, self.C, self.D, self.d, self.value, self.weights, beta)) and (self.weights >= 0).all() and (beta >= 0).all(), "a number is not finite, a weight below 0, or no row there")
        demand(all(v.shape == (count,) for v in (self.split, self.value, self.fresh, self.row)) and self.child.shape == (count, 2), "the arrays of a tree differ in length")
        demand(count and sorted(self.child[inner].ravel().tolist()) == list(range(1, count)), "a tree misses a node or holds one twice")
        demand((self.child[inner] > np.flatnonzero(inner)[:, None]).all(), "a node comes before the one above it")
        demand((self.split < n + net.first[self.layer]).all() and len(owner) == len(gate) == len(beta), "a gate that does not exist is split")
        demand((self.row[~inner] >= 0).all() and (self.row < len(self.weights)).all(), "a leaf has no weights")
        self.top, self.beta = tuple(net.number(v) for v in (self.C, self.D, self.d)), {}
        for r, g, v in zip(owner.tolist(), gate.tolist(), beta.tolist()):
            self.beta.setdefault(r, []).append((g, v))
def check_claim(net, claim):  # raise `Rejected` unless the claim's tree proves it; returns the number of leaves
    lo, hi, n, blocks = net.number(claim.lower), net.number(claim.upper), net.inputs, []
    leaves = check_nodes(net, claim, [(0, lo, hi, (), np.array([np.concatenate(v) for v in zip(*net.interval(lo, hi))]), net.number(np.zeros(n + 1)))], blocks)
    split, fresh, child, value = claim.split.tolist(), claim.fresh.tolist(), claim.child.tolist(), net.number(claim.value).tolist()
    while blocks:
        stack, blocks, front = [(*block, True) for block in blocks[-claim.many :]], blocks[: -claim.many], []
        while stack:  # the nearest leaves and fresh nodes below each
            node, lo, hi, phases, found, plane, top = stack.pop()
            s, (left, right) = split[node], child[node]
            if s < 0 or (fresh[node] and not top):
                front.append((node, lo, hi, phases, found, plane))
            elif s < n:
                cut, upper, lower = value[node], hi.copy(), lo.copy()
                demand(lo[s] <= cut <= hi[s], f"node {node} cuts input {s} outside its box")
                upper[s] = lower[s] = cut
                stack += [(left, lo, upper, phases, found, plane, False), (right, lower, hi, phases, found, plane, False)]
            else:
                stack += [(child, lo, hi, (*phases, (s - n, sign)), found, plane, False) for child, sign in ((left, 1), (right, -1))]
        leaves += sum(check_nodes(net, claim, part, blocks) for part in [front[j : j + claim.many] for j in range(0, len(front), claim.many)])
    return leaves
def check_nodes(net, claim, front, blocks):  # check the leaves among some nodes and queue the fresh inner ones; returns the number of leaves
    lo, hi, found, plane = (np.array([f[i] for f in front]) for i in (1, 2, 4, 5))
    bounds = [(v[:, 0], v[:, 1]) for v in np.split(found, net.ends, axis=2)]
    size = net.sizes([(L.min(axis=0), H.max(axis=0)) for L, H in bounds], lo.min(axis=0), hi.max(axis=0))
    bounds, phased = bounds[: claim.at], [(p, *net.gates[number], sign) for p, f in enumerate(front) for number, sign in f[3]]
    for p, k, j, sign in phased:  # z >= 0 where the gate is on, z <= 0 where it is off
        bounds[k][sign < 0][p, j] = (max if sign > 0 else min)(bounds[k][sign < 0][p, j], 0)
    leaf, fresh, rows = (v[[f[0] for f in front]] for v in (claim.split < 0, claim.fresh != 0, claim.row))
    folded = net.fold(claim.at, claim.top, bounds, np.maximum(abs(lo), abs(hi)).max(axis=0), size, {s[1:3] for s in phased})
    lines = net.refresh(folded, bounds, lo, hi, plane, fresh, phased)
    # No counterexample is where bounds contradict each other, or the plane is above 0 throughout.
    empty = (net.lowest(plane[:, None, :-1], plane[:, None, -1], lo, hi, 0 * plane) > 0).any(axis=1)
    empty |= np.any([0 * leaf, *(np.any(L > H, axis=1) for L, H in bounds)], axis=0)
    weighed = np.flatnonzero(~empty & (rows >= 0))
    if len(weighed):
        beta = [net.number(np.zeros((len(weighed), len(keep)))) for keep in folded[0]]
        for q, p in enumerate(weighed.tolist()):
            signs = dict(front[p][3])
            for number, value in claim.beta.get(int(rows[p]), ()):
                demand(number in signs, "the phase of a gate is weighed that was not split")
                k, j = net.gates[number]
                beta[k][q, np.searchsorted(folded[0][k], j)] = -signs[number] * net.number([value])[0]
        w, lines = net.number(claim.weights[rows[weighed]]), [tuple(v[weighed] for v in line) for line in lines]
        coef, const = net.substitute(folded, claim.at, (w @ folded[1][claim.at])[:, None], lines, (w @ claim.top[1])[:, None], beta)
        low = net.lowest(coef, const, lo[weighed], hi[weighed], plane[weighed])[:, 0]
        for p, v in zip(weighed[leaf[weighed]], low[leaf[weighed]]):
            demand(v > 0 and (net.exact or np.isfinite(v)), f"leaf {front[p][0]} is not proven")
        if net.exact:  # planes below of short numbers, or they grow from node to node
            coef, const = (short := net.number(coef.astype(float))), net.outward(const - (abs(coef - short) @ np.maximum(abs(lo), abs(hi))[weighed][..., None])[..., 0])
        plane[weighed] = np.concatenate([coef[:, 0], const], axis=1)
    claim.many = max(32, min(512, 16000 * len(found) // (1 + np.count_nonzero((found[:, 0] < 0) & (found[:, 1] > 0)))))  # boxes worked on together: more where few gates are open
    blocks += [(*front[p][:4], found[p], plane[p]) for p in np.flatnonzero(~leaf)]
    return int(leaf.sum())
def read_claims(path, net):
    try:
        with np.load(io.BytesIO(raw := np.fromfile(path, np.uint8).tobytes()), allow_pickle=False) as file:
            arrays = {k: file[k] for k in sorted(file.files)}
        demand("seal" not in arrays or hashlib.sha256(raw[:-64]).hexdigest().encode() == raw[-64:], "it was changed after it was written")
        return [Claim(arrays, f"{i}_", net) for i in range(int(arrays["claims"]))]
    except Exception as error:
        raise Rejected(f"the certificate is damaged: {error}") from error
def check_claims(certificate, network, exact=False):  # check the claims of a certificate by themselves; returns them, or raises `Rejected`
    net = Bounder(read_network(str(network)), exact)
    return [(check_claim(net, claim), claim)[1] for claim in read_claims(certificate, net)]
def check(certificate, network, prop, exact=False):
    """Raise `Rejected` unless the certificate proves that the property has no counterexample; returns the number of leaves."""
    net = Bounder(read_network(str(network)), exact)
    needed, claims = read_property(str(prop), net.inputs, net.outputs), read_claims(certificate, net)
    key = lambda c, d: (c + 0.0).tobytes() + (d + 0.0).tobytes()
    for lower, upper, rows in needed:
        have = {key(c, d): e for c, d, e in sorted(rows, key=lambda r: r[2])}  # the largest last
        # A claim about some of the rows, lowered or not, proves the case: were all rows at most 0, these would be, too.
        covers = lambda c, lower=lower, upper=upper: c.layer == len(net.relus) and (c.lower <= lower).all() and (upper <= c.upper).all()
        demand((lower > upper).any() or any(covers(c) and all(e <= have.get(key(a, b), -np.inf) for a, b, e in zip(c.C, c.D, c.d)) for c in claims), "no claim covers one of the property's cases")
    return sum(check_claim(net, c) for c in claims)
if __name__ == "__main__":
    try:
        print(f"accepted: {check(*sys.argv[1:4], '--exact' in sys.argv[4:])} leaves")
    except Exception as refusal:
        sys.exit(f"rejected: {refusal}")
