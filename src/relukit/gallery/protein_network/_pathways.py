"""What named pathways tell: of a module, which ones it holds more of than chance; of a protein, what its partners in them are."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from relukit.gallery._life import Array
from relukit.gallery._motifs import q_values

SMALLEST, LARGEST = 5, 500  # genes of the network in a set: smaller ones can show little, larger ones say little
# a set named after a tumor lists its drivers: it would tell the labels to whoever learns from it
_TUMORS = re.compile(r"cancer|tumor|oncogen|leukemia|metasta|malignan|neoplas|oma(s|ta)?\b", re.IGNORECASE)
_PLACE, _PRIOR = 40, 0.5


class Pathways:
    """Which genes share pathways, without those named after tumors."""

    def __init__(self, names: Sequence[str], sets: dict[str, frozenset[str]]) -> None:
        row = {n: i for i, n in enumerate(names)}
        members = [[row[g] for g in genes if g in row] for name, genes in sets.items() if not _TUMORS.search(name)]
        members = [m for m in members if SMALLEST <= len(m) <= LARGEST]
        index = np.concatenate([np.array(m, int) for m in members]) if members else np.zeros(0, int)
        starts = np.cumsum([0, *(len(m) for m in members)])
        self.of = sp.csr_matrix(sp.csc_matrix((np.ones(len(index)), index, starts), (len(names), len(members))))
        size = np.diff(starts)
        scaled = self.of @ sp.diags(1 / np.sqrt(np.maximum(size, 1)))  # a small set says more
        length = np.sqrt(np.asarray(scaled.multiply(scaled).sum(1)).ravel())
        self._scaled = sp.csr_matrix(sp.diags(1 / np.maximum(length, 1e-9)) @ scaled)

    @property
    def count(self) -> int:
        return self.of.shape[1]

    def kernel(self, rows: Array) -> Array:
        """(genes, len(rows)): cosine of two genes' sets, each by its size; 0 where one is in none."""
        return (self._scaled @ self._scaled[rows].T).toarray().astype(np.float32)

    def place(self) -> Array:
        """(genes, 41): leading singular vectors of membership, and in how many sets a gene is. No label is among them."""
        from sklearn.utils.extmath import randomized_svd

        U, s, _ = randomized_svd(self._scaled, min(_PLACE, self.count), random_state=0)
        return np.column_stack([U * s, np.log1p(np.asarray(self.of.sum(1)).ravel())])

    def columns(self, kernel: Array, rows: Array, drivers: Array) -> Array:
        """(genes, 6): the log-odds of a driver among labeled partners and how many those are, plainly and by likeness
        squared; mean and largest odds over a gene's sets (missing where it is in none). Its own label never counts for it.

        Arguments:
            kernel: `kernel(rows)`.
        """
        mean, parts = drivers.mean(), []
        likeness = kernel.astype(float)
        likeness[rows, np.arange(len(rows))] = 0
        for weight in (likeness, likeness**2):
            total = weight.sum(1)
            rate = (weight @ drivers + _PRIOR * mean) / (total + _PRIOR)
            parts += [np.log(rate / (1 - rate)), np.log1p(total)]
        label, known = np.zeros((2, self.of.shape[0]))
        label[rows], known[rows] = drivers, 1
        pairs = sp.coo_matrix(self.of)
        gene, which = pairs.row, pairs.col
        hits = (self.of.T @ label)[which] - label[gene]
        seen = (self.of.T @ known)[which] - known[gene]
        rate = (hits + 2 * mean) / (seen + 2)
        odds, number = np.log(rate / (1 - rate)), np.asarray(self.of.sum(1)).ravel()
        largest = np.full(len(number), -np.inf)
        np.maximum.at(largest, gene, odds)
        average = np.bincount(gene, odds, len(number)) / np.maximum(number, 1)
        return np.column_stack([*parts, *(np.where(number > 0, v, np.nan) for v in (average, largest))])


def enriched(
    modules: Sequence[Sequence[str]],
    sets: dict[str, frozenset[str]],
    network: Iterable[str],
    best: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """Every module with every set: how many genes both hold, how many chance would give, and how rarely it gives as many.

    The chance that a draw of the module's size from the network holds as many genes of the set is hypergeometric; genes that
    are in no set are no part of the draw. `q` holds the share of false finds (Benjamini and Hochberg 1995) over all pairs.
    With `best`, `q_among_best` draws from those genes alone: it asks what this module has and the other high scores lack.

    Returns:
        Rows with `module` (from 1), `pathway`, `overlap`, `expected`, `p`, `q` and `proteins`, by module and p.
    """
    rows: list[dict[str, Any]] = []
    grounds = {"": frozenset(network), "_among_best": frozenset(best) if best is not None else frozenset()}
    for suffix, ground in grounds.items():
        known = ground & frozenset().union(*sets.values())
        kept = {n: g & known for n, g in sets.items() if SMALLEST <= len(g & grounds[""]) <= LARGEST}
        pairs = [(k, name, frozenset(m) & known) for k, m in enumerate(modules) for name in kept]
        p = np.array([_tail(len(m & kept[name]), len(known), len(kept[name]), len(m)) for _, name, m in pairs])
        q = q_values(p)
        if not suffix:
            for (k, name, m), one, share in zip(pairs, p, q):
                both = m & kept[name]
                rows.append({
                    "module": k + 1, "pathway": name, "overlap": len(both), "expected": len(m) * len(kept[name]) / max(len(known), 1),
                    "p": float(one), "q": float(share), "proteins": [g for g in modules[k] if g in both],
                })  # fmt: skip
        elif best is not None:
            for row, share in zip(rows, q):
                row["q_among_best"] = float(share)
    return sorted(rows, key=lambda r: (r["module"], r["p"], r["pathway"]))


def _tail(overlap: int, population: int, marked: int, drawn: int) -> float:
    from scipy.stats import hypergeom

    return float(hypergeom.sf(overlap - 1, population, marked, drawn))
