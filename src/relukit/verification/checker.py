"""Checks a certificate of `relukit verify` from the network's file and the property's text alone.

This file stands by itself: NumPy and fractions, its own readers of ONNX, npz and VNN-LIB, its own bounds. It shares no
code with what finds proofs, and can be run alone: `python checker.py CERT.npz --network F.onnx --property P.vnnlib`.

A certificate holds claims. A claim is a box of inputs, rows over the network's outputs y (or over the values before ReLU
layer number `layer`) and inputs x, and a tree; it says that max_r (C y + D x + d)_r > 0 everywhere in the box. The tree
cuts the box at inputs (`split < n`, at `value`) or by the phase of a gate (`split - n`: first child on, second off). At a
`fresh` node the bounds of all gates that are open there are computed anew; other nodes use those of the node above. At a
leaf the rows are added with `weights` >= 0, and `beta` >= 0 weighs the phases of gates that were split: one backward
substitution must give a number above 0. Any weights are admissible; only their size decides whether the proof succeeds.

Rounding (float64): a computed sum of n products differs from the exact one by at most g |a|.|b|, g = n u / (1 - n u),
whatever the order of the sum (Higham 2002). Every substitution widens its bound by `EPS` times the sum of magnitudes it
went through. With `exact=True` all numbers are fractions and nothing is rounded.
"""

import argparse
import gzip
import re
import struct
import sys
from fractions import Fraction

import numpy as np

U, TINY, CHUNK, BATCH = 2.0**-53, 1e-290, 400_000, 128


class Rejected(Exception):
    """The certificate does not prove the property."""


# -- the network: a list of (W, b, relu), none of them multiplied out --------------------------------------------------


def fields(buffer):
    """Fields of a protobuf message: (number, value), value an integer or bytes."""
    at, end = 0, len(buffer)

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = buffer[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < end:
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        else:
            size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
            value, at = bytes(buffer[at : at + size]), at + size
        yield key >> 3, value


def message(buffer):
    found = {}
    for number, value in fields(buffer):
        found.setdefault(number, []).append(value)
    return found


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def integers(values):
    """Repeated integers, packed or not."""
    out = []
    for v in values:
        if isinstance(v, int):
            out.append(signed(v))
        else:
            out.extend(signed(x) for _, x in fields(b"".join(b"\x08" + p for p in varints(v))))
    return out


def varints(buffer):
    start = 0
    for k, byte in enumerate(buffer):
        if byte < 128:
            yield buffer[start : k + 1]
            start = k + 1


TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}


def tensor(buffer):
    m = message(buffer)
    if 14 in m and m[14][0] == 1:
        raise Rejected("weights in external files are not read by the checker")
    kind, shape = TYPES.get(m.get(2, [0])[0]), integers(m.get(1, []))
    if kind is None:
        raise Rejected("a tensor is neither float32, float64, int32 nor int64")
    if 9 in m:
        flat = np.frombuffer(m[9][0], np.dtype(kind).newbyteorder("<"))
    elif kind is np.float32:
        flat = np.frombuffer(b"".join(m.get(4, [])), "<f4")
    elif kind is np.float64:
        flat = np.frombuffer(b"".join(m.get(10, [])), "<f8")
    else:
        flat = np.array(integers(m.get(5 if kind is np.int32 else 7, [])))
    return flat.reshape(shape).astype(np.float64 if kind in (np.float32, np.float64) else np.int64)


def read_onnx(content):
    """A chain of affine maps and ReLUs from an ONNX file; anything else is refused."""
    graph = message(message(content)[7][0])
    constants = {message(t)[8][0]: tensor(t) for t in graph.get(5, [])}
    inputs = [message(i) for i in graph[11] if message(i)[1][0] not in constants]
    if len(inputs) != 1:
        raise Rejected("the checker reads networks with one input")
    described = message(message(message(inputs[0][2][0])[1][0])[2][0])
    dims = [max(message(d).get(1, [1])[0], 1) for d in described.get(1, [])]
    value, shape = inputs[0][1][0], tuple(dims[1:] if len(dims) > 1 else dims)
    n = int(np.prod(shape))
    layers, eye = [], np.eye(n)
    for node in map(message, graph[1]):
        names, out, op = node.get(1, []), node[2][0], node[4][0].decode()
        attributes = {}
        for a in map(message, node.get(5, [])):
            attributes[a[1][0].decode()] = (
                struct.unpack("<f", a[2][0])[0] if 2 in a else a[4][0] if 4 in a else
                tensor(a[5][0]) if 5 in a else integers(a.get(8, a.get(3, [])))
            )  # fmt: skip
        if op == "Constant":
            constants[out] = np.asarray(attributes["value"])
            continue
        if value not in names:
            if names and all(s in constants for s in names) and op in ("Identity", "Reshape", "Flatten", "Unsqueeze"):
                constants[out] = constants[names[0]].reshape(
                    [int(v) for v in constants[names[1]]] if op == "Reshape" else constants[names[0]].shape
                )
                continue
            raise Rejected(f"{op} does not follow the chain of operators")
        other = [constants[s] for s in names if s != value and s in constants]
        size = int(np.prod(shape))
        eye = np.eye(size) if op in ("Add", "Sub", "Mul", "Div") else eye
        spread = lambda v, shape=shape, size=size: np.broadcast_to(v, np.broadcast_shapes(v.shape, (1, *shape))).reshape(size)
        if op == "Relu":
            if not layers or layers[-1][2]:
                layers.append((np.eye(size), np.zeros(size), False))
            layers[-1] = (*layers[-1][:2], True)
        elif op in ("Flatten", "Dropout", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
            shape = (size,) if op in ("Flatten", "Reshape") else shape
        elif op == "MatMul" and names[0] == value:
            layers.append((other[0].T, np.zeros(other[0].shape[1]), False))
            shape = (*shape[:-1], other[0].shape[1])
            if len(shape) > 1 and np.prod(shape[:-1]) > 1:
                raise Rejected("a MatMul over several rows")
        elif op == "Gemm" and names[0] == value and attributes.get("alpha", 1) == attributes.get("beta", 1) == 1 and not attributes.get("transA", [0])[0]:
            W = other[0] if attributes.get("transB", [0])[0] else other[0].T
            layers.append((W, np.broadcast_to(other[1].ravel() if len(other) > 1 else 0.0, (len(W),)), False))
            shape = (len(W),)
        elif op in ("Add", "Sub") and (op == "Add" or names[0] == value):
            c = spread(other[0]) * (1 if op == "Add" else -1)
            if layers and not layers[-1][2] and not np.any(layers[-1][1]):  # a bias right after its product
                layers[-1] = (layers[-1][0], c, False)
            else:
                layers.append((eye, c, False))
        elif op == "Mul":
            layers.append((np.diag(spread(other[0])), np.zeros(size), False))
        else:
            raise Rejected(f"the checker does not read the operator {op} here")
        value = out
    if value != message(graph[12][0])[1][0]:
        raise Rejected("the last operator is not the output")
    return layers


def read_network(path):
    with open(path, "rb") as file:
        content = file.read()
    content = gzip.decompress(content) if path.endswith(".gz") else content
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as a:
            count = sum(k[0] == "W" for k in a.files)
            layers = [(a[f"W{k}"].astype(float), a[f"b{k}"].ravel().astype(float), k < count - 1) for k in range(count)]
    else:
        layers = read_onnx(content)
    if layers[-1][2]:
        layers.append((np.eye(len(layers[-1][1])), np.zeros(len(layers[-1][1])), False))
    for k, (W, b, _) in enumerate(layers):
        if W.ndim != 2 or len(W) != len(b) or (k and W.shape[1] != len(layers[k - 1][1])) or not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise Rejected(f"layer {k} does not fit, or is not finite")
    return layers


# -- the property: boxes and rows whose joint non-positivity is a counterexample ---------------------------------------


def read_property(path, n, m):
    """Counterexamples as a list of (lower, upper, rows): x in the box and every row (c over y, d over x, e) c.y + d.x + e <= 0."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        text = re.sub(r";[^\n]*|\"[^\"]*\"", "", file.read().decode())
    if len(re.findall(r"declare-network", text)) > 1 or "declare-hidden" in text:
        raise Rejected("certificates are about one network without hidden variables")
    names, shapes = {}, {}
    for kind, name, dims in re.findall(r"\(\s*declare-(input|output)\s+(\w+)\s+\w+\s*\[([^\]]*)\]", text):
        side = 0 if kind == "input" else 1
        if any(s == side for s, _ in shapes.values()):
            raise Rejected("several inputs or outputs")
        shapes[name] = (side, [int(v) for v in dims.split(",") if v.strip()])
    text = re.sub(r"\[([\d,\s]*)\]", lambda f: "[" + f[1].replace(" ", "") + "]", text)
    text = re.sub(r"(\w)\s+\[", r"\1[", text)
    stack = [[]]
    for token in re.findall(r"[()]|[^\s()]+", text):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    asserted = [t[1] for t in stack[0] if isinstance(t, list) and t and t[0] == "assert"]
    if len(stack) != 1 or any(not isinstance(t, list) or (t[0] != "assert" and not t[0].startswith(("declare-", "vnnlib-"))) for t in stack[0]):
        raise Rejected("the property is no list of declarations and assertions")

    def variable(word):
        """(side, index) of X_3, Y_0, or an entry of a declared tensor."""
        if word not in names:
            old, new = re.fullmatch(r"([XY])_(\d+)", word), re.fullmatch(r"(\w+)\[([\d,]*)\]", word)
            if old and not shapes:
                side, index = "XY".index(old[1]), int(old[2])
            elif new and new[1] in shapes:
                side, shape = shapes[new[1]]
                place = [int(v) for v in new[2].split(",") if v]
                if len(place) != len(shape) or any(p >= s for p, s in zip(place, shape)):
                    raise Rejected(f"{word} is outside its tensor")
                index = int(np.ravel_multi_index(place, shape)) if place else 0
            else:
                return None
            if index >= (n, m)[side]:
                raise Rejected(f"{word} is not a variable of this network")
            names[word] = (side, index)
        return names[word]

    def linear(t):
        if isinstance(t, str):
            v = variable(t)
            return {v: Fraction(1)} if v else {(): Fraction(float(t))}
        parts = [linear(p) for p in t[1:]]
        if t[0] == "*":
            total = {(): Fraction(1)}
            for p in parts:
                if any(total) and any(p):
                    raise Rejected("a product of variables")
                total, p = (p, total) if any(p) else (total, p)
                total = {k: v * p.get((), Fraction(0)) for k, v in total.items()}
            return total
        if t[0] not in "+-" or not parts:
            raise Rejected(f"unknown arithmetic {t[0]}")
        total = dict(parts[0]) if len(parts) > 1 or t[0] == "+" else {k: -v for k, v in parts[0].items()}
        for p in parts[1:]:
            for k, v in p.items():
                total[k] = total.get(k, Fraction(0)) + (v if t[0] == "+" else -v)
        return total

    def cases(t):
        if t[0] == "and":
            found = [[]]
            for p in t[1:]:
                found = [a + b for a in found for b in cases(p)]
            return found
        if t[0] == "or":
            return [c for p in t[1:] for c in cases(p)]
        left, right = linear(t[1]), linear(t[2])
        row = {k: left.get(k, Fraction(0)) - right.get(k, Fraction(0)) for k in {*left, *right}}
        minus = {k: -v for k, v in row.items()}
        table = {"<=": [[row]], "<": [[row]], ">=": [[minus]], ">": [[minus]], "==": [[row, minus]], "=": [[row, minus]], "!=": [[row], [minus]]}
        if t[0] not in table:
            raise Rejected(f"unknown condition {t[0]}")
        return table[t[0]]

    product = [[]]
    for t in asserted:
        product = [a + b for a in product for b in cases(t)]
    return [box_and_rows(c, n, m) for c in product]


def down(value):
    """The largest float64 that is at most a fraction."""
    near = float(value)
    return near if Fraction(near) <= value else float(np.nextafter(near, -np.inf))


def box_and_rows(case, n, m):
    lower, upper, rows = np.full(n, -np.inf), np.full(n, np.inf), []
    for row in case:
        used = {k: v for k, v in row.items() if k and v != 0}
        rest = row.get((), Fraction(0))
        if len(used) == 1 and next(iter(used))[0] == 0:
            ((_, i), c), = used.items()
            if c > 0:
                upper[i] = min(upper[i], -down(rest / c))
            else:
                lower[i] = max(lower[i], down(-rest / c))
            continue
        c, d = np.zeros(m), np.zeros(n)
        for (side, i), v in used.items():
            (d, c)[side][i] = float(v)
            if Fraction(float(v)) != v:
                raise Rejected("a coefficient is not a float64 number")
        rows.append((c, d, down(rest)))
    return lower, upper, rows


# -- bounds ------------------------------------------------------------------------------------------------------------


class Bounder:
    """Backward substitution through one network, for batches of boxes under one node whose bounds are known."""

    def __init__(self, layers, exact=False):
        self.exact = exact
        self.type = object if exact else np.float64
        self.layers = [(self.number(W), self.number(b), relu) for W, b, relu in layers]
        self.absolute = [abs(W) for W, _, _ in self.layers]
        widest = max(max(W.shape) for W, _, _ in layers)
        # Per layer two sums of `widest` products, the lines, the running constant, and the error's own rounding.
        self.eps = 0 if exact else 1.06 * U * (3 * widest + 2 * len(layers) + 40)
        self.relus = [k for k, layer in enumerate(layers) if layer[2]]
        self.first = np.cumsum([0] + [len(layers[k][1]) for k in self.relus])
        self.inputs, self.outputs = layers[0][0].shape[1], len(layers[-1][1])

    def number(self, array):
        array = np.asarray(array, np.float64)
        return np.vectorize(Fraction, otypes=[object])(array) if self.exact and array.size else array.astype(self.type)

    def interval(self, lo, hi):
        """Bounds of the values of every layer before its ReLU over one box."""
        found = []
        for (W, b, relu), A in zip(self.layers, self.absolute):
            reach = np.maximum(abs(lo), abs(hi))
            slack = self.eps * (A @ reach + abs(b)) + (0 if self.exact else TINY)
            plus, minus = np.maximum(W, 0), np.minimum(W, 0)
            found.append((plus @ lo + minus @ hi + b - slack, plus @ hi + minus @ lo + b + slack))
            lo, hi = (np.maximum(v, 0) for v in found[-1]) if relu else found[-1]
        return found

    def sizes(self, bounds, lo, hi):
        """For each layer |W| |largest input| + |b| over one box: what rounding is measured by."""
        reach, found = np.maximum(abs(lo), abs(hi)), []
        for (_, b, relu), A, (L, H) in zip(self.layers, self.absolute, bounds):
            found.append(A @ reach + abs(b))
            reach = np.maximum(abs(L), abs(H))
            reach = np.where(H <= 0, 0 * reach, reach) if relu else reach
        return found

    def substitute(self, k, coef, const, bounds, lo, hi, size, D=None, beta=None):
        """Lower bounds of `coef . (values of layer k after its ReLU) + const + D x` over boxes, shape (boxes, rows)."""
        error = np.zeros_like(const)
        for i in range(k, -1, -1):
            W, b, relu = self.layers[i]
            if relu:
                L, H = bounds[i]
                open_ = (L < 0) & (H > 0)
                up = np.where(open_, H / np.where(open_, H - L, 1), (L >= 0) * 1)
                low = np.where(open_, (H > -L) * 1, (L >= 0) * 1)
                negative = np.minimum(coef, 0)
                const = const + (negative @ np.where(open_, -up * L, 0)[..., None])[..., 0]
                coef = coef * low[:, None]  # where negative, `low + (up - low)`: one rounding of a number up to 1
                negative = negative * (up - low)[:, None]
                coef += negative
            if beta is not None and beta[i] is not None:
                coef = coef + beta[i][:, None]
                error = error + self.eps * (abs(beta[i]) @ size[i])[:, None]
            shape = coef.shape
            flat = coef.reshape(-1, shape[-1])
            error = error + self.eps * (abs(flat) @ size[i]).reshape(shape[:2]) + (0 if self.exact else TINY * (1 + size[i].sum()))
            const = const + (flat @ b).reshape(shape[:2])
            coef = (flat @ W).reshape(*shape[:2], -1)
        if D is not None:
            coef = coef + D
            reach = np.maximum(abs(lo), abs(hi))
            error = error + self.eps * (abs(D) @ reach[..., None])[..., 0]
        at = np.maximum(coef, 0) @ lo[..., None] + np.minimum(coef, 0) @ hi[..., None]
        return const + at[..., 0] - error - (self.eps + 4 * U * (not self.exact)) * (abs(const) + abs(at[..., 0]))

    def refresh(self, bounds, lo, hi, size):
        """Bounds over boxes (lo, hi), shape (boxes, n): each gate that is open in `bounds` is bounded anew."""
        count = len(lo)
        found = [tuple(np.broadcast_to(v, (count, v.shape[-1])).copy() for v in pair) for pair in bounds]
        for k in self.relus:
            L, H = found[k]
            rows = np.flatnonzero(np.any((L < 0) & (H > 0), axis=0))
            if not len(rows):
                continue
            W, b, _ = self.layers[k]
            block = max(1, CHUNK // (2 * count * max(W.shape[1], 1)))
            for part in (rows[j : j + block] for j in range(0, len(rows), block)):
                coef = np.concatenate([W[part], -W[part]])[None]
                const = np.broadcast_to(np.concatenate([b[part], -b[part]]), (count, 2 * len(part)))
                coef = np.broadcast_to(coef, (count, *coef.shape[1:]))
                low = self.substitute(k - 1, coef, const, found, lo, hi, size)
                low = low - self.eps * np.tile(size[k][part], 2) - (0 if self.exact else TINY)
                good = np.ones(low.shape, bool) if self.exact else np.isfinite(low)
                half = len(part)
                L[:, part] = np.where(good[:, :half], np.maximum(L[:, part], np.where(good, low, 0)[:, :half]), L[:, part])
                H[:, part] = np.where(good[:, half:], np.minimum(H[:, part], -np.where(good, low, 0)[:, half:]), H[:, part])
        return found


# -- trees -------------------------------------------------------------------------------------------------------------


class Claim:
    """One claim of a certificate, its arrays checked for shape and kind."""

    def __init__(self, arrays, prefix, net):
        get = lambda name: np.asarray(arrays[prefix + name])
        floats = lambda name, *shape: get(name).astype(np.float64, casting="safe").reshape(shape)
        whole = lambda name: get(name).astype(np.int64, casting="safe").ravel()
        n = net.inputs
        self.layer = int(whole("layer")[0])
        if not 0 <= self.layer <= len(net.relus):
            raise Rejected("a claim about a layer that does not exist")
        self.at = len(net.layers) - 1 if self.layer == len(net.relus) else net.relus[self.layer]
        width = len(net.layers[self.at][1])
        self.lower, self.upper = floats("lower", n), floats("upper", n)
        self.C, self.D, self.d = floats("C", -1, width), floats("D", -1, n), floats("d", -1)
        self.split, self.value, self.fresh = whole("split"), floats("value", -1), whole("fresh")
        self.child, self.row = get("child").astype(np.int64, casting="safe").reshape(-1, 2), whole("row")
        self.weights = floats("weights", -1, len(self.d))
        self.beta = list(zip(whole("beta_row").tolist(), whole("beta_gate").tolist(), floats("beta", -1).tolist()))
        count, inner = len(self.split), self.split >= 0
        finite = all(np.isfinite(v).all() for v in (self.lower, self.upper, self.C, self.D, self.d, self.value, self.weights))
        if not finite or not (len(self.C) == len(self.D) == len(self.d) > 0) or (self.weights < 0).any():
            raise Rejected("a claim is not finite, has no rows, or weighs a row below 0")
        if not (len(self.value) == len(self.fresh) == len(self.child) == len(self.row) == count > 0):
            raise Rejected("the arrays of a tree differ in length")
        if sorted(self.child[inner].ravel().tolist()) != list(range(1, count)) or (self.child[inner] <= np.flatnonzero(inner)[:, None]).any():
            raise Rejected("a tree misses a node or holds one twice")
        if (self.split >= n + net.first[self.layer]).any() or (self.row[~inner] >= len(self.weights)).any() or (self.row[~inner] < 0).any():
            raise Rejected("a node refers to an input, gate or leaf that does not exist")


def check_claim(net, claim):
    """Raise `Rejected` unless the claim's tree proves it; returns the number of leaves."""
    number, n = net.number, net.inputs
    lo, hi = number(claim.lower), number(claim.upper)
    betas = {}
    for row, gate, value in claim.beta:
        betas.setdefault(row, []).append((gate, value))
    start = net.interval(lo, hi)
    bounds = net.refresh([tuple(v[None] for v in pair) for pair in start], lo[None], hi[None], net.sizes(start, lo, hi))
    blocks, leaves = [(0, lo, hi, (), [tuple(v[0] for v in pair) for pair in bounds])], 0
    while blocks:
        group, blocks = blocks[-64:], blocks[:-64]
        front = []
        for top, lo, hi, phases, bounds in group:  # the nearest leaves and fresh nodes below each
            stack = [(top, lo, hi, phases)]
            while stack:
                node, lo, hi, phases = stack.pop()
                s = int(claim.split[node])
                if s < 0 or (claim.fresh[node] and node != top):
                    front.append((node, lo, hi, phases, bounds, node == top))
                    continue
                left, right = claim.child[node].tolist()
                if s < n:
                    cut = number(claim.value[node : node + 1])[0]
                    if not lo[s] <= cut <= hi[s]:
                        raise Rejected(f"node {node} cuts input {s} outside its box")
                    below, above = hi.copy(), lo.copy()
                    below[s] = above[s] = cut
                    stack += [(left, lo, below, phases), (right, above, hi, phases)]
                else:
                    stack += [(left, lo, hi, (*phases, (s - n, 1))), (right, lo, hi, (*phases, (s - n, -1)))]
        for j in range(0, len(front), BATCH):
            leaves += _front(net, claim, front[j : j + BATCH], betas, blocks)
    return leaves


def _front(net, claim, front, betas, blocks):
    """Check the leaves among some nodes, and queue the fresh inner ones."""
    count = len(front)
    lo, hi = np.array([f[1] for f in front]), np.array([f[2] for f in front])
    found = [tuple(np.array([f[4][k][side] for f in front]) for side in (0, 1)) for k in range(len(net.layers))]
    hull = [(L.min(axis=0), H.max(axis=0)) for L, H in found]
    size = net.sizes(hull, lo.min(axis=0), hi.max(axis=0))
    for p, (_, _, _, phases, _, _) in enumerate(front):
        for gate, sign in phases:
            k = int(np.searchsorted(net.first, gate, side="right")) - 1
            side, j = found[net.relus[k]][0 if sign > 0 else 1][p], gate - net.first[k]
            side[j] = max(side[j], 0) if sign > 0 else min(side[j], 0)
    renew = np.array([claim.fresh[f[0]] != 0 and not f[5] for f in front])
    if renew.any():
        part = [tuple(v[renew] for v in pair) for pair in found]
        part = net.refresh(part, lo[renew], hi[renew], size)
        for pair, new in zip(found, part):
            pair[0][renew], pair[1][renew] = new
    leaf = np.array([claim.split[f[0]] < 0 for f in front])
    for p in np.flatnonzero(~leaf):
        blocks.append((*front[p][:4], [tuple(v[p] for v in pair) for pair in found]))
    empty = np.any([np.any(found[k][0] > found[k][1], axis=1) for k in net.relus] + [np.zeros(count, bool)], axis=0)
    left = np.flatnonzero(leaf & ~empty)
    if len(left):
        rows = claim.row[[front[p][0] for p in left]]
        beta = [None] * len(net.layers)
        for q, (p, row) in enumerate(zip(left, rows.tolist())):
            signs = dict(front[p][3])
            for gate, value in betas.get(row, ()):
                if gate not in signs or not value >= 0 or value == np.inf:
                    raise Rejected("a phase is weighed that was not split, or with a weight below 0")
                k = int(np.searchsorted(net.first, gate, side="right")) - 1
                if beta[net.relus[k]] is None:
                    beta[net.relus[k]] = net.number(np.zeros((len(left), len(net.layers[net.relus[k]][1]))))
                beta[net.relus[k]][q, gate - net.first[k]] = net.number([-signs[gate] * value])[0]
        w = net.number(claim.weights[rows])
        C, D, d = net.number(claim.C), net.number(claim.D), net.number(claim.d)
        W, b, _ = net.layers[claim.at]
        first = w @ C  # rounding of this sum and of the next product: measured by |w| |C|
        slack = 2 * net.eps * (w @ (abs(C) @ size[claim.at] + abs(d) + abs(D) @ np.maximum(abs(lo), abs(hi)).max(axis=0))) + (0 if net.exact else TINY)
        low = net.substitute(claim.at - 1, (first @ W)[:, None], (first @ b + w @ d)[:, None], [tuple(v[left] for v in pair) for pair in found],
                             lo[left], hi[left], size, (w @ D)[:, None], beta)[:, 0] - slack  # fmt: skip
        if not all(v > 0 and (net.exact or np.isfinite(v)) for v in low):
            raise Rejected(f"leaf {front[left[int(np.argmin([float(v > 0) for v in low]))]][0]} is not proven")
    return int(leaf.sum())


def check(certificate, network, prop, exact=False):
    """Raise `Rejected` unless the certificate proves that the property's file has no counterexample; returns the number of leaves."""
    net = Bounder(read_network(str(network)), exact)
    needed = read_property(str(prop), net.inputs, net.outputs)
    try:
        with np.load(certificate, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
        claims = [Claim(arrays, f"{i}_", net) for i in range(int(arrays["claims"]))]
    except Rejected:
        raise
    except Exception as error:
        raise Rejected(f"the certificate is damaged: {error}") from error
    key = lambda c, d, e: (np.asarray(c + 0.0).tobytes(), np.asarray(d + 0.0).tobytes(), float(e) + 0.0)
    known = [(c, {key(*r) for r in zip(c.C, c.D, c.d)}) for c in claims if c.layer == len(net.relus)]
    for lower, upper, rows in needed:
        if (lower > upper).any():
            continue
        have = {key(*r) for r in rows}
        if not any((c.lower <= lower).all() and (upper <= c.upper).all() and r <= have for c, r in known):
            raise Rejected("no claim covers one of the property's cases")
    return sum(check_claim(net, c) for c in claims)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Check a certificate of relukit verify.")
    parser.add_argument("certificate")
    parser.add_argument("--network", required=True)
    parser.add_argument("--property", required=True)
    parser.add_argument("--exact", action="store_true", help="rational arithmetic: slow, nothing is rounded")
    a = parser.parse_args(arguments)
    try:
        print(f"accepted: {check(a.certificate, a.network, a.property, a.exact)} leaves")
    except (Rejected, OSError, KeyError, IndexError, ValueError) as error:
        print(f"rejected: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
