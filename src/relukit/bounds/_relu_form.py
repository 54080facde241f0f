"""A network whose activations are all ReLU, where that is possible without rounding."""

from fractions import Fraction

import numpy as np

from relukit.network import Affine, Network, Node
from relukit.network.affine import AbstractLinear, Identity, Scale
from relukit.network.rewrite import RELU
from relukit.piecewise import PiecewiseLinear


def relu_form(network: Network) -> Network | None:
    """As `numbered_relu_form`, the network alone."""
    found = numbered_relu_form(network)
    return None if found is None else found[0]


def numbered_relu_form(network: Network) -> tuple[Network, dict[int, int]] | None:
    r"""An equal network, in exact arithmetic, with ReLU alone, and which of its nodes has the value of which node here; None where
    an activation has no such form.

    :math:`f(x) = c + s_0 x + \sum_j (s_j - s_{j-1}) \max(0, x - t_j)`: every difference of slopes and the constant must be
    numbers that float64 holds exactly, as for slopes that were float32 (0.01, 0.1), for `ReLU6` and `Hardtanh`.
    """
    nodes, renamed = [network.nodes[0]], {0: 0}
    for i, node in enumerate(network.nodes[1:], start=1):
        read = tuple(renamed[j] for j in node.inputs)
        if isinstance(node.op, Affine) or (isinstance(node.op, PiecewiseLinear) and node.op.is_relu):
            nodes.append(Node(node.op, read, node.shape, node.name, node.source))
        elif isinstance(node.op, PiecewiseLinear) and is_exact(node.op):
            _hinged(nodes, node, node.op, read[0])
        else:
            return None
        renamed[i] = len(nodes) - 1
    made = Network(
        tuple(nodes), network.notes, network.head, network.dtype, network.box, network.extras, network.origin
    )
    return made, renamed


def is_exact(op: PiecewiseLinear) -> bool:
    """Whether the split into ReLUs holds without rounding."""
    slope, offset, weights, knots = op.hinges()
    size = max(np.size(a) for a in (slope, offset, op.height, *op.slopes, *knots, *weights))
    column = lambda a: [Fraction(float(v)) for v in np.broadcast_to(np.asarray(a, np.float64), (size,))]
    slopes, starts = [column(v) for v in op.slopes], [column(v) for v in knots]
    for j, weight in enumerate(weights):
        if any(w != b - a for w, a, b in zip(column(weight), slopes[j], slopes[j + 1])):
            return False
    first = starts[0] if starts else [Fraction(0)] * size
    return all(c == h - s * t for c, h, s, t in zip(column(offset), column(op.height), slopes[0], first))


def _hinged(nodes: list[Node], node: Node, op: PiecewiseLinear, source: int) -> None:
    """Append the nodes that `op` becomes; the last one has its value."""
    n, shape = node.size, node.shape
    spread = lambda a: np.broadcast_to(np.asarray(a, np.float64), (n,)).copy()
    slope, offset, weights, knots = op.hinges()
    parts: list[tuple[AbstractLinear, int]] = [(Scale(spread(slope)), source)]
    for j, (knot, weight) in enumerate(zip(knots, weights)):
        before = source
        if np.any(knot != 0):
            nodes.append(Node(Affine((Identity(n),), -spread(knot)), (source,), shape, f"{node.name} from knot {j}"))
            before = len(nodes) - 1
        nodes.append(Node(RELU, (before,), shape, f"{node.name} hinge {j}", node.source))
        parts.append((Scale(spread(weight)), len(nodes) - 1))
    maps, inputs = (
        tuple(m for m, _ in parts if np.any(m.diagonal)),
        tuple(j for m, j in parts if np.any(m.diagonal)),
    )
    if not maps:
        maps, inputs = (Scale(np.zeros(n)),), (source,)
    nodes.append(Node(Affine(maps, spread(offset)), inputs, shape, node.name, node.source))
