"""The nearest point in l2 with few inputs: the largest of tangents to the norm is minimized by the searches of `optimize`, and tangents are added.

Every tangent `g . d` with |g| = 1 lies below |d|, so that each minimum is a bound; where its point is as far as that, it is the nearest.

References:
    The Cutting-Plane Method for Solving Convex Programs, Kelley, 1960.
"""

import time
from typing import TYPE_CHECKING

import numpy as np

from relukit._types import Array
from relukit.network import Affine, Network, Node, Origin
from relukit.network.affine import dense_or_sparse
from relukit.optimization._expression import Linear
from relukit.optimization._joint import largest_of, original_outputs, stacked
from relukit.optimization._portfolio import run
from relukit.optimization._problem import Problem

if TYPE_CHECKING:
    from relukit.optimization._nearest import Nearest

_SHARE = 0.3  # of the tolerance that each minimum is proven to


def prove_by_tangents(search: "Nearest") -> str:
    """Raise the lower end until it meets the upper one; the reason why not."""
    problem, best = search.problem, search.best
    n, m = problem.network.inputs, problem.network.outputs
    goal = Linear(np.zeros(n), np.eye(m + 1)[m], 0.0)
    rules = tuple(c._replace(outputs=np.r_[c.outputs, 0.0]) for c in problem.constraints)
    tangents = [side * e for e in np.eye(n) for side in (1.0, -1.0)]
    lost = (
        1e-15 * (n + 4) * (1.0 + float(np.abs(search.point / search.scale).sum()))
    )  # rounding of directions and of their constant
    while True:
        if best.witness is not None:
            if best.upper <= search.lower + best.slack():
                return ""
            _add(tangents, best.witness, search)
        left = search.stop - time.perf_counter()
        if left <= 0:
            return "time limit"
        network = with_tangents(problem.network, search.point, search.scale, np.array(tangents))
        part = Problem(network, problem.box, goal, rules, problem.integers, problem.groups)
        start = None if best.witness is None else best.witness[None]
        found = run(part, _SHARE * search.tolerance, left, search.seed, None, start)
        search.nodes += found.boxes
        search.engines.update(found.engine.split(" and "))
        search.raise_to(found.bound - lost)
        if found.witness is None:
            return found.reason if found.bound < np.inf else ""
        best.keep(found.witness)
        best.improve(found.witness)
        if found.reason:
            return found.reason
        _add(tangents, found.witness, search)


def _add(tangents: list[Array], x: Array, search: "Nearest") -> None:
    """The direction of a point, no longer than 1, where it is a new one."""
    step = (x - search.point) / search.scale
    unit = step / (np.sqrt(step @ step) * (1 + 1e-15 * (len(step) + 4)) + 1e-300)
    if all(np.abs(unit - other).max() > 1e-7 for other in tangents):
        tangents.append(unit)


def with_tangents(network: Network, point: Array, scale: Array, directions: Array) -> Network:
    r"""The network with one more output: :math:`\max_k g_k \cdot (x - p) / s`, shape of `directions` `(k, n)`."""
    nodes, rows = list(network.nodes), directions / scale
    nodes.append(Node(Affine((dense_or_sparse(rows),), -rows @ point), (0,), (len(rows),), "tangents"))
    nodes += largest_of(len(rows), len(nodes) - 1)
    last = len(network.nodes) - 1
    nodes.append(stacked([(last, network.outputs), (len(nodes) - 1, 1)], network.outputs + 1, "outputs and tangents"))

    def evaluate(x: Array) -> Array:
        far = ((x.astype(np.float64) - point) @ rows.T).max(axis=1)
        return np.concatenate([original_outputs(network, x), far[:, None]], axis=1)

    return Network(tuple(nodes), network.notes, "", network.dtype, network.box, origin=Origin("built", run=evaluate))
