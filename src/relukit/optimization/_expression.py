"""Linear expressions and constraints as people write them: `2*y[3] - y[2] + 0.5`, `x[0] + x[1] <= 1`, `y[0] == 3 +- 0.1`.

A small grammar, never eval: sums of numbers times variables. `x[i]` is an input and `y[j]` an output; with several networks
their names come first, as in `pump.y[0] - valve.x[2]`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_VARIABLE = r"(?:([A-Za-z_]\w*)\s*\.\s*)?([xy])\[\s*(\d+)\s*\]"
_TERM = re.compile(rf"\s*([-+])?\s*(?:({_NUMBER})\s*(\*)?\s*)?(?:{_VARIABLE}(?:\s*([*/])\s*({_NUMBER}))?)?")
_RELATION = re.compile(r"<=|>=|==|=|<|>")
_RANGE = re.compile(rf"(?:\+\s*/?\s*-|±)\s*({_NUMBER})\s*$")


class Linear(NamedTuple):
    """`inputs . x + outputs . y + constant`."""

    inputs: Array
    outputs: Array
    constant: float

    def __call__(self, x: Array, y: Array) -> float:
        return float(self.inputs @ x + self.outputs @ y + self.constant)

    def size(self, x: Array, y: Array) -> float:
        """Sum of the sizes of its terms at a point: what a tolerance on its value is relative to."""
        return float(np.abs(self.inputs) @ np.abs(x) + np.abs(self.outputs) @ np.abs(y) + abs(self.constant))

    def times(self, factor: float) -> "Linear":
        return Linear(factor * self.inputs, factor * self.outputs, factor * self.constant)


class Constraint(NamedTuple):
    """`inputs . x + outputs . y + constant <= 0`, or `= 0` where `equal`."""

    inputs: Array
    outputs: Array
    constant: float
    equal: bool
    text: str

    @property
    def linear(self) -> Linear:
        return Linear(self.inputs, self.outputs, self.constant)

    def violation(self, x: Array, y: Array) -> float:
        """How far a point is from satisfying it, 0 if it does."""
        value = self.linear(x, y)
        return abs(value) if self.equal else max(value, 0.0)


@dataclass(frozen=True)
class Part:
    """Where one network's variables lie: `inputs[i]` is the place of its x[i], outputs start at `first`; `linked` inputs are expressions."""

    inputs: np.ndarray
    first: int
    outputs: int
    linked: Mapping[int, Linear] = field(default_factory=dict)


@dataclass(frozen=True)
class Scope:
    """What names stand for: `sizes` of the whole x and y, and the parts by name (`""` where there is a single network)."""

    sizes: tuple[int, int]
    parts: Mapping[str, Part]

    @classmethod
    def single(cls, inputs: int, outputs: int) -> "Scope":
        return cls((inputs, outputs), {"": Part(np.arange(inputs), 0, outputs)})

    def find(self, name: str | None, kind: str, index: int, text: str) -> Linear:
        """A variable as coefficients over the whole x and y.

        Raises:
            InvalidInput: No such network, or no such entry.
        """
        if name is None and len(self.parts) > 1:
            raise InvalidInput(
                f"'{text}': say of which network {kind}[{index}] is: {next(iter(self.parts))}.{kind}[{index}]"
            )
        part = next(iter(self.parts.values())) if name is None else self.parts.get(name)
        if part is None:
            known = ", ".join(n for n in self.parts if n)
            raise InvalidInput(
                f"'{text}' names a network '{name}'; "
                + (f"known are {known}" if known else "there is one network, without a name")
            )
        count, what = (len(part.inputs), "inputs") if kind == "x" else (part.outputs, "outputs")
        if index >= count:
            of = f"{name} has" if name else "the network has"
            raise InvalidInput(f"{kind}[{index}] in '{text}': {of} {what} {kind}[0] to {kind}[{count - 1}]")
        if kind == "x" and index in part.linked:
            return part.linked[index]
        X, Y = np.zeros(self.sizes[0]), np.zeros(self.sizes[1])
        if kind == "x":
            X[part.inputs[index]] = 1.0
        else:
            Y[part.first + index] = 1.0
        return Linear(X, Y, 0.0)


def parse_linear(text: str, inputs: int | Scope, outputs: int = 0) -> Linear:
    """A linear expression in `x[i]` and `y[j]`.

    Arguments:
        text: As written.
        inputs: Number of inputs (and `outputs` that of outputs), or a `Scope`.

    Raises:
        InvalidInput: Anything but sums of numbers times `x[i]` or `y[j]`, or an entry that does not exist; the place is named.
    """
    scope = inputs if isinstance(inputs, Scope) else Scope.single(inputs, outputs)
    X, Y, constant, at, first = np.zeros(scope.sizes[0]), np.zeros(scope.sizes[1]), 0.0, 0, True
    text = text.rstrip()
    while at < len(text):
        match = _TERM.match(text, at)
        sign, number, star, name, kind, index, operation, factor = match.groups() if match else (None,) * 8
        if (
            match is None
            or match.end() == at
            or (number is None and index is None)
            or (sign is None and not first)
            or (star and index is None)
        ):
            raise InvalidInput(
                f"cannot read '{text}' at position {at + 1} ('{text[at : at + 10]}'): write sums like 2*y[0] - y[1] + 0.5"
            )
        value = (-1.0 if sign == "-" else 1.0) * (1.0 if number is None else float(number))
        if factor is not None:
            value = value * float(factor) if operation == "*" else value / float(factor) if float(factor) else np.inf
        if not np.isfinite(value):
            raise InvalidInput(f"'{text}': a number is not finite at position {at + 1}")
        if kind is None or index is None:
            constant += value
        else:
            found = scope.find(name, kind, int(index), text)
            X, Y, constant = X + value * found.inputs, Y + value * found.outputs, constant + value * found.constant
        at, first = match.end(), False
    return Linear(X, Y, constant)


def parse(text: str, outputs: int, inputs: int = 0) -> tuple[Array, float]:
    """Coefficients of the outputs and the constant of a goal in the outputs alone.

    Raises:
        InvalidInput: As `parse_linear`, or no output is named.
    """
    found = parse_linear(text, inputs, outputs)
    if not np.any(found.outputs):
        raise InvalidInput(f"'{text}' names no output: write for instance y[0] or y[1] - y[0]")
    return found.outputs, found.constant


def parse_goal(text: str, scope: Scope) -> Linear:
    """A goal: an expression that names an input or an output."""
    goal = parse_linear(text, scope)
    if not (np.any(goal.inputs) or np.any(goal.outputs)):
        raise InvalidInput(f"'{text}' names no output and no input: write for instance y[0] or y[1] - y[0]")
    return goal


def parse_constraints(text: str, scope: Scope) -> list[Constraint]:
    """One written constraint: `a <= b`, `a >= b`, `a == b`, `a == b +- c`, or `a <= b <= c`.

    Raises:
        InvalidInput: No relation, a strict one, two that point apart, or a side that cannot be read.
    """
    relations, sides = _RELATION.findall(text), _RELATION.split(text)
    if any(r in ("<", ">") for r in relations):
        raise InvalidInput(f"the constraint '{text}' is strict: solvers know <= and >= only; write those")
    if len(relations) not in (1, 2) or (
        len(relations) == 2 and (relations[0] != relations[1] or relations[0][0] == "=")
    ):
        raise InvalidInput(
            f"the constraint '{text}' needs exactly one of <=, >= or ==, or two of <= as in 0 <= y[0] <= 1"
        )
    if any(not side.strip() for side in sides):
        raise InvalidInput(f"the constraint '{text}' has nothing on one side of {relations[0]}")
    spread = _RANGE.search(sides[-1])
    if spread and relations[-1] not in ("=", "=="):
        raise InvalidInput(f"the constraint '{text}': +- goes with ==, as in y[0] == 3 +- 0.1")
    if spread:
        middle = sides[0], sides[1][: spread.start()]
        left, right = (parse_linear(side, scope) for side in middle)
        width = float(spread.group(1))
        pairs = [(left, right, 1.0, False), (left, right, -1.0, False)]
    else:
        width, parsed = 0.0, [parse_linear(side, scope) for side in sides]
        pairs = [
            (a, b, -1.0 if r == ">=" else 1.0, r in ("=", "==")) for a, b, r in zip(parsed[:-1], parsed[1:], relations)
        ]
    found = []
    for left, right, sign, equal in pairs:
        row = Constraint(
            sign * (left.inputs - right.inputs), sign * (left.outputs - right.outputs),
            sign * (left.constant - right.constant) - width, equal, text.strip(),
        )  # fmt: skip
        if not (np.any(row.inputs) or np.any(row.outputs)):
            raise InvalidInput(f"the constraint '{text}' names no x[i] and no y[j]")
        found.append(row)
    return found
