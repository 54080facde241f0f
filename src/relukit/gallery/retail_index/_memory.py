"""What was paid for before, as inputs: how often a merchant's payments went to each category, and those of merchants of like names.

A network that learns from the very payments its memory holds would believe the memory too much. So a payment in training is told only of
months up to one to six before its own, as a payment to be judged is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit.gallery.retail_index import _text

HALF_LIFE, GAP = 12.0, 6  # months: a count halves; the largest distance between a payment in training and its memory
# Each level shrinks to the one it names: (level, parent). A key is a merchant's words, with the directorate where it ends in D.
LEVELS = {"D": None, "first": "D", "last": "D", "five": "D", "two": "first", "name": "two", "first D": "first", "last D": "last", "name D": "name"}  # fmt: skip
_PARENT_WEIGHT, _TOP_WEIGHT, _FLOOR = (
    1.5,
    20.0,
    1e-3,
)  # payments that a parent's shares count for; least share under the logarithm
# Likeness: cosine of n-grams and words, each by its rarity; n-grams in more than _COMMON names say little and cost most.
_COMMON, _POWER, _ALIKE, _SATURATED, _DOUBT = 150, 4, 0.12, 0.5, 0.01
_PREFIX = re.compile(r"^(www\.?|paypal\s*\*?|sq \*|izettle\s*\*?|nochex-)\s*")
_SAME = {"cyof": "cypf", "adults": "adultcommunities", "adultscomms": "adultcommunities", "adultscommunities": "adultcommunities"}  # fmt: skip


def keys(merchants: Sequence[str], directorates: Sequence[str]) -> dict[str, np.ndarray]:
    """Of each pair (lower-case merchant, plain directorate), its key at every level."""
    clean = {m: re.sub(r"[^a-z& ]", " ", _PREFIX.sub("", m)).split() for m in set(merchants)}
    words = [clean[m] for m in merchants]
    found = {
        "D": [_SAME.get(d, d) for d in directorates],
        "first": [w[0] if w else "" for w in words],
        "last": [w[-1] if w else "" for w in words],
        "five": ["".join(w)[:5] for w in words],
        "two": [" ".join(w[:2]) for w in words],
        "name": [" ".join(w) for w in words],
    }
    for level in ("first", "last", "name"):
        found[f"{level} D"] = [f"{a}\t{d}" for a, d in zip(found[level], found["D"], strict=True)]
    return {k: np.array(v, str) for k, v in found.items()}


@dataclass(frozen=True)
class Memory:
    """Counts by level, and the names that likeness looks among.

    Arguments:
        known: Sorted keys of each level.
        counts: (keys, categories) decayed numbers of payments.
        witness: (merchants, categories) shares, less for a merchant seen once.
        names: The merchants, lower case.
    """

    known: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    witness: np.ndarray
    names: "Names"

    def inputs(self, merchants: Sequence[str], directorates: Sequence[str], rows: Any = None) -> np.ndarray:
        """(pairs, inputs) float32; `rows` are the merchants' `_text.name_rows`, where they are at hand."""
        found = {}
        for level, k in keys(merchants, directorates).items():
            place = np.searchsorted(self.known[level], k).clip(max=len(self.known[level]) - 1)
            found[level] = np.where((self.known[level][place] == k)[:, None], self.counts[level][place], 0)
        names = np.asarray(merchants, str)
        if rows is None:
            unique, back = np.unique(names, return_inverse=True)
            return assemble(found, (self.names.likeness(unique, _text.name_rows(unique)) @ self.witness)[back])
        return assemble(found, self.names.likeness(names, rows) @ self.witness)

    def save(self, path: Path) -> None:
        arrays = {f"k {a}": b for a, b in self.known.items()} | {f"c {a}": b for a, b in self.counts.items()}
        np.savez_compressed(path, witness=self.witness, **self.names.arrays(), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Memory":
        with np.load(path) as f:
            known, counts = ({k: f[f"{a} {k}"] for k in LEVELS} for a in "kc")
            return cls(
                known,
                counts,
                f["witness"],
                Names(f["merchants"], f["rarity"], f["common"], f["data"], f["place"], f["start"]),
            )


@dataclass(frozen=True)
class Names:
    """Likeness of merchants' names to those of `merchants` (sorted), by their tokens (CSC columns: the known names' scaled rows)."""

    merchants: np.ndarray
    rarity: np.ndarray
    common: np.ndarray
    data: np.ndarray
    place: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, merchants: np.ndarray) -> "Names":
        rows = _text.name_rows(merchants)
        seen = np.bincount(rows.indices, minlength=rows.shape[1])
        rarity = np.log((1 + len(merchants)) / (1 + seen)).astype(np.float32) + 1
        known = _scaled(rows, rarity, seen > _COMMON).T.tocsr()
        return cls(merchants, rarity, seen > _COMMON, known.data, known.indices, known.indptr)

    def arrays(self) -> dict[str, np.ndarray]:
        return dict(vars(self))

    def likeness(self, merchants: np.ndarray, rows: Any) -> Any:
        """Sparse (merchants, known): a power of the cosine; none of a name to itself."""
        from scipy.sparse import csr_matrix, vstack

        known = csr_matrix((self.data, self.place, self.start), (len(self.rarity), len(self.merchants)))
        scaled, parts = _scaled(rows, self.rarity, self.common), []
        for k in range(0, len(merchants), 1024):
            names = merchants[k : k + 1024]
            product = (scaled[k : k + 1024] @ known).tocsr()
            own = np.searchsorted(self.merchants, names).clip(max=len(self.merchants) - 1)
            itself = np.where(self.merchants[own] == names, own, -1)
            near = (product.data >= _ALIKE) & (product.indices != np.repeat(itself, np.diff(product.indptr)))
            product.data = np.where(near, product.data, 0).astype(np.float32) ** _POWER
            product.eliminate_zeros()
            parts.append(product)
        return vstack(parts).tocsr()


def _scaled(rows: Any, rarity: np.ndarray, common: np.ndarray) -> Any:
    """Rows of length 1 by rarity, from which common n-grams are then left out."""
    rows = rows.copy()
    rows.data *= rarity[rows.indices]
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
    rows.data /= np.repeat(np.maximum(length, 1e-9), np.diff(rows.indptr))
    rows.data[common[rows.indices]] = 0
    rows.eliminate_zeros()
    return rows


def assemble(counts: dict[str, np.ndarray], alike: np.ndarray) -> np.ndarray:
    """Logarithms of shrunken shares at each level and of like names, then logarithms of how much they rest on."""
    shares, n = {}, {k: c.sum(1, keepdims=True) for k, c in counts.items()}
    for level, parent in LEVELS.items():
        above, weight = (1 / alike.shape[1], _TOP_WEIGHT) if parent is None else (shares[parent], _PARENT_WEIGHT)
        shares[level] = (counts[level] + weight * above) / (n[level] + weight)
    near = alike.sum(1, keepdims=True)
    like = (alike + _DOUBT * shares["D"]) / (near + _DOUBT)
    logs = [np.log(s + _FLOOR) for s in (*shares.values(), like)]
    return np.concatenate([*logs, *(np.log1p(v) for v in n.values()), np.log(near + _DOUBT)], 1).astype(np.float32)


def learn(table: Any, y: np.ndarray, classes: int, seed: int = 0) -> tuple[Memory, np.ndarray]:
    """The memory of all payments of `table`, and what each of them may be told of the months before it.

    Returns:
        Memory after the last month; (payments, inputs) float32 for training, each at a distance drawn from 1 to `GAP` months.
    """
    merchant = table.merchant.fillna("").astype(str).str.lower().to_numpy(str)
    directorate = np.array([_text.plain(d) for d in table.directorate.fillna("").astype(str)], str)
    found = {k: np.unique(v, return_inverse=True) for k, v in keys(merchant.tolist(), directorate.tolist()).items()}
    merchants, own = np.unique(merchant, return_inverse=True)
    pair = np.unique(np.stack([own, found["D"][1]]), axis=1, return_inverse=True)[1].ravel()
    names = Names.of(merchants)
    likeness = names.likeness(merchants, _text.name_rows(merchants))
    month = table.date.dt.year.to_numpy() * 12 + table.date.dt.month.to_numpy()
    month = month - month.min()
    told_at = month - np.random.default_rng(seed).integers(1, GAP + 1, len(table))
    counts = {k: np.zeros((len(v), classes), np.float32) for k, (v, _) in found.items()}
    of_merchant = np.zeros((len(merchants), classes), np.float32)
    inputs = np.zeros(
        (len(table), len(assemble({k: c[:1] for k, c in counts.items()}, of_merchant[:1])[0])), np.float32
    )
    inputs[told_at < 0] = assemble({k: c[:1] for k, c in counts.items()}, of_merchant[:1])
    witness = of_merchant
    for now in range(month.max() + 1):
        rows = np.flatnonzero(month == now)
        for k, c in counts.items():
            c *= 0.5 ** (1 / HALF_LIFE)
            np.add.at(c, (found[k][1][rows], y[rows]), 1)
        of_merchant *= 0.5 ** (1 / HALF_LIFE)
        np.add.at(of_merchant, (own[rows], y[rows]), 1)
        witness = of_merchant / (of_merchant.sum(1, keepdims=True) + _SATURATED)
        asking = np.flatnonzero(told_at == now)
        _, one, back = np.unique(pair[asking], return_index=True, return_inverse=True)
        one = asking[one]
        told = {k: c[found[k][1][one]] for k, c in counts.items()}
        inputs[asking] = assemble(told, likeness[own[one]] @ witness)[back]
    return Memory({k: v for k, (v, _) in found.items()}, counts, witness, names), inputs


def inputs_of(memory: Memory, table: Any) -> np.ndarray:
    """(payments, inputs) of a table that came later."""
    merchant = table.merchant.fillna("").astype(str).str.lower().to_numpy(str)
    directorate = np.array([_text.plain(d) for d in table.directorate.fillna("").astype(str)], str)
    pairs, place = np.unique(np.rec.fromarrays([merchant, directorate]), return_inverse=True)
    return memory.inputs(pairs["f0"].tolist(), pairs["f1"].tolist())[place]
