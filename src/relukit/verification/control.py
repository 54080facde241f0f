"""A network as controller: the closed loop, safety of one step, and the sets that several steps reach."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array
from relukit.bounds import linear
from relukit.network import Network, load
from relukit.network._nodes import Affine, Node
from relukit.network.affine import Dense
from relukit.sets import Box
from relukit.verification._verdict import Verdict
from relukit.verification.verify import verify

_AT_ONCE = 4_000_000  # numbers of one layer's rows, of all cells that are bounded together


def closed_loop(controller: Any, A: Array, B: Array, c: Array | float = 0.0) -> Network:
    """One step of `x' = A x + B u + c` with `u = controller(x)`, as a network of its own."""
    found = load(controller)
    A, B = np.atleast_2d(np.asarray(A, float)), np.atleast_2d(np.asarray(B, float))
    n = found.inputs
    if A.shape != (n, n) or B.shape != (n, found.outputs):
        raise ShapeMismatch(
            f"A must be {n} x {n} and B {n} x {found.outputs} for a controller {n} -> {found.outputs}, got {A.shape} and {B.shape}"
        )
    end = len(found) - 1
    last = Node(
        Affine((Dense(B), Dense(A)), np.broadcast_to(np.asarray(c, float), (n,)).copy()), (end, 0), (n,), "next state"
    )
    return Network((*found.nodes, last), found.notes, "", np.dtype(np.float64))


def safe_step(step: Any, box: Box, safe: Box, timeout: float = 60.0) -> Verdict:
    """Whether one step of a closed loop maps every state of a box into the safe box.

    Arguments:
        step: A network from state to next state (`closed_loop(controller, A, B)`).
    """
    found = load(step)
    x, y = found.variables()
    return verify(found, x.within(box), y.within(safe), timeout=timeout)


@dataclass(frozen=True, eq=False)
class Reach(Shown):
    """Forward sets of a closed loop: `sets[k]` is a list of boxes whose union holds every state after k steps."""

    sets: tuple[tuple[Box, ...], ...]
    cpu_seconds: float

    def hull(self, step: int) -> Box:
        """The smallest box around the states after so many steps."""
        return Box(
            np.min([b.lower for b in self.sets[step]], axis=0), np.max([b.upper for b in self.sets[step]], axis=0)
        )

    def inside(self, safe: Box) -> bool:
        """Whether all sets lie in a box: then the loop is safe for all these steps."""
        return all(
            np.all(b.lower >= safe.lower) and np.all(b.upper <= safe.upper) for boxes in self.sets for b in boxes
        )

    def to_dict(self) -> dict[str, Any]:
        hulls = [self.hull(k) for k in range(len(self.sets))]
        return {
            "steps": len(self.sets) - 1,
            "boxes": [len(s) for s in self.sets],
            "lower": [h.lower.tolist() for h in hulls],
            "upper": [h.upper.tolist() for h in hulls],
        }

    def __repr__(self) -> str:
        last = self.hull(-1)
        ends = ", ".join(f"[{a:.4g}, {b:.4g}]" for a, b in zip(last.lower[:6], last.upper[:6]))
        more = ", ..." if last.size > 6 else ""
        return f"Reach({len(self.sets) - 1} steps, {len(self.sets[0])} boxes each; after the last within {ends}{more})"


def reach(
    step: Any, start: Box, steps: int, boxes: int = 256, on_progress: Callable[[int, int], None] | None = None
) -> Reach:
    """Sets that hold every state of a closed loop after 1, 2, ... steps; rounded outward.

    The start is cut into boxes, and each cell is carried through all steps at once: bounds of the k-th state are taken on
    the k-fold network over the cell itself, so errors do not add up from step to step; each is intersected with the
    one-step bound of the set before.

    Arguments:
        step: A network from state to next state.
        boxes: Cells that the start is cut into.
        on_progress: Called with `(cells done, cells)`.

    Raises:
        ShapeMismatch: The network is no step, or the set has another number of states.
        InvalidInput: `steps` below 0 or `boxes` below 1.
    """
    found, started = load(step), time.process_time()
    if found.inputs != found.outputs:
        raise ShapeMismatch(f"a step maps states to states; this network maps {found.inputs} to {found.outputs}")
    if steps < 0 or boxes < 1:
        raise InvalidInput(f"steps must be at least 0 and boxes at least 1, got {steps} and {boxes}")
    found.require_piecewise_linear("reach")
    cells = [start]
    while len(cells) * 2 <= boxes:
        cells = [half for c in cells for half in c.halves()]
    folded = [found]
    from relukit.verification._joint import chained

    for _ in range(1, steps):
        folded.append(chained(folded[-1], found))
    sets: list[list[Box]] = [[] for _ in range(steps + 1)]
    together = max(_AT_ONCE // max(n.size for n in found.nodes) ** 2, 1)
    for first in range(0, len(cells), together):
        part = cells[first : first + together]
        cell = Box(np.stack([c.lower for c in part]), np.stack([c.upper for c in part]))
        sets[0].extend(part)
        before = cell
        for k in range(steps):
            low, high = linear(folded[k], cell).output
            one_low, one_high = linear(found, before).output
            low = np.maximum(low, one_low)
            before = Box(low, np.maximum(np.minimum(high, one_high), low))
            sets[k + 1].extend(Box(*ends) for ends in zip(before.lower, before.upper))
        if on_progress is not None:
            on_progress(first + len(part), len(cells))
    return Reach(tuple(tuple(s) for s in sets), time.process_time() - started)
