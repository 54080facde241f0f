"""Building a network node by node, and writing max, pooling and the like as ReLUs and affine maps."""

from collections.abc import Sequence

import numpy as np

from relukit._errors import ShapeMismatch
from relukit._types import Array, IntArray, Shape
from relukit.network._network import Network
from relukit.network._nodes import Affine, Input, Node
from relukit.network.affine import AbstractLinear, Conv, Gather, Identity, Scale, dense_or_sparse
from relukit.network.simplify import reachable, simplify
from relukit.piecewise import AbstractActivation, PiecewiseLinear

RELU = PiecewiseLinear([0.0], [0.0, 1.0], name="relu")


def size_of(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


class Builder:
    """Collects nodes; every method returns the index of the node that holds its result."""

    def __init__(self, shape: Shape, name: str = "input") -> None:
        self.nodes: list[Node] = [Node(Input(size_of(shape)), (), shape, name)]
        self.notes: list[str] = []
        self._names: set[str] = {name}

    @classmethod
    def after(cls, network: Network) -> "Builder":
        """A builder that goes on where a network ends."""
        builder = cls(network.input_shape)
        builder.nodes, builder._names = list(network.nodes), {n.name for n in network.nodes}
        return builder

    def shape(self, index: int) -> Shape:
        return self.nodes[index].shape

    def _add(self, op: Affine | AbstractActivation, inputs: Sequence[int], shape: Shape, name: str, source: str) -> int:
        base, unique, i = name or (op.name if isinstance(op, AbstractActivation) else "affine"), "", 1
        unique = base
        while unique in self._names:
            i += 1
            unique = f"{base}_{i}"
        self._names.add(unique)
        self.nodes.append(Node(op, tuple(inputs), tuple(int(s) for s in shape), unique, source))
        return len(self.nodes) - 1

    # -- the two kinds -----------------------------------------------------------------------------------------------

    def affine(
        self,
        index: int,
        linear: AbstractLinear,
        bias: Array | float = 0.0,
        shape: Shape | None = None,
        name: str = "",
        source: str = "",
    ) -> int:
        bias = np.broadcast_to(np.asarray(bias, np.float64), (linear.out_size,))
        return self._add(Affine((linear,), bias), (index,), shape or (linear.out_size,), name, source)

    def activation(self, index: int, op: AbstractActivation, name: str = "", source: str = "") -> int:
        return self._add(op, (index,), self.shape(index), name, source)

    def combine(
        self,
        indices: Sequence[int],
        maps: Sequence[AbstractLinear],
        bias: Array,
        shape: Shape | None = None,
        name: str = "",
        source: str = "",
    ) -> int:
        """The sum of one map per earlier node, plus a bias."""
        return self._add(Affine(tuple(maps), bias), indices, shape or (len(bias),), name, source)

    def fixed(self, index: int) -> Array | None:
        """The entries of a value that does not depend on the input, or None."""
        node = self.nodes[index]
        if not isinstance(node.op, Affine) or len(node.op.maps) != 1:
            return None
        m = node.op.maps[0]
        if isinstance(m, Gather) and np.all(m.index < 0):
            return node.op.bias
        before = self.fixed(node.inputs[0])
        return None if before is None else m.apply(before) + node.op.bias

    # -- derived: affine -----------------------------------------------------------------------------------------------

    def matmul(self, index: int, W: Array, bias: Array | None = None, name: str = "", source: str = "") -> int:
        """`x @ W` over the last axis of the value's shape, W of shape `(in, out)`."""
        shape = self.shape(index)
        if not shape or shape[-1] != W.shape[0]:
            raise ShapeMismatch(f"a matrix of shape {W.shape} meets a value of shape {shape}")
        rows, out = size_of(shape[:-1]), (*shape[:-1], W.shape[1])
        if rows == 1:
            return self.affine(
                index, dense_or_sparse(np.asarray(W).T), 0.0 if bias is None else bias, out, name, source
            )
        # Several rows share W: a 1x1 convolution over them, with rows and channels exchanged before and after.
        turned = self.gather(index, np.arange(rows * W.shape[0]).reshape(rows, -1).T.ravel(), (W.shape[0], rows, 1))
        mixed = self.affine(
            turned,
            Conv(np.asarray(W).T[:, :, None, None], (W.shape[0], rows, 1)),
            0.0 if bias is None else np.repeat(bias, rows),
            (W.shape[1], rows, 1),
            name,
            source,
        )
        return self.gather(mixed, np.arange(rows * W.shape[1]).reshape(-1, rows).T.ravel(), out)

    def gather(self, index: int, order: IntArray, shape: Shape, name: str = "", source: str = "") -> int:
        order = np.asarray(order, dtype=np.int64).ravel()
        if len(order) == self.nodes[index].size and np.array_equal(order, np.arange(len(order))):
            return self.reshape(index, shape)
        return self.affine(index, Gather(order, self.nodes[index].size), 0.0, shape, name or "select", source)

    def reshape(self, index: int, shape: Shape) -> int:
        if self.shape(index) == tuple(shape):
            return index
        return self.affine(index, Identity(self.nodes[index].size), 0.0, shape, "reshape", "")

    def scale(
        self, index: int, factor: Array | float, shift: Array | float = 0.0, name: str = "", source: str = ""
    ) -> int:
        """`factor * x + shift`, both broadcast to the value's shape."""
        shape = self.shape(index)
        spread = lambda a: np.broadcast_to(np.asarray(a, np.float64), shape).ravel()
        diagonal = spread(factor)
        linear = Identity(len(diagonal)) if np.all(diagonal == 1) else Scale(diagonal)
        return self.affine(index, linear, spread(shift), shape, name, source)

    def add(
        self, indices: Sequence[int], signs: Sequence[float] | None = None, name: str = "", source: str = ""
    ) -> int:
        """Sum of values of one shape, each times its sign."""
        shapes = {self.shape(i) for i in indices}
        shape = max(shapes, key=size_of)
        aligned = (
            [self.broadcast(i, np.broadcast_shapes(*shapes)) for i in indices] if len(shapes) > 1 else list(indices)
        )
        shape = self.shape(aligned[0])
        maps = tuple(
            Identity(size_of(shape)) if s == 1 else Scale(np.full(size_of(shape), float(s)))
            for s in (signs or [1.0] * len(aligned))
        )
        return self._add(Affine(maps, np.zeros(size_of(shape))), aligned, shape, name or "add", source)

    def broadcast(self, index: int, shape: Shape) -> int:
        order = np.broadcast_to(np.arange(self.nodes[index].size).reshape(self.shape(index)), shape)
        return self.gather(index, order, shape)

    def concatenate(self, indices: Sequence[int], axis: int, name: str = "", source: str = "") -> int:
        """Values joined along an axis; each enters by its own selection."""
        blocks, start = [], 0
        for i in indices:
            blocks.append(start + np.arange(self.nodes[i].size).reshape(self.shape(i)))
            start += self.nodes[i].size
        order = np.concatenate(blocks, axis=axis)
        flat, maps, start = order.ravel(), [], 0
        for i in indices:
            size = self.nodes[i].size
            mine = (flat >= start) & (flat < start + size)
            maps.append(Gather(np.where(mine, flat - start, -1), size))
            start += size
        return self._add(Affine(tuple(maps), np.zeros(len(flat))), indices, order.shape, name or "concatenate", source)

    def convolve(
        self,
        index: int,
        conv: Conv,
        bias: Array | float = 0.0,
        shape: Shape | None = None,
        name: str = "",
        source: str = "",
    ) -> int:
        spread = np.repeat(
            np.broadcast_to(np.asarray(bias, np.float64), (conv.out_shape[0],)), size_of(conv.out_shape[1:])
        )
        return self.affine(index, conv, spread, shape or conv.out_shape, name, source)

    def convolve_transposed(
        self,
        index: int,
        kernel: Array,
        stride: tuple[int, int],
        padding: Sequence[int],
        extra: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        bias: Array | float = 0.0,
        name: str = "",
        source: str = "",
    ) -> int:
        """A transposed convolution of a value `(1, I, H, W)`: entries spread `stride` apart, then the turned kernel.

        Arguments:
            kernel: Shape `(I, O / groups, kh, kw)`.
            padding: What is cut off: `(top, left, bottom, right)`.
            extra: Rows and columns added at the end.
        """
        _, I, H, W = self.shape(index)
        per, (kh, kw) = kernel.shape[1], kernel.shape[2:]
        turned = kernel.reshape(groups, I // groups, per, kh, kw).swapaxes(1, 2)[..., ::-1, ::-1]
        reach = [d * (k - 1) for d, k in zip(dilation, (kh, kw))]
        before = [t - p for t, p in zip(reach, padding[:2])]
        after = [t - p + e for t, p, e in zip(reach, padding[2:], extra)]
        spread = np.full((I, (H - 1) * stride[0] + 1, (W - 1) * stride[1] + 1), -1)
        spread[:, :: stride[0], :: stride[1]] = np.arange(I * H * W).reshape(I, H, W)
        cut = [slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(before, after, spread.shape[1:])]
        spread = spread[:, cut[0], cut[1]]
        pads = (max(before[0], 0), max(before[1], 0), max(after[0], 0), max(after[1], 0))
        conv = Conv(turned.reshape(groups * per, I // groups, kh, kw), spread.shape, (1, 1), pads, dilation, groups)
        wide = self.gather(index, spread, (1, *spread.shape), name and f"{name}.spread", source)
        return self.convolve(wide, conv, bias, (1, *conv.out_shape), name, source)

    def average_pool(
        self,
        index: int,
        sides: tuple[int, int],
        stride: tuple[int, int],
        padding: Sequence[int],
        dilation: tuple[int, int] = (1, 1),
        ceil: bool = False,
        whole: bool = False,
        name: str = "",
        source: str = "",
    ) -> int:
        """Average pooling of a value `(1, C, H, W)`.

        Arguments:
            padding: Zeros before and after: `(top, left, bottom, right)`.
            ceil: A last window may hang over the end; what hangs over is not counted.
            whole: Padding counts as entries.
        """
        _, C, H, W = self.shape(index)
        top, left, bottom, right = padding
        over = [0, 0]
        if ceil:
            for a, (n, before, after) in enumerate(((H, top, bottom), (W, left, right))):
                reach, full = dilation[a] * (sides[a] - 1) + 1, n + before + after
                count = -(-(full - reach) // stride[a]) + 1
                if (count - 1) * stride[a] >= n + before:  # windows start inside
                    count -= 1
                over[a] = max((count - 1) * stride[a] + reach - full, 0)
        ends = (top, left, bottom + over[0], right + over[1])
        mean = np.full((C, 1, *sides), 1 / size_of(sides))
        pooled = self.convolve(
            index, conv := Conv(mean, (C, H, W), stride, ends, dilation, C), 0.0, (1, *conv.out_shape), name, source
        )
        counted = (H + top + bottom, W + left + right) if whole else (H, W)
        around = (0, 0, *over) if whole else ends
        if any(around):
            share = Conv(mean[:1], (1, *counted), stride, around, dilation).apply(np.ones(size_of(counted)))
            pooled = self.scale(pooled, (1 / share).reshape(1, 1, *conv.out_shape[1:]))
        return pooled

    def reduce(
        self, index: int, axes: Sequence[int] | None, keep: bool, how: str, name: str = "", source: str = ""
    ) -> int:
        """The `sum`, `mean`, `max` or `min` over some axes (all by default), which stay with length 1 where `keep`."""
        shape = self.shape(index)
        chosen = list(range(len(shape))) if axes is None else [int(a) % len(shape) for a in axes]
        kept = [a for a in range(len(shape)) if a not in chosen]
        out = tuple(1 if a in chosen else n for a, n in enumerate(shape)) if keep else tuple(shape[a] for a in kept)
        groups = np.arange(size_of(shape)).reshape(shape).transpose(kept + chosen)
        groups = groups.reshape(size_of(tuple(shape[a] for a in kept)), -1)
        if how in ("max", "min"):
            sign = 1.0 if how == "max" else -1.0
            best = self.maximum_over(self.scale(index, sign), groups, out or (1,), name, source)
            return self.scale(best, sign)
        count = groups.shape[1]
        share = np.full((count, 1), 1 / count if how == "mean" else 1.0)
        return self.reshape(
            self.matmul(self.gather(index, groups, groups.shape), share, None, name, source), out or (1,)
        )

    def along(self, index: int, axis: int, matrix: Array, name: str = "", source: str = "") -> int:
        """`matrix`, of shape (new, old), applied along one axis; a matrix that only picks stays a selection."""
        shape = self.shape(index)
        numbers = np.arange(size_of(shape)).reshape(shape)
        if np.all((matrix == 0) | (matrix == 1)) and np.all(matrix.sum(1) == 1):
            picked = np.take(numbers, matrix.argmax(1), axis=axis)
            return self.gather(index, picked, picked.shape, name, source)
        turned = np.moveaxis(numbers, axis, -1)
        mixed = self.matmul(self.gather(index, turned, turned.shape), matrix.T, name=name, source=source)
        back = np.moveaxis(np.arange(self.nodes[mixed].size).reshape(self.shape(mixed)), -1, axis)
        return self.gather(mixed, back, back.shape)

    # -- derived: maxima -------------------------------------------------------------------------------------------------

    def maximum(self, a: int, b: int, name: str = "", source: str = "") -> int:
        """max(a, b) = a + relu(b - a)."""
        gate = self.activation(self.add((b, a), (1.0, -1.0), source=source), RELU, f"{name or 'max'}.relu", source)
        return self.add((self.broadcast(a, self.shape(gate)), gate), name=name or "max", source=source)

    def maximum_over(self, index: int, groups: IntArray, shape: Shape, name: str = "", source: str = "") -> int:
        """Maximum of the entries `groups[i]` for each output i, as a balanced tree; -1 pads with an earlier entry."""
        groups = np.where(groups < 0, groups.max(axis=1, keepdims=True), groups)
        parts = [self.gather(index, groups[:, j], shape, source=source) for j in range(groups.shape[1])]
        level = 0
        while len(parts) > 1:
            level += 1
            joined = [
                self.maximum(a, b, f"{name or 'maxpool'}.{level}", source) for a, b in zip(parts[::2], parts[1::2])
            ]
            parts = joined + parts[len(joined) * 2 :]
        return parts[0]

    def max_pool(
        self,
        index: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil: bool,
        name: str = "",
        source: str = "",
    ) -> int:
        """Max pooling of a value of shape `(1, C, H, W)` or `(C, H, W)`; padding never wins."""
        shape = self.shape(index)
        C, H, W = shape[-3:]
        top, left, bottom, right = padding
        image = np.pad(
            np.arange(C * H * W).reshape(C, H, W), ((0, 0), (top, bottom), (left, right)), constant_values=-1
        )
        windows = pool_windows(image, kernel, stride, dilation, ceil, (H + top, W + left))
        out = (*shape[:-3], *windows.shape[:3])
        return self.maximum_over(index, windows.reshape(-1, windows.shape[-1]), out, name or "maxpool", source)

    def build(self, output: int | None = None, **fields) -> Network:
        """The finished network with cheap maps merged, ending at `output` (the last node by default)."""
        output = len(self.nodes) - 1 if output is None else output
        nodes = simplify(reachable(self.nodes, output))
        notes = (*self.notes, *fields.pop("notes", ()))
        return Network(tuple(nodes), notes=notes, **fields)


def pool_windows(
    image: IntArray,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
    within: tuple[int, int],
) -> IntArray:
    """Entries of `image` (C, H, W) under each pooling window: shape `(C, oh, ow, kh * kw)`.

    With `ceil`, a last partial window counts where it starts inside the image or its left padding (`within`).
    """
    sizes = []
    for axis in range(2):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        steps = image.shape[1 + axis] - reach
        count = (-(-steps // stride[axis]) if ceil else steps // stride[axis]) + 1
        if ceil and (count - 1) * stride[axis] >= within[axis]:
            count -= 1
        sizes.append(count)
    reach = [
        max((sizes[a] - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1 - image.shape[1 + a], 0) for a in range(2)
    ]
    image = np.pad(image, ((0, 0), (0, reach[0]), (0, reach[1])), constant_values=-1)
    windows = [
        image[:, i * dilation[0] :: stride[0], j * dilation[1] :: stride[1]][:, : sizes[0], : sizes[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return np.stack(windows, axis=-1)
