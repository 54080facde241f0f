"""Linear expressions in outputs, as people write them: `y[0]`, `2*y[3] - y[2] + 0.5`. A small grammar, never eval."""

import re

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(rf"\s*([-+])?\s*(?:({_NUMBER})\s*(\*)?\s*)?(?:y\[\s*(\d+)\s*\])?")


def parse(text: str, outputs: int) -> tuple[Array, float]:
    """Coefficients of the outputs and the constant.

    Raises:
        InvalidInput: Anything but sums of numbers times `y[i]`, or an output that does not exist; the place is named.
    """
    coefficients, constant, at, first = np.zeros(outputs), 0.0, 0, True
    text = text.rstrip()
    while at < len(text):
        match = _TERM.match(text, at)
        sign, number, star, index = match.groups() if match else (None, None, None, None)
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
        if index is None:
            constant += value
        elif int(index) >= outputs:
            raise InvalidInput(f"y[{index}] in '{text}': the network has outputs y[0] to y[{outputs - 1}]")
        else:
            coefficients[int(index)] += value
        at, first = match.end(), False
    if not np.any(coefficients):
        raise InvalidInput(f"'{text}' names no output: write for instance y[0] or y[1] - y[0]")
    return coefficients, constant
