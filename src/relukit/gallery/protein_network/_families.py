"""Gene families, read from the symbols (HGNC names families so): what the labels of a gene's relatives say of it.

Relatives need not be in the network: labels of genes that are not still speak for those that are.
"""

import re
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from relukit.gallery._life import Array

_CUTS = (lambda s: s[:2], lambda s: s[:3], lambda s: s[:4], lambda s: re.sub(r"[0-9].*$", "", s))
_PRIOR = 2.0  # relatives' worth of the mean label, added to each family


class Families:
    """Each gene belongs to four families, one per cut of its symbol: two, three, four letters, and all before the first digit."""

    def __init__(self, names: Sequence[str]) -> None:
        codes, at = [], 0
        for cut in _CUTS:
            _, code = np.unique([cut(n) for n in names], return_inverse=True)
            codes.append(code + at)
            at += int(code.max()) + 1
        self.codes = np.stack(codes, 1)
        self.of = sp.csr_matrix(
            (np.ones(self.codes.size), (np.repeat(np.arange(len(names)), len(_CUTS)), self.codes.ravel()))
        )

    def kernel(self, rows: Array) -> Array:
        """(genes, len(rows)): share of the cuts at which two genes are of one family."""
        return ((self.of @ self.of[rows].T).toarray() / len(_CUTS)).astype(np.float32)

    def columns(self, rows: Array, drivers: Array) -> Array:
        """(genes, 12): per cut the log-odds of a driver among labeled relatives, how many those are, and the family's size.

        A gene's own label is never counted for itself.
        """
        size = len(self.codes)
        label, known = np.zeros(size), np.zeros(size)
        label[rows], known[rows] = drivers, 1
        hits, counts, members = (np.asarray(self.of.T @ v).ravel() for v in (label, known, np.ones(size)))
        mean, parts = label.sum() / known.sum(), []
        for code in self.codes.T:
            seen = counts[code] - known
            rate = (hits[code] - label + _PRIOR * mean) / (seen + _PRIOR)
            parts += [np.log(rate / (1 - rate)), seen, np.log(members[code])]
        return np.column_stack(parts)
