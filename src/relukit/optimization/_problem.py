"""A question to one network as all searches see it: minimize a linear function of inputs and outputs under linear constraints."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnboundedSet
from relukit._types import Array
from relukit.network import Affine, Network, Node
from relukit.network.affine import Dense
from relukit.optimization._expression import Constraint, Linear, Scope
from relukit.sets import AbstractSet, Box


@dataclass(frozen=True, eq=False)
class Group:
    """A categorical input as one-hot entries: exactly one of `members` is at `on`, the others are at `off`."""

    members: np.ndarray
    off: Array
    on: Array

    def chosen(self, lower: Array, upper: Array) -> list[Array]:
        """Values of the members, one array for each category that the bounds allow."""
        found = []
        for k in range(len(self.members)):
            values = self.off.copy()
            values[k] = self.on[k]
            if np.all((values >= lower[self.members]) & (values <= upper[self.members])):
                found.append(values)
        return found

    def is_fixed(self, lower: Array, upper: Array) -> bool:
        return bool(np.all(lower[self.members] == upper[self.members]))


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimize `goal` over a box under constraints, some inputs whole numbers, some one-hot groups.

    Arguments:
        network: Piecewise linear.
        box: Integer inputs have whole ends.
        goal: Minimized.
        constraints: Those of the groups included.
        integers: Inputs that take whole numbers only.
        groups: One-hot groups.
    """

    network: Network
    box: Box
    goal: Linear
    constraints: tuple[Constraint, ...] = ()
    integers: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    groups: tuple[Group, ...] = ()

    @property
    def is_box_only(self) -> bool:
        return not (self.constraints or len(self.integers) or self.groups)

    @cached_property
    def rows(self) -> Network:
        """The network whose outputs are the goal and then each constraint's left side (an equality gives two of them, `<= 0`)."""
        parts = [self.goal]
        for c in self.constraints:
            parts.append(c.linear)
            if c.equal:
                parts.append(c.linear.times(-1.0))
        inputs, outputs = np.array([p.inputs for p in parts]), np.array([p.outputs for p in parts])
        bias = np.array([p.constant for p in parts])
        if not np.any(inputs):
            return self.network.append(outputs, bias)
        last = len(self.network) - 1
        node = Node(Affine((Dense(outputs), Dense(inputs)), bias), (last, 0), (len(parts),), "goal and constraints")
        return Network((*self.network.nodes, node), self.network.notes, "", self.network.dtype, self.box)

    def is_settled(self, lower: Array, upper: Array) -> bool:
        """Whether all integers and groups have one value left."""
        return bool(np.all(lower[self.integers] == upper[self.integers])) and all(
            g.is_fixed(lower, upper) for g in self.groups
        )

    def rounded(self, x: Array, lower: Array, upper: Array) -> Array | None:
        """Integers to the nearest whole number and groups to their largest member, within bounds; None where the bounds leave none."""
        x = np.clip(x, lower, upper)
        x[self.integers] = np.clip(
            np.round(x[self.integers]), np.ceil(lower[self.integers]), np.floor(upper[self.integers])
        )
        for g in self.groups:
            left = g.chosen(lower, upper)
            if not left:
                return None
            x[g.members] = min(left, key=lambda values: float(np.abs(values - x[g.members]).sum()))
        return x

    def halves(self, lower: Array, upper: Array, x: Array | None = None) -> list[tuple[Array, Array]] | None:
        """Parts of a box that settle its integers and groups further, nearest to `x` first; None where nothing is left to settle.

        The integer or group that x contradicts most goes first.
        """
        x = 0.5 * (lower + upper) if x is None else x
        best, most = None, -1.0
        for j in self.integers:
            if lower[j] < upper[j]:
                off = abs(x[j] - round(x[j])) + 1e-9 * (upper[j] - lower[j])
                if off > most:
                    best, most = int(j), off
        for g in self.groups:
            if not g.is_fixed(lower, upper):
                share = (x[g.members] - g.off) / np.where(g.on == g.off, 1.0, g.on - g.off)
                off = float(np.min([np.max(share) if len(share) else 0.0, 1.0]))
                if 1.0 - off + 1e-9 > most:
                    best, most = g, 1.0 - off + 1e-9
        if best is None:
            return None
        parts = []
        if isinstance(best, Group):
            for values in sorted(best.chosen(lower, upper), key=lambda v: float(np.abs(v - x[best.members]).sum())):
                low, high = lower.copy(), upper.copy()
                low[best.members] = high[best.members] = values
                parts.append((low, high))
            return parts
        at = np.floor(np.clip(x[best], lower[best], upper[best] - 1e-9))
        at = min(max(at, lower[best]), upper[best] - 1)
        left, right = upper.copy(), lower.copy()
        left[best], right[best] = at, at + 1
        parts = [(lower.copy(), left), (right, upper.copy())]
        return parts if x[best] - at < 0.5 else parts[::-1]


def make_problem(
    network: Network, domain: AbstractSet, goal: Linear, constraints: Sequence[Constraint], integers: Sequence[int],
    categories: Sequence[Sequence[int]], scope: Scope,
) -> Problem | str:  # fmt: skip
    """The problem, or a sentence why it has no point: no whole number in an integer's range, no category left."""
    network.require_piecewise_linear("optimize")
    n = network.inputs
    if domain.size != n:
        raise ShapeMismatch(f"the network takes {n} inputs, the domain has {domain.size}")
    box, rules = domain.box(), list(constraints)
    if not np.all(np.isfinite(box.lower) & np.isfinite(box.upper)):
        raise UnboundedSet("optimize needs a domain that is bounded on all sides")
    box = Box(box.lower.astype(np.float64), box.upper.astype(np.float64))
    if not isinstance(domain, Box):
        sides = domain.rows()
        if not len(sides[1]) and not np.array_equal(box.lower, box.upper):
            raise InvalidInput(f"optimize takes boxes and polytopes, got {domain!r}; give a Box or a Polytope")
        for k, (a, b) in enumerate(zip(sides[0], sides[1])):
            rules.append(
                Constraint(np.asarray(a, float), np.zeros(network.outputs), -float(b), False, f"side {k} of the domain")
            )
    wrong = [j for j in integers if not 0 <= j < n]
    if wrong:
        raise InvalidInput(f"integer inputs {wrong}: the network has inputs 0 to {n - 1}")
    whole = np.array(sorted(set(integers)), int)
    lower, upper = box.lower.copy(), box.upper.copy()
    lower[whole], upper[whole] = np.ceil(lower[whole]), np.floor(upper[whole])
    for j in whole:
        if lower[j] > upper[j]:
            return f"input {j} takes whole numbers, and [{box.lower[j]:g}, {box.upper[j]:g}] holds none"
    groups = []
    for members in categories:
        group = _group(members, lower, upper, n, groups, whole)
        if not group.chosen(lower, upper):
            return f"the box leaves no category of the one-hot inputs {list(members)}"
        groups.append(group)
        width = np.where(group.on == group.off, 1.0, group.on - group.off)
        row = np.zeros(n)
        row[group.members] = 1 / width
        text = "exactly one of " + ", ".join(f"x[{j}]" for j in members)
        rules.append(Constraint(row, np.zeros(network.outputs), -1.0 - float(np.sum(group.off / width)), True, text))
    return Problem(network, Box(lower, upper), goal, tuple(rules), whole, tuple(groups))


def _group(members: Sequence[int], lower: Array, upper: Array, n: int, groups: list[Group], whole: np.ndarray) -> Group:
    at = np.array(list(members), int)
    if len(at) < 2 or len(set(at.tolist())) < len(at) or np.any((at < 0) | (at >= n)):
        raise InvalidInput(f"a one-hot group needs two or more different inputs of 0 to {n - 1}, got {list(members)}")
    taken = [int(j) for j in at if any(j in g.members for g in groups) or j in whole]
    if taken:
        raise InvalidInput(f"inputs {taken} stand in two one-hot groups, or are named as integers as well")
    off, on = lower[at].copy(), upper[at].copy()
    fixed = off == on
    odd = fixed & (off != 0) & (off != 1)
    if np.any(odd):
        raise InvalidInput(
            f"input {at[odd][0]} of a one-hot group is fixed at {off[odd][0]:g}: is that on or off? Give it two ends"
        )
    off[fixed], on[fixed] = 0.0, 1.0
    return Group(at, off, on)
