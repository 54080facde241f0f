"""Linear expressions and constraints as people write them: `2*y[3] - y[2] + 0.5`, `x[0] + x[1] <= 1`.

A small grammar, never eval.
"""

import re
from typing import NamedTuple

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(rf"\s*([-+])?\s*(?:({_NUMBER})\s*(\*)?\s*)?(?:([xy])\[\s*(\d+)\s*\])?")
_RELATION = re.compile(r"<=|>=|==|=|<|>")


class Linear(NamedTuple):
    """`inputs . x + outputs . y + constant`."""

    inputs: Array
    outputs: Array
    constant: float


class Constraint(NamedTuple):
    """`inputs . x + outputs . y + constant <= 0`, or `= 0` where `equal`."""

    inputs: Array
    outputs: Array
    constant: float
    equal: bool
    text: str

    def violation(self, x: Array, y: Array) -> float:
        """How far a point is from satisfying it, 0 if it does."""
        value = float(self.inputs @ x + self.outputs @ y + self.constant)
        return abs(value) if self.equal else max(value, 0.0)


def parse_linear(text: str, inputs: int, outputs: int) -> Linear:
    """A linear expression in `x[i]` and `y[j]`.

    Raises:
        InvalidInput: Anything but sums of numbers times `x[i]` or `y[j]`, or an entry that does not exist; the place is named.
    """
    X, Y, constant, at, first = np.zeros(inputs), np.zeros(outputs), 0.0, 0, True
    text = text.rstrip()
    while at < len(text):
        match = _TERM.match(text, at)
        sign, number, star, name, index = match.groups() if match else (None,) * 5
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
        if name is None or index is None:
            constant += value
        else:
            target, kind = (X, "inputs") if name == "x" else (Y, "outputs")
            if int(index) >= len(target):
                raise InvalidInput(
                    f"{name}[{index}] in '{text}': the network has {kind} {name}[0] to {name}[{len(target) - 1}]"
                )
            target[int(index)] += value
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


def parse_constraint(text: str, inputs: int, outputs: int) -> Constraint:
    """A linear constraint with one of `<=`, `>=`, `==`.

    Raises:
        InvalidInput: There is not exactly one relation, or a side cannot be read.
    """
    relations = _RELATION.findall(text)
    if len(relations) != 1 or relations[0] in ("<", ">"):
        raise InvalidInput(f"the constraint '{text}' needs exactly one of <=, >= or ==")
    left, right = (parse_linear(side, inputs, outputs) for side in _RELATION.split(text))
    sign = -1.0 if relations[0] == ">=" else 1.0
    row = Constraint(
        sign * (left.inputs - right.inputs), sign * (left.outputs - right.outputs), sign * (left.constant - right.constant),
        relations[0] in ("==", "="), text.strip(),
    )  # fmt: skip
    if not (np.any(row.inputs) or np.any(row.outputs)):
        raise InvalidInput(f"the constraint '{text}' names no x[i] and no y[j]")
    return row
