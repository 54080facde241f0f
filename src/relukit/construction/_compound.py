"""Max-min forms, grids and triangulations as networks, with their errors."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._types import Array
from relukit.construction._accuracy import measured_error
from relukit.construction._approximate import grid_rounding
from relukit.construction._built import Built
from relukit.construction._maxima import Difference, MaxMin
from relukit.construction._meshes import Grid, Triangulation
from relukit.construction._tables import GOALS, collapse
from relukit.construction._trees import form_bound, mesh_bound
from relukit.network import Network
from relukit.network.rewrite import Builder
from relukit.sets import Box

_POINTS = 2_000
_LOOSE = 100.0  # a proven bound may be so many goals: it sums up what single roundings hardly ever do together


def _errors(network: Network, function: Any, points: Array) -> tuple[float, float]:
    wide, single = points.astype(np.float64), points.astype(np.float32)
    return measured_error(network, function.exact, single, np.float32), measured_error(network, function.exact, wide, np.float64)  # fmt: skip


def from_maxima(function: MaxMin | Difference, box: Any, skip: bool) -> Built:
    n = function.inputs
    builder = Builder((n,))
    node = function.node(builder, skip)
    network = builder.build(node)
    domain = None if box is None else as_box(box, n)
    around = Box(-np.ones(n), np.ones(n)) if domain is None else domain
    single, double = _errors(network, function, around.sample(_POINTS // 4, 0))
    bounds = [form_bound(function, around, dtype, skip) for dtype in (np.float32, np.float64)]
    return Built(network.with_(box=domain), function, "max-min", single, double, *bounds)


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


def from_mesh(mesh: Grid | Triangulation, skip: bool, form: str, dtype: np.dtype) -> Built:
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
    scale, found = max(1.0, float(np.abs(mesh.values).max())), []
    for name in [form] if form else names:
        network = mesh.network(skip, name != "mesh")
        single, double = _mesh_errors(network, mesh, inside, owner)
        bounds = [mesh_bound(mesh, d, skip, name != "mesh") for d in (np.float32, np.float64)]
        found.append(Built(network, mesh, name, single, double, *bounds))
        if single <= GOALS["float32"] * scale and (bounds[0] is None or bounds[0] <= _LOOSE * GOALS["float32"] * scale):
            break
    best = found[0] if len(found) == 1 or not _is_better(found[1], found[0]) else found[1]
    return replace(best, tried=tuple(_tried(b) for b in (*(b for b in found if b is not best), best)))


def _is_better(second: Built, first: Built) -> bool:
    """Whether a form with more units is worth them in float32: its proven bound is smaller, or where one is not known its measured error."""
    if second.error_bound_float32 is not None and first.error_bound_float32 is not None:
        return second.error_bound_float32 < first.error_bound_float32
    return second.max_error_float32 < first.max_error_float32


def _tried(built: Built) -> dict[str, Any]:
    keys = (
        "form",
        "hidden_units",
        "max_error_float32",
        "max_error_float64",
        "error_bound_float32",
        "error_bound_float64",
    )
    return {k: getattr(built, k) for k in keys}


def _inside(points: Array, low: Array, high: Array) -> Array:
    """Points that stay in the box when they are rounded to float32."""
    single = points.astype(np.float32).astype(np.float64)
    keep = np.all((single >= low) & (single <= high), axis=1)
    return np.where(keep[:, None], single, points)


def _mesh_errors(network: Network, mesh: Triangulation, points: Array, owner: Array) -> tuple[float, float]:
    """Errors at points near the middle of known simplices, each against its own simplex's affine function."""
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
