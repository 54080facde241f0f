"""VNN-LIB 1.0: properties as a disjunction of input boxes with linear conditions on the outputs.

A file lists assertions over inputs `X_i` and outputs `Y_j`; together they describe the counterexamples. The property
holds where no point satisfies them all. Read here: `and`, `or`, `<=`, `>=`, and sums, differences and products with
constants.

References:
    The VNN-LIB standard for benchmarks, Guidotti et al., 2020. https://www.vnnlib.org
"""

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import EmptyInterval, UnboundedSet, UnreadableFile
from relukit._types import Array
from relukit.sets import Box

_TOKENS = re.compile(r"[()]|[^\s()]+")
_COMMENT = re.compile(r";[^\n]*")
# The usual line `(assert (<= X_3 0.5))`; thousands of these make up most files.
_SIMPLE = re.compile(
    r"\(\s*assert\s*\(\s*(<=|>=)\s+([XY])_(\d+)\s+([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*\)\s*\)"
)
_DECLARED = re.compile(r"\(\s*declare-const\s+([XY])_(\d+)\s+\w+\s*\)")
SIZE_LIMIT = 1 << 29


@dataclass(frozen=True, eq=False)
class Case:
    """Counterexamples of one kind: x in `box`, `A x <= a` and `C y + D x <= d`.

    Arguments:
        box: Bounds of the inputs.
        A, a: Further rows on the inputs, shapes `(k, n)`, `(k,)`.
        C, D, d: Rows on the outputs (and inputs), shapes `(r, m)`, `(r, n)`, `(r,)`.
    """

    box: Box
    A: Array
    a: Array
    C: Array
    D: Array
    d: Array


@dataclass(frozen=True, eq=False)
class Property:
    """Counterexamples as a disjunction of cases."""

    cases: tuple[Case, ...]
    inputs: int
    outputs: int
    source: str = ""

    def violated(self, x: Array, y: Array, tolerance: float = 0.0) -> bool:
        """Whether `(x, y)` is a counterexample."""
        return any(
            bool(c.box.contains(x))
            and np.all(c.A @ x <= c.a + tolerance)
            and np.all(c.C @ y + c.D @ x <= c.d + tolerance)
            for c in self.cases
        )


class _Row:
    """A linear condition `sum of coefficients * variables <= limit`."""

    __slots__ = ("limit", "terms")

    def __init__(self, terms: dict[str, float], limit: float) -> None:
        self.terms, self.limit = terms, limit


def read(path: str | Path) -> Property:
    """Read a `.vnnlib` file (or `.vnnlib.gz`).

    Raises:
        UnreadableFile: No VNN-LIB, or a condition that is not linear, with its place.
        UnboundedSet: An input has no lower or upper bound.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableFile(f"property {path} does not exist")
    if path.stat().st_size > SIZE_LIMIT:
        raise UnreadableFile(f"property {path} is larger than {SIZE_LIMIT >> 20} MiB")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(SIZE_LIMIT)
        text = content.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"property {path} cannot be read: {error}") from error
    return parse(text, str(path))


def read_box(path: str | Path) -> Box:
    """The smallest box around all cases of a file.

    Raises:
        UnreadableFile, UnboundedSet: As `read`.
    """
    cases = read(path).cases
    return Box(np.min([c.box.lower for c in cases], axis=0), np.max([c.box.upper for c in cases], axis=0))


def parse(text: str, source: str = "property") -> Property:
    """A property from VNN-LIB 1.0 text."""
    text = _COMMENT.sub("", text)
    declared = _DECLARED.findall(text)
    inputs = 1 + max((int(i) for kind, i in declared if kind == "X"), default=-1)
    outputs = 1 + max((int(i) for kind, i in declared if kind == "Y"), default=-1)
    if inputs == 0 or outputs == 0:
        raise UnreadableFile(f"{source} declares no input X_0 or no output Y_0: this is no VNN-LIB 1.0 property")
    rows: list[_Row] = []
    for sign, kind, index, number in _SIMPLE.findall(text):
        factor = 1.0 if sign == "<=" else -1.0
        rows.append(_Row({f"{kind}_{index}": factor}, factor * float(number)))
    rest = _DECLARED.sub("", _SIMPLE.sub("", text))
    common: list[list[list[_Row]]] = [[rows]]
    for tree in _trees(rest, source):
        if not isinstance(tree, list) or len(tree) != 2 or tree[0] != "assert":
            raise UnreadableFile(f"{source}: expected (assert ...) or (declare-const ...), got {_show(tree)}")
        common.append(_normal(tree[1], source))
    product: list[list[_Row]] = [[]]
    for choices in common:
        product = [a + b for a in product for b in choices]
        if len(product) > 1_000_000:
            raise UnreadableFile(f"{source}: its disjunctions multiply to more than a million cases")
    shared = _Shared(inputs, outputs, source)
    cases = [case for conjunction in product if (case := shared.case(conjunction)) is not None]
    if not cases:
        raise EmptyInterval(f"{source}: every case has an empty input box, so nothing can violate the property")
    return Property(tuple(cases), inputs, outputs, source)


def _trees(text: str, source: str) -> Iterator[Any]:
    """Nested lists from parentheses."""
    stack: list[list[Any]] = [[]]
    for token in _TOKENS.findall(text):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise UnreadableFile(f"{source}: a closing parenthesis too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) > 1:
        raise UnreadableFile(f"{source}: {len(stack) - 1} parentheses are not closed (truncated file?)")
    yield from stack[0]


def _show(tree: Any) -> str:
    text = str(tree).replace("'", "").replace(",", "").replace("[", "(").replace("]", ")")
    return text if len(text) < 80 else text[:77] + "..."


def _normal(tree: Any, source: str) -> list[list[_Row]]:
    """Disjunctive normal form: a list of conjunctions."""
    if isinstance(tree, list) and tree and tree[0] == "and":
        found: list[list[_Row]] = [[]]
        for part in tree[1:]:
            found = [a + b for a in found for b in _normal(part, source)]
        return found
    if isinstance(tree, list) and tree and tree[0] == "or":
        return [choice for part in tree[1:] for choice in _normal(part, source)]
    if isinstance(tree, list) and len(tree) == 3 and tree[0] in ("<=", ">="):
        left, right = _linear(tree[1], source), _linear(tree[2], source)
        sign = 1.0 if tree[0] == "<=" else -1.0
        terms = {k: sign * (left.get(k, 0.0) - right.get(k, 0.0)) for k in {*left, *right} - {""}}
        return [[_Row(terms, sign * (right.get("", 0.0) - left.get("", 0.0)))]]
    raise UnreadableFile(f"{source}: expected and, or, <= or >=, got {_show(tree)}")


def _linear(tree: Any, source: str) -> dict[str, float]:
    """Coefficients of a linear term; the constant is under the empty name."""
    if isinstance(tree, str):
        if re.fullmatch(r"[XY]_\d+", tree):
            return {tree: 1.0}
        try:
            return {"": float(tree)}
        except ValueError as error:
            raise UnreadableFile(f"{source}: '{tree}' is neither a number nor a variable X_i, Y_j") from error
    parts = [_linear(part, source) for part in tree[1:]] if tree else []
    if tree and tree[0] == "+" and parts:
        return {k: sum(p.get(k, 0.0) for p in parts) for k in {k for p in parts for k in p}}
    if tree and tree[0] == "-" and parts:
        first, others = (parts[0], parts[1:]) if len(parts) > 1 else ({}, parts)
        return {k: first.get(k, 0.0) - sum(p.get(k, 0.0) for p in others) for k in {k for p in parts for k in p}}
    if tree and tree[0] == "*" and len(parts) == 2:
        for constant, other in (parts, parts[::-1]):
            if not set(constant) - {""}:
                return {k: constant.get("", 0.0) * v for k, v in other.items()}
    raise UnreadableFile(
        f"{source}: {_show(tree)} is not linear; only sums, differences and products with constants are read"
    )


class _Shared:
    """Turns conjunctions into cases."""

    def __init__(self, inputs: int, outputs: int, source: str) -> None:
        self.inputs, self.outputs, self.source = inputs, outputs, source

    def case(self, rows: list[_Row]) -> Case | None:
        """One case, or None where its box is empty."""
        n, m = self.inputs, self.outputs
        lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
        on_inputs: list[tuple[Array, float]] = []
        on_outputs: list[tuple[Array, Array, float]] = []
        for row in rows:
            if len(row.terms) == 1:
                ((name, factor),) = row.terms.items()
                if name[0] == "X" and factor != 0:
                    index, value = self._index(name), row.limit / factor
                    if factor > 0:
                        upper[index] = min(upper[index], value)
                    else:
                        lower[index] = max(lower[index], value)
                    continue
            x, y = np.zeros(n), np.zeros(m)
            for name, factor in row.terms.items():
                (x if name[0] == "X" else y)[self._index(name)] += factor
            if np.any(y):
                on_outputs.append((y, x, row.limit))
            else:
                on_inputs.append((x, row.limit))
        for name, side in (("lower", lower), ("upper", upper)):
            open_ = np.flatnonzero(np.isinf(side))
            if len(open_):
                raise UnboundedSet(
                    f"{self.source}: input X_{open_[0]} has no {name} bound; exact methods need one for every input"
                )
        if np.any(lower > upper):
            return None
        stack = lambda parts, width: np.array(parts).reshape(len(parts), width)
        return Case(
            Box(lower, upper),
            stack([r[0] for r in on_inputs], n),
            np.array([r[1] for r in on_inputs], float),
            stack([r[0] for r in on_outputs], m),
            stack([r[1] for r in on_outputs], n),
            np.array([r[2] for r in on_outputs], float),
        )

    def _index(self, name: str) -> int:
        index, count = int(name[2:]), self.inputs if name[0] == "X" else self.outputs
        if index >= count:
            raise UnreadableFile(f"{self.source}: {name} is used but not declared")
        return index
