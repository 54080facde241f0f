"""Screens as tables: two layouts are known, by their columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._life import Array
from relukit.gallery._tables import complete, read_csv, with_numbers

FIRST, SECOND = "fc_plus_res_dev.csv", "Aguirre2016_activity.csv"
# (30-mer, gene, activity): the ranks of Doench 2014/2016, and the log fold changes of the viability screens
_LAYOUTS = (
    ("30mer", "Target gene", "score_drug_gene_rank"),
    ("sgRNA Context Sequence", "Target Gene Symbol", "avg_mean_centered_neg_lfc"),
)


@dataclass(frozen=True)
class Screen:
    """Guides of one screen; `kind` is 0 for ranks of a flow or resistance screen, 1 for viability fold changes."""

    sequences: list[str]
    genes: Array
    activity: Array
    kind: int

    @property
    def weights(self) -> Array:
        """One over the number of rows with the same 30-mer, so that a guide tested twice counts once."""
        _, index, count = np.unique(self.sequences, return_inverse=True, return_counts=True)
        return (1 / count[index]).astype(np.float32)

    def rows(self, chosen: Array) -> "Screen":
        """The chosen rows, by a mask."""
        kept = [s for s, k in zip(self.sequences, chosen) if k]
        return Screen(kept, self.genes[chosen], self.activity[chosen], self.kind)


def joined(screens: Sequence[Screen], names: Sequence[str]) -> Screen:
    """Screens of one layout below each other.

    Raises:
        InvalidInput: Their layouts differ; `names` says whose.
    """
    other = next((k for k, s in enumerate(screens) if s.kind != screens[0].kind), None)
    if other is not None:
        raise InvalidInput(
            f"{names[0]} holds '{_LAYOUTS[screens[0].kind][2]}' and {names[other]} '{_LAYOUTS[screens[other].kind][2]}', "
            "which are different scales; score them one by one"
        )
    return Screen(
        [s for each in screens for s in each.sequences],
        np.concatenate([s.genes for s in screens]),
        np.concatenate([s.activity for s in screens]),
        screens[0].kind,
    )


def read(path: Path) -> Screen:
    """Read a screen. Prediction columns that some files carry are never looked at."""
    frame = read_csv(path)
    for kind, (sequence, gene, activity) in enumerate(_LAYOUTS):
        if {sequence, gene, activity} <= set(frame.columns):
            frame, _ = complete(with_numbers(frame.dropna(subset=[sequence]), [activity], path), [activity], path)
            return Screen(
                [str(s).strip().upper() for s in frame[sequence]],
                frame[gene].fillna("no gene").astype(str).to_numpy(str),
                frame[activity].to_numpy(float),
                kind,
            )
    wanted = " or ".join(", ".join(layout) for layout in _LAYOUTS)
    raise UnreadableFile(
        f"{path}: columns {wanted} are needed, the file has {', '.join(map(str, frame.columns))[:200]}"
    )


def rank_correlation(scores: Array, screen: Screen, rows: Array | None = None) -> float:
    """Spearman's rho as the field reports it.

    The mean over genes with at least 20 guides; where fewer than half of the guides belong to such genes it is pooled
    over all guides.
    """
    rows = np.arange(len(screen.activity)) if rows is None else rows
    _, counts = np.unique(screen.genes, return_counts=True)
    if counts[counts >= 20].sum() < len(screen.genes) / 2:
        return rho(scores[rows], screen.activity[rows])
    return by_gene(scores, screen, rows)


def both(scores: Array, screen: Screen) -> dict[str, float]:
    """`spearman` and `spearman_by_gene`."""
    return {"spearman": rank_correlation(scores, screen), "spearman_by_gene": by_gene(scores, screen)}


def by_gene(scores: Array, screen: Screen, rows: Array | None = None) -> float:
    """Mean Spearman over genes with at least 20 guides, or at least 4 where none has 20."""
    rows = np.arange(len(screen.activity)) if rows is None else rows
    genes, activity, scores = screen.genes[rows], screen.activity[rows], scores[rows]
    _, index, counts = np.unique(genes, return_inverse=True, return_counts=True)
    needed = 20 if counts.max() >= 20 else 4
    groups = np.split(np.argsort(index, kind="stable"), np.cumsum(counts)[:-1])
    rhos = [rho(scores[g], activity[g]) for g in groups if len(g) >= needed]
    return float(np.nanmean(rhos)) if rhos else float("nan")


def rho(a: Array, b: Array) -> float:
    """Correlation of ranks, ties sharing theirs."""
    from scipy.stats import rankdata

    a, b = rankdata(a), rankdata(b)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else float("nan")
