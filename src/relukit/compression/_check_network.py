"""Networks for the checker of compressions, from `.npz` and ONNX files: affine nodes with matrices, and ReLUs.

Stands by itself: NumPy, SciPy's sparse matrices and the ONNX format; no code of what compresses.
"""

from typing import Any

import numpy as np
from scipy import sparse

from relukit.compression._check_kinks import Kinks
from relukit.compression._check_nodes import Node, affine, demand
from relukit.verification.checker import Rejected

_HEADS = ("Softmax", "Sigmoid")  # with slopes of at most 1/2: outputs behind them are no farther apart than before


def read(path: str) -> list[Node]:
    """The network of a file, its output the last node."""
    if not path.endswith(".npz"):
        return _Graph(path).nodes
    with np.load(path, allow_pickle=False) as file:  # W0, b0, W1, ...: ReLU between, none at the end
        count = sum(k[:1] == "W" and k[1:].isdigit() for k in file.files)
        demand(
            count > 0 and all(f"{w}{k}" in file.files for w in "Wb" for k in range(count)),
            "a network needs arrays W0, b0, W1, ...",
        )
        layers = [(file[f"W{k}"].astype(float), file[f"b{k}"].ravel().astype(float)) for k in range(count)]
    nodes = [Node([], size=layers[0][0].shape[1])]
    for k, (W, b) in enumerate(layers):
        demand(W.ndim == 2 and W.shape == (len(b), nodes[-1].size), f"layer {k} does not fit")
        nodes.append(affine([len(nodes) - 1], [W], b))
        if k < count - 1:
            nodes.append(Node([len(nodes) - 1], size=len(b)))
    return nodes


class _Graph(Kinks):
    """An ONNX graph with one input and one output, node by node; values are flat, without the batch axis."""

    def __init__(self, path: str) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(path, load_external_data=False).graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [i for i in graph.input if i.name not in self.constants]
        demand(len(inputs) == len(graph.output) == 1, "the checker reads networks with one input and one output")
        dims = [max(d.dim_value, 1) for d in inputs[0].type.tensor_type.shape.dim]
        shape = tuple(dims[1:] if len(dims) > 1 else dims)
        self.nodes = [Node([], size=int(np.prod(shape)))]
        self.values: dict[str, tuple[int, tuple[int, ...]]] = {inputs[0].name: (0, shape)}
        read_by = [name for node in graph.node for name in node.input]
        head = ""
        for node in graph.node:
            at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            at |= {"inputs": list(node.input), "outputs": [name for name in node.output if name]}
            if node.op_type == "Constant":
                demand("value" in at, "a constant of an unknown kind")
                self.constants[node.output[0]] = numpy_helper.to_array(at["value"])
                continue
            names = [n for n in node.input if n]
            if node.op_type == "Identity" and names[0] in self.constants:  # exporters share equal weights so
                self.constants[node.output[0]] = self.constants[names[0]]
                continue
            demand(all(n in self.constants or n in self.values for n in names), f"{node.op_type} reads a value that is not there")  # fmt: skip
            if node.op_type in _HEADS and node.output[0] == graph.output[0].name and node.output[0] not in read_by:
                self.values[node.output[0]], head = self._one(names)[:2], node.op_type
                continue
            known = node.op_type[:1].isupper() and node.domain in ("", "ai.onnx")
            read = getattr(self, "_" + node.op_type, None) if known else None
            demand(
                read is not None and any(n in self.values for n in names),
                f"the checker does not read the operator {node.op_type}",
            )
            assert read is not None
            self.values[node.output[0]] = read(names, at)
        at, shape = self.values.get(graph.output[0].name, (-1, ()))
        demand(at >= 0, "the output is no value of the graph")
        if at != len(self.nodes) - 1:
            self._put([at], [sparse.identity(self.nodes[at].size, format="csr")], np.zeros(self.nodes[at].size), shape)
        self.nodes[-1].head = head

    def _put(self, sources: list[int], maps: list[Any], bias: Any, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:  # fmt: skip
        self.nodes.append(affine(sources, maps, np.asarray(bias, float)))
        return len(self.nodes) - 1, shape

    def _one(self, names: list[str], first: bool = True) -> tuple[int, tuple[int, ...], list[np.ndarray]]:
        """The one value that moves, its shape, and the constants beside it."""
        moving = [n for n in names if n in self.values]
        demand(len(moving) == 1 and (not first or names[0] in self.values), "an operator joins two values in a way the checker does not read")  # fmt: skip
        return *self.values[moving[0]], [np.asarray(self.constants[n]) for n in names if n not in self.values]

    def _Relu(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, _ = self._one(names)
        self.nodes.append(Node([source], size=self.nodes[source].size))
        return len(self.nodes) - 1, shape

    def _Identity(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        return self.values[names[0]]

    _Dropout = _Identity

    def _Flatten(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        demand(at.get("axis", 1) == 1, "a Flatten of another axis")
        source, shape, _ = self._one(names)
        return source, (int(np.prod(shape)),)

    def _Reshape(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, (wanted,) = self._one(names)
        old = np.empty((1, *shape), np.bool_)
        wanted = [old.shape[k] if w == 0 and not at.get("allowzero", 0) else int(w) for k, w in enumerate(wanted)]
        new = old.reshape(wanted).shape
        demand(new[0] == 1 or len(new) == 1, "a Reshape that mixes inputs")
        return source, new[1:] if len(new) > 1 else new

    def _reshaped(self, names: list[str], at: dict, change: Any) -> tuple[int, tuple[int, ...]]:
        """Squeeze and Unsqueeze: axes of length 1 go or come, not the batch."""
        source, shape, other = self._one(names)
        axes = other[0].ravel().tolist() if other else at.get("axes", [])
        old = np.empty((1, *shape), np.bool_)
        new = change(old, tuple(int(a) for a in axes))
        demand(bool(axes) and new.ndim > 0 and new.shape[0] == 1 and not any(a in (0, -old.ndim) for a in axes), "a change of shape that moves the batch")  # fmt: skip
        return source, new.shape[1:]

    def _Squeeze(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        return self._reshaped(names, at, np.squeeze)

    def _Unsqueeze(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        return self._reshaped(names, at, np.expand_dims)

    def _Gemm(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, other = self._one(names)
        demand(at.get("alpha", 1.0) == 1 and at.get("beta", 1.0) == 1 and not at.get("transA", 0) and len(shape) == 1, "a scaled Gemm")  # fmt: skip
        W = other[0].astype(float)
        W = W if at.get("transB", 0) else W.T
        bias = other[1].astype(float).ravel() if len(other) > 1 else np.zeros(len(W))
        return self._put([source], [W], np.broadcast_to(bias, (len(W),)).copy(), (len(W),))

    def _MatMul(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, (W,) = self._one(names)
        demand(W.ndim == 2 and shape[-1] == len(W), "a MatMul that the checker does not read")
        many = int(np.prod(shape[:-1]))
        M = W.T.astype(float) if many == 1 else sparse.kron(sparse.identity(many), W.T.astype(float), format="csr")
        return self._put([source], [M], np.zeros(many * W.shape[1]), (*shape[:-1], W.shape[1]))

    def _sum(self, names: list[str], sign: float) -> tuple[int, tuple[int, ...]]:
        moving = [n for n in names if n in self.values]
        signs = [1.0 if n == names[0] else sign for n in moving] if moving[0] != moving[-1] or len(moving) == 1 else [1.0, sign]  # fmt: skip
        shape = self.values[moving[0]][1]
        size = int(np.prod(shape))
        demand(all(self.values[n][1] == shape for n in moving), "a sum of values of different shapes")
        bias = np.zeros(size)
        for n in names:
            if n not in self.values:
                bias = bias + (1.0 if n == names[0] else sign) * self._spread(self.constants[n], shape)
        sources = [self.values[n][0] for n in moving]
        return self._put(sources, [s * sparse.identity(size, format="csr") for s in signs], bias, shape)

    def _Add(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        return self._sum(names, 1.0)

    _Sum = _Add

    def _Neg(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, _ = self._one(names)
        n = self.nodes[source].size
        return self._put([source], [-sparse.identity(n, format="csr")], np.zeros(n), shape)

    def _Sub(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        return self._sum(names, -1.0)

    def _spread(self, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        whole = np.broadcast_shapes(np.shape(value), (1, *shape))
        demand(int(np.prod(whole)) == int(np.prod(shape)), "a constant that widens a value")
        return np.broadcast_to(np.asarray(value, float), whole).reshape(-1)

    def _Mul(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, (factor,) = self._one(names, first=False)
        scale = self._spread(factor, shape)
        return self._put([source], [sparse.diags(scale, format="csr")], np.zeros(len(scale)), shape)

    def _Div(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, (divisor,) = self._one(names)
        scale = 1 / self._spread(divisor, shape)
        return self._put([source], [sparse.diags(scale, format="csr")], np.zeros(len(scale)), shape)

    def _BatchNormalization(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, (gamma, beta, mean, variance) = self._one(names)
        wide = lambda v: np.repeat(np.asarray(v, float), int(np.prod(shape[1:])))
        scale = wide(gamma) / np.sqrt(wide(variance) + at.get("epsilon", 1e-5))
        eye = sparse.identity(len(scale), format="csr")
        centered, _ = self._put([source], [eye], -wide(mean), shape)
        return self._put([centered], [sparse.diags(scale, format="csr")], wide(beta), shape)

    def _selected(self, source: int, index: np.ndarray) -> tuple[int, tuple[int, ...]]:
        flat = index.ravel()  # -1 for a zero
        rows = np.flatnonzero(flat >= 0)
        M = sparse.csr_matrix((np.ones(len(rows)), (rows, flat[rows])), (len(flat), self.nodes[source].size))
        return self._put([source], [M], np.zeros(len(flat)), index.shape)

    def _Gather(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, (index,) = self._one(names)
        axis = at.get("axis", 0) % (len(shape) + 1)
        demand(axis > 0, "a Gather along the batch")
        demand(bool(np.all((index >= -shape[axis - 1]) & (index < shape[axis - 1]))), "a Gather outside its value")
        return self._selected(source, np.take(np.arange(int(np.prod(shape))).reshape(shape), index, axis - 1))

    def _Pad(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, other = self._one(names)
        pads = other[0].ravel().tolist()
        demand(at.get("mode", b"constant") == b"constant" and not any(np.any(v) for v in other[1:]) and len(pads) == 2 * len(shape) + 2, "a padding by something else than 0")  # fmt: skip
        sides = list(zip(pads[: len(shape) + 1], pads[len(shape) + 1 :]))
        demand(sides[0] == (0, 0) and min(pads) >= 0, "a padding of the batch, or a negative one")
        index = np.pad(np.arange(int(np.prod(shape))).reshape(shape), sides[1:], constant_values=-1)
        return self._selected(source, index)

    def _Transpose(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, _ = self._one(names)
        order = list(at.get("perm", range(len(shape), -1, -1)))
        demand(order[0] == 0, "a Transpose of the batch")
        return self._selected(
            source, np.arange(int(np.prod(shape))).reshape(shape).transpose([k - 1 for k in order[1:]])
        )

    def _Slice(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, other = self._one(names)
        demand(len(other) >= 3, "a Slice of an old form")
        starts, ends, axes = (v.ravel().tolist() for v in other[:3])
        steps = other[3].ravel().tolist() if len(other) > 3 else [1] * len(axes)
        index = np.arange(int(np.prod(shape))).reshape(shape)
        for a, start, end, step in zip(axes, starts, ends, steps):
            axis = a % (len(shape) + 1) - 1
            demand(axis >= 0 and step > 0, "a Slice of the batch, or backward")
            index = index[(slice(None),) * axis + (slice(start, end, step),)]
        demand(index.size > 0, "a Slice that leaves nothing")
        return self._selected(source, index)

    def _Concat(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        demand(all(n in self.values for n in names), "a Concat of constants")
        parts, shapes = zip(*(self.values[n] for n in names))
        axis = at["axis"] % (len(shapes[0]) + 1) - 1
        demand(axis >= 0, "a Concat of batches")
        label = np.concatenate([np.full(s, k) for k, s in enumerate(shapes)], axis)
        place = np.concatenate([np.arange(int(np.prod(s))).reshape(s) for s in shapes], axis)
        size, maps = label.size, []
        for k, source in enumerate(parts):
            rows = np.flatnonzero(label.ravel() == k)
            maps.append(
                sparse.csr_matrix((np.ones(len(rows)), (rows, place.ravel()[rows])), (size, self.nodes[source].size))
            )
        return self._put(list(parts), maps, np.zeros(size), label.shape)

    def _GlobalAveragePool(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, _ = self._one(names)
        many = int(np.prod(shape[1:]))
        M = sparse.kron(sparse.identity(shape[0]), np.full((1, many), 1 / many), format="csr")
        return self._put([source], [M], np.zeros(shape[0]), (shape[0], *[1] * (len(shape) - 1)))

    def _ReduceMean(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, other = self._one(names)
        axes = other[0].ravel().tolist() if other else at.get("axes", [])
        gone = sorted(a % (len(shape) + 1) - 1 for a in axes)
        demand(bool(gone) and gone[0] >= 0, "a mean over the batch")
        many = int(np.prod([shape[a] for a in gone]))
        kept = [s for a, s in enumerate(shape) if a not in gone]
        index = np.moveaxis(np.arange(int(np.prod(shape))).reshape(shape), gone, range(-len(gone), 0)).reshape(-1, many)
        M = sparse.csr_matrix((np.full(index.size, 1 / many), (np.repeat(np.arange(len(index)), many), index.ravel())), (len(index), int(np.prod(shape))))  # fmt: skip
        stays = tuple(1 if a in gone else s for a, s in enumerate(shape))
        return self._put([source], [M], np.zeros(len(index)), stays if at.get("keepdims", 1) else tuple(kept))

    def _AveragePool(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, _ = self._one(names)
        sides = at["kernel_shape"]
        demand(not any(at.get("pads", [0])) and not at.get("ceil_mode", 0), "a mean over padding")
        kernel = np.full((shape[0], 1, *sides), 1 / np.prod(sides))
        return self._convolved(source, shape, kernel, np.zeros(shape[0]), at | {"group": shape[0]})

    def _Conv(self, names: list[str], at: dict) -> tuple[int, tuple[int, ...]]:
        source, shape, other = self._one(names)
        kernel = other[0].astype(float)
        bias = other[1].astype(float) if len(other) > 1 else np.zeros(len(kernel))
        return self._convolved(source, shape, kernel, bias, at)

    def _convolved(self, source: int, shape: tuple[int, ...], kernel: np.ndarray, bias: np.ndarray, at: dict) -> tuple[int, tuple[int, ...]]:  # fmt: skip
        sides = kernel.ndim - 2
        demand(sides in (1, 2) and len(shape) == sides + 1 and at.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"), "a convolution padded by a rule, or of more than two dimensions")  # fmt: skip
        groups, pads = at.get("group", 1), list(at.get("pads", [0] * 2 * sides))
        steps, holes = list(at.get("strides", [1] * sides)), list(at.get("dilations", [1] * sides))
        if sides == 1:  # a second dimension of one entry
            kernel, shape, pads, steps, holes = kernel[..., None], (*shape, 1), [pads[0], 0, pads[1], 0], [*steps, 1], [*holes, 1]  # fmt: skip
        (C, H, W), (O, I, kh, kw) = shape, kernel.shape
        demand(I * groups == C and O % groups == 0 and min(pads) >= 0, "a convolution does not fit what it reads")
        h = (H + pads[0] + pads[2] - holes[0] * (kh - 1) - 1) // steps[0] + 1
        w = (W + pads[1] + pads[3] - holes[1] * (kw - 1) - 1) // steps[1] + 1
        demand(h > 0 and w > 0 and kernel.size * h * w < 1e8, "a convolution is empty or too large for the checker")
        o, i, p, q, y, x = np.indices((O, I, kh, kw, h, w), sparse=True)
        row, column = y * steps[0] + p * holes[0] - pads[0], x * steps[1] + q * holes[1] - pads[1]
        inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
        whole = (O, I, kh, kw, h, w)
        target = np.broadcast_to((o * h + y) * w + x, whole)
        origin = np.broadcast_to(((o // (O // groups) * I + i) * H + row) * W + column, whole)
        used = np.broadcast_to(inside, whole) & (kernel != 0)[..., None, None]
        M = sparse.csr_matrix((np.broadcast_to(kernel[..., None, None], whole)[used], (target[used], origin[used])), (O * h * w, C * H * W))  # fmt: skip
        return self._put([source], [M], np.repeat(bias, h * w), (O, h, w) if sides == 2 else (O, h))


__all__ = ["Node", "Rejected", "affine", "demand", "read"]
