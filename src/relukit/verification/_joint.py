"""One network out of several, or one that also returns its inputs: what a question with one engine needs."""

from dataclasses import replace
from typing import Any

import numpy as np

from relukit._types import Array, IntArray
from relukit.network import Network
from relukit.network._nodes import Affine, Input, Node, Origin
from relukit.network.affine import AbstractLinear, Dense, Gather, Scale
from relukit.piecewise import PiecewiseLinear


def joined(networks: list[Network], tie: IntArray | None = None, keep_inputs: bool = False) -> Network:
    """Networks side by side: their inputs follow each other, and so do their outputs.

    Arguments:
        tie: Full inputs are `reduced[tie]`; the result takes the reduced ones.
        keep_inputs: Append the (reduced) inputs to the outputs.
    """
    sizes = [n.inputs for n in networks]
    tie = np.arange(sum(sizes)) if tie is None else np.asarray(tie)
    reduced = int(tie.max()) + 1
    if len(networks) == 1 and not keep_inputs and reduced == sizes[0]:
        return networks[0]
    nodes: list[Node] = [Node(Input(reduced), (), (reduced,), "joint input")]
    ends: list[int] = []
    first = 0
    for p, network in enumerate(networks):
        nodes.append(_affine(Gather(tie[first : first + sizes[p]], reduced), 0, f"inputs of network {p}"))
        number = {0: len(nodes) - 1}
        for i, node in enumerate(network.nodes[1:], start=1):
            nodes.append(replace(node, inputs=tuple(number[j] for j in node.inputs), name=f"{p}.{node.name}"))
            number[i] = len(nodes) - 1
        ends.append(len(nodes) - 1)
        first += sizes[p]
    outputs = sum(n.outputs for n in networks) + (reduced if keep_inputs else 0)
    maps: list[AbstractLinear] = []
    at = 0
    for end in [*ends, *([0] if keep_inputs else [])]:
        size = nodes[end].size
        index = np.full(outputs, -1)
        index[at : at + size] = np.arange(size)
        maps.append(Gather(index, size))
        at += size
    nodes.append(
        Node(
            Affine(tuple(maps), np.zeros(outputs)), (*ends, *([0] if keep_inputs else [])), (outputs,), "joint outputs"
        )
    )

    def run(rows: Array) -> Array:
        parts, start = [], 0
        for network, size in zip(networks, sizes):
            parts.append(np.asarray(network.replay(rows[:, tie[start : start + size]]), np.float64))
            start += size
        return np.concatenate([*parts, *([np.asarray(rows, np.float64)] if keep_inputs else [])], axis=1)

    double = all(n.dtype == np.float64 for n in networks)
    return Network(
        tuple(nodes), (), "", np.dtype(np.float64 if double else np.float32), None, {}, Origin("built", None, run)
    )


def _affine(linear: AbstractLinear, source: int, name: str, bias: Array | None = None) -> Node:
    bias = np.zeros(linear.out_size) if bias is None else bias
    return Node(Affine((linear,), bias), (source,), (linear.out_size,), name)


def with_size(
    network: Network, middle: Array, norm: float, radius: float, relu: PiecewiseLinear, pieces: int = 16
) -> tuple[Network, float]:
    r"""The network with one more output that is at most a limit wherever :math:`\|x - c\|_p \le r`; returns it and the limit.

    l1: :math:`\sum_i |x_i - c_i|`, exact. l2: :math:`\sum_i t(x_i - c_i)` with t the polygon under the parabola that
    touches it at `2 pieces + 1` points; it is never above the square, so no point of the ball is lost.
    """
    n = len(middle)
    if norm == 1:
        knots, steps = np.zeros(1), np.array([2.0])
        slope, constant = -1.0, 0.0
        limit = radius
    else:
        touch = np.linspace(-radius, radius, 2 * pieces + 1)
        knots = 0.5 * (touch[1:] + touch[:-1])  # tangents 2 t s - t^2 of neighbors meet in the middle
        steps = 2 * np.diff(touch)
        slope, constant = 2 * touch[0], -(touch[0] ** 2)
        limit = radius**2
    K = len(knots)
    # value = slope * s + constant + sum of steps * relu(s - knot)
    nodes = list(network.nodes)
    end = len(nodes) - 1
    repeat = Gather(np.repeat(np.arange(n), K), n)
    nodes.append(_affine(repeat, 0, "distance from the center", -(middle[:, None] + knots).ravel()))
    nodes.append(Node(relu, (len(nodes) - 1,), (n * K,), "distance hinges"))
    hinges = len(nodes) - 1
    m = network.outputs
    pad = Gather(np.append(np.arange(m), -1), m)
    last_row = lambda row: np.concatenate([np.zeros((m, len(row))), row[None]])
    shift = n * constant - slope * float(np.sum(middle))
    maps = (pad, Dense(last_row(np.tile(steps, n))), Dense(last_row(np.full(n, slope))))
    nodes.append(Node(Affine(maps, np.append(np.zeros(m), shift)), (end, hinges, 0), (m + 1,), "outputs and size"))
    # The sums above are rounded: a little room keeps every point of the ball inside.
    reach = float(np.abs(middle).max(initial=0.0)) + radius
    room = 1e-12 * (n * (abs(slope) + float(np.abs(steps).sum())) * (reach + 1.0) + abs(constant) * n)

    def run(rows: Array) -> Array:
        size = np.linalg.norm(np.asarray(rows, np.float64) - middle, ord=norm, axis=1) ** (1 if norm == 1 else 2)
        return np.concatenate(
            [np.asarray(network.replay(rows), np.float64).reshape(len(rows), -1), size[:, None]], axis=1
        )

    made = Network(tuple(nodes), (), "", network.dtype, None, {}, Origin("built", None, run))
    return made, limit + room


def scaled(network: Network, factors: Array) -> Network:
    """The network whose inputs are multiplied by `factors` first."""
    n = network.inputs
    nodes = [Node(Input(n), (), (n,), "input"), _affine(Scale(np.asarray(factors, float)), 0, "scale")]
    nodes.extend(replace(node, inputs=tuple(j + 1 for j in node.inputs)) for node in network.nodes[1:])
    return Network(tuple(nodes), (), "", network.dtype)


def chained(first: Network, second: Network) -> Network:
    """`second` after `first`."""
    nodes: list[Node] = list(first.nodes)
    end = len(nodes) - 1
    number = {0: end}
    for i, node in enumerate(second.nodes[1:], start=1):
        nodes.append(
            replace(node, inputs=tuple(number[j] for j in node.inputs), name=f"{node.name} (second, {len(nodes)})")
        )
        number[i] = len(nodes) - 1
    made: Any = Network(tuple(nodes), (), "", first.dtype if first.dtype == second.dtype else np.dtype(np.float32))
    return made
