"""Build a network that is a given function."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.construction._approximate import interpolate
from relukit.construction._built import Built
from relukit.construction._compound import as_box, from_maxima, from_mesh
from relukit.construction._files import of_content, of_rows, read_function
from relukit.construction._maxima import Difference, MaxMin
from relukit.construction._meshes import Grid, Triangulation
from relukit.construction._table import Table
from relukit.construction._tables import GOALS, from_table
from relukit.network import Origin
from relukit.piecewise import PiecewiseLinear


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
    triangulate: bool = False,
    limit: int = 1_000_000,
) -> Built:
    """A ReLU network that equals a piecewise-linear function, or stays within a proven eps of any function.

    Arguments:
        function: What the network shall be:

            - a table of one variable: `Table(x, y)`, a pair `(x, y)`, rows `(n, 2)`, a `PiecewiseLinear`, a SciPy spline of degree 1;
            - a `MaxMin` (see `max_affine`, `min_affine`) or a `Difference` of two;
            - a `Grid` or a `Triangulation`, or rows `(n, 3)`, `(n, 4)`, inputs, then the value, that fill a regular grid (others: `triangulate`);
            - a path to a file of such rows, of what these classes' `to_dict()` holds (.json, .npz), or of a surface (.obj, .ply); that dictionary;
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
        triangulate: Make Delaunay's triangulation of rows that fill no grid.
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
    noun = _noun(function, sort, triangulate)
    if isinstance(noun, Table):
        built = from_table(noun, skip, form, dtype)
    elif isinstance(noun, MaxMin | Difference):
        built = from_maxima(noun, box, skip)
    elif isinstance(noun, Grid | Triangulation):
        built = from_mesh(noun, skip, form, dtype)
    else:
        if box is None or eps is None:
            raise InvalidInput("a callable needs box= and eps=: where, and how close")
        built = _from_callable(noun, box, eps, lipschitz, curvature, value_error, skip, form, dtype, limit)
    network = built.network.with_(dtype=dtype, origin=Origin("built"), notes=())
    return replace(built, network=network, cpu_seconds=time.process_time() - started)


def _noun(function: Any, sort: bool, triangulate: bool) -> Any:
    """What was given as a table, form, mesh or callable."""
    if isinstance(function, Table | MaxMin | Difference | Grid | Triangulation):
        return function
    if isinstance(function, PiecewiseLinear):
        return _from_activation(function)
    if isinstance(function, str | Path):
        return read_function(function, sort, triangulate)
    if isinstance(function, dict):
        return of_content(function, "the dictionary", sort)
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
    return of_rows(rows, sort, triangulate)


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


def _from_callable(
    f: Callable[..., Any], box: Any, eps: float, lipschitz: Any, curvature: float | None, value_error: float,
    skip: bool, form: str, dtype: np.dtype, limit: int,
) -> Built:  # fmt: skip
    grid, proof = interpolate(f, as_box(box, 0), float(eps), lipschitz, curvature, float(value_error), limit)
    if grid.inputs > 1:
        return replace(from_mesh(grid, skip, form, dtype), proof=proof)
    table = Table(grid.axes[0], grid.values)
    left = (proof.eps - proof.interpolation - proof.value_error) / (1 + 8 * 2.0**-53)
    built = from_table(table, skip, form, dtype, eps)
    if built.error_bound_float64 is None or built.error_bound_float64 > left:
        built = from_table(table, skip, "hats", dtype)
    if built.error_bound_float64 is None or built.error_bound_float64 > left:
        built = replace(from_mesh(grid, skip, "", dtype), fewest_units=built.fewest_units)
    rounding = built.error_bound_float64
    single = built.error_bound_float32
    assert rounding is not None
    return replace(built, proof=replace(proof, rounding_float64=rounding, rounding_float32=float("nan") if single is None else single))  # fmt: skip
