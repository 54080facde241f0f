"""What is asked, as cases over one network: files, conditions on variables, several networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnreadableFile
from relukit._types import Array
from relukit.activations import catalogue
from relukit.bounds import interval
from relukit.network import Network, load, products
from relukit.network.rewrite import RELU, Builder
from relukit.network.variables import Atom, Both, Condition, Either, Member, Not, Variables
from relukit.sets import AbstractSet, Ball, Box
from relukit.verification import vnnlib
from relukit.verification._heads import before_head
from relukit.verification._joint import joined, with_size
from relukit.verification._networks import declared_networks
from relukit.verification._property import MOST_CASES, Case, Contradiction, Property, Row, make_case


@dataclass(frozen=True, eq=False)
class Question:
    """Cases over one network that the engines can work on.

    Arguments:
        network: Takes the (reduced) inputs; its outputs are what the rows speak of.
        questions: Per case its box, rows `A out <= b`, and what confirms a witness.
        asked: The property.
        parts: The networks it is about, in the order of their inputs and outputs.
    """

    network: Network
    boxes: list[Box]
    rows: list[tuple[Array, Array]]
    confirms: list[Callable[[Array], Array | None]]
    asked: Property
    parts: list[Network]
    plain: bool

    def witness(self, point: Array) -> tuple[Array, Array]:
        """All inputs and all outputs at a point of the engines' network."""
        x = np.asarray(point) if self.asked.tie is None else np.asarray(point)[self.asked.tie]
        out, at = [], 0
        for part in self.parts:
            out.append(np.asarray(part.replay(x[at : at + part.inputs]), np.float64))
            at += part.inputs
        return x, np.concatenate(out)


def ask(network: Any, question: tuple[Any, ...]) -> Question:
    """Read networks and question.

    Raises:
        InvalidInput, ShapeMismatch, UnreadableFile, UnsupportedOperation: As `relukit.verify`.
    """
    if not question:
        raise InvalidInput(
            "verify needs a property: a VNN-LIB file, a Property, or conditions on the network's variables"
        )
    if len(question) == 1 and isinstance(question[0], Property | str | Path):
        asked = question[0] if isinstance(question[0], Property) else vnnlib.read(question[0])
        parts = declared_networks(network, asked) if asked.networks else [_single(network)]
        return _over(parts, asked, None)
    found = _single(network)
    asked, ball = _from_conditions(found, question)
    return _over([found], asked, ball)


def _single(network: Any) -> Network:
    if isinstance(network, Mapping) and not any(k.startswith("W") for k in network):
        if len(network) != 1:
            raise InvalidInput(f"the property is about one network, got {len(network)}: {', '.join(map(str, network))}")
        network = next(iter(network.values()))
    return load(network)


def _over(parts: list[Network], asked: Property, ball: Ball | None) -> Question:
    inputs, outputs = sum(p.inputs for p in parts), sum(p.outputs for p in parts)
    name = asked.source or "the property"
    if (asked.inputs, asked.outputs) != (inputs, outputs):
        raise ShapeMismatch(
            f"{name} is about {asked.inputs} inputs and {asked.outputs} outputs, the network has {inputs} and {outputs}"
        )
    rows_of = [_widened(case, parts, asked.tie) for case in asked.cases]
    parts, rows_of = _before_heads(parts, rows_of)
    mixed = any(len(c.A) or np.any(c.D) for c in asked.cases)
    whole = joined(parts, asked.tie, keep_inputs=mixed)
    plain = whole is parts[0] and not parts[0].head
    rows, confirms = [], []
    extra: list[tuple[Array, float]] = []
    if ball is not None:
        whole, limit = with_size(whole, np.asarray(ball.middle), ball.norm, float(ball.radius), RELU)
        extra.append((np.append(np.zeros(whole.outputs - 1), 1.0), limit))
        plain = False
    for C, D, d in rows_of:
        A = np.concatenate([C, D], axis=1) if mixed else C
        if extra:
            A = np.concatenate([A, np.zeros((len(A), 1))], axis=1)
            A, d = np.concatenate([A, extra[0][0][None]]), np.append(d, extra[0][1])
        if not len(A):  # a condition on the box alone
            A, d = np.zeros((1, whole.outputs)), np.zeros(1)
        rows.append((A, d))
    question = Question(whole, [c.box for c in asked.cases], rows, confirms, asked, parts, plain)
    for case in asked.cases:
        confirms.append(_replaying(question, case, ball))
    return question


def _widened(case: Case, parts: list[Network], tie: Any) -> tuple[Array, Array, Array]:
    """The rows of a case, widened by what the rounding of their coefficients can be worth in its box."""
    C, D, d = case.rows
    if case.off is None:
        return C, D, d
    box, sizes, at = case.box if tie is None else Box(case.box.lower[tie], case.box.upper[tie]), [], 0
    for part in parts:
        own = Box(box.lower[at : at + part.inputs], box.upper[at : at + part.inputs])
        sizes.append(np.abs(interval(_with_head(part) if part.head else part, own).output).max(axis=0))
        at += part.inputs
    worth = case.off[0] @ np.concatenate(sizes) + case.off[1] @ np.maximum(-case.box.lower, case.box.upper)
    # A ten-thousandth more and the smallest normal number: for the rounding of these sums, and where their products underflow.
    wider = np.nextafter(d + 1.0001 * worth + np.finfo(float).tiny, np.inf)
    return C, D, np.where(np.any(case.off[0], axis=1) | np.any(case.off[1], axis=1), wider, d)


_Rows = list[tuple[Array, Array, Array]]


def _before_heads(parts: list[Network], rows: _Rows) -> tuple[list[Network], _Rows]:
    """Rows about the values before a last softmax or sigmoid that was set aside on reading; a head that they do not allow it for is put back."""
    found, first = list(parts), 0
    for p, part in enumerate(parts):
        mine = slice(first, first + part.outputs)
        first += part.outputs
        if not part.head:
            continue
        translated: _Rows = []
        for C, D, d in rows:
            about = np.any(C[:, mine], axis=1)
            others = np.ones(C.shape[1], bool)
            others[mine] = False
            alone = not np.any(C[np.ix_(about, others)]) and not np.any(D[about])
            made = before_head(part.head, C[about][:, mine], d[about]) if alone else None
            if made is None:
                break
            C, d = C.copy(), d.copy()
            C[np.ix_(about, ~others)], d[about] = made
            translated.append((C, D, d))
        if len(translated) == len(rows):
            rows = translated
        else:
            found[p] = _with_head(part)
    return found, rows


def _with_head(network: Network) -> Network:
    """The network with its last sigmoid or softmax as nodes."""
    builder, last = Builder.after(network), len(network) - 1
    if network.head == "sigmoid":
        builder.activation(last, catalogue.get("sigmoid"), "last sigmoid")
        return network.with_(nodes=tuple(builder.nodes), head="")
    logarithm = network.head == "log_softmax"
    flat = builder.reshape(last, (network.outputs,))
    done = products.softmax(builder, flat, 0, logarithm, f"last {network.head}")
    return network.with_(nodes=builder.build(done).nodes, head="")


def _replaying(question: Question, case: Case, ball: Ball | None) -> Callable[[Array], Array | None]:
    """The check that a witness must pass: inside the set, and its outputs in the originals satisfy every row, exactly."""
    C, D, d = case.rows

    def confirm(points: Array) -> Array | None:
        for z in points:
            if ball is not None and not inside(ball, z):
                continue
            _, y = question.witness(z)
            if not np.all(np.isfinite(y)):  # the original overflows there: that shows nothing
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # outputs near the largest number
                size = 1e-9 * (1 + np.abs(d) + np.abs(C) @ np.abs(y) + np.abs(D) @ np.abs(z))
                near = np.all(C @ y + D @ z <= d + size)
            if near and case.holds(z, y):
                return z
        return None

    return confirm


def inside(ball: AbstractSet, x: Array) -> bool:
    """Whether a point lies in a ball, in exact arithmetic."""
    from fractions import Fraction

    assert isinstance(ball, Ball)
    steps = [abs(Fraction(float(a)) - Fraction(float(b))) for a, b in zip(x, np.asarray(ball.middle))]
    r = Fraction(float(ball.radius))
    near = (
        sum(steps) <= r
        if ball.norm == 1
        else sum(s * s for s in steps) <= r * r
        if ball.norm == 2
        else max(steps, default=Fraction(0)) <= r
    )
    return bool(near) and (ball.within is None or bool(ball.within.contains(x)))


# -- conditions on variables ---------------------------------------------------------------------------------------------


def _from_conditions(network: Network, question: tuple[Any, ...]) -> tuple[Property, Ball | None]:
    """Counterexamples of `verify(network, *assumptions, claim)`: all assumptions hold and the claim does not."""
    conditions, booleans = [], 0
    for q in question:
        if isinstance(q, Condition):
            conditions.append(q)
        elif isinstance(q, AbstractSet):
            conditions.append(network.variables()[0].within(q))
        elif q is True:
            booleans += 1
        else:
            raise InvalidInput(
                f"expected a VNN-LIB file, a Property, or conditions on the variables of the network, got {type(q).__name__} {q!r}"
            )
    owners = {id(v): v for c in conditions for v in _variables(c)}
    networks = {id(v.network) for v in owners.values()}
    if len(networks) > 1:
        raise InvalidInput("the conditions are about two networks")
    pending = _pending(owners.values())
    if booleans != len(pending):
        raise InvalidInput(
            f"{booleans} of the conditions are plain True, and {len(pending)} memberships `x in box` were written for this network: "
            "write x.within(box) instead of `x in box`, or call again where an earlier call failed"
        )
    if not conditions:
        raise InvalidInput("verify(network, assumptions..., claim) needs a claim that is a condition on variables")
    claim, given = conditions[-1], [*pending, *conditions[:-1]]
    if question[-1] is True:
        raise InvalidInput("the claim comes last: verify(network, x.within(box), y[0] > y[1])")
    sets = [m.input_set for g in given for m in _members(g)]
    if len(sets) > 1 or any(_members(claim)):
        raise InvalidInput(
            "one l1 or l2 ball may be an assumption by itself; it cannot be claimed, negated or combined with another"
        )
    ball = sets[0] if sets else None
    assert ball is None or isinstance(ball, Ball)
    everything = Both((*given, Not(claim)))
    around = [] if ball is None else _box_rows(ball.box())
    cases = []
    for rows in _normal(everything, False):
        case = make_case([*around, *rows], network.inputs, network.outputs, "the assumptions")
        if case is not None:
            cases.append(case)
    if not cases:
        raise Contradiction(
            "the assumptions contradict each other or the claim holds by itself: nothing can violate it"
        )
    return Property(tuple(cases), network.inputs, network.outputs, "the conditions"), ball


def _pending(owners: Any) -> list[Condition]:
    """Memberships written as `x in box` for the variables that belong together with those of the conditions."""
    found = []
    for owner in owners:
        for mate in (owner, *getattr(owner, "mates", ())):
            found.extend(mate.taken())
    return found


def _variables(condition: Condition) -> list[Variables]:
    if isinstance(condition, Atom):
        return [condition.term.variables]
    if isinstance(condition, Not):
        return _variables(condition.part)
    return [v for part in getattr(condition, "parts", ()) for v in _variables(part)]


def _members(condition: Condition) -> list[Member]:
    if isinstance(condition, Member):
        return [condition]
    if isinstance(condition, Not):
        return _members(condition.part)
    return [m for part in getattr(condition, "parts", ()) for m in _members(part)]


def _box_rows(box: Box) -> list[Row]:
    from fractions import Fraction

    low = [Row({("x", i): Fraction(-1)}, Fraction(float(v))) for i, v in enumerate(box.lower)]
    return low + [Row({("x", i): Fraction(1)}, -Fraction(float(v))) for i, v in enumerate(box.upper)]


def _normal(condition: Condition, negated: bool) -> list[list[Row]]:
    """Disjunctive normal form of a condition or its negation."""
    if isinstance(condition, Atom):
        row = Row({k: v for k, v in condition.term.terms.items() if v != 0}, condition.term.constant, condition.strict)
        return [[row.negated() if negated else row]]
    if isinstance(condition, Not):
        return _normal(condition.part, not negated)
    if isinstance(condition, Member):
        return [[]]
    assert isinstance(condition, Both | Either)
    if isinstance(condition, Both) != negated:  # a conjunction
        found: list[list[Row]] = [[]]
        for part in condition.parts:
            choices = _normal(part, negated)
            if len(found) * len(choices) > MOST_CASES:
                raise UnreadableFile(f"the conditions multiply to more than {MOST_CASES} cases")
            found = [a + b for a in found for b in choices]
        return found
    return [c for part in condition.parts for c in _normal(part, negated)]
