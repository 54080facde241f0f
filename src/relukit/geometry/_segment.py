"""Breakpoints of a network along a segment of its input space."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array
from relukit.geometry._cells import Cells
from relukit.geometry._form import form_of
from relukit.network import Affine, Network

_CELLS = 4_000_000  # numbers in the stages of a network that is still cut as cells


@dataclass(frozen=True, eq=False)
class Segment(Shown):
    """A network along `start + t (end - start)`, t from 0 to 1: affine between neighboring breakpoints.

    Arguments:
        start, end: Ends of the segment, shape `(inputs,)`.
        t: Ends and breakpoints, increasing, shape `(pieces + 1,)`.
        values: Outputs there, shape `(pieces + 1, outputs)`.
        exact: Every breakpoint is certain (rational arithmetic where floats cannot tell), those closer than float64 tells apart included
            as often as they occur.
    """

    start: Array
    end: Array
    t: Array
    values: Array
    exact: bool = False
    piece_slopes: Array | None = None

    def __len__(self) -> int:
        return len(self.t) - 1

    @property
    def slopes(self) -> Array:
        """Change of the outputs per unit of t on each piece, shape `(pieces, outputs)`."""
        if self.piece_slopes is not None:
            return self.piece_slopes
        return np.diff(self.values, axis=0) / np.diff(self.t)[:, None]

    def points(self) -> Array:
        """Inputs at the breakpoints, shape `(pieces + 1, inputs)`."""
        return self.start + self.t[:, None] * (self.end - self.start)

    def jumps(self) -> Array:
        """Jump of each output's slope at each inner breakpoint: for a potential, minus the jump of its force."""
        return np.diff(self.slopes, axis=0)

    def to_dict(self) -> dict[str, Any]:
        return {
            "regions": len(self), "vertices": len(self.t), "edges": len(self), "area": 1.0,
            "area_error": abs(float(self.t[-1] - self.t[0]) - 1.0), "exact": self.exact,
        }  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Outputs along the segment, with a mark at each breakpoint."""
        from relukit.geometry._draw import PALETTE, axes

        ax = axes(ax)
        for k in range(min(self.values.shape[1], len(PALETTE))):
            ax.plot(self.t, self.values[:, k], color=PALETTE[k], lw=1.5, label=f"output {k}")
        ax.plot(
            self.t,
            np.zeros_like(self.t),
            "|",
            color="#222222",
            ms=8,
            mew=0.6,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
        )
        ax.set(xlabel="t, from start (0) to end (1)", ylabel="output", title=f"{len(self)} pieces")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return ax

    def __repr__(self) -> str:
        return f"Segment({len(self)} pieces)"


def breakpoints(network: Network, start: Array, end: Array) -> Segment:
    """All places where some unit switches along a segment, in any input dimension.

    Networks are cut as one-dimensional cells, with exact signs. Those too large for that (convolutions of whole images) go node by
    node: every node is linear between the breakpoints found so far, so its values there say where a unit crosses a knot, in
    float64; breakpoints closer than 1e-14 are one.

    Arguments:
        network: Piecewise linear.
        start: One end, shape `(inputs,)`; `end` is the other.

    Raises:
        ShapeMismatch: The ends do not fit the network.
        InvalidInput: They are the same point, or not finite.
        UnsupportedOperation: An activation is smooth.
    """
    network.require_piecewise_linear("a list of breakpoints")
    start, end = (np.asarray(p, float).ravel() for p in (start, end))
    if start.shape != (network.inputs,) or end.shape != (network.inputs,):
        raise ShapeMismatch(f"the ends have {start.size} and {end.size} entries, the network takes {network.inputs}")
    if not (np.all(np.isfinite(start)) and np.all(np.isfinite(end))):
        raise InvalidInput("the segment's ends must be finite")
    if np.all(start == end):
        raise InvalidInput("the segment's ends are the same point")
    if is_cut_exactly(network):
        return _exact(network, start, end)
    t = np.array([0.0, 1.0])
    values: dict[int, Array] = {0: np.stack([start, end])}
    last = {i: max(readers, default=len(network)) for i, readers in enumerate(network.consumers)}
    for i in range(1, len(network)):
        node = network.nodes[i]
        if isinstance(node.op, Affine):
            values[i] = node.op(*(values[j] for j in node.inputs))
        else:
            z = values[node.inputs[0]]
            new = _crossings(t, z, node.op.knots)
            if len(new):
                merged = np.unique(np.concatenate([t, new]))
                keep = np.concatenate([[True], np.diff(merged) > 1e-14])
                keep[-1] = True
                if len(keep) > 2 and merged[-1] - merged[-2] <= 1e-14:
                    keep[-2] = False
                merged = merged[keep]
                at = np.clip(np.searchsorted(t, merged, side="right") - 1, 0, len(t) - 2)
                share = ((merged - t[at]) / (t[at + 1] - t[at]))[:, None]
                values = {j: v[at] + share * (v[at + 1] - v[at]) for j, v in values.items()}
                t, z = merged, values[node.inputs[0]]
            values[i] = node.op(z)
        values = {j: v for j, v in values.items() if last[j] > i or j == i}
    return Segment(start, end, t, values[len(network) - 1])


def is_cut_exactly(network: Network) -> bool:
    """Whether segments are cut as one-dimensional cells: any chain of dense layers with ReLUs, and networks whose rows are not too many."""
    chain = network.dense_chain()
    return (chain is not None and chain.is_relu) or _size(network) <= _CELLS


def _size(network: Network) -> int:
    """How many numbers the rows of all stages may hold."""
    hinges, total = 0, 0
    for node in network.nodes:
        total += node.size * hinges
        hinges += 0 if isinstance(node.op, Affine) else node.size * len(getattr(node.op, "knots", ()))
    return total


def _crossings(t: Array, z: Array, knots: Array) -> Array:
    """Where the lines between values at `t` cross a knot inside an interval."""
    found = []
    for knot in knots.reshape(len(knots), -1):
        d = z - knot
        k, unit = np.nonzero((d[:-1] < 0) & (d[1:] > 0) | (d[:-1] > 0) & (d[1:] < 0))
        a, b = d[k, unit], d[k + 1, unit]
        found.append(t[k] + (t[k + 1] - t[k]) * (a / (a - b)))
    return np.concatenate(found) if found else np.zeros(0)


def segment_cells(network: Network, start: Array, end: Array) -> Cells:
    """One-dimensional cells along a segment, in order; coordinate t from 0 to 1."""
    from relukit.geometry._along import cells_along
    from relukit.geometry._enumerate_cells import solids
    from relukit.geometry._pieces import cells_of

    form = form_of(network, np.stack([end - start, start], axis=1))
    line = cells_along(form, 0.0, 1.0)
    if line is not None:
        return line
    lower, upper = np.zeros(1), np.ones(1)
    found, walk, complete, _ = solids(form, lower, upper, None, None)
    if not complete:
        raise KeyboardInterrupt
    return cells_of(form, lower, upper, None, found, walk, complete)


def _exact(network: Network, start: Array, end: Array) -> Segment:
    found = segment_cells(network, start, end)
    ends = np.sort(found.vertices[found.indices.reshape(-1, 2), 0], axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    A, c = found.maps
    A, c, ends = A[order, :, 0], c[order], ends[order]
    t = np.append(ends[:, 0], ends[-1, 1])
    values = np.concatenate([A * t[:-1, None] + c, A[-1:] * t[-1] + c[-1:]])
    return Segment(start, end, t, values, found.exact, A)
