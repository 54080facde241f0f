r"""Products of two values over a box: the two squares of `network.products` scaled by how much each factor moves there.

For :math:`a b = ((s a + b / s)^2 - (s a - b / s)^2) / 4` the lines around the squares differ from it by at most
:math:`(s r_a + r_b / s)^2 / 4` with radii r of a and b: least for :math:`s^2 = r_b / r_a`, where it is McCormick's
:math:`r_a r_b`. A factor that does not move at all leaves an affine map, and a bent value that does not move a constant.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from relukit._types import Array, BoolArray, IntArray
from relukit.bounds._interval import interval
from relukit.network import Affine, Network, Node
from relukit.network.affine import AbstractLinear, Gather, Identity, Scale, Sparse
from relukit.network.curves import Curve, Jump
from relukit.network.simplify import reachable
from relukit.piecewise import AbstractActivation
from relukit.sets import Box

_STEEPEST = (
    2.0**12
)  # scales are powers of two within this of 1: exact, and what cancels between the squares stays below 2^-28 of them


def balanced(network: Network, box: Box) -> Network:
    """The same function over a box, its products written so that linear bounds are tight there."""
    products = [p for i in range(len(network)) if (p := _product(network, i)) is not None]
    bent = [i for i in network.activations if isinstance(network.nodes[i].op, Curve | Jump)]
    if not products and not bent:
        return network
    nodes, moves = list(network.nodes), _moves(network, box)
    values = network.values(box.center()[None])
    for i in bent:
        if not moves[i].any() and np.all(np.isfinite(values[i])):
            nodes[i] = _constant(nodes[i], values[i][0], network)
    around = interval(network, box)
    for index, plus, minus, left, right in products:
        a, b = (moves[f.node][f.index] for f in (left, right))
        pair, sizes = (left.node, right.node), (network.nodes[left.node].size, network.nodes[right.node].size)
        fixed = ~a | ~b
        if fixed.all():  # one factor of each entry is a number
            one, two = (values[f.node][0][f.index] for f in (left, right))
            maps = (left.map(np.where(b, 0.0, two), sizes[0]), right.map(np.where(b, one, 0.0), sizes[1]))
            nodes[index] = replace(nodes[index], op=Affine(maps, np.zeros(len(a))), inputs=pair)
            continue
        with np.errstate(all="ignore"):
            radii = [(around.upper[f.node] - around.lower[f.node])[f.index] for f in (left, right)]
            s = np.exp2(np.round(0.5 * np.log2(radii[1] / radii[0])))
        s = np.clip(np.where(np.isfinite(s) & (s > 0), s, 1.0), 1 / _STEEPEST, _STEEPEST)
        s = np.where(fixed, np.where(a, 1 / _STEEPEST, _STEEPEST), s)
        for k, sign in ((plus, 1.0), (minus, -1.0)):
            maps = (left.map(s, sizes[0]), right.map(sign / s, sizes[1]))
            nodes[k] = replace(nodes[k], op=Affine(maps, np.zeros(len(s))), inputs=pair)
    return network.with_(nodes=tuple(reachable(nodes, len(nodes) - 1)))


def _constant(node: Node, value: Array, network: Network) -> Node:
    nothing = Gather(np.full(node.size, -1), network.inputs)
    return replace(node, op=Affine((nothing,), value), inputs=(0,))


class _Factor(NamedTuple):
    """Entries `index` of a node's value, each times a number."""

    node: int
    index: IntArray
    times: Array

    def map(self, scale: Array, size: int) -> AbstractLinear:
        """The entries times `scale`, as a map of the node's `size` entries."""
        n = len(self.index)
        if n == size and np.array_equal(self.index, np.arange(n)):
            return Scale(scale)
        import scipy.sparse

        return Sparse(scipy.sparse.csr_array((scale, self.index, np.arange(n + 1)), shape=(n, size)))


def _product(network: Network, index: int) -> tuple[int, int, int, _Factor, _Factor] | None:
    """The parts of a product: the node, its sum and its difference, and the two factors."""
    node = network.nodes[index]
    if not isinstance(node.op, Affine) or len(node.inputs) != 2 or np.any(node.op.bias):
        return None
    shares = [m.diagonal if isinstance(m, Scale) else np.zeros(1) for m in node.op.maps]
    if np.any(shares[0] != 0.25) or np.any(shares[1] != -0.25):
        return None
    squares = [network.nodes[i] for i in node.inputs]
    if any(not isinstance(n.op, AbstractActivation) or n.op.name != "square" for n in squares):
        return None
    plus, minus = (n.inputs[0] for n in squares)
    if len(network.consumers[plus]) != 1 or len(network.consumers[minus]) != 1:
        return None
    sums = [_terms(network, plus), _terms(network, minus)]
    if len(sums[0]) != 2 or len(sums[1]) != 2:
        return None
    (a, b), (c, d) = sums
    same = (
        a.node == c.node and b.node == d.node and np.array_equal(a.index, c.index) and np.array_equal(b.index, d.index)
    )
    if not same or np.any(a.times != c.times) or np.any(b.times != -d.times) or np.any(a.times * b.times != 1):
        return None
    return index, plus, minus, a, b


def _terms(network: Network, index: int) -> list[_Factor]:
    """A sum of entries of nodes, each times a number; empty where it is something else."""
    op = network.nodes[index].op
    if not isinstance(op, Affine) or np.any(op.bias):
        return []
    found = [_traced(network, m, j) for m, j in zip(op.maps, network.nodes[index].inputs)]
    told = [f for f in found if f is not None]
    return told if len(told) == len(found) else []


def _traced(network: Network, m: AbstractLinear, j: int) -> _Factor | None:
    """What a map takes from a node, followed back through selections and scalings."""
    found: _Factor | None = None
    while True:
        step = _picked(m, j)
        if step is None:
            return found
        found = step if found is None else _Factor(j, step.index[found.index], found.times * step.times[found.index])
        node = network.nodes[j]
        if not isinstance(node.op, Affine) or len(node.op.maps) != 1 or np.any(node.op.bias):
            return found
        m, j = node.op.maps[0], node.inputs[0]


def _picked(m: AbstractLinear, j: int) -> _Factor | None:
    if isinstance(m, Identity | Scale):
        return _Factor(j, np.arange(m.in_size), m.diagonal if isinstance(m, Scale) else np.ones(m.in_size))
    if isinstance(m, Gather) and np.all(m.index >= 0):
        return _Factor(j, m.index, np.ones(len(m.index)))
    if isinstance(m, Sparse) and np.all(np.diff(m.W.indptr) == 1):
        return _Factor(j, np.asarray(m.W.indices, np.int64), np.asarray(m.W.data))
    return None


def _moves(network: Network, box: Box) -> list[BoolArray]:
    """Which entries of every value depend on inputs that the box leaves free."""
    found = [np.asarray(box.lower < box.upper)]
    for node in network.nodes[1:]:
        if isinstance(node.op, Affine):
            parts = [m.absolute().apply(found[j].astype(float)) for m, j in zip(node.op.maps, node.inputs)]
            found.append(sum(parts) > 0)
        else:
            found.append(found[node.inputs[0]])
    return found
