"""Constraints, integer inputs, programs and embedding, against exhaustive search over patterns."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

import relukit
from relukit import Box, InvalidInput, ShapeMismatch, UnboundedSet
from relukit.activations import get
from relukit.network import from_layers
from relukit.optimization import to_program


def _network(seed, sizes=(2, 4, 3, 2)):
    g = np.random.default_rng(seed)
    weights = [g.normal(size=(b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
    return from_layers(weights, [g.normal(size=len(W)) for W in weights], [get("relu")] * (len(weights) - 1))


def _all_patterns(network, box, c, q, A, B, r):
    """Largest c.x + q.y with A x + B y <= r by a linear program on every pattern: slow and obvious."""
    chain = network.dense_chain()
    best = -np.inf
    sizes = [len(b) for b in chain.biases[:-1]]
    for bits in itertools.product([0, 1], repeat=sum(sizes)):
        on, M, v = np.array(bits), np.eye(network.inputs), np.zeros(network.inputs)
        rows, right, at = [], [], 0
        for W, b in zip(chain.weights[:-1], chain.biases[:-1]):
            M, v = W @ M, W @ v + b
            s = on[at : at + len(b)]
            at += len(b)
            rows += list(np.where(s[:, None], -M, M))
            right += list(np.where(s, v, -v))
            M, v = M * s[:, None], v * s
        M, v = chain.weights[-1] @ M, chain.weights[-1] @ v + chain.biases[-1]
        rows += list(A + B @ M)
        right += list(r - B @ v)
        found = linprog(-(c + q @ M), np.array(rows), np.array(right), bounds=list(zip(box.lower, box.upper)))
        if found.status == 0:
            best = max(best, -found.fun + float(q @ v))
    return best


@pytest.mark.parametrize("seed", range(4))
def test_constrained_optimum_is_that_of_all_patterns(seed):
    network, box = _network(seed), Box([-1.0, -1.0], [1.0, 1.0])
    level = float(np.median(network(box.sample(500, 0))[:, 1]))
    found = relukit.optimize(
        network, maximize="y[0] + 0.5*x[0]", box=box, constraints=[f"y[1] <= {level!r}", "x[0] - x[1] >= 0"]
    )
    truth = _all_patterns(
        network, box, np.array([0.5, 0]), np.array([1.0, 0]), np.array([[0, 0], [-1.0, 1.0]]), np.array([[0, 1.0], [0, 0]]),
        np.array([level, 0.0]),
    )  # fmt: skip
    assert found.status == "optimal" and found.value == pytest.approx(truth, abs=2e-4 * max(1, abs(truth)))
    assert found.bound >= truth - 1e-9 and max(found.violations.values()) <= 1e-6
    status, point, _ = to_program(
        network, "y[0] + 0.5*x[0]", box=box, constraints=[f"y[1] <= {level!r}", "x[0] - x[1] >= 0"]
    ).solve()
    assert status == "optimal" and point is not None
    assert network(point[:2])[0] + 0.5 * point[0] == pytest.approx(truth, abs=1e-4)


def test_integer_inputs_are_whole_and_best():
    network, box = _network(7, (3, 6, 1)), Box([-2.0] * 3, [2.0] * 3)
    found = relukit.optimize(network, minimize="y[0]", box=box, integers=[0, 1, 2])
    grid = np.array(list(itertools.product(range(-2, 3), repeat=3)), float)
    assert found.status == "optimal" and found.value == pytest.approx(network(grid).min(), abs=1e-9)
    assert np.array_equal(found.witness, np.round(found.witness))
    assert (
        relukit.optimize(network, maximize="y[0]", box=Box([0.2] * 3, [0.8] * 3), integers=[0]).status == "infeasible"
    )


def test_infeasible_is_proven_and_equalities_hold():
    network, box = _network(3), Box([-1.0, -1.0], [1.0, 1.0])
    assert relukit.optimize(network, maximize="y[0]", box=box, constraints=["y[1] >= 1000"]).status == "infeasible"
    middle = float(network(np.zeros(2))[1])
    found = relukit.optimize(network, maximize="y[0]", box=box, constraints=[f"y[1] == {middle!r}"])
    assert found.status == "optimal" and network(found.witness)[1] == pytest.approx(middle, abs=1e-5)


@pytest.mark.parametrize("ending", ["mps", "lp"])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_files_hold_the_same_problem(tmp_path, ending, scale):
    import highspy

    network, box = _network(5), Box([-scale, 0.0], [scale, scale])
    program = to_program(network, "2*y[0] - y[1] + 3", box=box, constraints=["x[0] + x[1] <= 1"], integers=[1])
    path = program.write(tmp_path / f"p.{ending}")
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.readModel(str(path))
    solver.run()
    value = solver.getInfo().objective_function_value
    truth = relukit.optimize(network, "2*y[0] - y[1] + 3", box=box, constraints=["x[0] + x[1] <= 1"], integers=[1])
    assert value == pytest.approx(truth.value, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("ending", ["mps", "lp"])
@pytest.mark.parametrize("formulation", ["sos1", "partition"])
def test_files_of_other_formulations_are_read_by_scip(tmp_path, ending, formulation):
    scip = pytest.importorskip("pyscipopt")
    network, box = _network(5), Box([-1.0, 0.0], [1.0, 1.0])
    question = {"box": box, "constraints": ["x[0] + x[1] <= 1"]}
    path = to_program(network, "2*y[0] - y[1] + 3", formulation=formulation, **question).write(tmp_path / f"p.{ending}")
    model = scip.Model()
    model.hideOutput()
    model.readProblem(str(path))
    model.optimize()
    truth = relukit.optimize(network, "2*y[0] - y[1] + 3", **question)
    assert model.getStatus() == "optimal" and model.getObjVal() == pytest.approx(truth.value, rel=2e-4)


def _solve_pyomo(network, box, formulation, scalers):
    pyo = pytest.importorskip("pyomo.environ")
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(2), bounds=lambda _, j: (box.lower[j], box.upper[j]))
    model.y = pyo.Var(range(2))
    inside = relukit.embed(model, network, model.x, model.y, formulation, **scalers)
    model.goal = pyo.Objective(expr=model.y[0] - 0.2 * model.x[1], sense=pyo.maximize)
    pyo.SolverFactory("appsi_highs").solve(model)
    return inside, pyo.value(model.goal)


def _solve_scip(network, box, formulation, scalers):
    scip = pytest.importorskip("pyscipopt")
    model = scip.Model()
    model.hideOutput()
    x = [model.addVar(f"x{j}", lb=box.lower[j], ub=box.upper[j]) for j in range(2)]
    y = [model.addVar(f"y{j}", lb=None) for j in range(2)]
    inside = relukit.embed(model, network, x, y, formulation, **scalers)
    model.setObjective(y[0] - 0.2 * x[1], "maximize")
    model.optimize()
    return inside, model.getObjVal()


def _solve_cvxpy(network, box, formulation, scalers):
    cp = pytest.importorskip("cvxpy")
    x = [cp.Variable(name=f"x{j}") for j in range(2)]
    y = [cp.Variable(name=f"y{j}") for j in range(2)]
    rules = [v >= l for v, l in zip(x, box.lower)] + [v <= u for v, u in zip(x, box.upper)]
    inside = relukit.embed(rules, network, x, y, formulation, bounds=box, **scalers)
    problem = cp.Problem(cp.Maximize(y[0] - 0.2 * x[1]), rules)
    problem.solve(solver=cp.HIGHS)
    return inside, problem.value


def _solve_linopy(network, box, formulation, scalers):
    linopy = pytest.importorskip("linopy")
    model = linopy.Model()
    x = [model.add_variables(float(box.lower[j]), float(box.upper[j]), name=f"x{j}") for j in range(2)]
    y = [model.add_variables(name=f"y{j}") for j in range(2)]
    inside = relukit.embed(model, network, x, y, formulation, **scalers)
    model.add_objective(y[0] - 0.2 * x[1], sense="max")
    model.solve("highs", output_flag=False)
    return inside, model.objective.value


def _solve_gurobi(network, box, formulation, scalers):
    gp = pytest.importorskip("gurobipy")  # its free licence takes 2,000 variables
    with gp.Env(params={"OutputFlag": 0}) as environment, gp.Model(env=environment) as model:
        x = [model.addVar(lb=box.lower[j], ub=box.upper[j], name=f"x{j}") for j in range(2)]
        y = [model.addVar(lb=-gp.GRB.INFINITY, name=f"y{j}") for j in range(2)]
        model.update()
        inside = relukit.embed(model, network, x, y, formulation, **scalers)
        model.setObjective(y[0] - 0.2 * x[1], gp.GRB.MAXIMIZE)
        model.optimize()
        kept = {id(v): v.X for v in (*x, *y)}  # the model closes with its environment
        inside.value_of = lambda v: kept[id(v)]
        return inside, model.ObjVal


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("solve", "formulation"),
    [(_solve_pyomo, "big-m"), (_solve_pyomo, "partition"), (_solve_scip, "big-m"), (_solve_scip, "sos1"), (_solve_cvxpy, "big-m"),
     (_solve_cvxpy, "partition"), (_solve_linopy, "big-m"), (_solve_gurobi, "big-m"), (_solve_gurobi, "sos1")],
)  # fmt: skip
def test_embedded_networks_solve_to_the_optimum_of_optimize(solve, formulation):
    network, box = _network(11), Box([2.0, -30.0], [4.0, 10.0])
    mean, scale = np.array([3.0, -10.0]), np.array([0.5, 20.0])
    out_mean, out_scale = np.array([5.0, 1.0]), np.array([2.0, -1.0])
    inside, value = solve(
        network, box, formulation, {"input_scaler": (mean, scale), "output_scaler": (out_mean, out_scale)}
    )
    chain = network.dense_chain()
    weights, biases = list(chain.weights), list(chain.biases)
    weights[0], biases[0] = weights[0] / scale, biases[0] - (weights[0] / scale) @ mean
    weights[-1], biases[-1] = weights[-1] * out_scale[:, None], biases[-1] * out_scale + out_mean
    folded = from_layers(weights, biases, list(chain.activations))
    truth = relukit.optimize(folded, maximize="y[0] - 0.2*x[1]", box=box)
    assert value == pytest.approx(truth.value, rel=1e-3, abs=1e-3)
    checked = inside.check()
    assert checked["difference"] < 1e-5 and np.allclose(checked["y_float64"], folded(checked["x"]), atol=1e-9)
    assert np.allclose(inside.sensitivities()[0], folded.gradient(checked["x"], np.array([1.0, 0.0])), atol=1e-9)
    report = inside.report()
    assert report["stable_units"] + report["unstable_units"] == 7 and report["largest_M"] > 0
    assert "out of reach" in inside.why_infeasible({0: (1e6, 2e6)})[0] and inside.why_infeasible({0: (-1e6, 1e6)}) == []


def test_what_is_refused(tmp_path):
    network, box = _network(0), Box([-1.0, -1.0], [1.0, 1.0])
    with pytest.raises(InvalidInput, match="exactly one of <="):
        relukit.optimize(network, "y[0]", box=box, constraints=["x[0] + 1"])
    with pytest.raises(InvalidInput, match="exactly one of <="):
        relukit.optimize(network, "y[0]", box=box, constraints=["0 <= x[0] >= 1"])
    with pytest.raises(InvalidInput, match=r"inputs x\[0\] to x\[1\]"):
        relukit.optimize(network, "y[0]", box=box, constraints=["x[5] <= 1"])
    with pytest.raises(InvalidInput, match="integer inputs"):
        relukit.optimize(network, "y[0]", box=box, integers=[4])
    with pytest.raises(UnboundedSet, match="finite sides"):
        relukit.optimize(network, "y[0]", box=Box([-np.inf, 0.0], [1.0, 1.0]))
    with pytest.raises(InvalidInput, match="formulation"):
        relukit.encode(network, box, "convex hull")
    with pytest.raises(InvalidInput, match="embed knows models of"):
        relukit.embed(object(), network, [0, 0], [0, 0])
    with pytest.raises(ShapeMismatch, match="2 inputs and 2 outputs"):
        relukit.embed([], network, [0], [0, 0])
    with pytest.raises(InvalidInput, match=r"\.mps or \.lp"):
        to_program(network, "y[0]", box=box).write(tmp_path / "p.txt")


@pytest.mark.parametrize("formulation", ["big-m", "partition", "sos1"])
def test_every_formulation_has_the_network_as_its_only_solutions(formulation):
    """Inputs fixed, any output pushed up or down: the program's only answer is the network's."""
    scip = pytest.importorskip("pyscipopt")
    del scip
    network, box = _network(21, (3, 5, 4, 2)), Box([-1.0] * 3, [1.0] * 3)
    for k, x in enumerate(box.sample(4, 0)):
        program = relukit.encode(network, box, formulation).program
        program.lower[:3] = program.upper[:3] = x
        for j in range(2):
            program.cost[:] = 0
            program.cost[3 + j], program.maximize = 1.0, bool((j + k) % 2)
            status, point, _ = program.solve(20, "scip")
            assert status == "optimal" and point[3 + j] == pytest.approx(network(x)[j], abs=1e-5)


def test_partition_rows_relax_less_than_big_m():
    network, box = _network(21, (3, 8, 6, 1)), Box([-1.0] * 3, [1.0] * 3)
    root = {}
    for formulation in ("big-m", "partition"):
        program = to_program(network, "y[0]", box=box, formulation=formulation)
        exact = program.solve()[2]
        program.integer[:] = False
        root[formulation] = program.solve()[2]
        assert root[formulation] >= exact - 1e-6
    assert root["partition"] < root["big-m"] - 0.01


def test_the_report_holds_what_sampling_and_the_rows_show():
    network, box = _network(31, (3, 9, 7, 1)), Box([-0.3] * 3, [0.3] * 3)
    found = relukit.encode(network, box)
    report, A = found.report(), np.abs(found.program.A.toarray())
    assert report["smallest_coefficient"] == A[A > 0].min() and report["largest_coefficient"] == A.max()
    chain, points = network.dense_chain(), box.sample(4000, 0)
    changing, largest, h = 0, 0.0, points
    for W, b in zip(chain.weights[:-1], chain.biases[:-1]):
        z = h @ W.T + b
        both = (z.min(axis=0) < 0) & (z.max(axis=0) > 0)
        changing, largest, h = changing + both.sum(), max(largest, np.abs(z[:, both]).max(initial=0)), np.maximum(z, 0)
    assert changing <= report["unstable_units"] < 16 == report["stable_units"] + report["unstable_units"]
    assert report["largest_M"] >= largest and report["advice"] == []


def test_badly_scaled_models_are_advised_about():
    W = [np.array([[1e-6, 1.0], [3e4, -2e4]]), np.array([[1.0, -1.0]])]
    network = from_layers(W, [np.zeros(2), np.zeros(1)], [get("relu")])
    report = relukit.encode(network, Box([-1.0, -1.0], [1.0, 1.0])).report()
    assert report["largest_M"] > 1e4 and any("narrow the box" in a for a in report["advice"])
    assert any("scale inputs" in a for a in report["advice"])


@pytest.mark.filterwarnings("ignore")
def test_sensitivities_are_differences_and_targets_are_held_against_exact_ranges():
    network, box = _network(11), Box([2.0, -30.0], [4.0, 10.0])
    scalers = {"input_scaler": (np.array([3.0, -10.0]), np.array([0.5, 20.0])), "output_scaler": (np.array([5.0, 1.0]), np.array([2.0, -1.0]))}  # fmt: skip
    pyo = pytest.importorskip("pyomo.environ")
    model = pyo.ConcreteModel()
    model.x, model.y = pyo.Var(range(2), bounds=lambda _, j: (box.lower[j], box.upper[j])), pyo.Var(range(2))
    inside = relukit.embed(model, network, model.x, model.y, **scalers)
    with pytest.raises(InvalidInput, match="no solution"):
        inside.check()
    assert {v.name for v in model.component_data_objects(pyo.Var)} > {"network.v[h0]", "network.v[d0]", "x[0]"}
    assert {c.name for c in model.component_data_objects(pyo.Constraint)} > {
        "network.rows[out0]",
        "network.rows[above0]",
    }
    model.x[0].fix(3.31)
    model.x[1].fix(-7.7)
    model.goal = pyo.Objective(expr=model.y[0])
    pyo.SolverFactory("appsi_highs").solve(model)
    run = lambda x: np.array([5.0, 1.0]) + np.array([2.0, -1.0]) * network((x - [3.0, -10.0]) / [0.5, 20.0])
    at, step = np.array([3.31, -7.7]), np.array([1e-6, 1e-5])
    for j in range(2):
        e = np.eye(2)[j] * step
        assert np.allclose(inside.sensitivities()[:, j], (run(at + e) - run(at - e)) / (2 * step[j]), rtol=1e-4)
    grid = np.stack(np.meshgrid(np.linspace(2, 4, 400), np.linspace(-30, 10, 400)), -1).reshape(-1, 2)
    low, high = np.array([run(x) for x in grid[::37]]).min(axis=0), np.array([run(x) for x in grid[::37]]).max(axis=0)
    ranges = [
        relukit.optimize(network, box=Box([-2.0, -1.0], [2.0, 1.0]), **{way: "y[0]"}).bound * 2 + 5
        for way in ("minimize", "maximize")
    ]
    assert ranges[0] <= low[0] and ranges[1] >= high[0]
    said = inside.why_infeasible(
        {0: (ranges[1] + 0.01, ranges[1] + 1)}
    )  # just out of reach: linear bounds do not show it
    assert len(said) == 1 and "out of reach" in said[0]
    assert inside.why_infeasible({0: (high[0] - 0.1, high[0])}) == []
    with pytest.raises(InvalidInput, match="low end"):
        inside.why_infeasible({0: (1.0, 0.0)})


def test_solvers_that_are_unknown_or_missing_are_named(monkeypatch):
    import importlib.util

    from relukit import MissingExtra
    from relukit.optimization import second_opinion

    network, box = _network(0), Box([-1.0, -1.0], [1.0, 1.0])
    with pytest.raises(InvalidInput, match="known are highs, scip, gurobi"):
        to_program(network, "y[0]", box=box).solve(solver="cplex")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install relukit\[scip\]"):
        second_opinion(network, "y[0]", box=box, solver="scip")
    with pytest.raises(MissingExtra, match=r"pip install relukit\[gurobi\]"):
        second_opinion(network, "y[0]", box=box, solver="gurobi")


def test_languages_that_are_missing_are_named(monkeypatch):
    import sys

    from relukit import MissingExtra
    from relukit.programs._adapters import ADAPTERS

    program = relukit.encode(_network(0), Box([-1.0, -1.0], [1.0, 1.0])).program
    for language, module, install in (
        ("pyomo", "pyomo.environ", r"relukit\[pyomo\]"), ("pyscipopt", "pyscipopt", r"relukit\[scip\]"),
        ("gurobipy", "gurobipy", r"relukit\[gurobi\]"), ("cvxpy", "cvxpy", "pip install cvxpy"),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtra, match=install):
            ADAPTERS[language].add([], program, [0, 0], [0, 0], "network")


def test_gurobi_solves_programs_where_it_is_installed():
    pytest.importorskip("gurobipy")
    network, box = _network(0), Box([-1.0, -1.0], [1.0, 1.0])
    for formulation in ("big-m", "sos1"):
        program = to_program(network, "y[0]", box=box, constraints=["x[0] + x[1] <= 0.5"], formulation=formulation)
        status, point, bound = program.solve(20, "gurobi", np.zeros(2))
        truth = relukit.optimize(network, "y[0]", box=box, constraints=["x[0] + x[1] <= 0.5"])
        assert (
            status == "optimal"
            and bound == pytest.approx(truth.value, rel=2e-4)
            and network(point[:2])[0] == pytest.approx(bound, rel=1e-4)
        )


def test_categories_and_several_networks_go_into_programs():
    network = _network(41, (3, 5, 1))
    box = Box([-0.4, -1.0, -1.0], [1.3, 2.0, 1.5])
    mine = relukit.optimize(network, "y[0]", box=box, categories=[[0, 1, 2]])
    assert to_program(network, "y[0]", box=box, categories=[[0, 1, 2]]).solve()[2] == pytest.approx(
        mine.value, rel=1e-4
    )
    two, boxes = {"a": network, "b": network}, {"a": box, "b": box}
    more = {"links": ["b.x[0] == a.x[0]"], "constraints": ["a.x[1] + b.x[1] <= 0.3"], "box": boxes}
    joint = relukit.optimize(two, "a.y[0] - b.y[0]", **more)
    assert to_program(two, "a.y[0] - b.y[0]", **more).solve()[2] == pytest.approx(joint.value, rel=2e-4, abs=1e-6)
