"""Max-min forms, grids, triangulations, bounded functions, and the way back."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

import relukit
from relukit import Box, InvalidInput, build
from relukit.construction import (
    Difference,
    Grid,
    MaxMin,
    Triangulation,
    exact_pieces,
    largest_difference,
    max_affine,
    min_affine,
    same_function,
    unbuild,
)
from relukit.construction._accuracy import evaluate
from relukit.network import from_layers
from tests.oracles import exact_forward
from tests.strategies import RELU


@settings(max_examples=16, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["max", "min", "difference", "max-min"]))
def test_trees_equal_max_and_min(seed, skip, kind):
    g = np.random.default_rng(seed)
    n, m = int(g.integers(1, 4)), int(g.integers(1, 10))
    A, b = g.integers(-8, 9, (m, n)) / 4, g.integers(-8, 9, m) / 4
    z = lambda x: x @ A.T + b
    groups = [g.choice(m, g.integers(1, m + 1), replace=False) for _ in range(int(g.integers(1, 5)))]
    form, want = {
        "max": (max_affine(A, b), lambda x: z(x).max(1)),
        "min": (min_affine(A, b), lambda x: z(x).min(1)),
        "difference": (Difference(max_affine(A, b), max_affine(-A, b)), lambda x: z(x).max(1) - (b - x @ A.T).max(1)),
        "max-min": (MaxMin(A, b, groups), lambda x: np.max([z(x)[:, k].min(1) for k in groups], axis=0)),
    }[kind]
    built = build(form, (-2.0, 2.0), skip=skip)
    x = g.integers(-64, 65, (50, n)) / 32  # all sums are exact in float64
    assert np.array_equal(built.network(x)[:, 0], want(x)) and np.array_equal(form(x), want(x))
    assert built.max_error_float64 < 1e-14 and built.max_error_float32 < 1e-5
    depth = len(built.network.activations)
    if kind == "max":
        distinct = len(np.unique(np.c_[A, b], axis=0))
        assert depth == (0 if skip else 1) + int(np.ceil(np.log2(distinct)))
        assert built.hidden_units == distinct - 1 or not skip
    if not skip and kind != "difference":
        assert built.network.dense_chain() is not None


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.booleans())
def test_there_and_back_is_the_same_function(seed, n, deep):
    """Weights are multiples of 1/4, so that max-min forms hold floats only."""
    g = np.random.default_rng(seed)
    sizes = [n, 4, 2, 1] if deep and n < 3 else [n, 4, 1]
    weights = [g.integers(-8, 9, (b, a)) / 4 for a, b in zip(sizes, sizes[1:])]
    biases = [g.integers(-4, 5, b) / 4 for b in sizes[1:]]
    network = from_layers(weights, biases, [RELU] * (len(sizes) - 2))
    box = Box(-np.ones(n), np.ones(n))
    back = unbuild(network, box, "max-min")
    assert back.exact
    again = build(back.form).network
    assert same_function(network, again, box)
    for point in [p for piece in exact_pieces(network, box) for p in piece.points][:20]:
        assert back.form.exact(point) == exact_forward(weights, biases, point)[1][0]
    mesh = unbuild(network, box, "triangulation")
    places, heights = mesh.fractions
    for p, h in list(zip(places, heights))[:20]:
        assert h == exact_forward(weights, biases, p)[1][0]
    if mesh.pieces <= 12:
        assert sum(mesh.form.volumes) == pytest.approx(2**n, rel=1e-12)
        if mesh.exact:
            mesh.form.check()
            difference = largest_difference(network, build(mesh.form).network, box)
            assert difference <= Fraction(1e-12 * max(1, max(abs(float(h)) for h in heights)))


def test_a_difference_is_seen():
    network = from_layers([np.eye(2), np.ones((1, 2))], [np.zeros(2), np.zeros(1)], [RELU])
    other = from_layers([np.eye(2), np.ones((1, 2))], [np.zeros(2), np.array([2.0**-60])], [RELU])
    box = Box([-1, -1], [1, 1])
    assert not same_function(network, other, box) and largest_difference(network, other, box) == Fraction(1, 2**60)


@pytest.mark.parametrize(
    "name", ["deg_grid", "deg_dup", "deg_zero_bias", "d2_20x1_rand", "d3_12x1_rand", "d1_64x4_rand"]
)
def test_pieces_are_counted_right(data_folder, name):
    folder = data_folder / "bench" / "regions"
    network = relukit.load(folder / f"{name}.npz")
    expected = json.loads((folder / "expected.json").read_text())[name]["regions"]
    assert sum(1 for _ in exact_pieces(network, network.box)) == expected


def barycentric_value(points, simplices, values, x):
    """By linear solves in float64."""
    found = np.full(len(x), np.nan)
    for s in simplices:
        system = np.r_[points[s].T, np.ones((1, len(s)))]
        shares = np.linalg.solve(system, np.c_[x, np.ones(len(x))].T)
        inside = shares.min(axis=0) >= -1e-9
        found[inside] = (values[s] @ shares)[inside]
    return found


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 3), st.booleans(), st.booleans())
def test_meshes_equal_barycentric_interpolation(seed, n, skip, centered):
    g = np.random.default_rng(seed)
    points = np.r_[np.array(np.meshgrid(*[[0.0, 1.0]] * n)).reshape(n, -1).T, g.uniform(0.1, 0.9, (6, n))]
    simplices = Delaunay(points).simplices
    values = g.uniform(-1, 1, len(points))
    mesh = Triangulation(points, simplices, values)
    network = mesh.network(skip, centered)
    x = g.random((200, n))
    want = barycentric_value(points, simplices, values, x)
    worst = np.linalg.cond(np.concatenate([points[s][1:] - points[s][0] for s in simplices]).reshape(-1, n, n)).max()
    assert np.abs(network(x)[:, 0] - want).max() < 1e-13 * worst
    assert np.abs(network(points)[:, 0] - values).max() < 1e-13 * worst


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 3),
    st.booleans(),
    st.sampled_from(["mesh", "centered mesh"]),
    st.sampled_from([0.0, 30.0, 1000.0]),
)
def test_bounds_of_meshes_hold(seed, n, skip, form, shift):
    """Far from the origin float32 loses digits: measured errors grow a thousandfold, and the bounds with them."""
    g = np.random.default_rng(seed)
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * n)).reshape(n, -1).T
    points = np.r_[corners, g.uniform(0.05, 0.95, (5, n))] + shift
    simplices, values = Delaunay(points - shift).simplices, g.uniform(-1, 1, len(points))
    built = build(Triangulation(points, simplices, values), skip=skip, form=form)
    bounds = built.error_bound_float32, built.error_bound_float64
    assert built.max_error_float32 <= bounds[0] and built.max_error_float64 <= bounds[1]
    assert bounds[1] < 1e-6 * bounds[0] and bounds[0] < 2e4 * max(built.max_error_float32, 2.0**-24)
    inner = shift + 0.01 + 0.98 * g.random((400, n))
    x = inner.astype(np.float32).astype(np.float64)
    want = barycentric_value(points - shift, simplices, values, x - shift)
    assert np.abs(evaluate(built.network, x, np.float32)[:, 0].astype(float) - want).max() <= bounds[0] + 1e-9


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_bounds_of_max_min_forms_hold(seed, skip, difference):
    g = np.random.default_rng(seed)
    n, m = int(g.integers(1, 5)), int(g.integers(1, 12))
    make = lambda: MaxMin(g.standard_normal((m, n)), g.standard_normal(m), [g.choice(m, g.integers(1, m + 1), replace=False) for _ in range(int(g.integers(1, 6)))])  # fmt: skip
    form = Difference(make(), make()) if difference else make()
    built = build(form, (-3.0, 50.0), skip=skip)
    x = g.uniform(-3, 50, (2000, n)).astype(np.float32).astype(np.float64)
    worst = np.abs(evaluate(built.network, x, np.float32)[:, 0].astype(float) - form(x)).max()
    assert max(worst, built.max_error_float32) <= built.error_bound_float32 < 5e-2
    assert built.max_error_float64 <= built.error_bound_float64 < 1e-10


def test_no_bound_where_float32_cannot_hold_the_numbers():
    form = max_affine([[1e39, 0.0], [0.0, 1.0]], [0.0, 0.0])
    with np.errstate(all="ignore"):
        built = build(form, (-1.0, 1.0), dtype="float64")
    assert built.error_bound_float32 is None and built.error_bound_float64 < 1e25


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.booleans())
def test_grids_equal_their_own_simplices(seed, n, skip):
    g = np.random.default_rng(seed)
    axes = tuple(np.cumsum(g.uniform(0.3, 1.5, int(g.integers(2, 5)))) for _ in range(n))
    grid = Grid(axes, g.uniform(-1, 1, tuple(map(len, axes))))
    built = build(grid, skip=skip)
    mesh = grid.triangulation()
    low, high = (np.array([a[j] for a in axes]) for j in (0, -1))
    x = low + (high - low) * g.random((100, n))
    want = barycentric_value(mesh.points, mesh.simplices, mesh.values, x)
    assert np.abs(built.network(x)[:, 0] - want).max() < 1e-13 and np.abs(grid(x) - want).max() < 1e-13
    assert built.max_error_float32 <= built.error_bound_float32 and built.max_error_float64 <= built.error_bound_float64
    for row in x[:5]:
        assert float(grid.exact(tuple(map(Fraction, row.tolist())))) == pytest.approx(float(grid(row)), abs=1e-13)


def test_a_fine_grid_stays_accurate_in_float32():
    axes = (np.linspace(0, 1, 101), np.linspace(0, 1, 81))
    built = build(Grid(axes, np.random.default_rng(0).uniform(-1, 1, (101, 81))))
    assert built.max_error_float64 < 1e-13 and built.max_error_float32 < 1e-4


@pytest.mark.parametrize(
    ("points", "simplices", "message"),
    [
        ([[0, 0], [1, 0], [2, 0]], [[0, 1, 2]], "simplex 0 is flat"),
        ([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]], [[0, 1, 2], [1, 3, 4], [2, 4, 3]], "no neighbor"),  # hanging
        ([[0, 0], [2, 0], [0, 2], [0.1, 0.1]], [[0, 1, 2], [3, 1, 2]], "overlap"),
        ([[0, 0], [1, 0], [0, 1]], [[0, 1, 7]], "whole numbers of points"),
        ([[0, 0], [1, 0], [0, np.nan]], [[0, 1, 2]], "must be finite"),
    ],
)
def test_bad_triangulations(points, simplices, message):
    with pytest.raises(InvalidInput, match=message):
        build(Triangulation(points, simplices, np.ones(len(points))))


def test_rows_of_a_grid_and_bad_rows():
    rows = np.array([(a, b, a * b) for b in (0.0, 1.0, 3.0) for a in (0.0, 2.0)])
    built = build(rows)
    assert isinstance(built.function, Grid) and np.abs(built.network(rows[:, :2])[:, 0] - rows[:, 2]).max() < 1e-14
    with pytest.raises(InvalidInput, match="fill no grid"):
        build(rows[:-1])
    with pytest.raises(InvalidInput, match="is repeated"):
        build(rows[[0, 1, 2, 3, 4, 4]])
    with pytest.raises(InvalidInput, match="group 0"):
        MaxMin(np.eye(2), np.zeros(2), [[2]])


CASES = [
    (lambda x: np.sin(3 * x[:, 0]), (0.0, 4.0), 1e-3, {"curvature": 9.0}),
    (lambda x: np.abs(np.sin(5 * x[:, 0])), (-1.0, 1.0), 2e-2, {"lipschitz": 5.0}),
    (lambda x: np.abs(x).sum(axis=1), ([-1, -1], [1, 2]), 0.1, {"lipschitz": [1.0, 1.0]}),
    (lambda x: np.hypot(x[:, 0], x[:, 1]), ([-1, -1], [1, 1]), 0.1, {"lipschitz": 1.0}),
    (lambda x: np.cos(x).prod(axis=1), ([-1, -1, 0], [1, 1, 1]), 0.05, {"curvature": 3.0}),
    (lambda x: x[:, 0] * 0 + 7, (0.0, 1.0), 0.1, {"lipschitz": 0.0}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_any_function_within_eps(case):
    f, box, eps, constants = CASES[case]
    built = build(f, box, eps, **constants)
    x = built.network.box.sample(4_000, case)
    assert np.abs(built.network(x)[:, 0] - f(x)).max() <= built.proof.total <= eps
    assert built.proof.check() and built.proof.rounding_float64 < 1e-9
    json.dumps(built.to_dict(), allow_nan=False)


def test_bad_bounds_are_refused():
    f = lambda x: np.sin(3 * x[:, 0])
    with pytest.raises(InvalidInput, match=r"lipschitz = 1\.0 is too small"):
        build(f, (0, 4), 1e-2, lipschitz=1)
    with pytest.raises(InvalidInput, match=r"curvature = 1\.0 is too small"):
        build(f, (0, 4), 1e-2, curvature=1)
    with pytest.raises(InvalidInput, match="give lipschitz="):
        build(f, (0, 4), 1e-2)
    with pytest.raises(InvalidInput, match="more than limit"):
        build(lambda x: x.sum(1), ([0] * 3, [1] * 3), 1e-4, lipschitz=2)
    with pytest.raises(InvalidInput, match="eps must be positive"):
        build(f, (0, 4), 0, lipschitz=3)
    with pytest.raises(InvalidInput, match="must be finite on the whole box"), np.errstate(divide="ignore"):
        build(lambda x: 1 / x[:, 0], (0, 1), 0.1, lipschitz=3)
    with pytest.raises(InvalidInput, match="1 to 3 inputs"):
        build(lambda x: x.sum(1), ([0] * 4, [1] * 4), 0.1, lipschitz=2)
    with pytest.raises(InvalidInput, match="no interior"):
        build(f, (1, 1), 0.1, lipschitz=3)


@pytest.mark.parametrize("name", ["hardtanh", "leaky_relu", "relu6"])
def test_rational_pieces_of_other_activations(name):
    """Rows with large powers of two before offsets with small ones: all units of a layer keep one common unit."""
    for seed in range(12):
        g = np.random.default_rng(seed)
        weights = [g.integers(-2, 3, (4, 2)) * 2.0, g.integers(-3, 4, (3, 4)) * 4.0, g.integers(-2, 3, (2, 3)) / 2]
        biases = [g.integers(-2, 3, k) * 2.0 for k in (4, 3, 2)]
        options = {"negative_slope": 0.25} if name == "leaky_relu" else {}
        network = from_layers(weights, biases, [relukit.activations.get(name, **options)] * 2)
        for piece in exact_pieces(network, Box([-2, -2], [2, 2])):
            middle = [sum(p[k] for p in piece.points) / len(piece.points) for k in range(2)]
            told = [float(row[0] * middle[0] + row[1] * middle[1] + row[2]) for row in piece.rows]
            assert np.abs(network(np.array([float(v) for v in middle])) - told).max() < 1e-9


@pytest.mark.parametrize("shift, form", [(0.0, "centered mesh"), (100.0, "centered mesh")])
def test_the_form_of_a_mesh_is_chosen_by_proven_bounds(shift, form):
    from scipy.spatial import Delaunay

    points = np.random.default_rng(0).random((30, 2)) + shift
    mesh = Triangulation(points, Delaunay(points).simplices, np.sin(3 * points[:, 0]) * points[:, 1])
    built = relukit.build(mesh)
    bounds = {row["form"]: row["error_bound_float32"] for row in built.tried}
    assert built.form == form == min(bounds, key=lambda name: bounds[name]) and set(bounds) == {"mesh", "centered mesh"}
    assert all(row["max_error_float32"] <= row["error_bound_float32"] for row in built.tried)
