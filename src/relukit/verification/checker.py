"""Checks a certificate of `relukit verify` from the network's file and the property's text alone.

Stands by itself: NumPy and fractions, its own readers and bounds, no code of what finds proofs: `python checker.py CERT NETWORK PROPERTY [--exact]`.

A claim is a box of inputs x, rows over the outputs y (or over the values before ReLU layer number `layer`) and x, and a tree; it says that
max_r (C y + D x + d)_r > 0 in the box. The tree cuts the box at inputs (`split < n`, at `value`) or by the phase of gate `split - n` (first child
on). At a `fresh` node the gates that are open above are bounded anew; other nodes use the bounds from above. At a leaf the rows are added with
`weights` >= 0 and the phases of split gates with `beta` >= 0: one backward substitution must give a number above 0. Any weights are admissible.
A fresh inner node with weights (`row` >= 0) hands down a plane below the same sum: at most 0 at a counterexample, and bounds need hold only there.

Rounding (float64): a computed sum of n products is off by at most g |a|.|b|, g = n u / (1 - n u), in any order (Higham 2002). Every substitution
widens its bound by `eps` times the magnitudes it went through. With `exact` all numbers are fractions.
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

U, TINY, CHUNK, BATCH = 2.0**-53, 1e-290, 400_000, 32
class Rejected(Exception):
    """The certificate does not prove the property."""
def demand(holds, why):
    if not holds:
        raise Rejected(why)
def varint(buffer, at):
    """A number of a protobuf message, and where it ends."""
    end = next(k for k in range(at, len(buffer)) if buffer[k] < 128) + 1
    return sum((byte & 127) << 7 * k for k, byte in enumerate(buffer[at:end])), end
def message(buffer):
    """Fields of a protobuf message: number -> list of integers or bytes."""
    at, found = 0, {}
    while at < len(buffer):
        key, at = varint(buffer, at)
        size, at = varint(buffer, at) if key & 7 in (0, 2) else ({1: 8, 5: 4}[key & 7], at)
        value, at = (size, at) if key & 7 == 0 else (bytes(buffer[at : at + size]), at + size)
        found.setdefault(key >> 3, []).append(value)
    return found
def integers(values):
    """Repeated signed integers, packed or not."""
    out, at = [v for v in values if isinstance(v, int)], 0
    packed = b"".join(v for v in values if isinstance(v, bytes))
    while at < len(packed):
        value, at = varint(packed, at)
        out.append(value)
    return [v - (1 << 64) if v >> 63 else v for v in out]
def tensor(buffer):
    m = message(buffer)
    kind = {1: "<f4", 6: "<i4", 7: "<i8", 11: "<f8"}.get(m.get(2, [0])[0])
    demand(kind and m.get(14, [0])[0] == 0, "a tensor is neither float32, float64, int32 nor int64, or lies in another file")
    raw = m[9][0] if 9 in m else b"".join(m.get(4 if kind == "<f4" else 10, []))
    flat = np.frombuffer(raw, kind) if raw or kind[1] == "f" else np.array(integers(m.get(5 if kind == "<i4" else 7, [])))
    return flat.reshape(integers(m.get(1, []))).astype(np.float64 if kind[1] == "f" else np.int64)
def attribute(m):
    return m[4][0] if 4 in m else struct.unpack("<f", m[2][0])[0] if 2 in m else tensor(m[5][0]) if 5 in m else integers(m.get(8, m.get(3, [])))
def convolution(K, b, shape, given):
    """A 2-D convolution as a matrix over flat values, its bias, and the shape of what it gives."""
    (C, H, W), (O, I, kh, kw) = shape, K.shape
    (top, left, low, right), groups = given.get("pads", [0] * 4), given.get("group", [1])[0]
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
    length = lambda shape: int(np.prod(shape))
    place = lambda W, start: np.pad(W, ((0, 0), (start, size - start - W.shape[1])))
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
        names, out, op = node.get(1, []), node[2][0], node[4][0].decode()
        given = {a[1][0].decode(): attribute(a) for a in map(message, node.get(5, []))}
        mine, other = [s for s in names if s in values], [constants[s] for s in names if s not in values and s in constants]
        demand(mine and len(mine) + len(other) == len([s for s in names if s]), f"{op} reads what the checker does not know")
        added, sign = op in ("Add", "Sub"), -1 if op == "Sub" else 1
        if (added or op in ("MatMul", "Gemm", "Conv")) and any(values[s][2 if added and other else 1] is not None for s in mine):
            close()  # so that no product of matrices is rounded
        for s in mine:
            left.remove(s)
        (start, M, c, shape), first = values[mine[0]], names[0] == mine[0]
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
def read_property(path, n, m):
    """Counterexamples as a list of (lower, upper, rows): x in the box and every row (c, d, e) has c.y + d.x + e <= 0."""
    text = re.sub(r"\"[^\"\n]*\"|;[^\n]*", "", content(path).decode())
    demand(len(re.findall(r"declare-network", text)) < 2 and "declare-hidden" not in text, "certificates are about one network without hidden values")
    tensors, names = {}, {}
    for kind, name, shape in re.findall(r"\(\s*declare-(input|output)\s+(\w+)\s+\w+\s*(\[[^\]]*\])?", text):
        demand(all(s != (kind == "output") for s, _ in tensors.values()), "several inputs or outputs")
        tensors[name] = (kind == "output", [int(v) for v in re.findall(r"\d+", shape)])
    text = re.sub(r"(\w)\s+\[", r"\1[", re.sub(r"\[[\d,\s]*\]", lambda f: re.sub(r"\s", "", f[0]), text))
    stack = [[]]
    for token in re.findall(r"[()]|[^\s()]+", text):
        done = stack.pop() if token == ")" else token
        (stack if token == "(" else stack[-1]).append([] if token == "(" else done)
    demand(len(stack) == 1 and all(isinstance(t, list) and re.fullmatch(r"assert|declare-.*|vnnlib-version", str(t[0])) for t in stack[0]), "the property is no list of declarations and assertions")
    def variable(word):
        """(side, index) of X_3, Y_0 or an entry X[0,3] of a declared tensor; None for a number."""
        if word not in names:
            old, new = re.fullmatch(r"([XY])_(\d+)", word), re.fullmatch(r"(\w+?)(?:\[([\d,]*)\])?", word)
            if old and not tensors:
                names[word] = ("XY".index(old[1]), int(old[2]))
            elif new and new[1] in tensors:
                side, shape = tensors[new[1]]
                place = [int(v) for v in re.findall(r"\d+", new[2] or "")]
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
class Bounder:
    """Backward substitution through one network, for batches of boxes whose nodes above have known bounds."""
    def __init__(self, layers, exact=False):
        self.exact, self.tiny = exact, 0 if exact else TINY
        self.layers = [(self.number(W), self.number(b), relu) for W, b, relu in layers]
        self.absolute = [abs(W) for W, _, _ in self.layers]
        widest = max(max(W.shape) for W, _, _ in layers)
        # Per layer three sums of `widest` products, the lines, the running constant, and the error's own rounding.
        self.eps = 0 if exact else 1.06 * U * (3 * widest + 2 * len(layers) + 40)
        self.relus = [k for k, layer in enumerate(layers) if layer[2].any()]
        self.first = np.cumsum([0] + [layers[k][2].sum() for k in self.relus])
        self.inputs, self.outputs = layers[0][0].shape[1], len(layers[-1][1])
    def number(self, array):
        return np.vectorize(Fraction, otypes=[object])(array) if self.exact and np.size(array) else np.asarray(array, object if self.exact else float)
    def interval(self, lo, hi):
        """Bounds of the values of every layer before its ReLU over one box."""
        found = []
        for (W, b, relu), A in zip(self.layers, self.absolute):
            slack = self.eps * (A @ np.maximum(abs(lo), abs(hi)) + abs(b)) + self.tiny
            found.append((np.maximum(W, 0) @ lo + np.minimum(W, 0) @ hi + b - slack, np.maximum(W, 0) @ hi + np.minimum(W, 0) @ lo + b + slack))
            lo, hi = (np.where(relu, np.maximum(v, 0), v) for v in found[-1])
        return found
    def sizes(self, bounds, lo, hi):
        """For each layer |W| |largest input| + |b| over one box: what rounding is measured by."""
        reach, found = np.maximum(abs(lo), abs(hi)), []
        for (_, b, relu), A, (L, H) in zip(self.layers, self.absolute, bounds):
            found.append(A @ reach + abs(b))
            reach = np.maximum(abs(L), abs(H)) * ((H > 0) | ~relu)
        return found
    def substitute(self, k, coef, const, bounds, lo, hi, size, D=None, beta=None):
        """Planes over x below `coef . (values of layer k after its ReLU) + const + D x` in boxes, shapes (boxes, rows, n) and (boxes, rows)."""
        error = np.zeros_like(const)
        for i in range(k, -1, -1):
            W, b, relu = self.layers[i]
            if relu.any():  # h >= low z where the coefficient is positive, h <= up (z - L) where it is negative; h = z where carried along
                L, H = bounds[i]
                open_, whole = (L < 0) & (H > 0) & relu, (L >= 0) | ~relu
                up = np.where(open_, H / np.where(open_, H - L, 1), whole * 1)
                low = np.where(open_, (H > -L) * 1, whole * 1)
                negative = np.minimum(coef, 0)
                const = const + (negative @ np.where(open_, -up * L, 0)[..., None])[..., 0]
                coef = coef * low[:, None]  # where negative, `low + (up - low)`: one rounding of a number up to 1
                coef += np.multiply(negative, (up - low)[:, None], out=negative)
            if beta is not None:
                coef = coef + beta[i][:, None]
                error = error + self.eps * (abs(beta[i]) @ size[i])[:, None]
            flat, shape = coef.reshape(-1, coef.shape[-1]), coef.shape[:2]
            error = error + self.eps * (abs(flat) @ size[i]).reshape(shape) + self.tiny * (1 + size[i].sum())
            const = const + (flat @ b).reshape(shape)
            coef = (flat @ W).reshape(*shape, -1)
        coef, error = (coef, error) if D is None else (coef + D, error + self.eps * (abs(D) @ np.maximum(abs(lo), abs(hi))[..., None])[..., 0])
        return coef, const - error - (self.eps + 4 * U * (not self.exact)) * abs(const)
    @np.errstate(all="ignore")
    def lowest(self, coef, const, lo, hi, plane):
        """Least values of rows over boxes where a plane (boxes, n + 1) is at most 0, too: any multiple of it may be added, one of n is best."""
        g, g0, reach, best = plane[:, None, :-1], plane[:, None, -1], np.maximum(abs(lo), abs(hi))[..., None], -np.inf
        for i in (-1, *np.flatnonzero((plane[:, :-1] != 0).any(axis=0))):
            times = np.fmax(-coef[..., i] / np.where(g[..., i] == 0, 1, g[..., i]), 0) if i >= 0 else 0 * const
            c, e = (coef + times[..., None] * g, const + times * g0) if i >= 0 else (coef, const)
            at = (np.maximum(c, 0) @ lo[..., None] + np.minimum(c, 0) @ hi[..., None])[..., 0]
            off = self.eps * ((abs(coef) @ reach)[..., 0] + times * ((abs(g) @ reach)[..., 0] + abs(g0))) + self.tiny * (1 + reach.sum())
            best = np.fmax(best, e + at - off - (self.eps + 4 * U * (not self.exact)) * (abs(e) + abs(at)))  # passes over NaN
        return best
    def refresh(self, bounds, lo, hi, size, upto, plane=None, split=()):
        """Bounds over boxes (lo, hi), shape (boxes, n), of each gate before layer `upto` that is open in some of `bounds`, or in `split`."""
        count, found = len(lo), [(L.copy(), H.copy()) for L, H in bounds]
        for k in (k for k in self.relus if k < upto):
            (W, b, relu), (L, H) = self.layers[k], found[k]
            rows = np.flatnonzero((np.any((L < 0) & (H > 0), axis=0) | np.isin(np.arange(len(b)), [j for i, j in split if i == k])) & relu)
            block = max(1, CHUNK // (2 * count * W.shape[1]))
            for part in (rows[j : j + block] for j in range(0, len(rows), block)):
                coef, const = (np.broadcast_to(v, (count, *v.shape)) for v in (np.concatenate([m[part], -m[part]]) for m in (W, b)))
                low = self.lowest(*self.substitute(k - 1, coef, const, found, lo, hi, size), lo, hi, self.number(np.zeros((count, self.inputs + 1))) if plane is None else plane) - self.eps * np.tile(size[k][part], 2) - self.tiny
                for side, value in ((L, low[:, : len(part)]), (H, -low[:, len(part) :])):
                    better = value > side[:, part] if side is L else value < side[:, part]  # false for NaN
                    side[:, part] = np.where(better & (np.ones(value.shape, bool) if self.exact else np.isfinite(value)), value, side[:, part])
        return found
    def gate(self, number):  # its layer and unit
        k = int(np.searchsorted(self.first, number, side="right")) - 1
        return self.relus[k], int(number - self.first[k])
class Claim:
    """One claim of a certificate, its arrays checked for shape, kind and range; it is about layer `at`."""
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
        self.beta = {}
        for r, g, v in zip(owner.tolist(), gate.tolist(), beta.tolist()):
            self.beta.setdefault(r, []).append((g, v))
def check_claim(net, claim):
    """Raise `Rejected` unless the claim's tree proves it; returns the number of leaves."""
    lo, hi, n, blocks = net.number(claim.lower), net.number(claim.upper), net.inputs, []
    leaves = check_nodes(net, claim, [(0, lo, hi, (), net.interval(lo, hi), net.number(np.zeros(n + 1)))], blocks)
    while blocks:
        stack, blocks, front = [(*block, True) for block in blocks[-64:]], blocks[:-64], []
        while stack:  # the nearest leaves and fresh nodes below each
            node, lo, hi, phases, *above, top = stack.pop()
            s, (left, right) = int(claim.split[node]), claim.child[node].tolist()
            if s < 0 or (claim.fresh[node] and not top):
                front.append((node, lo, hi, phases, *above))
            elif s < n:
                cut, upper, lower = net.number(claim.value[node : node + 1])[0], hi.copy(), lo.copy()
                demand(lo[s] <= cut <= hi[s], f"node {node} cuts input {s} outside its box")
                upper[s] = lower[s] = cut
                stack += [(left, lo, upper, phases, *above, False), (right, lower, hi, phases, *above, False)]
            else:
                stack += [(child, lo, hi, (*phases, (s - n, sign)), *above, False) for child, sign in ((left, 1), (right, -1))]
        for j in range(0, len(front), BATCH):
            leaves += check_nodes(net, claim, front[j : j + BATCH], blocks)
    return leaves
def check_nodes(net, claim, front, blocks):
    """Check the leaves among some nodes and queue the fresh inner ones; returns the number of leaves."""
    lo, hi, plane = (np.array([f[i] for f in front]) for i in (1, 2, 5))
    found = [tuple(np.array([f[4][k][side] for f in front]) for side in (0, 1)) for k in range(len(net.layers))]
    size = net.sizes([(L.min(axis=0), H.max(axis=0)) for L, H in found], lo.min(axis=0), hi.max(axis=0))
    phased = [(p, *net.gate(number), sign) for p, f in enumerate(front) for number, sign in f[3]]
    for p, k, j, sign in phased:  # z >= 0 where the gate is on, z <= 0 where it is off
        found[k][sign < 0][p, j] = (max if sign > 0 else min)(found[k][sign < 0][p, j], 0)
    renew, leaf = (np.array(v) for v in zip(*((claim.fresh[f[0]] != 0, claim.split[f[0]] < 0) for f in front)))
    if renew.any():
        for pair, newer in zip(found, net.refresh([(L[renew], H[renew]) for L, H in found], lo[renew], hi[renew], size, claim.at, plane[renew], {s[1:3] for s in phased})):
            pair[0][renew], pair[1][renew] = newer
    for p, k, j, sign in phased:  # a gate that is 0 throughout goes by its phase: the other bound, 0, is loosened
        found[k][sign > 0][p, j] = found[k][sign > 0][p, j] or sign
    # No counterexample is where bounds contradict each other, or the plane is above 0 throughout.
    empty = (net.lowest(plane[:, None, :-1], plane[:, None, -1], lo, hi, 0 * plane) > 0).any(axis=1)
    empty |= np.any([0 * leaf, *(np.any(L > H, axis=1) for L, H in found[: claim.at])], axis=0)
    rows = claim.row[[f[0] for f in front]]
    weighed = np.flatnonzero(~empty & (rows >= 0))
    if len(weighed):
        beta = [net.number(np.zeros((len(weighed), len(b)))) for _, b, _ in net.layers]
        for q, p in enumerate(weighed.tolist()):
            signs = dict(front[p][3])
            for number, value in claim.beta.get(int(rows[p]), ()):
                demand(number in signs, "the phase of a gate is weighed that was not split")
                k, j = net.gate(number)
                beta[k][q, j] = -signs[number] * net.number([value])[0]
        w, C, D, d = (net.number(v) for v in (claim.weights[rows[weighed]], claim.C, claim.D, claim.d))
        (W, b, _), first, reach = net.layers[claim.at], w @ C, np.maximum(abs(lo), abs(hi)).max(axis=0)
        slack = 2 * net.eps * (w @ (abs(C) @ size[claim.at] + abs(d) + abs(D) @ reach)) + net.tiny  # of these sums and the next product
        coef, const = net.substitute(claim.at - 1, (first @ W)[:, None], (first @ b + w @ d)[:, None], [(L[weighed], H[weighed]) for L, H in found], lo[weighed], hi[weighed], size, (w @ D)[:, None], beta)
        low = net.lowest(coef, const := const - slack[:, None], lo[weighed], hi[weighed], plane[weighed])[:, 0]
        good = [not leaf[p] or (v > 0 and (net.exact or np.isfinite(v))) for p, v in zip(weighed, low)]
        demand(all(good), f"leaf {front[weighed[int(np.argmin(good))]][0]} is not proven")
        plane[weighed] = np.concatenate([coef[:, 0], const], axis=1)
    blocks += [(*front[p][:4], [(L[p], H[p]) for L, H in found], plane[p]) for p in np.flatnonzero(~leaf)]
    return int(leaf.sum())
def read_claims(path, net):
    try:
        with np.load(io.BytesIO(raw := np.fromfile(path, np.uint8).tobytes()), allow_pickle=False) as file:
            arrays = {k: file[k] for k in sorted(file.files)}
        demand("seal" not in arrays or hashlib.sha256(raw[:-64]).hexdigest().encode() == raw[-64:], "it was changed after it was written")
        return [Claim(arrays, f"{i}_", net) for i in range(int(arrays["claims"]))]
    except Exception as error:
        raise Rejected(f"the certificate is damaged: {error}") from error
def check_claims(certificate, network, exact=False):
    """Check the claims of a certificate by themselves; returns them, or raises `Rejected`."""
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
        fits = lambda c, have=have: all(e <= have.get(key(a, b), -np.inf) for a, b, e in zip(c.C, c.D, c.d))
        covers = lambda c, lower=lower, upper=upper: c.layer == len(net.relus) and (c.lower <= lower).all() and (upper <= c.upper).all()
        demand((lower > upper).any() or any(covers(c) and fits(c) for c in claims), "no claim covers one of the property's cases")
    return sum(check_claim(net, c) for c in claims)
if __name__ == "__main__":
    try:
        print(f"accepted: {check(*sys.argv[1:4], '--exact' in sys.argv[4:])} leaves")
    except Exception as refusal:
        sys.exit(f"rejected: {refusal}")
