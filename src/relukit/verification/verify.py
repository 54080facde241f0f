"""Prove a property of a network, or find a counterexample."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit.bounds import balanced
from relukit.search import Decision, Search, SmoothSearch, decide_any, settled
from relukit.sets import Box
from relukit.verification import _question
from relukit.verification._limits import Interrupted, so_far
from relukit.verification._nearly import nearly
from relukit.verification._networks import kind_of
from relukit.verification._property import Contradiction
from relukit.verification._question import Question
from relukit.verification._verdict import Falsified, Undecided, Verdict, Verified

if TYPE_CHECKING:
    from relukit.verification.certificate import Certificate

_FLOATS = ("float32", "float64")
_EXACT = 0.25  # of the time is kept for the network itself where one that is nearly the same, with fewer gates, is tried first


@np.errstate(
    over="ignore", invalid="ignore", divide="ignore"
)  # weights may be so large that attacks overflow; proofs count what is no number as no bound
def verify(
    network: Any,
    *question: Any,
    timeout: float = 60.0,
    seed: int = 0,
    certificate: bool = False,
    execution: str = "",
    device: str = "",
) -> Verdict:
    """Whether a property holds: a proof, a replayed counterexample, or neither.

    Linear bounds and a short attack come first. What they leave open is split by inputs (up to 12 that move) in
    compiled code, or by gates over linear programs whose bounds hold whatever the solver does. Networks with smooth
    activations are split by inputs. Several cases are worked on in turn.

    Arguments:
        network: Whatever `relukit.load` reads; a dictionary from name to network where a VNN-LIB 2.0 file declares several.
        question: A VNN-LIB file (1.0 or 2.0) or `Property`, which describe counterexamples. Or conditions on
            `network.variables()`: assumptions, and last the claim that is to hold wherever they do; a set stands for `x.within(set)`.
        timeout: Seconds of wall time.
        certificate: Also derive a record that `relukit check` accepts (chains of dense layers or small convolutions with ReLU).
        execution: "" proves the network in real arithmetic; `"float32"` or `"float64"` also any execution of the file in that
            precision, whatever the order of its sums. For a 2.0 file that declares such types this is tried first, and the
            verdict's note says what was proven.
        device: A torch device such as `"cuda"` that proposes bounds of many leaves at once where gates are split (more than 40 inputs
            that move); the CPU certifies each of them. By default all is done by compiled loops on the CPU.
        seed: Of everything that is drawn at random; the same seed gives the same answer.

    Raises:
        UnsupportedOperation: A condition behind a last softmax that is not linear before it, or an execution that cannot be bounded.
        ShapeMismatch: The property is about another number of inputs or outputs.
        InvalidInput: The question is no property, or torch cannot use the device.
        Interrupted: Ctrl-C; its `verdict` holds the bounds known so far.

    Example:
        >>> verify("net.onnx", "property.vnnlib", timeout=30).status
        'unsat'
        >>> x, y = network.variables()
        >>> verify(network, x.within(box), y[0] > y[1]).status
        'unsat'
    """
    started, stop = time.process_time(), time.perf_counter() + timeout
    if len(question) > 1 and isinstance(question[-1], int | float) and not isinstance(question[-1], bool):
        question, timeout = question[:-1], float(question[-1])  # verify(network, property, 30)
        stop = time.perf_counter() + timeout
    if execution not in ("", "real", *_FLOATS):
        raise InvalidInput(f"execution is real, float32 or float64, got '{execution}'")
    place = None
    if device:
        from relukit.search._torch_device import device_named

        place = device_named(device)
    try:
        asked = _question.ask(network, question)
    except Contradiction as error:
        return Verified(0, "contradiction", time.process_time() - started, None, str(error))
    declared, note = kind_of(asked.asked), ""
    kind = execution or "real"
    if kind in _FLOATS:
        asked = _for_execution(asked, kind)
        note = f"holds in real arithmetic and in {kind} with any order of sums"
    elif execution == "" and declared in _FLOATS:
        # The file asks about floats: a short try at the wider question, then real arithmetic, and the verdict says which.
        wider = _in_execution(asked, network, question, declared, 0.1 * timeout, seed, certificate, device)
        if wider is not None:
            return wider
        note = f"proven in real arithmetic; its {declared} execution is not bounded closely enough (--execution {declared} insists on it)"
    if not asked.network.is_piecewise_linear:
        asked = replace(asked, network=balanced(asked.network, _around(asked.boxes)))
    near = nearly(asked, _around(asked.boxes))
    decision = None if near is None else _searched(near, stop - _EXACT * (stop - time.perf_counter()), seed, place, started)
    if decision is None or decision.status == "unknown":
        decision = _searched(asked, stop, seed, place, started)
    spent = time.process_time() - started
    if decision.status == "sat" and decision.point is not None:
        x, y = asked.witness(decision.point)
        return Falsified(x, y, decision.boxes, decision.engine, spent)
    if decision.status == "unsat":
        found, why = _certified(asked, timeout) if certificate else (None, "")
        return Verified(
            decision.boxes,
            decision.engine,
            time.process_time() - started if certificate else spent,
            found,
            "; ".join(filter(None, (note, why))),
        )
    step = (
        "give it more time (timeout=)"
        if decision.reason.startswith("time")
        else "tighten the property by a small margin"
    )
    if kind in _FLOATS:
        step += f", or ask about real arithmetic ({kind} widens every condition by what rounding can do)"
    return Undecided(decision.reason, step, decision.boxes, decision.engine, spent)


def _searched(asked: Question, stop: float, seed: int, place: Any, started: float) -> Decision:
    """What the engines say to a question.

    Raises:
        Interrupted: Ctrl-C.
    """
    kind_of_search = Search if asked.network.is_piecewise_linear else SmoothSearch
    done = settled(asked.network, asked.boxes, asked.rows, 0.5 * (stop - time.perf_counter()))
    cases = zip(asked.boxes, asked.rows, asked.confirms, done)
    searches = [kind_of_search(asked.network, box, A, -b, c, seed) for box, (A, b), c, empty in cases if not empty]
    try:
        for search in searches:
            search.stop = stop
        decision = decide_any(searches, max(stop - time.perf_counter(), 0.0), place)
    except KeyboardInterrupt as stopped:
        known = so_far(searches)
        raise Interrupted(
            Undecided(f"interrupted\n{known}", "run it longer", 0, "none", time.process_time() - started)
        ) from stopped
    return replace(decision, boxes=decision.boxes + int(done.sum()))


def _around(boxes: list[Box]) -> Box:
    """The box around some boxes."""
    return Box(np.min([b.lower for b in boxes], axis=0), np.max([b.upper for b in boxes], axis=0))


def _in_execution(
    asked: Question,
    network: Any,
    question: Any,
    kind: str,
    seconds: float,
    seed: int,
    certificate: bool,
    device: str,
) -> Verdict | None:
    """The verdict about a float execution where linear bounds and a few boxes give one, else None."""
    try:
        _for_execution(asked, kind)
    except UnsupportedOperation:
        return None
    found = verify(
        network, *question, timeout=min(seconds, 2.0), seed=seed, certificate=certificate, execution=kind, device=device
    )
    return None if isinstance(found, Undecided) else found


def _for_execution(asked: Question, kind: str) -> Question:
    """The question with every row widened by what executing the file in `kind` can add."""
    if not asked.plain or len(asked.parts) != 1:
        raise UnsupportedOperation(
            f"a proof about the {kind} execution treats one network with conditions on its outputs; declare the tensors real to ask about real arithmetic"
        )
    from relukit.verification._execution import execution_error

    rows = []
    for box, (A, b) in zip(asked.boxes, asked.rows):
        error = execution_error(asked.parts[0], box, kind)
        rows.append((A, np.nextafter(b + 1.0001 * (np.abs(A) @ error), np.inf)))
    return replace(asked, rows=rows)


def _certified(asked: Question, timeout: float) -> "tuple[Certificate | None, str]":
    """A certificate for all cases, or why there is none."""
    from relukit.verification.certificate import Claim, certify

    if not asked.network.is_piecewise_linear or any(p.head for p in asked.parts):
        return None, "no certificate: they are about piecewise-linear networks without a last softmax or sigmoid"
    if (
        len(asked.parts) != 1
        or asked.asked.tie is not None
        or asked.network.outputs > asked.parts[0].outputs + asked.parts[0].inputs
    ):
        return None, "no certificate: they are about one network with boxes and linear conditions"
    if any(case.off is not None or case.implied for case in asked.asked.cases):
        return None, "no certificate: they are about boxes with plain bounds, and coefficients that are float64 numbers"
    m, n = asked.parts[0].outputs, asked.parts[0].inputs
    claims = []
    for box, (A, b) in zip(asked.boxes, asked.rows):
        D = A[:, m:] if A.shape[1] == m + n else np.zeros((len(A), n))
        claims.append(Claim(box, A[:, :m], -b, D))
    try:
        found = certify(asked.parts[0], claims, max(3 * timeout, 30.0))
    except UnsupportedOperation as error:
        return None, f"no certificate: {error}"
    return (
        found,
        "" if found is not None else "no certificate: the simpler bounds of its derivation did not suffice in time",
    )
