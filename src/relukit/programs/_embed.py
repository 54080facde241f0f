"""A network inside other people's optimization models: Pyomo, PySCIPOpt, linopy, CVXPY, gurobipy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._types import Array
from relukit.network import Network
from relukit.programs._adapters import ADAPTERS, Adapter
from relukit.programs._program import Encoding, encode
from relukit.sets import Box


@dataclass(eq=False)
class Embedded:
    """A network inside a model.

    Arguments:
        network: As it was given; `box` the inputs' bounds in the model's units.
        encoding: The rows that were added, with `report()`.
        inputs, outputs: The model's variables.
        parts: What was added (a Pyomo block, lists of variables and constraints).
    """

    network: Network
    box: Box
    encoding: Encoding
    inputs: list[Any]
    outputs: list[Any]
    parts: Any
    value_of: Callable[[Any], float]
    input_scaler: tuple[Array, Array]
    output_scaler: tuple[Array, Array]

    def report(self) -> dict[str, Any]:
        """M values, stable and unstable units, coefficient range, scaling advice."""
        return self.encoding.report()

    def _run(self, x: Array, original: bool) -> Array:
        scaled = (x - self.input_scaler[0]) / self.input_scaler[1]
        y = self.network.replay(scaled) if original else self.network(scaled[None])[0]
        return self.output_scaler[0] + self.output_scaler[1] * np.asarray(y, np.float64)

    def check(self) -> dict[str, Any]:
        """Replays the model's solution through the network, in float64 and in its own precision.

        Returns `x`, `y_model`, `y_float64`, `y_original`, and `difference`, the largest deviation of the model's outputs.
        """
        x, y = self._values(self.inputs), self._values(self.outputs)
        exact, own = self._run(x, False), self._run(x, True)
        return {
            "x": x, "y_model": y, "y_float64": exact, "y_original": own, "difference": float(np.max(np.abs(y - exact))),
            "difference_original": float(np.max(np.abs(y - own))),
        }  # fmt: skip

    def sensitivities(self) -> Array:
        """How each output changes with each input at the solution, the pattern of gates held fixed, shape `(outputs, inputs)`."""
        x = self._values(self.inputs)
        scaled = (x - self.input_scaler[0]) / self.input_scaler[1]
        rows = [self.network.gradient(scaled, row) for row in np.eye(self.network.outputs)]
        return np.stack(rows) / self.input_scaler[1] * self.output_scaler[1][:, None]

    def why_infeasible(self, targets: dict[int, tuple[float, float]], timeout: float = 20.0) -> list[str]:
        """Which wanted output ranges the network cannot reach on its box, whatever else the model asks for.

        Arguments:
            targets: Output number -> wanted `(low, high)`.
            timeout: Seconds for each end of each range.

        Returns:
            A sentence for each target that the exact range of that output excludes; an empty list where none is.
        """
        from relukit.bounds import linear

        mean, scale = self.input_scaler
        inner = Box(*np.sort(np.stack([(self.box.lower - mean) / scale, (self.box.upper - mean) / scale]), axis=0))
        low, high = linear(self.network, inner).output
        ends = np.sort(np.stack([low, high]) * self.output_scaler[1] + self.output_scaler[0], axis=0)
        said = []
        for j, (want_low, want_high) in targets.items():
            if not 0 <= j < self.network.outputs:
                raise InvalidInput(f"output {j}: the network has outputs 0 to {self.network.outputs - 1}")
            if not want_low <= want_high:
                raise InvalidInput(
                    f"the target of output {j} has its low end {want_low:g} above its high end {want_high:g}"
                )
            reach, source = ends[:, j], "linear bounds"
            if (
                reach[0] <= want_high and want_low <= reach[1]
            ):  # these do not exclude it: the exact range, as HiGHS bounds it
                reach, source = self._range(j, reach, timeout), "HiGHS"
            if want_low > reach[1] or want_high < reach[0]:
                said.append(
                    f"output {j} lies in [{reach[0]:.6g}, {reach[1]:.6g}] on the whole box ({source}); "
                    f"[{want_low:g}, {want_high:g}] is out of reach"
                )
        return said

    def _range(self, j: int, known: Array, timeout: float) -> Array:
        """The range of one output on the box by two mixed-integer programs, never wider than what is known."""
        program = encode(self.network, self.box, "big-m", self.input_scaler, self.output_scaler).program
        program.cost[self.network.inputs + j] = 1.0
        ends = []
        for maximize in (False, True):
            program.maximize = maximize
            _, _, bound = program.solve(timeout)
            ends.append(bound if np.isfinite(bound) else known[int(maximize)])
        return np.array([max(ends[0], known[0]), min(ends[1], known[1])])

    def _values(self, variables: list[Any]) -> Array:
        """Values of the model's variables at its solution."""
        try:
            found = np.array([self.value_of(v) for v in variables], np.float64)
        except Exception as error:  # each language has an error of its own
            raise InvalidInput(f"the model holds no solution yet: solve it first ({error})") from error
        if not np.all(np.isfinite(found)):
            raise InvalidInput("the model holds no solution: it was not solved, or has none")
        return found

    def __repr__(self) -> str:
        return f"Embedded({self.encoding.program!r})"


def embed(
    model: Any,
    network: Network,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    formulation: str = "big-m",
    bounds: Box | tuple[Array, Array] | None = None,
    input_scaler: tuple[Array, Array] | None = None,
    output_scaler: tuple[Array, Array] | None = None,
    name: str = "network",
) -> Embedded:
    """Adds `outputs = network(inputs)` to an optimization model.

    Arguments:
        model: A Pyomo model or block, a `pyscipopt.Model`, a `linopy.Model`, a `gurobipy.Model`, or a list that CVXPY constraints are
            appended to.
        network: Piecewise linear.
        inputs: The model's variables, one for each input; `outputs` likewise.
        formulation: `big-m`, `partition` (tighter, larger), or `sos1` (Pyomo, PySCIPOpt, gurobipy).
        bounds: Box of the inputs; by default the variables' own bounds.
        input_scaler: `(mean, scale)` where the network was trained on `(x - mean) / scale`; folded exactly.
        output_scaler: `(mean, scale)` of the target.
        name: Of the Pyomo block, and prefix of the names elsewhere.

    Returns:
        `Embedded`, with `report()`, `check()`, `sensitivities()` and `why_infeasible()`.

    Raises:
        InvalidInput: A kind of model that is not known, or variables without bounds.
        ShapeMismatch: Not one variable for each input and output.
        MissingExtra: The modelling language is not installed.

    Example:
        >>> m = pyomo.ConcreteModel(); m.x = pyomo.Var(range(2), bounds=(-1, 1)); m.y = pyomo.Var(range(1))
        >>> net = relukit.embed(m, network, [m.x[0], m.x[1]], [m.y[0]])
        >>> m.goal = pyomo.Objective(expr=m.y[0]); solver.solve(m); net.check()["difference"]
    """
    inputs, outputs = _listed(inputs), _listed(outputs)
    if len(inputs) != network.inputs or len(outputs) != network.outputs:
        raise ShapeMismatch(
            f"the network has {network.inputs} inputs and {network.outputs} outputs, got {len(inputs)} and {len(outputs)} variables"
        )
    language = type(model).__module__.partition(".")[0]
    adapter = ADAPTERS.get("cvxpy" if isinstance(model, list) else language)
    if adapter is None:
        raise InvalidInput(
            f"embed knows models of {', '.join(ADAPTERS)} (for CVXPY give the list of constraints), got {type(model).__name__}"
        )
    box = bounds if isinstance(bounds, Box) else Box(*bounds) if bounds is not None else _own_bounds(inputs, adapter)
    found = encode(network, box, formulation, input_scaler, output_scaler)
    parts = adapter.add(model, found.program, inputs, outputs, name)
    one = lambda given, size: (
        (np.zeros(size), np.ones(size))
        if given is None
        else tuple(np.broadcast_to(np.asarray(v, float), (size,)) for v in given)
    )
    value_of = adapter.value if adapter.value is not None else lambda v: float(model.getVal(v))
    return Embedded(
        network, box, found, inputs, outputs, parts, value_of, one(input_scaler, network.inputs), one(output_scaler, network.outputs)
    )  # fmt: skip


def _listed(variables: Any) -> list[Any]:
    """A list of single variables from a list, an indexed Pyomo variable or an array variable."""
    if hasattr(variables, "values") and callable(variables.values) and hasattr(variables, "index_set"):
        return list(variables.values())
    return list(variables)


def _own_bounds(inputs: list[Any], adapter: Adapter) -> Box:
    ends = [adapter.bounds(v) for v in inputs]
    missing = [
        str(v)
        for v, (l, u) in zip(inputs, ends)
        if l is None or u is None or not np.isfinite([float(l), float(u)]).all()
    ]
    if missing:
        raise InvalidInput(
            f"variables without finite bounds: {', '.join(missing[:10])}; set them, or give bounds=Box(...)"
        )
    return Box(np.array([float(l) for l, _ in ends]), np.array([float(u) for _, u in ends]))
