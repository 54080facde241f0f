"""Properties: counterexamples as a disjunction of cases, made from linear conditions in exact arithmetic."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from relukit._errors import EmptyInterval, UnboundedSet, UnreadableFile
from relukit._types import Array, IntArray
from relukit.sets import Box

MOST_CASES = 1_000_000


class Contradiction(EmptyInterval):
    """Every case of a property contradicts itself: nothing can violate it. Raised for nothing else."""


@dataclass(frozen=True, eq=False)
class Case:
    """Counterexamples of one kind: x in `box`, `A x <= a` and `C y + D x <= d`.

    Arguments:
        box: Bounds of the inputs.
        A, a: Further rows on the inputs, shapes `(k, n)`, `(k,)`.
        C, D, d: Rows on the outputs (and inputs), shapes `(r, m)`, `(r, n)`, `(r,)`.
        strict: Rows (inputs' first, then outputs') that must hold with `<`; none by default. Proofs close them, witnesses keep them.
        edges: Inputs whose bounds must hold with `<`: `(index, +1 upper or -1 lower)`.
        exact: The conditions that float64 numbers do not hold exactly, which a witness has to satisfy as well.
        off: By how much coefficients of C and D were rounded at most, `(r, m)` and `(r, n)`; None where none was. Proofs widen d by it.
        implied: Some bounds of the box follow from A x <= a alone.
    """

    box: Box
    A: Array
    a: Array
    C: Array
    D: Array
    d: Array
    strict: Array | None = None
    edges: tuple[tuple[int, int], ...] = ()
    exact: "tuple[Row, ...]" = ()
    off: tuple[Array, Array] | None = None
    implied: bool = False

    @property
    def rows(self) -> tuple[Array, Array, Array]:
        """All rows as `C y + D x <= d`, those on inputs alone first."""
        return (
            np.concatenate([np.zeros((len(self.a), self.C.shape[1])), self.C]),
            np.concatenate([self.A, self.D]),
            np.concatenate([self.a, self.d]),
        )

    def holds(self, x: Array, y: Array) -> bool:
        """Whether `(x, y)` is a counterexample, in exact arithmetic."""
        if not bool(self.box.contains(x)):
            return False
        if any((x[i] >= self.box.upper[i]) if side > 0 else (x[i] <= self.box.lower[i]) for i, side in self.edges):
            return False
        C, D, d = self.rows
        if not np.all(np.isfinite(y)):
            return False
        strict = np.zeros(len(d), bool) if self.strict is None else self.strict
        for c, e, limit, sharp in zip(C, D, d, strict):
            total = -Fraction(float(limit))
            for vector, values in ((c, y), (e, x)):
                for j in np.flatnonzero(vector):
                    total += Fraction(float(vector[j])) * Fraction(float(values[j]))
            if total > 0 or (sharp and total == 0):
                return False
        return all(row.holds(x, y) for row in self.exact)


@dataclass(frozen=True)
class Tensor:
    """A declared tensor of a VNN-LIB 2.0 query.

    Arguments:
        role: `input`, `hidden` or `output`.
        first: Where its entries begin among all inputs, or among all hidden and output values.
        node: Name in the ONNX file, where the query gives one.
    """

    name: str
    role: str
    kind: str
    shape: tuple[int, ...]
    first: int
    node: str = ""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Declared:
    """A declared network: its tensors, and which earlier one it equals or is isomorphic to."""

    name: str
    tensors: tuple[Tensor, ...]
    equal_to: str = ""
    isomorphic_to: str = ""

    def of(self, *roles: str) -> list[Tensor]:
        return [t for t in self.tensors if t.role in roles]


@dataclass(frozen=True, eq=False)
class Property:
    """Counterexamples as a disjunction of cases.

    Arguments:
        inputs, outputs: Number of inputs x and outputs y, of all declared networks together.
        networks: What a VNN-LIB 2.0 query declares; empty for 1.0 and for properties made in Python.
        tie: Cases speak of the inputs that are left where equal ones are one; `x = reduced[tie]`. None where none are equal.
        version: Of VNN-LIB, or empty.
    """

    cases: tuple[Case, ...]
    inputs: int
    outputs: int
    source: str = ""
    networks: tuple[Declared, ...] = ()
    tie: IntArray | None = None
    version: str = ""

    def violated(self, x: Array, y: Array, tolerance: float = 0.0) -> bool:
        """Whether `(x, y)` is a counterexample; with `tolerance` nearly so."""
        if tolerance == 0.0:
            return any(c.holds(np.asarray(x, float), np.asarray(y, float)) for c in self.cases)
        return any(
            bool(c.box.contains(x))
            and np.all(c.A @ x <= c.a + tolerance)
            and np.all(c.C @ y + c.D @ x <= c.d + tolerance)
            for c in self.cases
        )


@dataclass
class Row:
    """A condition: the sum of `terms` plus `constant` is at most 0 (below 0 where `strict`).

    Arguments:
        terms: Coefficients by variable, `("x", i)` or `("y", j)`.
        place: Where it stands, for messages.
    """

    terms: dict[tuple[str, int], Fraction]
    constant: Fraction
    strict: bool = False
    place: str = ""
    _made: tuple | None = field(default=None, repr=False)

    def negated(self) -> "Row":
        return Row({k: -v for k, v in self.terms.items()}, -self.constant, not self.strict, self.place)

    def holds(self, x: Array, y: Array) -> bool:
        """Whether a point satisfies it, in exact arithmetic."""
        total = self.constant
        for (kind, i), v in self.terms.items():
            total += v * Fraction(float((x if kind == "x" else y)[i]))
        return total < 0 or (total == 0 and not self.strict)

    @property
    def one_input(self) -> int | None:
        """The input that it bounds alone."""
        if len(self.terms) == 1:
            (((kind, i), factor),) = self.terms.items()
            return i if kind == "x" and factor != 0 else None
        return None


def ties(rows: Iterable[Row], inputs: int) -> IntArray | None:
    """Representatives of inputs that rows of the form `x_i - x_j = 0` (both `<=`) make equal, numbered from 0; None if there are none."""
    seen: set[tuple[int, int]] = set()
    leader = list(range(inputs))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for row in rows:
        if len(row.terms) != 2 or row.constant != 0 or row.strict:
            continue
        ((p, i), a), ((q, j), b) = row.terms.items()
        if p == q == "x" and a == -b != 0:
            low, high = (i, j) if a > 0 else (j, i)  # says x_low <= x_high
            seen.add((low, high))
            if (high, low) in seen:
                r, s = sorted((find(i), find(j)))
                leader[s] = r
    roots = [find(i) for i in range(inputs)]
    if len(set(roots)) == inputs:
        return None
    number = {r: k for k, r in enumerate(sorted(set(roots)))}
    return np.array([number[r] for r in roots])


def tied(row: Row, tie: IntArray) -> Row:
    """The row over the inputs that are left."""
    terms: dict[tuple[str, int], Fraction] = {}
    for (kind, i), v in row.terms.items():
        key = (kind, int(tie[i])) if kind == "x" else (kind, i)
        terms[key] = terms.get(key, Fraction(0)) + v
    return Row({k: v for k, v in terms.items() if v != 0}, row.constant, row.strict, row.place)


def make_case(
    rows: Iterable[Row],
    inputs: int,
    outputs: int,
    source: str,
    name: "object" = None,
    bounds: tuple[Array, Array] | None = None,
) -> Case | None:
    """Rows as a case; None where they plainly contradict each other.

    `bounds` are plain bounds that hold as well. Bounds and limits that are no float64 numbers are moved outward, so that no counterexample is lost;
    coefficients are rounded, and `Case.off` says by how much.

    Raises:
        UnboundedSet: An input has no lower or upper bound, and none follows from the other conditions on inputs.
        UnreadableFile: A number is too large for float64.
    """
    lower, upper = np.full(inputs, -np.inf), np.full(inputs, np.inf)
    if bounds is not None:
        lower, upper = bounds[0].copy(), bounds[1].copy()
    edges: dict[tuple[int, int], bool] = {}
    on_inputs, on_outputs, exact, cuts = [], [], [], []
    for row in rows:
        i = row.one_input
        if i is not None:
            factor = row.terms["x", i]
            limit = -row.constant / factor if factor not in (1, -1) else -row.constant * factor
            if factor > 0:
                value = rounded_up(limit)
                if value < upper[i] or (value == upper[i] and row.strict):
                    upper[i], edges[i, 1] = value, row.strict
            else:
                value = -rounded_up(-limit)
                if value > lower[i] or (value == lower[i] and row.strict):
                    lower[i], edges[i, -1] = value, row.strict
            if Fraction(value) != limit:
                exact.append(row)
            continue
        if not row.terms:
            if row.constant > 0 or (row.strict and row.constant == 0):
                return None
            continue
        c, e, limit = np.zeros((2, outputs)), np.zeros((2, inputs)), rounded_up(-row.constant)
        for (kind, i), v in row.terms.items():
            (e if kind == "x" else c)[:, i] = _nearest(v)
        if Fraction(limit) != -row.constant or np.any(c[1]) or np.any(e[1]):
            exact.append(row)
        if any(kind == "y" for kind, _ in row.terms):
            on_outputs.append((c, e, limit, row.strict))
        else:
            on_inputs.append((c, e, limit, row.strict))
            cuts.append(row)
    implied = bool(np.any(np.isinf([lower, upper]))) and _implied(cuts, lower, upper)
    for side, array in (("lower", lower), ("upper", upper)):
        open_ = np.flatnonzero(np.isinf(array))
        if len(open_):
            label = name(int(open_[0])) if callable(name) else f"X_{open_[0]}"
            raise UnboundedSet(
                f"{source}: input {label} has no {side} bound, given or implied; exact methods need one for every input"
            )
    if np.any(lower > upper):
        return None
    stack = lambda parts, width: np.array(parts, float).reshape(len(parts), width)
    every = on_inputs + on_outputs
    strict = np.array([r[3] for r in every], bool)
    off = stack([r[0][1] for r in every], outputs), stack([r[1][1] for r in every], inputs)
    return Case(
        Box(lower, upper),
        stack([r[1][0] for r in on_inputs], inputs),
        np.array([r[2] for r in on_inputs], float),
        stack([r[0][0] for r in on_outputs], outputs),
        stack([r[1][0] for r in on_outputs], inputs),
        np.array([r[2] for r in on_outputs], float),
        strict if strict.any() else None,
        tuple(key for key, sharp in edges.items() if sharp),
        tuple(exact),
        off if np.any(off[0]) or np.any(off[1]) else None,
        implied,
    )


def _implied(cuts: list[Row], lower: Array, upper: Array) -> bool:
    """Fill in bounds that are missing and that conditions on several inputs imply, rounded outward; whether there were any."""
    before = changed = int(np.isinf([lower, upper]).sum())
    while changed:
        changed = 0
        for row in cuts:
            # Each term is at most what the least values of the others leave.
            ends = {i: float(lower[i] if v > 0 else upper[i]) for (_, i), v in row.terms.items()}
            open_ = [i for i, end in ends.items() if np.isinf(end)]
            if len(open_) > 1:
                continue
            least = {i: row.terms["x", i] * Fraction(end) for i, end in ends.items() if np.isfinite(end)}
            total = row.constant + sum(least.values())
            for i in open_ or ends:
                v = row.terms["x", i]
                limit = -(total - least.get(i, Fraction(0))) / v
                if v > 0 and np.isinf(upper[i]):
                    upper[i], changed = rounded_up(limit), changed + 1
                elif v < 0 and np.isinf(lower[i]):
                    lower[i], changed = -rounded_up(-limit), changed + 1
    return before > int(np.isinf([lower, upper]).sum())


def _nearest(value: Fraction) -> tuple[float, float]:
    """The float64 nearest to a coefficient, and at least its distance to it."""
    try:
        near = float(value)
    except OverflowError as error:
        raise _too_large(value) from error
    away = abs(Fraction(near) - value)
    return near, rounded_up(away) if away else 0.0


def rounded_up(value: Fraction) -> float:
    """The smallest float64 that is at least `value`.

    Raises:
        UnreadableFile: It is too large for one.
    """
    try:
        near = float(value)
    except OverflowError as error:
        raise _too_large(value) from error
    return near if Fraction(near) >= value else float(np.nextafter(near, np.inf))


def _too_large(value: Fraction) -> UnreadableFile:
    digits = int((value.numerator.bit_length() - value.denominator.bit_length()) * np.log10(2))
    return UnreadableFile(f"a number of about 1e{digits} in the conditions is too large for float64 (1.8e308 at most)")
