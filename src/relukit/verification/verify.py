"""Prove a property of a network, or find a counterexample."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import ShapeMismatch, UnsupportedOperation
from relukit._types import Array
from relukit.network import Network, load
from relukit.search import Search, decide_any
from relukit.verification._verdict import Falsified, Undecided, Verdict, Verified
from relukit.verification.vnnlib import Case, Property, read


def verify(network: Any, question: Property | str | Path, timeout: float = 60.0, seed: int = 0) -> Verdict:
    """Whether a property holds: a proof, a replayed counterexample, or neither.

    Linear bounds and a short attack come first. What they leave open is split by inputs (up to 12 that move) in
    compiled code, or by gates over linear programs whose bounds hold whatever the solver does. Several cases are
    worked on in turn.

    Arguments:
        network: Whatever `relukit.load` reads.
        question: A `Property`, or a VNN-LIB 1.0 file: counterexamples as a disjunction of boxes with rows on the outputs.
        timeout: Seconds of wall time.

    Raises:
        UnsupportedOperation: A smooth activation, or a condition that mixes inputs and outputs.
        ShapeMismatch: The property is about another number of inputs or outputs.

    Example:
        >>> verify("net.onnx", "property.vnnlib", timeout=30).status
        'unsat'
    """
    started = time.process_time()
    found = load(network)
    asked = read(question) if isinstance(question, str | Path) else question
    if (asked.inputs, asked.outputs) != (found.inputs, found.outputs):
        raise ShapeMismatch(
            f"{asked.source or 'the property'} is about {asked.inputs} inputs and {asked.outputs} outputs, the network has {found.inputs} and {found.outputs}"
        )
    found.require_piecewise_linear("verify")
    if found.head:
        raise UnsupportedOperation(
            f"a last {found.head} was set aside on reading, so conditions on outputs would mean the values before it; ask about those with an ONNX file without it"
        )
    mixed = [c for c in asked.cases if np.any(c.D) or len(c.A)]
    if mixed:
        raise UnsupportedOperation(
            f"{asked.source}: conditions that combine several inputs, or inputs with outputs, are not treated yet"
        )
    searches = [Search(found, c.box, c.C, -c.d, _replaying(found, c), seed) for c in asked.cases]
    decision = decide_any(searches, timeout)
    spent = time.process_time() - started
    if decision.status == "sat" and decision.point is not None:
        return Falsified(decision.point, found.replay(decision.point), decision.boxes, decision.engine, spent)
    if decision.status == "unsat":
        return Verified(decision.boxes, decision.engine, spent)
    step = (
        "give it more time (timeout=)"
        if decision.reason.startswith("time")
        else "tighten the property by a small margin"
    )
    return Undecided(decision.reason, step, decision.boxes, decision.engine, spent)


def _replaying(network: Network, case: Case) -> Any:
    """The check that a witness must pass: inside the box, and its outputs in the original satisfy every row."""

    def confirm(points: Array) -> Array | None:
        for x in points:
            y = np.asarray(network.replay(x), np.float64)
            if bool(case.box.contains(x)) and np.all(case.C @ y <= case.d):
                return x
        return None

    return confirm
