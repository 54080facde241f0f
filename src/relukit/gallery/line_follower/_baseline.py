"""What was used before: a threshold, the middle of the dark pixels in a band of rows, and a PD law on it."""

from typing import Any

import numpy as np

from relukit.gallery.line_follower._draw import draw
from relukit.gallery.line_follower._robots import FRAME, Robots, drive
from relukit.gallery.line_follower._world import HEIGHT, WIDTH, World

Array = np.ndarray
BINS = 32
GRID = {"row": (4, 8, 12, 16), "p": (6.0, 9.0, 13.0, 18.0), "d": (0.0, 0.3, 0.8)}


def thresholds(frames: Array) -> Array:
    """Otsu's threshold of each frame (n,), on 32 bins.

    References:
        A Threshold Selection Method from Gray-Level Histograms, Otsu, 1979.
    """
    n = len(frames)
    at = (frames.reshape(n, -1) // (256 // BINS)).astype(np.int64) + BINS * np.arange(n)[:, None]
    share = np.bincount(at.ravel(), minlength=n * BINS).reshape(n, BINS) / (HEIGHT * WIDTH)
    below, level = np.cumsum(share, 1), np.cumsum(share * np.arange(BINS), 1)
    between = (level[:, -1:] * below - level) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return (np.argmax(between, 1) + 1) * (256 // BINS)


class Centroid:
    """Steers by the middle of the dark pixels in five rows around `row`; holds its command where there are none."""

    def __init__(self, row: int, p: float, d: float) -> None:
        self.row, self.p, self.d = row, p, d
        self.last: Array | None = None
        self.command: Array | None = None

    def __call__(self, frames: Array, _: Any = None) -> Array:
        dark = frames < thresholds(frames)[:, None, None]
        band = dark[:, max(0, self.row - 2) : self.row + 3].sum(1)
        count = band.sum(1)
        middle = (band * (np.arange(WIDTH) - (WIDTH - 1) / 2)).sum(1) / np.maximum(count, 1) / (WIDTH / 2)
        if self.last is None or self.command is None:
            self.last, self.command = middle, np.zeros(len(frames))
        wanted = -self.p * middle - self.d * (middle - self.last) / FRAME
        self.command = np.where(count > 0, wanted, self.command)
        self.last = np.where(count > 0, middle, self.last)
        return self.command


def tune(count: int = 12) -> dict[str, float]:
    """The row and gains that serve best on tracks drawn for training: most laps finished, then the least offset."""
    world = World(draw(count, 9_999))
    on = np.arange(count)
    best, chosen = (-1.0, 0.0), {}
    for row in GRID["row"]:
        for p in GRID["p"]:
            for d in GRID["d"]:
                run = drive(Robots(world, on), Centroid(row, p, d))
                reached = (float(run.finished.mean()), -float(np.sqrt(np.mean(run.rms**2))))
                if reached > best:
                    best, chosen = reached, {"row": row, "p": p, "d": d}
    return chosen
