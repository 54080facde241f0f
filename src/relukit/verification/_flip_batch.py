"""Smallest flips of many inputs: the curve of certified accuracy, and a histogram."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from relukit._errors import ShapeMismatch
from relukit._types import AnyArray, Array

if TYPE_CHECKING:
    from relukit.verification.flip import Flip


@dataclass(frozen=True, eq=False)
class FlipTable:
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
        lower, upper = np.array([f.lower for f in self.flips]), np.array([f.upper for f in self.flips])
        share = lambda bound: (self.right & (bound > np.asarray(radii)[:, None])).mean(axis=1)
        return share(lower), share(upper)

    def to_dict(self) -> dict[str, Any]:
        found = [f.upper for f in self.flips if np.isfinite(f.upper)]
        radii = np.linspace(0, 1.05 * max(found, default=1.0), 43)
        certified, possible = self.curve(radii)
        counts, edges = np.histogram(found, bins=20) if found else (np.zeros(0), np.zeros(0))
        return {
            "rows": len(self.flips),
            "proven": sum(f.status == "proven" for f in self.flips),
            "accuracy": float(self.right.mean()),
            "median": float(np.median(found)) if found else None,
            "curve": {"radius": radii.tolist(), "certified": certified.tolist(), "possible": possible.tolist()},
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
            "cpu_seconds": sum(f.cpu_seconds for f in self.flips),
            "flips": [f.to_dict() for f in self.flips],
        }

    def plot(self, ax: Any = None) -> Any:
        """The curve of certified accuracy over the histogram of distances."""
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(6, 3.6))[1] if ax is None else ax
        content = self.to_dict()
        curve, bars = content["curve"], content["histogram"]
        if bars["counts"]:
            edges, counts = np.array(bars["edges"]), np.array(bars["counts"])
            ax.bar(
                edges[:-1], counts / len(self.flips), np.diff(edges), align="edge", color="#d5dde5", label="flips found"
            )
        ax.plot(curve["radius"], curve["certified"], color="#1f6f54", label="certified")
        if not np.allclose(curve["certified"], curve["possible"], atol=1e-9):
            ax.plot(curve["radius"], curve["possible"], color="#b4562b", ls="--", label="not refuted")
        ax.set(xlabel="size of the change", ylabel="share of rows", ylim=(0, 1.02))
        ax.set_xlim(left=0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        c = self.to_dict()
        middle = "no flip found" if c["median"] is None else f"median distance {c['median']:.4g}"
        return f"FlipTable({c['rows']} rows, {c['proven']} proven, accuracy {c['accuracy']:.1%}, {middle})"


def run_many(
    one: Callable[[Array, float], "Flip"],
    rows: Array,
    decided: AnyArray,
    labels: Any,
    timeout: float,
    total: float | None,
    on_progress: Callable[[int, int], None] | None,
) -> FlipTable:
    """Flip rows one after the other, each within `timeout`, all within `total` seconds.

    Raises:
        ShapeMismatch: There is not one label for each row.
    """
    right = np.ones(len(rows), bool)
    if labels is not None:
        labels = np.asarray(labels).reshape(-1)
        if len(labels) != len(rows):
            raise ShapeMismatch(f"{len(labels)} labels for {len(rows)} rows: give one label for each row")
        right = decided == labels
    stop, found = np.inf if total is None else time.perf_counter() + total, []
    for k, row in enumerate(rows):
        left = (stop - time.perf_counter()) / (len(rows) - k)
        found.append(one(row, max(min(timeout, 2 * left), 0.05)))
        if on_progress is not None:
            on_progress(k + 1, len(rows))
    return FlipTable(tuple(found), right)
