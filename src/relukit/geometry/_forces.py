"""Derivatives along a path: where a network stands for a potential, its forces are constant on each piece and jump between."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array
from relukit.geometry._segment import breakpoints, is_cut_exactly, segment_cells
from relukit.network import Network

_SAME = 1e-9  # of the steepest slope along the path, within which slopes of two pieces are one


@dataclass(frozen=True, eq=False)
class Forces(Shown):
    """Forces, minus the gradient of one output, along a path of straight legs.

    Arguments:
        points: Corners of the path, shape `(legs + 1, inputs)`.
        at: Place of each jump: leg + share of that leg, increasing, shape `(jumps,)`.
        where: The points there, shape `(jumps, inputs)`.
        forces: Force on each piece of the path between jumps, shape `(jumps + 1, inputs)`.
        units: For each jump the units that switch there, as (node, unit); empty where they are not known.
        exact: Every jump is certain, as for `Segment`; the forces themselves are float64 products of the weights. False for convolutions of
            whole images, and where a piece is so short that float64 finds no point in it.
    """

    points: Array
    at: Array
    where: Array
    forces: Array
    units: list[list[tuple[int, int]]]
    exact: bool

    @property
    def jumps(self) -> Array:
        """Change of the force at each jump, in the direction of the path, shape `(jumps, inputs)`."""
        return np.diff(self.forces, axis=0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "jumps": [
                {"at": float(a), "x": x, "force_jump": j, "size": float(np.linalg.norm(j)), "units": [list(u) for u in units]}
                for a, x, j, units in zip(self.at, self.where, self.jumps, self.units)
            ],
            "forces": self.forces, "exact": self.exact,
        }  # fmt: skip

    def __repr__(self) -> str:
        largest = float(np.linalg.norm(self.jumps, axis=1).max(initial=0.0))
        return f"Forces({len(self.at)} jumps along {len(self.points) - 1} leg(s), largest {largest:.3g})"


def forces(network: Network, path: Array, output: int = 0) -> Forces:
    """All jumps of the force (minus the gradient of an output) along a path.

    Arguments:
        network: Piecewise linear.
        path: Corners, shape `(legs + 1, inputs)`.
        output: The potential.

    Raises:
        ShapeMismatch: The path does not fit the network.
        InvalidInput: Fewer than two corners, two equal ones in a row, or not finite; no such output.
        UnsupportedOperation: An activation is smooth.

    Example:
        >>> relukit.forces(network, [[0, 0], [1, 0], [1, 1]]).jumps
    """
    network.require_piecewise_linear("a list of its jumps")
    path = np.asarray(path, float)
    if path.ndim != 2 or path.shape[1] != network.inputs:
        raise ShapeMismatch(f"a path has shape (corners, {network.inputs}), got {path.shape}")
    if len(path) < 2 or not np.all(np.isfinite(path)) or np.any(np.all(np.diff(path, axis=0) == 0, axis=1)):
        raise InvalidInput("a path needs two or more finite corners, and no two equal ones in a row")
    if not 0 <= output < network.outputs:
        raise InvalidInput(f"output is 0 to {network.outputs - 1}, got {output}")
    chain, exact = network.dense_chain(), is_cut_exactly(network)
    plain, sure, direction = chain is not None and chain.is_relu, exact, np.eye(network.outputs)[output]
    at, pull, patterns, owners = [], [], [], np.zeros((0, 2), np.int64)
    for leg, (start, end) in enumerate(zip(path[:-1], path[1:])):
        if exact:
            found = segment_cells(network, start, end)
            ends = np.sort(found.vertices[found.indices.reshape(-1, 2), 0], axis=1)
            order = np.lexsort((ends[:, 1], ends[:, 0]))
            ends = ends[order]
            on = np.unpackbits(found.patterns, axis=1, bitorder="little")[order, : found.gates].astype(bool)
            patterns.append(on)
            owners, sure = found.owners, sure and found.exact
        else:
            t = breakpoints(network, start, end).t
            ends = np.stack([t[:-1], t[1:]], axis=1)
        at.append(leg + ends[:, 0])
        if plain:
            pull.append(_gradient(chain, on, output))
            continue
        pull.append(network.gradient(start + ends.mean(axis=1)[:, None] * (end - start), direction))
        if exact:  # is it the gradient of that piece, however short? along the segment, the piece's own map shows it
            along, own = pull[-1] @ (end - start), found.maps[0][order, output, 0]
            sure = sure and bool(np.all(np.abs(along - own) <= _SAME * np.abs(own).max(initial=1e-300)))
    places, force = np.concatenate(at), -np.concatenate(pull)
    jump = np.flatnonzero(np.any(np.diff(force, axis=0) != 0, axis=1)) + 1
    units: list[list[tuple[int, int]]] = [[] for _ in jump]
    if exact:
        on = np.concatenate(patterns)
        units = [sorted({(int(i), int(u)) for i, u in owners[on[k] != on[k - 1]]}) for k in jump]
    place = places[jump]
    leg = np.minimum(place.astype(np.int64), len(path) - 2)
    where = path[leg] + (place - leg)[:, None] * (path[leg + 1] - path[leg])
    return Forces(path, place, where, force[np.append(0, jump)], units, sure)


def _gradient(chain: Any, on: Array, output: int) -> Array:
    """Gradient of an output for given patterns, shape `(count, inputs)`."""
    grad = np.repeat(chain.weights[-1][output][None], len(on), axis=0)
    ends = np.cumsum([len(b) for b in chain.biases[:-1]])
    for l in range(len(chain.weights) - 2, -1, -1):
        grad = (grad * on[:, ends[l] - len(chain.biases[l]) : ends[l]]) @ chain.weights[l]
    return grad
