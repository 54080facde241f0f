"""A network inside other people's optimization models: Pyomo, PySCIPOpt, linopy, CVXPY, gurobipy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, MissingExtra, ShapeMismatch
from relukit._types import Array
from relukit.network import Network
from relukit.programs._program import Encoding, Program, encode
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
        x = np.array([self.value_of(v) for v in self.inputs])
        y = np.array([self.value_of(v) for v in self.outputs])
        exact, own = self._run(x, False), self._run(x, True)
        return {
            "x": x, "y_model": y, "y_float64": exact, "y_original": own, "difference": float(np.max(np.abs(y - exact))),
            "difference_original": float(np.max(np.abs(y - own))),
        }  # fmt: skip

    def sensitivities(self) -> Array:
        """How each output changes with each input at the solution, the pattern of gates held fixed, shape `(outputs, inputs)`."""
        x = np.array([self.value_of(v) for v in self.inputs])
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
            reach = ends[:, j]
            if want_low > reach[1] or want_high < reach[0]:
                said.append(
                    f"output {j} lies in [{reach[0]:.6g}, {reach[1]:.6g}] on the whole box; [{want_low:g}, {want_high:g}] is out of reach"
                )
        return said

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
        formulation: `big-m` or `sos1` (Pyomo, PySCIPOpt, gurobipy).
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


def _own_bounds(inputs: list[Any], adapter: "Adapter") -> Box:
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


@dataclass(frozen=True)
class Adapter:
    """How one modelling language takes a program: `add`, a variable's `bounds`, and its `value` after solving."""

    add: Callable[[Any, Program, list[Any], list[Any], str], Any]
    bounds: Callable[[Any], tuple[Any, Any]]
    value: Callable[[Any], float] | None


def _rows(program: Program) -> Any:
    """Each row as (name, columns, coefficients, low, high)."""
    A = program.A.tocsr()
    for i, name in enumerate(program.row_names):
        part = slice(A.indptr[i], A.indptr[i + 1])
        yield name, A.indices[part], A.data[part], float(program.row_lower[i]), float(program.row_upper[i])


def _pyomo(model: Any, program: Program, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    try:
        import pyomo.environ as pyo
    except ImportError as error:
        raise MissingExtra("embedding in Pyomo needs it: pip install relukit[pyomo]") from error
    block = pyo.Block()
    model.add_component(name, block)
    given = len(inputs) + len(outputs)
    extra = range(given, len(program.names))
    block.v = pyo.Var(
        extra, bounds=lambda _, j: (float(program.lower[j]), float(program.upper[j])),
        domain=lambda _, j: pyo.Binary if program.integer[j] else pyo.Reals,
    )  # fmt: skip
    columns = [*inputs, *outputs, *(block.v[j] for j in extra)]
    block.rows = pyo.ConstraintList()
    for _, at, values, low, high in _rows(program):
        body = sum(float(v) * columns[j] for j, v in zip(at, values))
        if low == high:
            block.rows.add(body == high)
        else:
            block.rows.add((low if np.isfinite(low) else None, body, high if np.isfinite(high) else None))
    if program.sos1:
        block.pairs = pyo.SOSConstraint(
            range(len(program.sos1)), var=block.v, index={k: list(pair) for k, pair in enumerate(program.sos1)}, sos=1
        )
    return block


def _scip(model: Any, program: Program, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    from pyscipopt import quicksum

    given = len(inputs) + len(outputs)
    extra = [
        model.addVar(
            f"{name}_{program.names[j]}",
            "B" if program.integer[j] else "C",
            float(program.lower[j]),
            float(program.upper[j]),
        )
        for j in range(given, len(program.names))
    ]
    columns, rows = [*inputs, *outputs, *extra], []
    for label, at, values, low, high in _rows(program):
        body = quicksum(float(v) * columns[j] for j, v in zip(at, values))
        if low == high:
            rows.append(model.addCons(body == high, f"{name}_{label}"))
        else:
            if np.isfinite(high):
                rows.append(model.addCons(body <= high, f"{name}_{label}"))
            if np.isfinite(low):
                rows.append(model.addCons(body >= low, f"{name}_{label}_low"))
    rows += [model.addConsSOS1([columns[a], columns[b]]) for a, b in program.sos1]
    return extra, rows


def _linopy(model: Any, program: Program, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    if program.sos1:
        raise InvalidInput("linopy is given big-M models only; take formulation='big-m'")
    given = len(inputs) + len(outputs)
    extra = [
        model.add_variables(binary=True, name=f"{name}_{program.names[j]}") if program.integer[j]
        else model.add_variables(float(program.lower[j]), float(program.upper[j]), name=f"{name}_{program.names[j]}")
        for j in range(given, len(program.names))
    ]  # fmt: skip
    columns, rows = [*inputs, *outputs, *extra], []
    for label, at, values, low, high in _rows(program):
        body = sum(float(v) * columns[j] for j, v in zip(at, values))
        if low == high:
            rows.append(model.add_constraints(body == high, name=f"{name}_{label}"))
        else:
            if np.isfinite(high):
                rows.append(model.add_constraints(body <= high, name=f"{name}_{label}"))
            if np.isfinite(low):
                rows.append(model.add_constraints(body >= low, name=f"{name}_{label}_low"))
    return extra, rows


def _cvxpy(model: list[Any], program: Program, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    if program.sos1:
        raise InvalidInput("CVXPY is given big-M models only; take formulation='big-m'")
    import cvxpy as cp

    given = len(inputs) + len(outputs)
    whole = np.flatnonzero(program.integer[given:])
    count = len(program.names) - given
    extra = cp.Variable(count - len(whole), name=f"{name}_gates") if count > len(whole) else None
    phases = cp.Variable(len(whole), boolean=True, name=f"{name}_phases") if len(whole) else None
    parts = [
        *(cp.reshape(v, (1,), order="C") for v in [*inputs, *outputs]),
        *(p for p in (extra, phases) if p is not None),
    ]
    v, A = cp.hstack(parts), program.A.tocsr()
    low, high = np.isfinite(program.row_lower), np.isfinite(program.row_upper)
    same = low & high & (program.row_lower == program.row_upper)
    for rows, make in (
        (same, lambda r: A[r] @ v == program.row_upper[r]),
        (high & ~same, lambda r: A[r] @ v <= program.row_upper[r]),
        (low & ~same, lambda r: A[r] @ v >= program.row_lower[r]),
    ):
        if np.any(rows):
            model.append(make(np.flatnonzero(rows)))
    if extra is not None:
        stop = given + count - len(whole)
        model += [extra >= program.lower[given:stop], extra <= program.upper[given:stop]]
    return extra, phases


def _gurobi(model: Any, program: Program, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    import gurobipy as gp

    given = len(inputs) + len(outputs)
    extra = [
        model.addVar(float(program.lower[j]), float(program.upper[j]), vtype="B" if program.integer[j] else "C", name=f"{name}_{program.names[j]}")
        for j in range(given, len(program.names))
    ]  # fmt: skip
    columns, rows = [*inputs, *outputs, *extra], []
    for label, at, values, low, high in _rows(program):
        body = gp.LinExpr([float(v) for v in values], [columns[j] for j in at])
        if low == high:
            rows.append(model.addConstr(body == high, f"{name}_{label}"))
        else:
            if np.isfinite(high):
                rows.append(model.addConstr(body <= high, f"{name}_{label}"))
            if np.isfinite(low):
                rows.append(model.addConstr(body >= low, f"{name}_{label}_low"))
    rows += [model.addSOS(gp.GRB.SOS_TYPE1, [columns[a], columns[b]], [1, 2]) for a, b in program.sos1]
    return extra, rows


def _pyomo_value(v: Any) -> float:
    import pyomo.environ as pyo

    return float(pyo.value(v))


ADAPTERS: dict[str, Adapter] = {
    "pyomo": Adapter(_pyomo, lambda v: v.bounds, _pyomo_value),
    "pyscipopt": Adapter(_scip, lambda v: (v.getLbOriginal(), v.getUbOriginal()), None),
    "linopy": Adapter(_linopy, lambda v: (float(v.lower), float(v.upper)), lambda v: float(v.solution)),
    "cvxpy": Adapter(_cvxpy, lambda v: v.bounds or (None, None), lambda v: float(v.value)),
    "gurobipy": Adapter(_gurobi, lambda v: (v.LB, v.UB), lambda v: float(v.X)),
}
