"""VNN-LIB 1.0 and 2.0: properties as a disjunction of input boxes with linear conditions.

A file lists assertions over inputs and outputs; together they describe the counterexamples, and the property holds where
no point satisfies them all. 1.0 names entries `X_i`, `Y_j`; 2.0 declares networks with tensors and indexes them, several
networks where they are given (`equal-to`, `isomorphic-to`), hidden values by their name in the ONNX file. Conditions
combine `and`, `or`, `<=`, `>=`, `<`, `>`, `==`, `!=` with sums, differences and products with constants.

A number in a file means the float64 nearest to it; what the file computes with such numbers is exact.

References:
    The VNN-LIB standard for benchmarks, Guidotti et al., 2020. https://www.vnnlib.org
    VNN-LIB 2.0: Rigorous Foundations for Neural Network Verification, Roy et al., 2026. https://www.vnnlib.org
"""

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnboundedSet, UnreadableFile
from relukit.sets import Box
from relukit.verification import _declarations
from relukit.verification._property import MOST_CASES, Case, Contradiction, Property, Row, make_case, tied, ties
from relukit.verification._sexpr import Node, parse_text, show, without_comments

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# The usual line `(assert (<= X_3 0.5))`; thousands of these make up most files.
_SIMPLE = re.compile(rf"\(\s*assert\s*\(\s*(<=|>=)\s+([A-Za-z]\w*(?:\s*\[[\d,\s]*\])?)\s+({_NUMBER})\s*\)\s*\)")
_DECLARED = re.compile(r"\(\s*declare-(?:const|fun)\s+([XY])_(\d+)(?:\s+|\s*\(\s*\)\s*)\w+\s*\)")
SIZE_LIMIT = 1 << 29
_DEEPEST = 200


def read(path: str | Path) -> Property:
    """Read a `.vnnlib` file (or `.vnnlib.gz`) of either version.

    Raises:
        UnreadableFile: No VNN-LIB, or a condition that is not linear, with its line.
        UnboundedSet: An input has no lower or upper bound.
        Contradiction: Every case contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableFile(f"property {path} does not exist")
    if path.stat().st_size > SIZE_LIMIT:
        raise UnreadableFile(f"property {path} is larger than {SIZE_LIMIT >> 20} MiB")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(SIZE_LIMIT)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"property {path} cannot be read: {error}") from error
    return parse(text, str(path))


def read_box(path: str | Path) -> Box:
    """The smallest box around all cases of a file.

    Raises:
        UnreadableFile, UnboundedSet: As `read`.
    """
    found = read(path)
    box = Box(np.min([c.box.lower for c in found.cases], axis=0), np.max([c.box.upper for c in found.cases], axis=0))
    return box if found.tie is None else Box(box.lower[found.tie], box.upper[found.tie])


def parse(text: str, source: str = "property") -> Property:
    """A property from VNN-LIB text, 1.0 or 2.0.

    Raises:
        UnreadableFile, UnboundedSet, Contradiction: As `read`.
    """
    text = without_comments(text)
    try:
        if _declarations.is_second(text):
            return _Second(text, source).property()
        return _First(text, source).property()
    except RecursionError as error:
        raise UnreadableFile(f"{source}: parentheses nest deeper than {_DEEPEST}") from error


class _Reader:
    """What both versions share: assertions to cases."""

    inputs = outputs = 0

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source, self.rows = text, source, [[[]]]
        self.lower: list[tuple[int, float]] = []  # plain bounds of inputs
        self.upper: list[tuple[int, float]] = []

    def variable(self, word: str) -> tuple[str, int] | None:
        """What a word names, or None where it is no variable."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        return f"X_{index}"

    def error(self, node: Any, message: str) -> UnreadableFile:
        where = f"line {self.text.count(chr(10), 0, node.at) + 1}: " if isinstance(node, Node) else ""
        return UnreadableFile(f"{self.source}: {where}{message}")

    def take_simple(self, text: str) -> str:
        """Collect the plain bounds of one variable; returns the text without them, lines kept."""
        plain: list[Row] = []
        kinds: dict[str, tuple[str, int] | None] = {}

        def collect(found: re.Match) -> str:
            word = found[2]
            if word not in kinds:
                try:
                    kinds[word] = self.variable(re.sub(r"\s", "", word))
                except UnreadableFile:
                    kinds[word] = None
            variable = kinds[word]
            if variable is None or not np.isfinite(float(found[3])):
                return found[0]  # refused where its line is known
            if variable[0] == "x":
                (self.upper if found[1] == "<=" else self.lower).append((variable[1], float(found[3])))
            else:
                sign = 1 if found[1] == "<=" else -1
                plain.append(Row({variable: Fraction(sign)}, -sign * Fraction(float(found[3]))))
            return "\n" * found[0].count("\n")

        rest = _SIMPLE.sub(collect, text)
        self.rows.append([plain])
        return rest

    def assertion(self, node: Node) -> None:
        if len(node) != 2:
            raise self.error(node, f"an assertion holds one condition, got {show(node)}")
        self.rows.append(self.normal(node[1], node))

    def normal(self, tree: Any, parent: Node, depth: int = 0) -> list[list[Row]]:
        """Disjunctive normal form: a list of conjunctions."""
        if depth > _DEEPEST:
            raise self.error(parent, f"conditions nest deeper than {_DEEPEST}")
        head = tree[0] if isinstance(tree, Node) and tree else None
        if head in ("and", "or") and len(tree) < 2:
            raise self.error(tree, f"'{head}' of nothing")
        if head == "and":
            found: list[list[Row]] = [[]]
            for part in tree[1:]:
                found = self.product(found, self.normal(part, tree, depth + 1), tree)
            return found
        if head == "or":
            return [choice for part in tree[1:] for choice in self.normal(part, tree, depth + 1)]
        if not isinstance(head, str) or head not in _COMPARE or len(tree) != 3:
            hint = " (quantifiers and functions are not part of VNN-LIB)" if head in ("not", "=>", "ite", "let") else ""
            raise self.error(
                tree if isinstance(tree, Node) else parent,
                f"expected and, or, or a comparison of two terms (<=, >=, <, >, ==, !=), got {show(tree)}{hint}",
            )
        left, right = self.linear(tree[1], tree), self.linear(tree[2], tree)
        terms = {k: left.get(k, Fraction(0)) - right.get(k, Fraction(0)) for k in {**left, **right} if k}
        constant = left.get((), Fraction(0)) - right.get((), Fraction(0))
        less = Row({k: v for k, v in terms.items() if v != 0}, constant, head in ("<", ">", "!="))
        more = Row({k: -v for k, v in less.terms.items()}, -constant, less.strict)
        return _COMPARE[head](less, more)

    def linear(self, tree: Any, parent: Node, depth: int = 0) -> dict[Any, Fraction]:
        """Coefficients of a linear term; the constant is under `()`."""
        if depth > _DEEPEST:
            raise self.error(parent, f"terms nest deeper than {_DEEPEST}")
        if isinstance(tree, str):
            try:
                variable = self.variable(tree)
            except UnreadableFile as error:
                raise self.error(parent, str(error).removeprefix(f"{self.source}: ")) from None
            if variable is not None:
                return {variable: Fraction(1)}
            if not re.fullmatch(_NUMBER, tree):
                raise self.error(parent, f"'{tree}' is neither a number nor a variable")
            if not np.isfinite(float(tree)):
                raise self.error(parent, f"'{tree}' lies beyond the largest float64, about 1.8e308")
            return {(): Fraction(float(tree))}
        if not tree or not isinstance(tree[0], str) or tree[0] not in "+-*" or len(tree) < 2:
            raise self.error(
                tree, f"a term is a number, a variable, or a sum, difference or product of terms, got {show(tree)}"
            )
        parts = [self.linear(part, tree, depth + 1) for part in tree[1:]]
        if tree[0] == "*":
            total: dict[Any, Fraction] = {(): Fraction(1)}
            for part in parts:
                if any(total) and any(part):
                    raise self.error(tree, f"{show(tree)} is not linear: a product of two variables")
                total, part = (part, total) if any(part) else (total, part)
                total = {k: v * part.get((), Fraction(0)) for k, v in total.items()}
            return total
        sign = 1 if tree[0] == "+" else -1
        total = dict(parts[0]) if sign > 0 or len(parts) > 1 else {k: -v for k, v in parts[0].items()}
        for part in parts[1:]:
            for k, v in part.items():
                total[k] = total.get(k, Fraction(0)) + sign * v
        return total

    def product(self, a: list[list[Row]], b: list[list[Row]], node: Any = None) -> list[list[Row]]:
        if len(a) * len(b) > MOST_CASES:
            raise self.error(node, f"its disjunctions multiply to more than {MOST_CASES} cases")
        return [x + y for x in a for y in b]

    def bounds(self, inputs: int, tie: Any) -> tuple[Any, Any]:
        """The tightest plain bounds of every input that is left."""
        lower, upper = np.full(inputs, -np.inf), np.full(inputs, np.inf)
        for pairs, side, keep in ((self.lower, lower, np.maximum), (self.upper, upper, np.minimum)):
            if pairs:
                index = np.array([i for i, _ in pairs])
                keep.at(side, index if tie is None else tie[index], [v for _, v in pairs])
        return lower, upper

    def property(self) -> Property:
        product: list[list[Row]] = [[]]
        for choices in self.rows:
            product = self.product(product, choices)
        tie = ties((row for choices in self.rows if len(choices) == 1 for row in choices[0]), self.inputs)
        inputs = self.inputs if tie is None else int(tie.max()) + 1
        name: Callable[[int], str] = self.name if tie is None else lambda i: self.name(int(np.flatnonzero(tie == i)[0]))
        bounds = self.bounds(inputs, tie)
        cases: list[Case] = []
        for rows in product:
            case = make_case(
                rows if tie is None else (tied(r, tie) for r in rows), inputs, self.outputs, self.source, name, bounds
            )
            if case is not None:
                cases.append(case)
        if not cases:
            raise Contradiction(
                f"{self.source}: every case contradicts itself (an empty input box), so nothing can violate the property"
            )
        return Property(tuple(cases), self.inputs, self.outputs, self.source, tie=tie, version="1.0")


_COMPARE: dict[str, Callable[[Row, Row], list[list[Row]]]] = {
    "<=": lambda less, more: [[less]],
    "<": lambda less, more: [[less]],
    ">=": lambda less, more: [[more]],
    ">": lambda less, more: [[more]],
    "==": lambda less, more: [[less, more]],
    "=": lambda less, more: [[less, more]],
    "!=": lambda less, more: [[less], [more]],
}


class _First(_Reader):
    """Version 1.0."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text, source)
        declared = _DECLARED.findall(text)
        self.inputs = 1 + max((int(i) for kind, i in declared if kind == "X"), default=-1)
        self.outputs = 1 + max((int(i) for kind, i in declared if kind == "Y"), default=-1)
        if self.inputs == 0 or self.outputs == 0:
            raise UnreadableFile(
                f"{source} declares no input X_0 or no output Y_0: this is no VNN-LIB 1.0 property (2.0 begins with (vnnlib-version <2.0>))"
            )
        if max(self.inputs, self.outputs) > 50_000_000:
            raise UnreadableFile(f"{source} declares more than 50 million variables")
        known = {(kind, int(i)) for kind, i in declared}
        if len(known) < self.inputs + self.outputs:
            missing = next(
                f"{k}_{i}"
                for k, c in (("X", self.inputs), ("Y", self.outputs))
                for i in range(c)
                if (k, i) not in known
            )
            raise UnreadableFile(f"{source}: {missing} is not declared, though later ones are")
        self.text = self.take_simple(_DECLARED.sub(lambda found: "\n" * found[0].count("\n"), text))
        for tree in parse_text(self.text, source):
            if not isinstance(tree, Node) or not tree or tree[0] != "assert":
                if (
                    isinstance(tree, Node)
                    and tree
                    and tree[0] in ("set-logic", "set-info", "set-option", "check-sat", "exit", "get-model")
                ):
                    continue
                raise self.error(tree, f"expected (assert ...) or (declare-const ...), got {show(tree)}")
            self.assertion(tree)

    def variable(self, word: str) -> tuple[str, int] | None:
        found = re.fullmatch(r"([XY])_(\d+)", word)
        if found is None:
            return None
        index, count = int(found[2]), self.inputs if found[1] == "X" else self.outputs
        if index >= count:
            raise UnreadableFile(f"{self.source}: {word} is used but not declared")
        return found[1].lower(), index


class _Second(_Reader):
    """Version 2.0."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text, source)
        at = re.search(r"\(\s*assert\b", text)
        head = text if at is None else text[: at.start()]
        self.declared = _declarations.declarations(head, source)
        self.version = self.declared.version
        self.inputs, self.outputs = self.declared.inputs, self.declared.outputs
        rest = "\n" * head.count("\n") + self.take_simple(text[len(head) :])
        # `X [0, 1]` is one word; line breaks inside move behind it.
        joined = lambda found: re.sub(r"\s", "", found[0]) + "\n" * found[0].count("\n")
        self.text = re.sub(r"[A-Za-z]\w*\s*\[[\d,\s]*\]", joined, rest)
        for tree in parse_text(self.text, source):
            if not isinstance(tree, Node) or not tree or tree[0] != "assert":
                raise self.error(tree, f"after the networks only (assert ...) may follow, got {show(tree)}")
            self.assertion(tree)

    def variable(self, word: str) -> tuple[str, int] | None:
        return self.declared.variable(word)

    def name(self, index: int) -> str:
        return self.declared.name(index)

    def property(self) -> Property:
        return replace(super().property(), networks=self.declared.networks, version=self.version)


__all__ = ["Case", "Contradiction", "Property", "UnboundedSet", "parse", "read", "read_box"]
