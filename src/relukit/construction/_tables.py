"""A table as a network: the form with the fewest units that stays accurate."""

from collections.abc import Callable
from functools import partial

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.construction._accuracy import Truth, test_points
from relukit.construction._built import Built
from relukit.construction._hinges import centers, hats, hinges
from relukit.construction._rounding import table_bound
from relukit.construction._table import Table
from relukit.network import Network
from relukit.sets import Box

# Largest measured error that a form may have before a more accurate one is tried: about 8 and 5 roundings of numbers near 1. Values
# above 1 raise it for hinges, which have the fewest units; above 4, where float32 has no smaller steps, for all.
GOALS = {"float32": 1e-6, "float64": 1e-15}


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


def too_large(values: Array, steps: Array, rises: Array, dtype: np.dtype) -> None:
    """Raise `InvalidInput` where values or slopes are beyond a precision, or all values below it."""
    most, least = float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)
    other = " Build with dtype='float64'." if dtype == np.float32 else " Scale the values."
    size = float(np.abs(values).max())
    with np.errstate(over="ignore"):
        steep = float(np.abs(rises / steps).max(initial=0.0))
    if size > 0.25 * most:
        raise InvalidInput(f"values reach {size:.3g}, too close to the end of {dtype.name} ({most:.3g}).{other}")
    if steep > 0.25 * most:
        raise InvalidInput(f"slopes reach {steep:.3g}, too close to the end of {dtype.name} ({most:.3g}).{other}")
    if 0 < size < least / np.finfo(dtype).eps:
        raise InvalidInput(f"no value is larger than {size:.3g}: {dtype.name} keeps its digits only above {least / np.finfo(dtype).eps:.3g}.{other}")  # fmt: skip


_FORMS: dict[str, Callable[[Table, bool], Network]] = {
    "hinges": hinges,
    "hats": lambda table, skip: hats(table, False, False, skip),
    "anchored hats": lambda table, skip: hats(table, True, False, skip),
    "two-sided hats": lambda table, skip: hats(table, False, True, skip),
    "anchored two-sided hats": lambda table, skip: hats(table, True, True, skip),
}


def from_table(given: Table, skip: bool, form: str, dtype: np.dtype, enough: float | None = None) -> Built:
    """The first form that meets the goals in both precisions, from the fewest units up; else the most accurate."""
    if dtype == np.float32:
        collapse(given.x)
    with np.errstate(over="ignore"):
        too_large(given.y, np.diff(given.x), np.diff(given.y), dtype)
    table = given.reduced()
    if form and form not in _FORMS:
        raise InvalidInput(f"a table takes the forms {', '.join(_FORMS)}; got '{form}'")
    size = float(np.abs(given.y).max())
    truths = [Truth(lambda p: given.exact(p[0]), test_points(given, np.dtype(d)), d) for d in wanted(dtype)]
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
    for d in wanted(dtype):
        bound = table_bound(network, table, np.dtype(d))
        bounds[d] = None if bound is None else bound + removed * (1 + 1e-9)
    return Built(
        network.with_(box=Box(given.x[:1], given.x[-1:])), given, name,
        errors.get("float32", float("nan")), errors["float64"], bounds.get("float32"), bounds["float64"],
        len(table) - 2 + (not skip), None, 0.0,
        tuple({"form": n, "hidden_units": net.units} | {f"max_error_{d}": e for d, e in es.items()} for n, net, es in tried),
    )  # fmt: skip


def wanted(dtype: np.dtype) -> tuple[str, ...]:
    return ("float32", "float64") if dtype == np.float32 else ("float64",)
