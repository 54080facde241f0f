"""What a network is made of: its input, affine maps and activations as nodes, and where it came from."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from relukit._types import Array, Shape
from relukit.network.affine import AbstractLinear, Conv
from relukit.piecewise import AbstractActivation, PiecewiseLinear


@dataclass(frozen=True, eq=False)
class Affine:
    r"""A node's map :math:`\sum_i W_i x_i + b`: one linear map per input of the node, and a bias."""

    maps: tuple[AbstractLinear, ...]
    bias: Array

    def __post_init__(self) -> None:
        bias = np.ascontiguousarray(self.bias, dtype=np.float64)
        bias.setflags(write=False)
        object.__setattr__(self, "bias", bias)

    @property
    def size(self) -> int:
        return len(self.bias)

    @property
    def terms(self) -> int:
        """Most products one output sums, bias included."""
        return sum(m.terms for m in self.maps) + 1

    @property
    def parameters(self) -> int:
        shared = [m.out_shape[0] for m in self.maps if isinstance(m, Conv)]  # a convolution has one bias per channel
        biases = max(shared) if shared and np.any(self.bias) else int(np.count_nonzero(self.bias))
        return sum(m.parameters for m in self.maps) + biases

    def __call__(self, *values: Array) -> Array:
        total = self.maps[0].apply(values[0])
        for m, value in zip(self.maps[1:], values[1:]):
            total = total + m.apply(value)
        return total + self.bias.astype(total.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Input:
    """The network's input."""

    size: int


@dataclass(frozen=True, eq=False)
class Node:
    """One step: `op` applied to the values of earlier nodes.

    Arguments:
        op: `Input`, `Affine` or an activation.
        inputs: Indices of earlier nodes.
        shape: Shape of the value without the batch; values themselves are flat.
        name: Unique in the network.
        source: What it was in the file or module it came from.
    """

    op: Input | Affine | AbstractActivation
    inputs: tuple[int, ...]
    shape: Shape
    name: str
    source: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_activation(self) -> bool:
        return isinstance(self.op, AbstractActivation)


class Chain(NamedTuple):
    """Dense layers in a row: `weights[k]` of shape `(out, in)`, `biases[k]`, and between them `activations[k]`."""

    weights: list[Array]
    biases: list[Array]
    activations: list[AbstractActivation]

    @property
    def is_relu(self) -> bool:
        return all(isinstance(a, PiecewiseLinear) and a.is_relu for a in self.activations)


@dataclass(frozen=True)
class Origin:
    """Where a network came from, and how to run it there.

    Arguments:
        kind: `onnx`, `torch`, `keras`, `npz`, `nnet`, `sklearn` or `built`.
        path: The file, where there is one.
        run: Evaluates the original on rows `(batch, inputs)` in its own precision, head included.
        module: The original object, where there is one.
    """

    kind: str = "built"
    path: Path | None = None
    run: Callable[[Array], Array] | None = None
    module: Any = None
