"""What was used before: a threshold, the middle of the dark pixels in a band of rows, and a PD law on it."""

import itertools
from typing import Any

import numpy as np

from relukit.gallery.line_follower._draw import draw
from relukit.gallery.line_follower._robots import FRAME, Robots, drive
from relukit.gallery.line_follower._world import HEIGHT, WIDTH, World

Array = np.ndarray
BINS = 32
GRID = {"row": (12, 16, 20), "p": (6.0, 9.0, 14.0, 20.0), "d": (0.0, 0.2, 0.5)}


def thresholds(bands: Array) -> Array:
    """Otsu's threshold of each band of rows (n, rows, columns), on 32 bins.

    References:
        A Threshold Selection Method from Gray-Level Histograms, Otsu, 1979.
    """
    n = len(bands)
    at = (bands.reshape(n, -1) // (256 // BINS)).astype(np.int64) + BINS * np.arange(n)[:, None]
    share = np.bincount(at.ravel(), minlength=n * BINS).reshape(n, BINS) / (bands[0].size)
    below, level = np.cumsum(share, 1), np.cumsum(share * np.arange(BINS), 1)
    between = (level[:, -1:] * below - level) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return (np.argmax(between, 1) + 1) * (256 // BINS)


class Centroid:
    """Steers by the middle of the dark pixels in five rows around `row`; holds its command where there are none.

    Arguments:
        row, p, d: Middle row, gain [1/m for half a picture] and derivative gain; one for all robots, or one for each.
    """

    def __init__(self, row: Any, p: Any, d: Any) -> None:
        self.row, self.p, self.d = np.asarray(row), np.asarray(p), np.asarray(d)
        self.last: Array | None = None
        self.command: Array | None = None

    def __call__(self, frames: Array, _: Any = None) -> Array:
        row = np.broadcast_to(self.row, len(frames))[:, None] + np.arange(-2, 3)
        bands = frames[np.arange(len(frames))[:, None], 0, np.clip(row, 0, HEIGHT - 1)]
        band = (bands < thresholds(bands)[:, None, None]).sum(1)
        count = band.sum(1)
        middle = (band * (np.arange(WIDTH) - (WIDTH - 1) / 2)).sum(1) / np.maximum(count, 1) / (WIDTH / 2)
        if self.last is None or self.command is None:
            self.last, self.command = middle, np.zeros(len(frames))
        wanted = -self.p * middle - self.d * (middle - self.last) / FRAME
        self.command = np.where(count > 0, wanted, self.command)
        self.last = np.where(count > 0, middle, self.last)
        return self.command


def tune(count: int = 8) -> dict[str, float]:
    """The row and gains that serve best on tracks drawn for training: most laps finished, then the least offset."""
    choices = list(itertools.product(*GRID.values()))
    row, p, d = (np.repeat(c, count) for c in np.array(choices).T)
    run = drive(
        Robots(World(draw(count, 9_999)), np.tile(np.arange(count), len(choices))), Centroid(row.astype(int), p, d)
    )
    finished = run.finished.reshape(len(choices), count).mean(1)
    offset = np.sqrt((run.rms.reshape(len(choices), count) ** 2).mean(1))
    best = max(range(len(choices)), key=lambda k: (finished[k], -offset[k]))
    return dict(zip(GRID, choices[best]))
