r"""Where the force of a ReLU potential jumps along a straight path, and by how much, exactly.

Along x(t) = start + t v every preactivation z of every atom is a smooth function of t with known derivative; the force is
smooth between its zeros. At a zero of unit k of atom i the unit's gate turns, and the force jumps by

    -(+1 or -1) a_k d(w_k . phi_i)/dx,    + where it turns on.

No difference quotient is involved: `by_difference` is the independent check.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.gallery.interatomic._model import Potential, scatter

Array = np.ndarray


@dataclass(frozen=True)
class Jump:
    """At `t`, the force (atoms, 3) changes by `force` (eV/angstrom) as hidden `unit` of `atom` turns on or off."""

    t: float
    atom: int
    unit: int
    turns_on: bool
    force: Array

    def to_dict(self) -> dict[str, Any]:
        largest = float(np.linalg.norm(self.force, axis=1).max())
        return {"t": self.t, "atom": self.atom, "unit": self.unit, "turns_on": self.turns_on, "largest_jump": largest}


@dataclass(frozen=True)
class Path:
    """Positions start + t v for t in [0, 1]."""

    potential: Potential
    numbers: Array
    start: Array
    v: Array
    cell: Array | None = None

    def at(self, t: float) -> Array:
        return self.start + t * self.v

    def preactivations(self, ts: Array) -> tuple[Array, Array]:
        """z and dz/dt at each t: (count, atoms, hidden) twice."""
        values, slopes = [], []
        for some in np.array_split(np.asarray(ts, float), max(1, len(ts) // 20)):
            atoms = self.potential.describe([(self.numbers, self.at(t), self.cell) for t in some])
            count, n = len(some), len(self.numbers)
            moved = np.tile(self.v, (count, 1))
            by_pair = np.einsum("pkd,pk->pd", atoms.slopes, moved[atoms.pairs.to] - moved[atoms.pairs.center])
            dz = np.zeros_like(atoms.z)
            np.add.at(dz, atoms.pairs.center, by_pair)
            hidden = next(iter(self.potential.elements.values())).W.shape[1]
            f, df = np.zeros((count * n, hidden)), np.zeros((count * n, hidden))
            for e, part in self.potential.elements.items():
                mine = atoms.numbers == e
                f[mine], df[mine] = atoms.z[mine] @ part.W + part.b, dz[mine] @ part.W
            values.append(f.reshape(count, n, hidden))
            slopes.append(df.reshape(count, n, hidden))
        return np.concatenate(values), np.concatenate(slopes)


def find(path: Path, steps: int = 100, refine: int = 6) -> list[Jump]:
    """All jumps for t in (0, 1), in order.

    Between grid points, a sign change encloses a crossing. Where a preactivation heads for zero at one end and away from
    it at the other, the step is halved up to `refine` times, so a unit that turns and turns back is missed only if it does
    so within 2^-refine of a step.

    Raises:
        InvalidInput: The potential is smooth: its force does not jump.
    """
    if path.potential.kind != "relu":
        raise InvalidInput("the force of a smooth potential does not jump; give a ReLU potential")
    grid = np.linspace(0, 1, steps + 1)
    f, df = path.preactivations(grid)
    brackets: list[tuple[float, float, int, int]] = []
    doubtful: list[tuple[Array, Array, Array]] = [(grid, f, df)]
    for level in range(refine + 1):
        ahead: dict[float, float] = {}
        for ts, f, df in doubtful:
            for k in range(len(ts) - 1):
                change = (f[k] > 0) != (f[k + 1] > 0)
                brackets += [(ts[k], ts[k + 1], int(i), int(u)) for i, u in np.argwhere(change)]
                turns = ~change & (f[k] * df[k] < 0) & (f[k + 1] * df[k + 1] > 0)
                step = ts[k + 1] - ts[k]
                # a parabola through the end with its slope stays clear of zero when the value is large against slope x step
                near = np.minimum(np.abs(f[k]), np.abs(f[k + 1])) < np.maximum(np.abs(df[k]), np.abs(df[k + 1])) * step
                if (turns & near).any() and level < refine:
                    ahead[float(ts[k])] = float(ts[k + 1])
        if not ahead:
            break
        brackets = [b for b in brackets if ahead.get(b[0]) != b[1]]  # those steps are looked at again, in halves
        doubtful = []
        for a, b in ahead.items():
            ts = np.array([a, (a + b) / 2, b])
            doubtful.append((ts, *path.preactivations(ts)))
    roots = _roots(path, brackets)
    found = [_jump(path, t, i, u) for t, (_, _, i, u) in zip(roots, brackets)]
    return sorted(found, key=lambda j: j.t)


def _roots(path: Path, brackets: Sequence[tuple[float, float, int, int]]) -> Array:
    """Newton's method kept inside shrinking brackets, all zeros at once."""
    if not brackets:
        return np.zeros(0)
    low, high = np.array([b[0] for b in brackets]), np.array([b[1] for b in brackets])
    pick = (np.arange(len(brackets)), np.array([b[2] for b in brackets]), np.array([b[3] for b in brackets]))
    rising = path.preactivations(high)[0][pick] > 0
    t = (low + high) / 2
    for _ in range(60):
        f, df = (v[pick] for v in path.preactivations(t))
        above = (f > 0) == rising
        high, low = np.where(above, t, high), np.where(above, low, t)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = t - f / df
        inside = np.isfinite(new) & (new > low) & (new < high)
        new = np.where(inside, new, (low + high) / 2)
        done = np.abs(new - t).max() < 4e-16
        t = new
        if done or np.abs(f).max() < 1e-15:
            break
    return t


def _jump(path: Path, t: float, atom: int, unit: int) -> Jump:
    potential, n = path.potential, len(path.numbers)
    part = potential.elements[int(path.numbers[atom])]
    atoms = potential.describe([(path.numbers, path.at(t), path.cell)])
    mine = atoms.pairs.center == atom
    pull = np.zeros((len(mine), 3))
    pull[mine] = atoms.slopes[mine] @ part.W[:, unit]
    toward = scatter(n, atoms.pairs) @ pull  # -dz/dx
    on = float(-(toward * path.v).sum()) > 0
    return Jump(float(t), atom, unit, on, (1 if on else -1) * part.out[unit] * toward)


def by_difference(path: Path, t: float, h: float = 1e-7) -> Array:
    """The jump of the force at t from forces alone: one-sided limits by linear extrapolation from t +- h and t +- 2 h."""
    force = lambda s: path.potential(path.numbers, path.at(s), path.cell)[1]
    return (2 * force(t + h) - force(t + 2 * h)) - (2 * force(t - h) - force(t - 2 * h))
