"""Motifs: matrices from what a filter fires on, and how unlikely their likeness to a known matrix is."""

from collections.abc import Sequence

import numpy as np

from relukit.gallery._life import Array, one_hot

SHUFFLES = 2000


def site_matrix(numbers: Array, response: Array, width: int, share: float = 0.5) -> tuple[Array, int]:
    """Letter frequencies (4, width) of the windows at which a filter's response passes `share` of its maximum.

    Arguments:
        numbers: (count, length) bases.
        response: (count, places): response of the filter whose window starts at each place.

    Returns:
        The matrix, with one pseudo-count, and the number of windows.
    """
    best = response.argmax(1)
    top = response[np.arange(len(response)), best]
    chosen = np.flatnonzero(top > share * max(top.max(), 1e-12))
    if len(chosen) < 10:
        chosen = np.argsort(-top)[:10]
    windows = np.stack([numbers[i, best[i] : best[i] + width] for i in chosen])
    counts = one_hot(windows).sum(0) + 0.25
    return counts / counts.sum(0), len(chosen)


def likeness(a: Array, b: Array, overlap: int = 5) -> float:
    """Largest summed column correlation of two matrices over all alignments of at least `overlap` columns."""
    overlap = min(overlap, a.shape[1], b.shape[1])
    center = lambda m: (m - 0.25) / np.maximum(np.linalg.norm(m - 0.25, axis=0), 1e-9)
    similar = center(a).T @ center(b)
    best = -np.inf
    for shift in range(-(a.shape[1] - overlap), b.shape[1] - overlap + 1):
        best = max(best, float(np.trace(similar, offset=shift)))
    return best


def both_strands(matrix: Array) -> list[Array]:
    return [matrix, matrix[::-1, ::-1]]


def significance(queries: Sequence[Array], target: Array, seed: int = 0) -> tuple[Array, Array]:
    """Likeness of each query to the target on either strand, and its p-value.

    The null is a target whose columns are drawn at random from all columns of all queries with their letters shuffled,
    as in TOMTOM (Gupta et al., 2007); the number of queries is corrected for by the caller (`q_values`).
    """
    generator = np.random.default_rng(seed)
    pool = np.concatenate([target, *queries], 1).T
    observed = np.array([max(likeness(s, target) for s in both_strands(q)) for q in queries])
    null = np.zeros((len(queries), SHUFFLES // 10))
    for k in range(null.shape[1]):
        columns = generator.permuted(pool[generator.integers(0, len(pool), target.shape[1])], axis=1).T
        null[:, k] = [max(likeness(s, columns) for s in both_strands(q)) for q in queries]
    # the tail of the null is continued by a Gumbel law, which maxima over alignments follow
    spread = null.std(1) * 6**0.5 / np.pi + 1e-12
    place = null.mean(1) - 0.5772 * spread
    tail = -np.expm1(-np.exp(-(observed - place) / spread))
    counted = ((null >= observed[:, None]).sum(1) + 1) / (null.shape[1] + 1)
    return observed, np.where(counted > 0.05, counted, tail)


def q_values(p: Array) -> Array:
    """Benjamini and Hochberg's false discovery rates."""
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(0, 1)
    return q


def consensus(letters: str, weight: float = 0.79) -> Array:
    """A matrix (4, width) that holds each letter with `weight`."""
    from relukit.gallery._life import codes

    return np.where(one_hot(codes([letters]))[0] > 0, weight, (1 - weight) / 3)


def draw_logo(axes: object, matrix: Array, title: str = "") -> None:
    """Information content, as a sequence logo."""
    import logomaker
    import pandas as pd

    information = (matrix * np.log2(np.maximum(matrix, 1e-9) / 0.25)).sum(0)
    frame = pd.DataFrame((matrix * information).T, columns=list("ACGT"))
    logomaker.Logo(frame, ax=axes, color_scheme="classic")
    axes.set(ylim=(0, 2), xticks=[], yticks=[0, 2])
    axes.set_title(title, fontsize=8)
