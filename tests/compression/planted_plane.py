"""Small networks of two inputs with superfluous units planted in them, once as exact nodes and once as an ONNX graph."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.compression.plane import Node, affine, kinked

ACTIVATIONS = {"relu": ((0,), (0, 1), 0), "leaky": ((0,), (0.125, 1), 0), "clip": ((-1, 1), (0, 1, 0), -1)}


@dataclass
class Sketch:
    """Nodes and graph side by side; every method returns the number of the node that holds its result (0 is the input)."""

    kind: Any  # NumPy type of the weights
    nodes: list[Node] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [2])
    steps: list[Any] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def _add(self, node: Node, size: int, operator: str, inputs: list[str], **attributes) -> int:
        from onnx import helper

        self.nodes.append(node)
        self.sizes.append(size)
        self.steps.append(helper.make_node(operator, inputs, [f"v{len(self.nodes)}"], **attributes))
        return len(self.nodes)

    def _weight(self, value) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = value
        return name

    def dense(self, i: int, W, b) -> int:
        W, b = np.asarray(W, self.kind), np.asarray(b, self.kind)
        return self._add(affine([(i, W)], b), len(b), "Gemm", [f"v{i}", self._weight(W), self._weight(b)], transB=1)

    def add(self, i: int, j: int) -> int:
        one = np.eye(self.sizes[i])
        return self._add(affine([(i, one), (j, one)], np.zeros(len(one))), len(one), "Add", [f"v{i}", f"v{j}"])

    def act(self, i: int, name: str) -> int:
        node, size = kinked(i, self.sizes[i], *ACTIVATIONS[name]), self.sizes[i]
        if name == "clip":
            ends = [self._weight(np.array(v, self.kind)) for v in (-1, 1)]
            return self._add(node, size, "Clip", [f"v{i}", *ends])
        more = {"alpha": 0.125} if name == "leaky" else {}
        return self._add(node, size, {"relu": "Relu", "leaky": "LeakyRelu"}[name], [f"v{i}"], **more)

    def convolution(self, i: int, kernel, bias, side: int) -> int:
        """Kernel `(out, in, 3, 3)`, padded by one, over images of `side` by `side`; the value stays flat between."""
        from onnx import helper

        kernel, bias = np.asarray(kernel, self.kind), np.asarray(bias, self.kind)
        out, into, place = len(kernel), kernel.shape[1], side * side
        W = np.zeros((out * place, into * place))
        for o in range(out):
            for c in range(into):
                for y in range(side):
                    for x in range(side):
                        for dy in (-1, 0, 1):
                            for dx in (-1, 0, 1):
                                if 0 <= y + dy < side and 0 <= x + dx < side:
                                    W[o * place + y * side + x, c * place + (y + dy) * side + x + dx] = kernel[o, c, dy + 1, dx + 1]  # fmt: skip
        at = len(self.nodes) + 1
        image = self._weight(np.array([-1, into, side, side]))
        flat = self._weight(np.array([-1, out * place]))
        self.steps += [
            helper.make_node("Reshape", [f"v{i}", image], [f"v{at}image"]),
            helper.make_node("Conv", [f"v{at}image", self._weight(kernel), self._weight(bias)], [f"v{at}out"], pads=[1] * 4),
        ]  # fmt: skip
        return self._add(affine([(i, W)], np.repeat(bias, place)), out * place, "Reshape", [f"v{at}out", flat])

    def write(self, path) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        kind = TensorProto.DOUBLE if self.kind is np.float64 else TensorProto.FLOAT
        last = f"v{len(self.nodes)}"
        value = lambda name, size: helper.make_tensor_value_info(name, kind, ["batch", size])
        constants = [numpy_helper.from_array(v, k) for k, v in self.weights.items()]
        graph = helper.make_graph(self.steps, "planted", [value("v0", 2)], [value(last, self.sizes[-1])], constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def planted(g: np.random.Generator, W, b, V, reach: float, exact: bool):
    """A layer `W, b` read by `V`, widened: dead, always-on and dependent, copied, multiple, constant, unread, touching and opposite units."""
    rows, heads = [(w, c) for w, c in zip(W, b)], list(V.T)
    add = lambda w, c, v: (rows.append((w, c)), heads.append(v))
    draw = lambda: _numbers(g, len(V), exact)
    far = lambda w: reach * float(np.abs(w).sum())
    for what in g.choice(
        ["dead", "on", "copy", "multiple", "constant", "silent", "unread", "touching", "opposite", "dependent"],
        g.integers(1, 5),
        replace=False,
    ):
        w, k = _numbers(g, W.shape[1], exact), int(g.integers(len(b)))
        if what in ("dead", "touching"):  # one that touches its kink in a corner at most
            add(w, -far(w) - (what == "dead"), draw())
        elif what == "on":
            add(w, far(w) + (g.random() < 0.5), draw())
        elif what == "copy":
            add(W[k], b[k], draw())
        elif what == "multiple":
            factor = g.choice([2.0, 0.25, 3.0]) if exact else g.choice([2.0, 2.7])
            add(factor * W[k], factor * b[k], draw())
        elif what in ("constant", "silent"):
            add(0 * w, 1.5 if what == "constant" else 0.0, draw())
        elif what == "unread":
            add(w, 0.0, 0 * draw())
        elif what == "opposite":
            add(-W[k], -b[k], draw())
        else:
            other = _numbers(g, W.shape[1], exact)
            for row in (w, other, w + other, 0.5 * w - other):
                add(row, far(w) + far(other) + 1, draw())
    mix = g.permutation(len(rows))
    return np.array([rows[k][0] for k in mix]), np.array([rows[k][1] for k in mix]), np.array([heads[k] for k in mix]).T


def _numbers(g: np.random.Generator, shape, exact: bool):
    """Eighths up to 2, of which sums and products are exact in float64, or Gaussian numbers."""
    return g.integers(-16, 17, shape) / 8 if exact else g.standard_normal(shape)


def sketch(seed: int, kind: str, activation: str, exact: bool) -> Sketch:
    """`dense`, `residual` or `convolution`, with planted units in each hidden layer."""
    g = np.random.default_rng(seed)
    draw = lambda *shape: _numbers(g, shape, exact)
    made = Sketch(np.float32 if kind == "convolution" or activation == "leaky" or g.random() < 0.25 else np.float64)
    if kind == "dense":
        sizes = [2, *g.integers(2, 6, g.integers(1, 4)), 2]
        weights, biases = [draw(b, a) for a, b in zip(sizes, sizes[1:])], [draw(b) for b in sizes[1:]]
        reach, at = 2.0, 0
        for k in range(len(weights) - 1):
            if g.random() < 0.8:
                weights[k], biases[k], weights[k + 1] = planted(g, weights[k], biases[k], weights[k + 1], reach, exact)
            reach = max(1.0, float((reach * np.abs(weights[k]).sum(axis=1) + np.abs(biases[k])).max()))
            at = made.act(made.dense(at, weights[k], biases[k]), activation)
        made.dense(at, weights[-1], biases[-1])
    elif kind == "residual":
        W, b = draw(3, 2), draw(3)
        reach = float((2 * np.abs(W).sum(axis=1) + np.abs(b)).max())
        h = made.act(made.dense(0, W, b), activation)
        inner, bias, outer = planted(g, draw(3, 3), draw(3), draw(3, 3), reach, exact)
        back = made.dense(made.act(made.dense(h, inner, bias), activation), outer, draw(3))
        made.dense(made.act(made.add(h, back), activation), draw(2, 3), draw(2))
    else:
        side, first = 2, made.dense(0, draw(4, 2), draw(4))
        kernel, bias, reader = draw(2, 1, 3, 3), draw(2), draw(2, 2 * 9)
        one, c, two = planted(g, kernel.reshape(2, 9), bias, _by_channel(reader, 2), 60.0, exact)
        at = made.act(made.convolution(first, one.reshape(-1, 1, 3, 3), c, side), activation)
        if g.random() < 0.5:
            at = made.act(
                made.convolution(at, _from_channels(two, 9).reshape(2, len(c), 3, 3), draw(2), side), activation
            )
            made.dense(at, draw(2, 2 * side * side), draw(2))
        else:
            made.dense(at, _from_channels(two, 9)[:, : len(c) * 4], draw(2))
    return made


def _by_channel(V, channels: int):
    """Weights on places of channels as one column for each channel."""
    return V.reshape(len(V), channels, -1).transpose(0, 2, 1).reshape(-1, channels)


def _from_channels(columns, places: int):
    return columns.reshape(-1, places, columns.shape[1]).transpose(0, 2, 1).reshape(-1, columns.shape[1] * places)
