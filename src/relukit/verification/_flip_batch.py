"""Smallest flips of many inputs: the curve of certified accuracy, and a histogram."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._numerics import atomic_path, write_json
from relukit._shown import Shown
from relukit._spread import answers
from relukit._types import AnyArray, Array

if TYPE_CHECKING:
    from relukit.verification.flip import Flip


@dataclass(frozen=True, eq=False)
class FlipTable(Shown):
    """The flips of many inputs.

    Arguments:
        flips: One per row, in order.
        right: Whether each row was decided as its label says; all True where there are no labels.
    """

    flips: tuple["Flip", ...]
    right: np.ndarray

    def curve(self, radii: Array) -> tuple[Array, Array]:
        """Accuracy under any change up to each radius: the proven share of rows, and the share that no known flip refutes.

        A row counts as certified where it is decided right and its lower bound lies above the radius.
        """
        return _curve([f.lower for f in self.flips], [f.upper for f in self.flips], self.right, radii)

    def to_dict(self) -> dict[str, Any]:
        return table_of([f.to_dict() for f in self.flips], self.right)

    def plot(self, ax: Any = None) -> Any:
        """The curve of certified accuracy over the histogram of distances."""
        return draw(self.to_dict(), ax)

    def __repr__(self) -> str:
        c = self.to_dict()
        middle = "no flip found" if c["median"] is None else f"median distance {c['median']:.4g}"
        return f"FlipTable({c['rows']} row{'s' * (c['rows'] != 1)}, {c['proven']} proven, accuracy {c['accuracy']:.1%}, {middle})"


class FlipsInterrupted(KeyboardInterrupt):
    """Ctrl-C between two rows of many.

    Arguments:
        numbers: Rows that were done.
        table: Their flips.
    """

    def __init__(self, numbers: list[int], table: FlipTable) -> None:
        super().__init__(f"interrupted after {len(numbers)} rows")
        self.numbers, self.table = numbers, table


def table_of(flips: list[dict[str, Any]], right: AnyArray) -> dict[str, Any]:
    """Flips as data, with the curve of certified accuracy and a histogram of distances."""
    right = np.asarray(right, bool)
    found = [f["upper"] for f in flips if f["upper"] is not None]
    radii = np.linspace(0, 1.05 * max(found, default=1.0), 43)
    upper = [np.inf if f["upper"] is None else f["upper"] for f in flips]
    certified, possible = _curve([f["lower"] for f in flips], upper, right, radii)
    counts, edges = np.histogram(found, bins=20) if found else (np.zeros(0), np.zeros(0))
    return {
        "rows": len(flips),
        "proven": sum(f["status"] == "proven" for f in flips),
        "accuracy": float(right.mean()),
        "median": float(np.median(found)) if found else None,
        "curve": {"radius": radii.tolist(), "certified": certified.tolist(), "possible": possible.tolist()},
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "cpu_seconds": sum(f["cpu_seconds"] for f in flips),
        "right": right.tolist(),
        "flips": flips,
    }


def _curve(lower: list[float], upper: list[float], right: Any, radii: Array) -> tuple[Array, Array]:
    share = lambda bound: (np.asarray(right, bool) & (np.array(bound) > np.asarray(radii)[:, None])).mean(axis=1)
    return share(lower), share(upper)


def draw(content: dict[str, Any], ax: Any = None) -> Any:
    """A table's curve of certified accuracy, a step at each row's bound, over the histogram of distances."""
    import matplotlib.pyplot as plt

    ax = plt.subplots(figsize=(6, 3.6))[1] if ax is None else ax
    flips, right, bars = content["flips"], content["right"], content["histogram"]
    if bars["counts"]:
        edges, counts = np.array(bars["edges"]), np.array(bars["counts"])
        ax.bar(edges[:-1], counts / content["rows"], np.diff(edges), align="edge", color="#d5dde5", label="flips found")
    lower = [f["lower"] for f in flips]
    upper = [np.inf if f["upper"] is None else f["upper"] for f in flips]
    most = content["curve"]["radius"][-1]
    kinds = [(lower, "certified", {"color": "#1f6f54"})]
    if not np.allclose(lower, upper, atol=1e-5 * most):
        kinds.append((upper, "not refuted", {"color": "#b4562b", "ls": "--"}))
    for bounds, label, style in kinds:
        radii = np.unique([0.0, *(b for b in bounds if b < most), most])
        ax.step(radii, _curve(bounds, bounds, right, radii)[0], where="post", label=label, **style)
    norm = flips[0]["norm"] if flips else "inf"
    ax.set(xlabel=f"{'l-inf' if norm == 'inf' else f'l{norm:g}'} size of the change", ylabel="share of rows", xlim=(0, most), ylim=(0, 1.02))
    ax.set_title(f"{content['proven']} of {content['rows']} distances proven", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def write_table(content: dict[str, Any], out: Path) -> None:
    """A table as JSON, or its curve as a picture, atomically.

    Raises:
        InvalidInput: Neither, by the file's name.
    """
    if out.suffix == ".json":
        write_json(out, content)
    elif out.suffix in (".png", ".svg", ".pdf"):
        import matplotlib

        matplotlib.use("Agg")
        figure = draw(content).figure
        with atomic_path(out) as path:
            figure.savefig(path, dpi=160, bbox_inches="tight", format=out.suffix[1:])
    else:
        raise InvalidInput(f"a table of flips is written to .json, .png, .svg or .pdf, got '{out}'")


def run_many(
    one: Callable[[Array, float], "Flip"],
    rows: Array,
    decided: AnyArray,
    labels: Any,
    timeout: float,
    total: float | None,
    on_progress: Callable[[int, int], None] | None,
    executor: Executor | None,
) -> FlipTable:
    """Flip rows, each within `timeout`; one after the other within `total` seconds, or by the workers of an executor.

    Raises:
        ShapeMismatch: There is not one label for each row.
        InvalidInput: `total` together with an executor.
        FlipsInterrupted: Ctrl-C; it holds the rows that were done.
    """
    if executor is not None and total is not None:
        raise InvalidInput("total shares seconds among rows done one after the other; with an executor give timeout")
    right = np.ones(len(rows), bool)
    if labels is not None:
        labels = np.asarray(labels).reshape(-1)
        if len(labels) != len(rows):
            raise ShapeMismatch(f"{len(labels)} labels for {len(rows)} rows: give one label for each row")
        right = decided == labels
    found: dict[int, Any] = {}
    try:
        for k, answer in _each(one, rows, timeout, total, executor):
            found[k] = answer
            if on_progress is not None:
                on_progress(len(found), len(rows))
    except KeyboardInterrupt as stopped:
        done = sorted(found)
        raise FlipsInterrupted(done, FlipTable(tuple(found[k] for k in done), right[done])) from stopped
    return FlipTable(tuple(found[k] for k in range(len(rows))), right)


def _each(
    one: Callable[[Array, float], "Flip"], rows: Array, timeout: float, total: float | None, executor: Executor | None
) -> Iterator[tuple[int, "Flip"]]:
    """The flips with their rows' numbers as they are found."""
    if executor is not None:
        yield from answers(one, [(row, timeout) for row in rows], executor)
        return
    stop = np.inf if total is None else time.perf_counter() + total
    for k, row in enumerate(rows):
        left = (stop - time.perf_counter()) / (len(rows) - k)
        yield k, one(row, max(min(timeout, 2 * left), 0.05))
