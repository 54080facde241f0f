"""Questions made of `optimize`: is there a point, which output can be largest, which input gives this output, what is closest."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._clock import Clock
from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array
from relukit.network import Network
from relukit.optimization._expression import Constraint, Scope, parse_constraints
from relukit.optimization._joint import with_distance
from relukit.optimization._nearest_step import NORMS
from relukit.optimization._optimize import Optimum, optimize, pose
from relukit.optimization._portfolio import Found
from relukit.optimization._problem import Problem
from relukit.sets import AbstractSet

_FEW = 8  # up to so many moving inputs the distance is made of gates and the box is split; above, balls are searched


def satisfy(network: Any, constraints: Sequence[str | Constraint], box: Any = None, **options: Any) -> Optimum:
    """A point that satisfies constraints between inputs and outputs, or a proof that there is none.

    Arguments are those of `optimize`. `status` is `feasible` (with a witness), `infeasible` (with the reason) or `undecided`.
    """
    return optimize(network, box=box, constraints=constraints, **options)


def invert(
    network: Network, target: str | float, within: float = 0.0, box: AbstractSet | None = None, near: Array | None = None,
    norm: str = "l1", scale: Array | None = None, constraints: Sequence[str | Constraint] = (), **options: Any,
) -> Optimum:  # fmt: skip
    """An input that gives a wanted output; with `near`, the closest such input.

    Arguments:
        network: Piecewise linear.
        target: Such as `"y[0] == 3.0 +- 0.1"`, or a number wanted of output 0.
        within: With a number: how far the output may be from it.
        box: The domain; the network's own by default.
        near: The input is to lie as near as possible to this point, shape `(inputs,)`.
        norm: `l1`, `l2` or `linf`: how the distance is measured, each input divided by its `scale`.
        constraints: Further ones; `options` are those of `optimize`.

    Returns:
        With `near`, `value` is the distance; without, `status` is `feasible` or `infeasible`.
    """
    if not isinstance(target, str):
        if not (np.isfinite(target) and np.isfinite(within) and within >= 0):
            raise InvalidInput(f"a target and how far from it are finite numbers, got {target} and {within}")
        target = f"y[0] == {_number(target)} +- {_number(within)}" if within else f"y[0] == {_number(target)}"
    rules = [target, *constraints]
    if near is None:
        return satisfy(network, rules, box, **options)
    return closest(network, near, rules, box, norm, scale, **options)


def counterfactual(
    network: Network, point: Array, condition: str | float, box: AbstractSet | None = None, norm: str = "l1",
    scale: Array | None = None, output: int = 0, **options: Any,
) -> Optimum:  # fmt: skip
    """The input closest to a point at which an output reaches a level: what would have to change?

    Arguments:
        network: Piecewise linear.
        point: Shape `(inputs,)`.
        condition: Such as `"y[0] >= 0.5"`, or a number that `output` is to reach.
        norm: `l1` (few changes), `l2` or `linf` (small ones), each input divided by its `scale` (1 by default).
        options: Those of `optimize`: `constraints`, `integers`, `categories`, ...
    """
    text = condition if isinstance(condition, str) else f"y[{output}] >= {_number(condition)}"
    return closest(network, point, [text, *options.pop("constraints", ())], box, norm, scale, **options)


def closest(
    network: Network, point: Array, constraints: Sequence[str | Constraint], box: AbstractSet | None = None, norm: str = "l1",
    scale: Array | None = None, **options: Any,
) -> Optimum:  # fmt: skip
    """The input nearest to a point that satisfies constraints; `value` is the distance, `bound` what no input undercuts."""
    if not isinstance(network, Network):
        raise InvalidInput("a closest input is asked of one network; join several with relukit.optimization.join")
    point = np.asarray(point, np.float64).ravel()
    width = (
        np.ones(network.inputs) if scale is None else np.broadcast_to(np.asarray(scale, np.float64), (network.inputs,))
    )
    if point.shape != (network.inputs,):
        raise ShapeMismatch(f"the network takes {network.inputs} inputs, the point has {point.size}")
    if not np.all(np.isfinite(point)) or not np.all(np.isfinite(width)) or np.any(width <= 0):
        raise InvalidInput("the point must be finite, and each scale finite and above 0")
    if norm not in NORMS:
        raise InvalidInput(f"the distance must be l1, l2 or linf, got '{norm}'")
    domain = network.box if box is None else box
    whole = len(options.get("integers", ())) or len(options.get("categories", ()))
    moving = int(np.sum(domain.box().lower < domain.box().upper)) if isinstance(domain, AbstractSet) else 0
    if norm != "l2" and (whole or moving <= _FEW):
        return _by_gates(network, point, constraints, domain, norm, width, options)
    return _by_balls(network, point, constraints, domain, norm, width, **options)


def _by_gates(
    network: Network, point: Array, constraints: Sequence[str | Constraint], box: AbstractSet | None, norm: str, width: Array,
    options: dict[str, Any],
) -> Optimum:  # fmt: skip
    """The distance as a further output of the network, minimized as any other: best for few inputs."""
    scope = Scope.single(network.inputs, network.outputs)
    rules: list[Constraint] = []
    for c in constraints:
        rules += parse_constraints(c, scope) if isinstance(c, str) else [c]
    far = with_distance(network, point, norm, width)
    more = [c._replace(outputs=np.r_[c.outputs, 0.0]) for c in rules]
    found = optimize(
        far, minimize=f"y[{network.outputs}]", box=box, constraints=more, start=options.pop("start", point[None]), **options,
    )  # fmt: skip
    return dataclasses.replace(found, outputs=found.outputs[:-1])


def _by_balls(
    network: Network, point: Array, constraints: Sequence[str | Constraint], box: AbstractSet | None, norm: str, width: Array,
    tolerance: float = 1e-4, timeout: float = 60.0, seed: int = 0, start: Array | None = None, on_progress: Any = None,
    integers: Sequence[int | str] = (), categories: Sequence[Sequence[int | str]] = (), **options: Any,
) -> Optimum:  # fmt: skip
    """One proof over a ball around the point; in l2 with few inputs, tangents to the norm."""
    from relukit.optimization._nearest import Nearest

    if options:
        raise TypeError(f"closest takes no option {', '.join(options)}")
    clock = Clock()
    question = pose(network, None, None, box, constraints, integers, categories)
    question = dataclasses.replace(question, has_goal=True)

    def search(problem: Problem) -> Found:
        few = int(np.sum(problem.box.lower < problem.box.upper)) <= _FEW
        return Nearest(
            problem, point, NORMS[norm], width, tolerance, timeout, seed, start, on_progress, norm == "l2" and few
        ).run()

    found = question.answer_by(search, tolerance, timeout, clock)
    return dataclasses.replace(found, replayed=found.value if len(found.witness) else float("nan"))


def _number(value: float) -> str:
    """A number as the grammar reads it."""
    return repr(float(value))


@dataclass(frozen=True, eq=False)
class Argmax(Shown):
    """Which outputs can be the largest.

    Arguments:
        largest: The output whose maximum over the domain is largest; -1 where that is not proven.
        value, bound: That maximum and what nothing exceeds.
        outputs: For each output `status` (`possible`, `never` or `undecided`: is it the largest somewhere?), the `witness` where it
            is, and its maximum as `value` and `bound`.
    """

    largest: int
    value: float
    bound: float
    witness: Array
    outputs: tuple[dict[str, Any], ...]
    cpu_seconds: float
    load_seconds: float = 0.0

    @property
    def always(self) -> int | None:
        """The output that is the largest everywhere, if there is one."""
        can = [k for k, o in enumerate(self.outputs) if o["status"] != "never"]
        return can[0] if len(can) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        status = "optimal" if self.largest >= 0 and all(o["status"] != "undecided" for o in self.outputs) else "bounded"
        return {
            "status": status, "largest": self.largest, "value": self.value, "bound": self.bound, "witness": self.witness.tolist(),
            "always": self.always, "outputs": list(self.outputs), "cpu_seconds": self.cpu_seconds,
            "load_seconds": self.load_seconds,
        }  # fmt: skip


def argmax(
    network: Network, box: AbstractSet | None = None, constraints: Sequence[str | Constraint] = (), timeout: float = 60.0,
    tolerance: float = 1e-4, **options: Any,
) -> Argmax:  # fmt: skip
    """Which output is the largest over a domain: the one with the largest maximum, and which can be the largest at all.

    Arguments are those of `optimize`; `timeout` is for everything.
    """
    clock, stop, m = Clock(), time.perf_counter() + timeout, network.outputs
    if m < 2:
        raise InvalidInput("argmax compares outputs; the network has one")
    left = lambda share: max((stop - time.perf_counter()) / share, 0.05)
    found: list[dict[str, Any]] = []
    tops: list[Optimum] = []
    for k in range(m):
        tops.append(
            optimize(
                network, f"y[{k}]", None, box, constraints, tolerance=tolerance, timeout=left(2 * m - k), **options
            )
        )
    best = int(np.argmax([t.value if np.isfinite(t.value) else -np.inf for t in tops]))
    points = [t.witness for t in tops if len(t.witness)]
    winners = {int(np.argmax(network(x))): x for x in points}
    for k in range(m):
        entry: dict[str, Any] = {"output": k, "status": "possible", "value": tops[k].value, "bound": tops[k].bound}
        if k in winners:
            entry["witness"] = winners[k].tolist()
        else:
            status, point = _can_win(network, k, best, box, constraints, left(m - k), **options)
            entry |= {"status": status, "witness": point.tolist()}
        found.append(entry)
    others = max(t.bound for j, t in enumerate(tops) if j != best)
    top = tops[best]
    sure = len(top.witness) > 0 and top.value >= others
    return Argmax(
        best if sure else -1, top.value, max(top.bound, others), top.witness, tuple(found), clock.seconds, clock.loading
    )


def _can_win(
    network: Network, k: int, best: int, box: AbstractSet | None, constraints: Sequence[str | Constraint], timeout: float,
    seed: int = 0, integers: Sequence[int | str] = (), categories: Sequence[Sequence[int | str]] = (), **options: Any,
) -> tuple[str, Array]:  # fmt: skip
    """Whether output k is the largest somewhere, and where. Against one rival first: that one mostly beats it everywhere."""
    stop = time.perf_counter() + timeout
    over = lambda j: f"y[{j}] - y[{k}] <= 0"
    for rivals in [[best], [j for j in range(network.outputs) if j != k]]:
        question = pose(network, None, None, box, [*constraints, *map(over, rivals)], integers, categories)
        there = question.answer(timeout=max(stop - time.perf_counter(), 0.05), seed=seed, explain=False)
        if there.status == "infeasible":
            return "never", there.witness
    return "possible" if there.status == "feasible" else "undecided", there.witness
