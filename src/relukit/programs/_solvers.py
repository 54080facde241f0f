"""Programs given to solvers: what they say is to be replayed and cross-checked, never trusted alone."""

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from relukit._errors import InvalidInput, MissingExtra
from relukit._types import Array

if TYPE_CHECKING:
    from relukit.programs._program import Program

Answer = tuple[str, Array | None, float]


def _highs(program: "Program", timeout: float, start: Array | None) -> Answer:
    import highspy

    from relukit._numerics import quiet_highs

    if program.sos1:
        raise InvalidInput("HiGHS knows no SOS1 constraints; take formulation='big-m' or another solver")
    solver = quiet_highs()
    model = highspy.HighsLp()
    A = program.A.tocsc()
    model.num_col_, model.num_row_ = A.shape[1], A.shape[0]
    model.col_cost_, model.offset_ = program.cost, program.offset
    model.col_lower_, model.col_upper_ = program.lower, program.upper
    model.row_lower_, model.row_upper_ = program.row_lower, program.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = A.indptr, A.indices, A.data
    kinds = highspy.HighsVarType
    model.integrality_ = [kinds.kInteger if i else kinds.kContinuous for i in program.integer]
    model.sense_ = highspy.ObjSense.kMaximize if program.maximize else highspy.ObjSense.kMinimize
    solver.passModel(model)
    solver.setOptionValue("time_limit", timeout)
    solver.setOptionValue("mip_rel_gap", 1e-6)
    if start is not None:  # a part of the columns: HiGHS completes it
        solver.setSolution(len(start), np.arange(len(start), dtype=np.int32), np.asarray(start, np.float64))
    solver.run()
    status = solver.modelStatusToString(solver.getModelStatus()).lower()
    info = solver.getInfo()
    has = info.primal_solution_status == 2
    point = np.asarray(solver.getSolution().col_value) if has else None
    return status, point, float(info.mip_dual_bound if np.any(program.integer) else info.objective_function_value)


def _scip(program: "Program", timeout: float, start: Array | None) -> Answer:
    import pyscipopt

    model = pyscipopt.Model()
    model.hideOutput()
    model.setParam("limits/time", float(timeout))
    model.setParam("limits/gap", 1e-6)
    model.setParam("parallel/maxnthreads", 1)
    end = lambda v: None if np.isinf(v) else float(v)
    columns = [
        model.addVar(name, "I" if whole else "C", end(l), end(u))
        for name, whole, l, u in zip(program.names, program.integer, program.lower, program.upper)
    ]
    A = program.A.tocsr()
    for i, name in enumerate(program.row_names):
        part = slice(A.indptr[i], A.indptr[i + 1])
        body = pyscipopt.quicksum(float(v) * columns[j] for j, v in zip(A.indices[part], A.data[part]))
        low, high = program.row_lower[i], program.row_upper[i]
        if low == high:
            model.addCons(body == float(high), name)
            continue
        if np.isfinite(high):
            model.addCons(body <= float(high), name)
        if np.isfinite(low):
            model.addCons(body >= float(low), name + "_low")
    for a, b in program.sos1:
        model.addConsSOS1([columns[a], columns[b]])
    goal = pyscipopt.quicksum(float(program.cost[j]) * columns[j] for j in np.flatnonzero(program.cost))
    model.setObjective(goal + float(program.offset), "maximize" if program.maximize else "minimize")
    if start is not None:
        partial = model.createPartialSol()
        for column, value in zip(columns, start):
            model.setSolVal(partial, column, float(value))
        model.addSol(partial)
    model.optimize()
    status = {"gaplimit": "optimal", "timelimit": "time limit reached"}.get(model.getStatus(), model.getStatus())
    point = np.array([model.getVal(v) for v in columns]) if model.getNSols() else None
    return status, point, float(model.getDualbound())


def _gurobi(program: "Program", timeout: float, start: Array | None) -> Answer:
    import gurobipy as gp

    end = lambda v: np.where(np.isinf(v), np.sign(v) * gp.GRB.INFINITY, v)
    with gp.Env(params={"OutputFlag": 0}) as environment, gp.Model(env=environment) as model:
        model.Params.TimeLimit, model.Params.MIPGap, model.Params.Threads = float(timeout), 1e-6, 1
        kinds = np.where(program.integer, gp.GRB.INTEGER, gp.GRB.CONTINUOUS)
        v = model.addMVar(len(program.names), end(program.lower), end(program.upper), vtype=kinds)
        low, high = np.isfinite(program.row_lower), np.isfinite(program.row_upper)
        A, same = program.A.tocsr(), low & high & (program.row_lower == program.row_upper)
        for rows, sign, side in (
            (same, "=", program.row_upper), (high & ~same, "<", program.row_upper), (low & ~same, ">", program.row_lower)
        ):  # fmt: skip
            if np.any(rows):
                model.addMConstr(A[rows], v, sign, side[rows])
        single = v.tolist()
        for a, b in program.sos1:
            model.addSOS(gp.GRB.SOS_TYPE1, [single[a], single[b]], [1, 2])
        goal = program.cost @ v + float(program.offset)
        model.setObjective(goal, gp.GRB.MAXIMIZE if program.maximize else gp.GRB.MINIMIZE)
        if start is not None:
            for column, value in zip(single, start):
                column.Start = float(value)
        model.optimize()
        names = {gp.GRB.OPTIMAL: "optimal", gp.GRB.INFEASIBLE: "infeasible", gp.GRB.TIME_LIMIT: "time limit reached"}
        point = np.asarray(v.X) if model.SolCount else None
        return names.get(model.Status, f"status {model.Status}"), point, float(model.ObjBound)


# name -> (title, module, extra, how it is asked)
SOLVERS: dict[str, tuple[str, str, str, Callable[["Program", float, Array | None], Answer]]] = {
    "highs": ("HiGHS", "highspy", "", _highs),
    "scip": ("SCIP", "pyscipopt", "scip", _scip),
    "gurobi": ("Gurobi", "gurobipy", "gurobi", _gurobi),
}


def solver_name(solver: str) -> str:
    """Its title.

    Raises:
        InvalidInput: An unknown solver.
        MissingExtra: It is not installed.
    """
    if solver not in SOLVERS:
        raise InvalidInput(f"unknown solver '{solver}': known are {', '.join(SOLVERS)}")
    title, module, extra, _ = SOLVERS[solver]
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(f"{title} is not installed: pip install {f'relukit[{extra}]' if extra else module}")
    return title


def solve(program: "Program", solver: str, timeout: float, start: Array | None) -> Answer:
    """Status, point and bound as the solver says them."""
    solver_name(solver)
    return SOLVERS[solver][3](program, timeout, start)
