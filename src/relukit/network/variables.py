"""Inputs and outputs as variables: linear terms and conditions in Python's own notation.

    x, y = network.variables()
    relukit.verify(network, x.within(box), y[0] > y[1])

Coefficients are exact (fractions of the float64 numbers given). What a condition means is decided by whoever reads it;
nothing here knows about proofs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from relukit._errors import InvalidInput
from relukit.sets import AbstractSet


def _exact(value: Any) -> Fraction:
    if isinstance(value, Fraction):
        return value
    number = float(value)
    if not np.isfinite(number):
        raise InvalidInput(f"conditions need finite numbers, got {value}")
    return Fraction(number)


class Condition:
    """Something that holds or not; combined with `&`, `|` and `~`."""

    def __and__(self, other: "Condition") -> "Condition":
        return Both((self, _condition(other)))

    def __or__(self, other: "Condition") -> "Condition":
        return Either((self, _condition(other)))

    def __invert__(self) -> "Condition":
        return Not(self)

    def __bool__(self) -> bool:
        raise InvalidInput(
            "a condition on variables is neither true nor false by itself: combine conditions with & | ~ instead of and, or, not; "
            "write (a <= t) & (t <= b) for a <= t <= b"
        )


def _condition(value: Any) -> Condition:
    if isinstance(value, Condition):
        return value
    raise InvalidInput(f"expected a condition on variables, got {type(value).__name__} {value!r}")


@dataclass(frozen=True, eq=False)
class Atom(Condition):
    """`term <= 0`, or `term < 0` where strict."""

    term: "Term"
    strict: bool


@dataclass(frozen=True, eq=False)
class Both(Condition):
    """All parts hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, eq=False)
class Either(Condition):
    """Some part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, eq=False)
class Not(Condition):
    """The part does not hold."""

    part: Condition


@dataclass(frozen=True, eq=False)
class Member(Condition):
    """Inputs lie in a set that is not a box."""

    input_set: AbstractSet


class Term:
    """A linear expression: `terms` maps `("x", i)` or `("y", j)` to its coefficient."""

    __array_ufunc__ = None  # NumPy leaves `array * term` to this class
    __slots__ = ("constant", "terms", "variables")

    def __init__(self, terms: dict[tuple[str, int], Fraction], constant: Fraction, variables: "Variables") -> None:
        self.terms, self.constant, self.variables = terms, constant, variables

    def _plus(self, other: Any, sign: int) -> "Term":
        if isinstance(other, Term):
            if other.variables.network is not self.variables.network:
                raise InvalidInput(
                    "a term mixes variables of two networks; use relukit.equivalent, or a VNN-LIB 2.0 file, to relate networks"
                )
            terms = dict(self.terms)
            for k, v in other.terms.items():
                terms[k] = terms.get(k, Fraction(0)) + sign * v
            return Term(terms, self.constant + sign * other.constant, self.variables)
        return Term(dict(self.terms), self.constant + sign * _exact(other), self.variables)

    def __add__(self, other: Any) -> "Term":
        return self._plus(other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> "Term":
        return self._plus(other, -1)

    def __rsub__(self, other: Any) -> "Term":
        return (-self)._plus(other, 1)

    def __neg__(self) -> "Term":
        return self * -1

    def __mul__(self, factor: Any) -> "Term":
        if isinstance(factor, Term):
            if factor.terms and self.terms:
                raise InvalidInput("a product of two variables is not linear; properties hold linear conditions")
            return factor * self.constant if not self.terms else self * factor.constant
        f = _exact(factor)
        return Term({k: v * f for k, v in self.terms.items()}, self.constant * f, self.variables)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "Term":
        if isinstance(divisor, Term):
            raise InvalidInput("a division by a variable is not linear; properties hold linear conditions")
        return self * (1 / _exact(divisor))

    def __abs__(self) -> "Absolute":
        return Absolute(self)

    def __le__(self, other: Any) -> Condition:
        return Atom(self - other, False)

    def __lt__(self, other: Any) -> Condition:
        return Atom(self - other, True)

    def __ge__(self, other: Any) -> Condition:
        return Atom(-(self - other), False)

    def __gt__(self, other: Any) -> Condition:
        return Atom(-(self - other), True)

    def __eq__(self, other: Any) -> Condition:
        return (self <= other) & (self >= other)

    def __ne__(self, other: Any) -> Condition:
        return (self < other) | (self > other)

    __hash__: ClassVar[None] = None

    def __repr__(self) -> str:
        parts = [f"{float(v):g}*{k}[{i}]" for (k, i), v in self.terms.items()]
        return " + ".join([*parts, f"{float(self.constant):g}"] if self.constant or not parts else parts)


@dataclass(frozen=True, eq=False)
class Absolute:
    """The absolute value of a term; it can be compared with numbers."""

    term: Term

    def __le__(self, other: Any) -> Condition:
        return (self.term <= other) & (-self.term <= other)

    def __lt__(self, other: Any) -> Condition:
        return (self.term < other) & (-self.term < other)

    def __ge__(self, other: Any) -> Condition:
        return (self.term >= other) | (-self.term >= other)

    def __gt__(self, other: Any) -> Condition:
        return (self.term > other) | (-self.term > other)


class Variables:
    """The inputs or outputs of one network: indexed, sliced, compared entry by entry, `sum()`-med, weighed with `w @ y`."""

    __array_ufunc__ = None
    __hash__: ClassVar[None] = None

    def __init__(self, kind: str, size: int, network: Any) -> None:
        self.kind, self.size, self.network = kind, size, network
        self.mates: tuple[Variables, ...] = ()  # the other variables of the same `variables()` call
        self._pending: list[Condition] = []

    @staticmethod
    def pair(network: Any) -> "tuple[Variables, Variables]":
        """Inputs and outputs of a network."""
        x, y = Variables("x", network.inputs, network), Variables("y", network.outputs, network)
        x.mates, y.mates = (y,), (x,)
        return x, y

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        i = int(index)
        if not -self.size <= i < self.size:
            raise IndexError(f"{self.kind} has {self.size} entries, asked for number {i}")
        return Term({(self.kind, i % self.size): Fraction(1)}, Fraction(0), self)

    def __iter__(self) -> Iterator[Term]:
        return (self[i] for i in range(self.size))

    def __matmul__(self, weights: Any) -> Term:
        w = np.asarray(weights)
        if w.shape != (self.size,):
            raise InvalidInput(f"{self.kind} has {self.size} entries, the weights have shape {w.shape}")
        return Term({(self.kind, i): _exact(v) for i, v in enumerate(w) if v != 0}, Fraction(0), self)

    __rmatmul__ = __matmul__

    def _each(self, other: Any, compare: Any) -> Condition:
        values = (
            list(other)
            if isinstance(other, Variables)
            else np.broadcast_to(np.asarray(other, float).ravel() if np.ndim(other) else other, (self.size,))
        )
        return Both(tuple(compare(mine, value) for mine, value in zip(self, values)))

    def __le__(self, other: Any) -> Condition:
        return self._each(other, lambda a, b: a <= b)

    def __lt__(self, other: Any) -> Condition:
        return self._each(other, lambda a, b: a < b)

    def __ge__(self, other: Any) -> Condition:
        return self._each(other, lambda a, b: a >= b)

    def __gt__(self, other: Any) -> Condition:
        return self._each(other, lambda a, b: a > b)

    def __eq__(self, other: Any) -> Condition:
        return self._each(other, lambda a, b: a == b)

    def within(self, where: Any) -> Condition:
        """The condition that these variables lie in a set (a `Box`, `Ball`, `Polytope`, or a pair of lower and upper bounds)."""
        if isinstance(where, tuple) and len(where) == 2:
            return (self >= where[0]) & (self <= where[1])
        if not isinstance(where, AbstractSet):
            raise InvalidInput(f"within() takes a set or a pair (lower, upper), got {type(where).__name__}")
        if where.size != self.size or where.batch:
            raise InvalidInput(f"within() needs one set of {self.size} entries, got {where!r}")
        from relukit.sets import Ball, Box, Polytope

        if isinstance(where, Box):
            return (self >= where.lower) & (self <= where.upper)
        if isinstance(where, Polytope):
            cut = [self @ a <= limit for a, limit in zip(where.A, where.b)]
            return Both((self.within(where.within), *cut))
        if isinstance(where, Ball) and where.norm == np.inf:
            return self.within(where.box())
        if self.kind != "x":
            raise InvalidInput("round sets are for inputs; bound outputs with linear conditions")
        return Member(where)

    def member(self, where: AbstractSet) -> bool:
        """`x in box` as Python sees it: remembered here until the `verify` call that it stands in takes it."""
        self._pending.append(self.within(where))
        return True

    def taken(self) -> list[Condition]:
        """The memberships written as `x in box` since the last call."""
        found, self._pending[:] = list(self._pending), []
        return found

    def largest(self, index: int) -> Condition:
        """Entry `index` is above all others."""
        mine = self[index]
        return Both(tuple(mine > other for j, other in enumerate(self) if j != index % self.size))

    def __repr__(self) -> str:
        return f"{'inputs' if self.kind == 'x' else 'outputs'} {self.kind}[0..{self.size - 1}]"
