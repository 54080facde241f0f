"""How each modelling language takes a program: one function and one row of `ADAPTERS` per language."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, MissingExtra
from relukit.programs._program import Program


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


def _library(module: str, language: str, install: str) -> Any:
    """A modelling language's module.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"embedding in {language} needs it: pip install {install}") from error


def _pyomo(model: Any, program: Program, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    pyo = _library("pyomo.environ", "Pyomo", "relukit[pyomo]")
    block = pyo.Block()
    model.add_component(name, block)
    given = len(inputs) + len(outputs)
    at = {label: j for j, label in enumerate(program.names) if j >= given}  # h0.., d0..: the names that files have, too
    block.v = pyo.Var(
        list(at), bounds=lambda _, label: (float(program.lower[at[label]]), float(program.upper[at[label]])),
        domain=lambda _, label: pyo.Binary if program.integer[at[label]] else pyo.Reals,
    )  # fmt: skip
    columns = [*inputs, *outputs, *(block.v[label] for label in at)]
    rows = {label: (places, values, low, high) for label, places, values, low, high in _rows(program)}

    def rule(_: Any, label: str) -> Any:
        places, values, low, high = rows[label]
        body = sum(float(v) * columns[j] for j, v in zip(places, values))
        if low == high:
            return body == high
        return (low if np.isfinite(low) else None, body, high if np.isfinite(high) else None)

    block.rows = pyo.Constraint(list(rows), rule=rule)
    if program.sos1:
        pairs = {k: [program.names[i] for i in pair] for k, pair in enumerate(program.sos1)}
        block.pairs = pyo.SOSConstraint(list(pairs), var=block.v, index=pairs, sos=1)
    return block


def _scip(model: Any, program: Program, inputs: list[Any], outputs: list[Any], name: str) -> Any:
    quicksum = _library("pyscipopt", "PySCIPOpt", "relukit[scip]").quicksum

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
    cp = _library("cvxpy", "CVXPY", "cvxpy")

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
    gp = _library("gurobipy", "Gurobi", "relukit[gurobi]")

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
