"""The `Network`: an immutable, topologically ordered list of nodes, its evaluation and its gradient."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnsupportedOperation
from relukit._types import Array, Shape
from relukit.activations.catalogue import CATALOGUE
from relukit.network._nodes import Affine, Chain, Input, Node, Origin
from relukit.network.affine import Dense
from relukit.piecewise import AbstractActivation, PiecewiseLinear
from relukit.sets import Box

if TYPE_CHECKING:
    import torch

    from relukit.network.variables import Variables

_BLOCK = 1 << 26  # numbers of one node's values of all rows (512 MB) that are held at once


def _run(op: "Affine | AbstractActivation") -> Callable[..., Array]:
    """What evaluates a node: activations in their quick form."""
    return op.fast if isinstance(op, AbstractActivation) else op


@dataclass(frozen=True, eq=False)
class Network:
    """A network as a list of affine maps and one-dimensional activations; weights are NumPy arrays.

    Calling it evaluates in float64 (float32 rows stay float32 with `dtype=np.float32`). It equals its source up to
    summation order, except that a last softmax or sigmoid is set aside in `head`: both are monotone, so decisions
    stay the same and exact methods see the logits.

    Arguments:
        nodes: In topological order; the first is the `Input`, the last the output.
        notes: What was changed on reading, in sentences.
        head: `""`, `softmax`, `log_softmax` or `sigmoid`: what was set aside after the last node.
        dtype: Precision of the source, which writers use.
        box: A default box of inputs, where the file gives one.
        extras: Further arrays of the file (`x0`, `B`).
        origin: Where it came from.

    Example:
        >>> net = relukit.load({"W0": np.eye(2), "b0": np.zeros(2), "W1": np.ones((1, 2)), "b1": np.zeros(1)})
        >>> net(np.array([[1.0, -2.0]]))
        array([[1.]])
    """

    nodes: tuple[Node, ...]
    notes: tuple[str, ...] = ()
    head: str = ""
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))
    box: Box | None = None
    extras: dict[str, Array] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[0].op, Input):
            raise InvalidInput("a network starts with its input node")
        for i, node in enumerate(self.nodes):
            if any(j >= i or j < 0 for j in node.inputs):
                raise InvalidInput(f"node '{node.name}' reads a node that comes after it")
            if isinstance(node.op, Affine):
                for m, j in zip(node.op.maps, node.inputs, strict=True):
                    if m.in_size != self.nodes[j].size or m.out_size != node.size:
                        raise ShapeMismatch(
                            f"node '{node.name}': a map {m.in_size} -> {m.out_size} between values of {self.nodes[j].size} and {node.size}"
                        )
            elif node.is_activation and node.size != self.nodes[node.inputs[0]].size:
                raise ShapeMismatch(f"node '{node.name}': an activation keeps the size")

    # -- sizes and structure ---------------------------------------------------------------------------------------

    @property
    def input_shape(self) -> Shape:
        return self.nodes[0].shape

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.nodes[0].size

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.nodes[-1].size

    @cached_property
    def activations(self) -> tuple[int, ...]:
        """Indices of the activation nodes."""
        return tuple(i for i, n in enumerate(self.nodes) if n.is_activation)

    @property
    def units(self) -> int:
        """Number of hidden units: entries of activation nodes."""
        return sum(self.nodes[i].size for i in self.activations)

    @property
    def parameters(self) -> int:
        return sum(n.op.parameters for n in self.nodes if isinstance(n.op, Affine))

    @cached_property
    def is_piecewise_linear(self) -> bool:
        return all(isinstance(self.nodes[i].op, PiecewiseLinear) for i in self.activations)

    @cached_property
    def _broken(self) -> str:
        """The first node with a weight that is NaN or infinite."""
        for node in self.nodes:
            if isinstance(node.op, Affine):
                weights = (getattr(m, k) for m in node.op.maps for k in ("W", "kernel", "diagonal") if hasattr(m, k))
                if not all(np.isfinite(getattr(W, "data", W)).all() for W in (node.op.bias, *weights)):
                    return node.name
        return ""

    def require_finite(self) -> None:
        """Raise `InvalidInput` naming the first node with weights that are NaN or infinite: nothing said of it would mean anything."""
        if self._broken:
            raise InvalidInput(
                f"node '{self._broken}' holds weights that are NaN or infinite; train it anew or repair the file"
            )

    def require_piecewise_linear(self, what: str) -> None:
        """Raise `UnsupportedOperation` naming the first smooth activation, `InvalidInput` where weights are not finite."""
        self.require_finite()
        for i in self.activations:
            node = self.nodes[i]
            if not isinstance(node.op, PiecewiseLinear):
                # a square or a square root is part of a product or a norm: nothing that ReLU could stand in for
                cure = ", or train with ReLU in its place" if node.op.name in CATALOGUE else ""
                is_ = "jumps" if node.op.name in ("sign", "step") else "is smooth"
                raise UnsupportedOperation(
                    f"{node.op.name} at node '{node.name}'{f' ({node.source})' if node.source else ''} {is_}; {what} "
                    f"needs piecewise-linear activations. relukit.bounds.linear and `relukit verify` do without{cure}."
                )

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each node the nodes that read it."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                readers[j].append(i)
        return tuple(map(tuple, readers))

    def dense_chain(self, limit: int = 4_000_000) -> Chain | None:
        """The network as dense layers in a row, or None where it is no such chain (or a matrix would pass `limit` entries).

        Affine nodes with no activation between them are multiplied out.
        """
        weights: list[Array] = []
        biases: list[Array] = []
        activations: list[AbstractActivation] = []
        for i, node in enumerate(self.nodes[1:], start=1):
            if node.inputs != (i - 1,):
                return None
            if isinstance(node.op, Affine):
                if node.size * self.nodes[i - 1].size > limit:
                    return None
                W = node.op.maps[0].matrix()
                if len(weights) > len(activations):
                    weights[-1], biases[-1] = W @ weights[-1], W @ biases[-1] + node.op.bias
                else:
                    weights.append(W)
                    biases.append(node.op.bias)
            else:
                if len(weights) == len(activations):  # an activation right on the input or on another activation
                    return None
                activations.append(node.op)
        if len(weights) == len(activations):  # ends with an activation: close with the identity
            weights.append(np.eye(self.outputs))
            biases.append(np.zeros(self.outputs))
        return Chain(weights, biases, activations)

    # -- evaluation ------------------------------------------------------------------------------------------------

    def rows(self, x: Any, dtype: Any = np.float64) -> tuple[Array, bool]:
        """`x` as rows `(batch, inputs)`, and whether it was a single input.

        Raises:
            ShapeMismatch: Its shape is neither one input nor a batch of inputs.
            InvalidInput: It is not numeric, or holds NaN.
        """
        try:
            x = np.asarray(x)
            x = x.astype(dtype, copy=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"inputs must be numbers, got an array of {getattr(x, 'dtype', type(x).__name__)}"
            ) from error
        if np.isnan(x).any():
            where = np.argwhere(np.isnan(x))[0].tolist()
            raise InvalidInput(f"inputs hold NaN, first at index {where}. Remove or fill missing values first.")
        if x.size == 0 and x.ndim > 1 and int(np.prod(x.shape[1:])) == self.inputs:
            return x.reshape(0, self.inputs), False
        if x.shape in ((self.inputs,), self.input_shape):
            return x.reshape(1, -1), True
        if (
            x.ndim >= 1
            and int(np.prod(x.shape[1:])) == self.inputs
            and (x.ndim == 2 or x.shape[1:] == self.input_shape or x.size == self.inputs * len(x))
        ):
            return x.reshape(len(x), -1), False
        raise ShapeMismatch(
            f"the network takes {self.inputs} inputs (shape {self.input_shape}), got an array of shape {x.shape}"
        )

    def values(self, x: Array) -> list[Array]:
        """The value of every node for rows `(batch, inputs)`."""
        found: list[Array] = [x]
        for node in self.nodes[1:]:
            found.append(_run(node.op)(*(found[j] for j in node.inputs)))
        return found

    def __call__(self, x: Any, dtype: Any = np.float64) -> Array:
        """Outputs for one input or a batch, flat: `(outputs,)` or `(batch, outputs)`; the head is not applied."""
        rows, single = self.rows(x, dtype)
        block = max(1, _BLOCK // max(node.size for node in self.nodes))
        if len(rows) > block:  # a wide layer's values of all rows may not fit in memory
            return np.concatenate([self(rows[k : k + block], dtype) for k in range(0, len(rows), block)])
        last = {i: max(readers, default=len(self.nodes)) for i, readers in enumerate(self.consumers)}
        found: dict[int, Array] = {0: rows}
        for i, node in enumerate(self.nodes[1:], start=1):
            found[i] = _run(node.op)(*(found[j] for j in node.inputs))
            for j in set(node.inputs):
                if last[j] == i:
                    del found[j]
        out = found[len(self.nodes) - 1]
        return out[0] if single else out

    def decide(self, x: Any) -> Any:
        """The decision: the largest output, or 1 where a single output is above 0 (a logit above 0 is p > 1/2)."""
        out = self(x)
        return np.argmax(out, axis=-1) if self.outputs > 1 else (out[..., 0] > 0).astype(np.int64)

    def apply_head(self, out: Array) -> Array:
        """What the source returns, from the outputs of this network."""
        if self.head in ("softmax", "log_softmax"):
            shifted = out - out.max(axis=-1, keepdims=True)
            log = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
            return log if self.head == "log_softmax" else np.exp(log)
        return 1 / (1 + np.exp(-np.clip(out, -700, 700))) if self.head == "sigmoid" else out

    def gradient(self, x: Any, direction: Array) -> Array:
        """Gradient of `direction . output` at rows of `x`; at a kink the slope on the left is used."""
        rows, single = self.rows(x)
        values = self.values(rows)
        grads: dict[int, Array] = {
            len(self.nodes) - 1: np.broadcast_to(np.asarray(direction, np.float64), (len(rows), self.outputs))
        }
        for i in range(len(self.nodes) - 1, 0, -1):
            grad, node = grads.pop(i, None), self.nodes[i]
            if grad is None:
                continue
            for k, j in enumerate(node.inputs):
                part = (
                    node.op.maps[k].adjoint(grad)
                    if isinstance(node.op, Affine)
                    else grad * node.op.fast_derivative(values[j])
                )
                grads[j] = grads[j] + part if j in grads else part
        grad = grads.get(0, np.zeros_like(rows))
        return grad[0] if single else grad

    def append(self, A: Array, b: Array | float = 0.0) -> "Network":
        """The network followed by `A y + b`: margins, differences, any linear question about its outputs."""
        A = np.atleast_2d(np.asarray(A, np.float64))
        if A.shape[1] != self.outputs:
            raise ShapeMismatch(f"rows of {A.shape[1]} entries for a network with {self.outputs} outputs")
        last = Node(
            Affine((Dense(A),), np.broadcast_to(b, (len(A),))), (len(self.nodes) - 1,), (len(A),), "appended rows"
        )
        return Network((*self.nodes, last), self.notes, "", self.dtype, self.box)

    def variables(self) -> "tuple[Variables, Variables]":
        """Inputs x and outputs y as variables for conditions: `relukit.verify(net, x.within(box), y[0] > y[1])`."""
        from relukit.network.variables import Variables

        return Variables.pair(self)

    def on(self, device: Any = "cpu", dtype: Any = None) -> "torch.nn.Module":
        """The cached torch version on a device; `dtype` defaults to the source's precision."""
        from relukit.network.torch import to_module

        key = (str(device), str(dtype))
        cache = self.__dict__.setdefault("_modules", {})
        if key not in cache:
            cache[key] = to_module(self, device, dtype)
        return cache[key]

    def replay(self, x: Any) -> Array:
        """Outputs of the original (onnxruntime CPU float32 for ONNX, the module itself for torch, ...), head included.

        A network that was built rather than read replays through itself in its own precision. Each row is a call of its own:
        a matrix product rounds otherwise in a larger batch, and a witness must hold when it is asked alone.
        """
        rows, single = self.rows(x, self.dtype)
        run = self.origin.run or (lambda row: self.apply_head(self(row, self.dtype)))
        calls = [np.asarray(run(rows[k : k + 1])).reshape(1, -1) for k in range(len(rows))]
        out = np.concatenate(calls) if calls else np.zeros((0, self.outputs))
        return out[0] if single else out

    # -- presentation ----------------------------------------------------------------------------------------------

    def with_(self, **changes: Any) -> "Network":
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        kinds = sorted({self.nodes[i].op.name for i in self.activations}) or ["no activation"]
        return f"Network({self.inputs} -> {self.outputs}, {self.units} units, {self.parameters} parameters, {', '.join(kinds)})"

    def __str__(self) -> str:
        from relukit.network.summary import listing

        return listing(self)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"
