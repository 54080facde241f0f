"""Build a network that is a given function."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array
from relukit.construction._accuracy import Truth, measured_error, table_bound, test_points
from relukit.construction._approximate import Proof, grid_rounding, interpolate
from relukit.construction._hinges import centers, hats, hinges
from relukit.construction._maxima import Difference, MaxMin
from relukit.construction._meshes import Grid, Triangulation
from relukit.construction._read import read_columns
from relukit.construction._table import Table
from relukit.network import Network, Origin
from relukit.network.rewrite import Builder
from relukit.piecewise import PiecewiseLinear
from relukit.sets import Box

# Largest measured error that a form may have before a more accurate one is tried: about 8 and 5 roundings of numbers near 1. Values
# above 1 raise it for hinges, which have the fewest units; above 4, where float32 has no smaller steps, for all.
GOALS = {"float32": 1e-6, "float64": 1e-15}
_POINTS = 2_000


@dataclass(frozen=True, eq=False)
class Built(Shown):
    """A network, the function it stands for, and how far apart they are.

    Arguments:
        network: With `box` set where the function has a domain.
        function: The table, grid, triangulation or max-min form.
        form: `hinges`, `hats`, `anchored hats`, `max-min`, `mesh` or `centered mesh`.
        max_error_float32, max_error_float64: Largest difference to the function, measured against rational arithmetic on knots, their
            neighbors and points between; inputs are numbers of that precision.
        error_bound_float32, error_bound_float64: Bounds of it for every point and every order of summation; None where none is known.
        fewest_units: Units of the smallest exact network of the kind (hinges for tables).
        proof: For functions given by a bound: why the network is within eps.
    """

    network: Network
    function: Any
    form: str
    max_error_float32: float
    max_error_float64: float
    error_bound_float32: float | None = None
    error_bound_float64: float | None = None
    fewest_units: int | None = None
    proof: Proof | None = None
    cpu_seconds: float = 0.0
    tried: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @property
    def hidden_units(self) -> int:
        return self.network.units

    def to_dict(self) -> dict[str, Any]:
        keys = (
            "form", "hidden_units", "fewest_units", "max_error_float32", "max_error_float64", "error_bound_float32",
            "error_bound_float64", "cpu_seconds",
        )  # fmt: skip
        more: dict[str, Any] = {"inputs": self.network.inputs, "parameters": self.network.parameters, "tried": list(self.tried)}  # fmt: skip
        if self.proof is not None:
            more["proof"] = self.proof.to_dict()
        return {k: getattr(self, k) for k in keys} | more

    def __repr__(self) -> str:
        return f"Built({self.form}, {self.hidden_units} hidden units, error {self.max_error_float32:.1e} in float32, {self.max_error_float64:.1e} in float64)"  # fmt: skip


def build(
    function: Any,
    box: Any = None,
    eps: float | None = None,
    *,
    lipschitz: Any = None,
    curvature: float | None = None,
    value_error: float = 0.0,
    skip: bool = True,
    form: str = "",
    dtype: Any = np.float32,
    sort: bool = False,
    limit: int = 1_000_000,
) -> Built:
    """A ReLU network that equals a piecewise-linear function, or stays within a proven eps of any function.

    Arguments:
        function: What the network shall be:

            - a table of one variable: `Table(x, y)`, a pair `(x, y)`, rows `(n, 2)`, a `PiecewiseLinear`, a SciPy spline of degree 1;
            - a `MaxMin` (see `max_affine`, `min_affine`) or a `Difference` of two;
            - a `Grid` or a `Triangulation`, or rows `(n, 3)`, `(n, 4)` that fill a regular grid: inputs, then the value;
            - a path to a file of such rows;
            - a callable on rows, with `box`, `eps`, and `lipschitz` or `curvature`.
        box: For callables the box, `Box(lower, upper)` or `(lower, upper)`.
        eps: Largest distance to the callable.
        lipschitz: A bound L with |f(x) - f(y)| <= L |x - y| (l2), or one bound per input.
        curvature: A bound of the second derivative (spectral norm of the Hessian).
        value_error: How far a computed value of the callable may be off.
        skip: Whether later layers may read earlier ones directly, which saves units.
        form: Forces a form of a table or triangulation; chosen by itself otherwise.
        dtype: Precision of files written from the network; `float64` allows knots that collapse in float32.
        sort: Sort the rows of a table first.
        limit: Most vertices of a grid for a callable.

    Returns:
        The network with its measured errors and bounds, and for callables the proof.

    Raises:
        InvalidInput: Numbers are missing, repeated, not sorted or not finite; knots collapse in float32; a bound is missing or wrong.
        ShapeMismatch: Arrays do not fit together.

    References:
        Understanding Deep Neural Networks with Rectified Linear Units, Arora et al., 2018 (every such function is a network).
        ReLU Deep Neural Networks and Linear Finite Elements, He, Li, Xu, Zheng, 2020 (hats as minima).

    Example:
        >>> built = build(([0.0, 1.0, 2.0, 4.0], [0.0, 3.0, 1.0, 1.0]))
        >>> built.hidden_units, built.network([[0.5]])
        (2, array([[1.5]]))
    """
    started = time.process_time()
    dtype = np.dtype(dtype)
    if dtype.name not in GOALS:
        raise InvalidInput(f"dtype is float32 or float64, got {dtype.name}")
    noun = _noun(function, sort)
    if isinstance(noun, Table):
        built = _from_table(noun, skip, form, dtype)
    elif isinstance(noun, MaxMin | Difference):
        built = _from_maxima(noun, box, skip)
    elif isinstance(noun, Grid | Triangulation):
        built = _from_mesh(noun, skip, form, dtype)
    else:
        if box is None or eps is None:
            raise InvalidInput("a callable needs box= and eps=: where, and how close")
        built = _from_callable(noun, box, eps, lipschitz, curvature, value_error, skip, form, dtype, limit)
    network = built.network.with_(dtype=dtype, origin=Origin("built"), notes=())
    return replace(built, network=network, cpu_seconds=time.process_time() - started)


def _noun(function: Any, sort: bool) -> Any:
    """What was given as a table, form, mesh or callable."""
    if isinstance(function, Table | MaxMin | Difference | Grid | Triangulation):
        return function
    if isinstance(function, PiecewiseLinear):
        return _from_activation(function)
    if isinstance(function, str | Path):
        return _from_rows(read_columns(function), sort)
    if hasattr(function, "k") and hasattr(function, "t") and hasattr(function, "c"):
        return _from_spline(function)
    if isinstance(function, tuple) and len(function) == 2:
        return Table.sorted(*function) if sort else Table(*function)
    if callable(function):
        return function
    try:
        rows = np.asarray(function, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"cannot build from {type(function).__name__}: give a table, max-min form, grid, triangulation or callable") from error  # fmt: skip
    return _from_rows(rows, sort)


def _from_activation(f: PiecewiseLinear) -> Table:
    if f.slopes.ndim != 1 or np.ndim(f.height):
        raise InvalidInput(f"{f.name} has knots or slopes of its own for each unit: build one unit, f.take(...)")
    knots = f.knots if len(f.knots) else np.zeros(1)
    x = np.r_[knots[0] - 1, knots, knots[-1] + 1]
    return Table(x, f(x))


def _from_spline(spline: Any) -> Table:
    """A SciPy BSpline of degree 1: coefficient i is its value at knot i + 1."""
    if spline.k != 1 or np.ndim(spline.c) != 1:
        raise InvalidInput(f"only splines of degree 1 with one output are piecewise linear, got degree {spline.k}")
    return Table(np.asarray(spline.t)[1:-1], np.asarray(spline.c)[: len(spline.t) - 2])


def _from_rows(rows: Array, sort: bool) -> Any:
    if rows.ndim != 2 or not 2 <= rows.shape[1] <= 4:
        raise ShapeMismatch(f"rows need 2 to 4 columns (1 to 3 inputs, then the value), got shape {rows.shape}")
    if rows.shape[1] == 2:
        return Table.sorted(rows[:, 0], rows[:, 1]) if sort else Table(rows[:, 0], rows[:, 1])
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        raise InvalidInput(f"row {bad[0][0]}, column {bad[0][1]} is {rows[tuple(bad[0])]}: all numbers must be finite")
    axes, places = zip(*(np.unique(column, return_inverse=True) for column in rows[:, :-1].T))
    shape = tuple(len(a) for a in axes)
    cell = np.ravel_multi_index(places, shape)
    if len(rows) != np.prod(shape) or len(np.unique(cell)) != len(rows):
        twice = np.flatnonzero(np.bincount(cell, minlength=1) > 1)
        what = f"point {[float(a[i]) for a, i in zip(axes, np.unravel_index(twice[0], shape))]} is repeated" if len(twice) else f"{len(rows)} rows fill no grid of {' x '.join(map(str, shape))} points"  # fmt: skip
        raise InvalidInput(f"{what}. Give each point of a regular grid once, or points and simplices as a Triangulation.")  # fmt: skip
    values = np.empty(shape)
    values.reshape(-1)[cell] = rows[:, -1]
    return Grid(axes, values)


# -- tables ---------------------------------------------------------------------------------------------------------------


def collapse(knots: Array, what: str = "knots") -> None:
    """Raise `InvalidInput` where neighboring numbers are one in float32, or too close or too large for it."""
    with np.errstate(over="ignore"):
        single = knots.astype(np.float32)
    if not np.all(np.isfinite(single)):
        raise InvalidInput(f"{what} reach {np.abs(knots).max():.3g}, beyond float32. Build with dtype='float64'.")
    same = np.flatnonzero(np.diff(single) <= 0)
    if len(same):
        i = int(same[0])
        raise InvalidInput(
            f"{what} {float(knots[i])!r} and {float(knots[i + 1])!r} are one number in float32: the function would lose a piece. "
            "Build with dtype='float64', or shift the inputs towards 0."
        )


_FORMS: dict[str, Callable[[Table, bool], Network]] = {
    "hinges": hinges,
    "hats": lambda table, skip: hats(table, False, False, skip),
    "anchored hats": lambda table, skip: hats(table, True, False, skip),
    "two-sided hats": lambda table, skip: hats(table, False, True, skip),
    "anchored two-sided hats": lambda table, skip: hats(table, True, True, skip),
}


def _from_table(given: Table, skip: bool, form: str, dtype: np.dtype, enough: float | None = None) -> Built:
    """The first form that meets the goals in both precisions, from the fewest units up; else the most accurate."""
    if dtype == np.float32:
        collapse(given.x)
    table = given.reduced()
    if form and form not in _FORMS:
        raise InvalidInput(f"a table takes the forms {', '.join(_FORMS)}; got '{form}'")
    size = float(np.abs(given.y).max())
    truths = [Truth(lambda p: given.exact(p[0]), test_points(given, np.dtype(d)), d) for d in _wanted(dtype)]
    tried: list[tuple[str, Network, dict[str, float]]] = []
    best = 0
    for name in [form] if form else _FORMS:
        makers = (
            [partial(hinges, table, skip, c) for c in centers(table)]
            if name == "hinges"
            else [partial(_FORMS[name], table, skip)]
        )
        with np.errstate(over="ignore", invalid="ignore"):
            found = [(net, {t.dtype.name: t.error(net) for t in truths}) for net in (make() for make in makers)]
        network, errors = min(found, key=lambda f: max(e / GOALS[d] for d, e in f[1].items()))
        tried.append((name, network, errors))
        scale = max(1.0, size if name == "hinges" else size / 4)
        if all(e <= max(GOALS[d] * scale, 0.0 if enough is None else 0.1 * enough) for d, e in errors.items()):
            best = len(tried) - 1
            break
        worst = [max(e / GOALS[d] for d, e in es.items()) for _, _, es in tried]
        best = int(np.argmin(worst))
    name, network, errors = tried[best]
    removed = 0.0 if len(table) == len(given) else max(abs(float(table.exact(x) - y)) for x, y in zip(*given.fractions))
    bounds = {}
    for d in _wanted(dtype):
        bound = table_bound(network, table, np.dtype(d))
        bounds[d] = None if bound is None else bound + removed * (1 + 1e-9)
    return Built(
        network.with_(box=Box(given.x[:1], given.x[-1:])), given, name,
        errors.get("float32", float("nan")), errors["float64"], bounds.get("float32"), bounds["float64"],
        len(table) - 2 + (not skip), None, 0.0,
        tuple({"form": n, "hidden_units": net.units} | {f"max_error_{d}": e for d, e in es.items()} for n, net, es in tried),
    )  # fmt: skip


def _wanted(dtype: np.dtype) -> tuple[str, ...]:
    return ("float32", "float64") if dtype == np.float32 else ("float64",)


# -- max-min forms and meshes ------------------------------------------------------------------------------------------------


def _errors(network: Network, function: Any, points: Array) -> tuple[float, float]:
    wide, single = points.astype(np.float64), points.astype(np.float32)
    return measured_error(network, function.exact, single, np.float32), measured_error(network, function.exact, wide, np.float64)  # fmt: skip


def _from_maxima(function: MaxMin | Difference, box: Any, skip: bool) -> Built:
    n = function.inputs
    builder = Builder((n,))
    node = function.node(builder, skip)
    network = builder.build(node)
    domain = None if box is None else as_box(box, n)
    sample = (Box(-np.ones(n), np.ones(n)) if domain is None else domain).sample(_POINTS // 4, 0)
    single, double = _errors(network, function, sample)
    return Built(network.with_(box=domain), function, "max-min", single, double)


def as_box(box: Any, inputs: int) -> Box:
    """A box from a `Box` or `(lower, upper)`, numbers standing for all inputs."""
    if not isinstance(box, Box):
        if not (isinstance(box, tuple | list) and len(box) == 2):
            raise InvalidInput("box is a Box or (lower, upper)")
        lower, upper = (np.atleast_1d(np.asarray(v, float)) for v in box)
        size = max(len(lower), len(upper), inputs)
        box = Box(np.broadcast_to(lower, (size,)) if len(lower) == 1 else lower, np.broadcast_to(upper, (size,)) if len(upper) == 1 else upper)  # fmt: skip
    if inputs and box.size != inputs:
        raise ShapeMismatch(f"a box of {box.size} inputs for a function of {inputs}")
    return box


def _from_mesh(mesh: Grid | Triangulation, skip: bool, form: str, dtype: np.dtype) -> Built:
    generator = np.random.default_rng(0)
    if isinstance(mesh, Grid):
        if dtype == np.float32:
            for k, axis in enumerate(mesh.axes):
                collapse(axis, f"knots of input {k}")
        low, high = (np.array([a[j] for a in mesh.axes]) for j in (0, -1))
        points = low + (high - low) * generator.random((_POINTS, mesh.inputs))
        network = mesh.network(skip)
        single, double = _errors(network, mesh, _inside(points, low, high))
        found = [grid_rounding(mesh, d) for d in (np.float32, np.float64)]
        bounds = [b if np.isfinite(b) else None for b in found]
        return Built(network.with_(box=Box(low, high)), mesh, "mesh", single, double, bounds[0], bounds[1], network.units)  # fmt: skip
    names = ("mesh", "centered mesh")
    if form and form not in names:
        raise InvalidInput(f"a triangulation takes the forms {', '.join(names)}; got '{form}'")
    if dtype == np.float32 and len(np.unique(mesh.points.astype(np.float32), axis=0)) < len(np.unique(mesh.points, axis=0)):  # fmt: skip
        raise InvalidInput("two points of the triangulation are one in float32. Build with dtype='float64', or shift the points towards 0.")  # fmt: skip
    shares = generator.dirichlet(np.ones(mesh.inputs + 1), _POINTS // 4)
    owner = generator.integers(len(mesh.simplices), size=len(shares))
    inside = (shares[:, :, None] * mesh.points[mesh.simplices[owner]]).sum(axis=1)
    scale = max(1.0, float(np.abs(mesh.values).max()))
    best: Built | None = None
    for name in [form] if form else names:
        network = mesh.network(skip, name != "mesh")
        single, double = _mesh_errors(network, mesh, inside, owner)
        built = Built(network, mesh, name, single, double, fewest_units=None)
        if best is None or single < best.max_error_float32:
            best = built
        if single <= GOALS["float32"] * scale:
            best = built
            break
    assert best is not None
    return best


def _inside(points: Array, low: Array, high: Array) -> Array:
    """Points that stay in the box when they are rounded to float32."""
    single = points.astype(np.float32).astype(np.float64)
    keep = np.all((single >= low) & (single <= high), axis=1)
    return np.where(keep[:, None], single, points)


def _mesh_errors(network: Network, mesh: Triangulation, points: Array, owner: Array) -> tuple[float, float]:
    """Errors at points near the middle of known simplices, each against its own simplex's affine function."""
    from fractions import Fraction

    found = []
    for dtype in (np.float32, np.float64):
        rows = points.astype(dtype)
        values = {}
        for row, k in zip(rows.astype(float).tolist(), owner):
            x = tuple(map(Fraction, row))
            shares = [sum((a * b for a, b in zip(g, x)), g[-1]) for g in mesh.barycentric[k]]
            if min(shares) >= 0:
                values[x] = sum((s * Fraction(float(mesh.values[v])) for s, v in zip(shares, mesh.simplices[k])), Fraction(0))  # fmt: skip
        kept = np.array([[float(v) for v in x] for x in values]).reshape(-1, mesh.inputs)
        found.append(measured_error(network, values.__getitem__, kept, dtype) if len(kept) else 0.0)
    return found[0], found[1]


# -- any function -------------------------------------------------------------------------------------------------------------


def _from_callable(
    f: Callable[..., Any], box: Any, eps: float, lipschitz: Any, curvature: float | None, value_error: float,
    skip: bool, form: str, dtype: np.dtype, limit: int,
) -> Built:  # fmt: skip
    grid, proof = interpolate(f, as_box(box, 0), float(eps), lipschitz, curvature, float(value_error), limit)
    if grid.inputs > 1:
        return replace(_from_mesh(grid, skip, form, dtype), proof=proof)
    table = Table(grid.axes[0], grid.values)
    left = (proof.eps - proof.interpolation - proof.value_error) / (1 + 8 * 2.0**-53)
    built = _from_table(table, skip, form, dtype, eps)
    if built.error_bound_float64 is None or built.error_bound_float64 > left:
        built = _from_table(table, skip, "hats", dtype)
    if built.error_bound_float64 is None or built.error_bound_float64 > left:
        built = replace(_from_mesh(grid, skip, "", dtype), fewest_units=built.fewest_units)
    rounding = built.error_bound_float64
    single = built.error_bound_float32
    assert rounding is not None
    return replace(built, proof=replace(proof, rounding_float64=rounding, rounding_float32=float("nan") if single is None else single))  # fmt: skip
