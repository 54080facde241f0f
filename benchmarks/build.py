"""Tables as networks: units and errors of every form, and time; functions to a proven eps; round trips.

python -m benchmarks build [--smoke]
"""

import time

import numpy as np
from scipy.spatial import Delaunay

import relukit
from benchmarks._common import keep
from relukit.construction import Grid, Triangulation, largest_difference, max_affine, unbuild
from relukit.network import from_layers
from relukit.network.rewrite import RELU


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    g = np.random.default_rng(0)
    n = 60 if smoke else 1000
    even, h = np.linspace(0, 1, n), np.random.default_rng(2)
    eight = h.standard_normal((8, 3)), h.standard_normal(8)
    tables = {
        f"{n} rough, knots in float32": (even.astype(np.float32).astype(float), g.uniform(-1, 1, n)),
        f"{n} rough, knots in float64": (even, g.uniform(-1, 1, n)),
        f"{n} normal values, uneven knots": (np.sort(g.uniform(0, 10, n)), g.standard_normal(n)),
        f"{n} of a sine": (6 * even - 3, np.sin(6 * even - 3)),
    }
    if not smoke:
        tables["10000 rough, knots in float64"] = np.linspace(0, 1, 10_000), g.uniform(-1, 1, 10_000)
    content = {
        "tables": [row(name, relukit.build(t)) for name, t in tables.items()],
        "functions": [row(name, relukit.build(*call, **bound)) for name, (call, bound) in functions(smoke).items()],
        "grids": [row(f"{'x'.join(map(str, s))} grid", relukit.build(grid(g, s))) for s in ([(5, 4)] if smoke else [(40, 30), (10, 9, 8)])],
        "triangulations": [row(name, relukit.build(mesh)) for name, mesh in triangulations(np.random.default_rng(1), smoke).items()],
        "max-min forms": [row("8 pieces of 3 inputs on [-1, 1]", relukit.build(max_affine(*eight)))],
        "round trips": [trip(g, sizes) for sizes in ([(2, 4, 1)] if smoke else [(1, 12, 8, 1), (2, 8, 1), (2, 5, 4, 1), (3, 5, 1)])],
    }  # fmt: skip
    keep("build", content, smoke)


def row(name, built):
    keys = ("form", "hidden_units", "max_error_float32", "max_error_float64", "error_bound_float32", "error_bound_float64", "cpu_seconds")  # fmt: skip
    content = built.to_dict()
    proof = {} if built.proof is None else {"eps": built.proof.eps, "proven": built.proof.total}
    return {"case": name} | {k: content[k] for k in keys} | proof | {"tried": content["tried"]}


def functions(smoke):
    f1 = lambda x: np.sin(3 * x[:, 0])
    f2 = lambda x: np.sin(x[:, 0]) * np.cos(x[:, 1])
    f3 = lambda x: np.exp(-(x**2).sum(axis=1))
    cases = {"sin 3x on [0, 4], curvature": ((f1, (0.0, 4.0), 1e-3), {"curvature": 9.0})}
    if not smoke:
        cases["sin 3x on [0, 4], curvature, fine"] = ((f1, (0.0, 4.0), 1e-6), {"curvature": 9.0})
        cases["sin 3x on [0, 4], Lipschitz"] = ((f1, (0.0, 4.0), 1e-2), {"lipschitz": 3.0})
        cases["sin x cos y on [0, 3] x [0, 2]"] = ((f2, ([0.0, 0.0], [3.0, 2.0]), 1e-2), {"curvature": 2.0})
        cases["Gaussian on [-1, 1]^3"] = ((f3, ([-1.0] * 3, [1.0] * 3), 5e-2), {"curvature": 2.0})
    return cases


def grid(g, shape):
    return Grid(tuple(np.linspace(0, 1, m) for m in shape), g.uniform(-1, 1, shape))


def triangulations(g, smoke):
    """Delaunay's triangles and tetrahedra of points inside a square and a cube; and of the first moved far from the origin."""
    found = {}
    for n, m in [(2, 9)] if smoke else [(2, 200), (3, 40)]:
        corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * n), -1).reshape(-1, n)
        points = np.r_[corners, g.uniform(0.02, 0.98, (m, n))]
        simplices, values = Delaunay(points).simplices, g.uniform(-1, 1, len(points))
        for shift in (0.0, 100.0):
            name = f"{len(points)} points of {n} inputs" + (f", near {shift:g}" if shift else "")
            found[name] = Triangulation(points + shift, simplices, values)
    return found


def trip(g, sizes):
    """A network with weights in quarters to its max-min form and back, compared in rational arithmetic."""
    weights = [g.integers(-8, 9, (b, a)) / 4 for a, b in zip(sizes, sizes[1:])]
    network = from_layers(weights, [g.integers(-4, 5, b) / 4 for b in sizes[1:]], [RELU] * (len(sizes) - 2))
    box = relukit.Box(-np.ones(sizes[0]), np.ones(sizes[0]))
    start = time.process_time()
    back = unbuild(network, box, "max-min")
    again = relukit.build(back.form).network
    found = largest_difference(network, again, box)
    return {"sizes": sizes, "pieces": back.pieces, "units": again.units, "exact": back.exact, "largest_difference": float(found), "cpu_seconds": time.process_time() - start}  # fmt: skip
