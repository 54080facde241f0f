"""The smallest perturbation that changes a decision."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from relukit._clock import Clock
from relukit._errors import InvalidInput
from relukit._shown import Shown
from relukit._types import Array
from relukit.network import Network, load
from relukit.sets import Box, require_set
from relukit.verification._flip_batch import FlipTable, run_many


@dataclass(frozen=True, eq=False)
class Flip(Shown):
    """The smallest change that turns a decision.

    Arguments:
        status: `proven` (no smaller one exists, up to 1e-6, or 1e-6 of a distance above 1; without a witness: none as far as inputs may move) or `bounded`.
        from_, to: Decisions before and after; `to` is None where no flip was found.
        norm: The norm: `inf`, 2 or 1.
        lower: No flip is closer; sound, rounding included.
        upper: Distance of the witness (infinite without one).
        witness: The flipped input, or None.
        replayed: Whether the original model, in its own precision, decides otherwise at the witness.
        nodes: Nodes of the proofs.
        cpu_seconds: Of work by this process; `load_seconds` went to loading or compiling code, once in a process.
        reason: Why it is not proven: time was up, a tie that the original does not turn at, or what the last proof met.
        x: The input as the model receives it (rounded to its precision), flat: what distances are measured from; `input_shape` is its shape.
    """

    status: str
    from_: int
    to: int | None
    norm: float
    lower: float
    upper: float
    witness: Array | None
    replayed: bool
    nodes: int
    cpu_seconds: float
    load_seconds: float = 0.0
    reason: str = ""
    x: Array = field(default_factory=lambda: np.zeros(0))
    input_shape: tuple[int, ...] = ()

    @property
    def distance(self) -> float | None:
        return None if self.witness is None else self.upper

    def to_dict(self) -> dict[str, Any]:
        upper = None if np.isinf(self.upper) else self.upper
        return {
            "status": self.status,
            "from": self.from_,
            "to": self.to,
            "norm": "inf" if np.isinf(self.norm) else self.norm,
            "distance": self.distance,
            "lower": self.lower,
            "upper": upper,
            "lower_bound": self.lower,
            "upper_bound": upper,
            "replayed": self.replayed,
            "replay": self.replayed,
            "nodes": self.nodes,
            "cpu_seconds": self.cpu_seconds,
            "load_seconds": self.load_seconds,
            "reason": self.reason,
        }

    def plot(self, ax: Any = None, shape: tuple[int, ...] | None = None) -> Any:
        """Before, after and the change, for an image on three axes; for a table's row the inputs that move, as bars.

        `shape` is that of the image where the network takes its pixels in a row; 784 inputs are 28 x 28, 3,072 are 3 x 32 x 32.
        """
        from relukit.verification._flip_picture import draw

        return draw(self, ax, shape)

    def __repr__(self) -> str:
        why = f"; {self.reason}" if self.reason else ""
        if self.witness is None and self.status == "proven":
            return f"Flip({self.from_}: none up to {self.lower:.6g}, as far as inputs may move, proven, {self.nodes} nodes)"
        if self.witness is None:
            return f"Flip({self.from_}: none found, none below {self.lower:.6g}{why})"
        words = (
            f"{self.upper:.6g} proven" if self.status == "proven" else f"between {self.lower:.6g} and {self.upper:.6g}"
        )
        return f"Flip({self.from_} -> {self.to}: {words}, {self.nodes} nodes{why})"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # as for `verify`
def flip(
    network: Any,
    x: Array,
    norm: float = np.inf,
    within: Box | None = None,
    target: int | None = None,
    timeout: float = 60.0,
    on_progress: Callable[[float, float], None] | None = None,
    seed: int = 0,
    starts: Array | None = None,
    frozen: Sequence[int] = (),
    integer: Sequence[int] = (),
    steps: Mapping[int, float] | None = None,
    margin: float = 0.0,
    probability: float | None = None,
) -> Flip:
    """The smallest change of one input that changes the decision, with proof.

    A descent to linearized margins gives a first flip; it is brought to the nearest point of its own linear piece. Then one
    question is asked, with every bound computed at that radius: is there a flip that is closer by 1e-6? A counterexample is
    descended from in turn; the first proof ends the search. No bisection over radii takes place.

    Arguments:
        network: Piecewise linear, with at least two outputs or one output whose sign decides; anything that `load` takes.
        x: One input.
        norm: `inf`, 2 or 1.
        within: Inputs that are allowed (pixels in [0, 1]); everything by default.
        target: Ask for this decision only.
        timeout: Seconds of wall time; then the bounds so far are returned.
        on_progress: Called with `(lower, upper)`.
        starts: Other inputs, for instance rows of a data set: where the network is flat around x, the way to one that is decided otherwise crosses a boundary.
        frozen: Numbers of inputs that stay as they are.
        integer: Numbers of inputs that take whole numbers only.
        steps: For inputs that move in steps the size of the step: input i takes the values `x[i] + k * steps[i]` for whole k.
        margin: The new decision must lead every other output by so much (a single output: lie so far beyond 0).
        probability: The new decision must have this probability after softmax or sigmoid.
        seed: Of everything that is drawn at random; the same seed gives the same answer.

    Raises:
        UnsupportedOperation: A smooth activation.
        InvalidInput: More than one row, a point outside `within`, no input that may move, an unknown norm, or options that make no sense.

    References:
        Evaluating Robustness of Neural Networks with Mixed Integer Programming, Tjeng, Xiao, Tedrake, 2019.

    Example:
        >>> flip(network, x, norm=2, within=Box(np.zeros(784), np.ones(784)), probability=0.9).distance
        0.4607
    """
    clock = Clock()
    if norm not in (np.inf, 2, 1):
        raise InvalidInput(f"norm must be inf, 2 or 1, got {norm}")
    if not timeout > 0:
        raise InvalidInput(f"timeout must be a positive number of seconds, got {timeout}")
    network = load(network)
    network.require_piecewise_linear("the smallest flip")
    rows, _ = network.rows(x)
    if len(rows) != 1:
        raise InvalidInput(f"flip takes one input, got {len(rows)}; flips(...) takes many")
    with np.errstate(over="ignore"):
        held = np.isfinite(rows[0].astype(network.dtype))
    if not held.all():
        i = int(np.flatnonzero(~held)[0])
        raise InvalidInput(f"input {i} is {rows[0, i]:g}, which the network's {network.dtype} cannot hold")
    if within is not None:
        require_set(within, "within")
        if not bool(within.contains(rows[0])):
            outside = np.flatnonzero((rows[0] < within.lower) | (rows[0] > within.upper))
            raise InvalidInput(f"the input lies outside the allowed box, first at input {outside[0]}")
    from relukit.verification._flip_search import FlipSearch

    search = FlipSearch(
        network, rows[0], float(norm), within, target, timeout, on_progress or (lambda a, b: None), seed, starts,
        _numbers(frozen, "frozen", network.inputs), _numbers(integer, "integer", network.inputs), _steps(steps or {}, network.inputs), margin, probability,
    )  # fmt: skip
    lower, proven = search.run()
    return Flip(
        "proven" if proven else "bounded",
        search.question.source,
        search.to,
        float(norm),
        max(lower, 0.0),
        search.upper,
        search.witness,
        search.witness is not None,
        search.nodes,
        clock.seconds,
        clock.loading,
        "" if proven else search.why(),
        search.x,
        tuple(network.input_shape),
    )


def flips(
    network: Any,
    X: Array,
    norm: float = np.inf,
    within: Box | None = None,
    labels: Any = None,
    timeout: float = 20.0,
    total: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
    **options: Any,
) -> FlipTable:
    """The smallest flips of many inputs, with the curve of certified accuracy.

    Arguments:
        X: Rows.
        labels: Right decisions, one per row: rows decided otherwise count as right at no radius.
        timeout: Seconds for each row.
        total: Seconds for all rows: what easy rows leave over goes to the others.
        on_progress: Called with `(done, rows)`.
        executor: Where rows are flipped, each in one worker: a pool of processes, or a Dask cluster's.
        options: As for `flip`.

    Raises:
        ShapeMismatch: There is not one label for each row.
        InvalidInput: As `flip`, no row at all, or `total` together with an executor.
        FlipsInterrupted: Ctrl-C; its `numbers` and `table` hold the rows that were done.
    """
    network = load(network)
    rows, _ = network.rows(X)
    if not len(rows):
        raise InvalidInput("there are no rows to flip")
    options = {"starts": rows, **options}
    one = partial(_within_seconds, network, norm, within, options)
    return run_many(one, rows, np.asarray(network.decide(rows)), labels, timeout, total, on_progress, executor)


def _within_seconds(
    network: Network, norm: float, within: Box | None, options: Any, row: Array, seconds: float
) -> Flip:
    return flip(network, row, norm, within, timeout=seconds, **options)


def _numbers(given: Sequence[int], name: str, inputs: int) -> np.ndarray:
    found = np.unique(np.asarray(list(given), dtype=np.int64))
    if len(found) and (found[0] < 0 or found[-1] >= inputs):
        raise InvalidInput(
            f"{name} names input {found[0] if found[0] < 0 else found[-1]}, the network has 0 to {inputs - 1}"
        )
    return found


def _steps(given: Mapping[int, float], inputs: int) -> dict[int, float]:
    _numbers(list(given), "steps", inputs)
    return {int(k): float(step) for k, step in given.items()}
