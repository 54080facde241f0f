"""The nodes that the checker of compressions reads networks into: affine ones with matrices, and ReLUs.

Stands by itself: NumPy and SciPy's sparse matrices; no code of what compresses.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from relukit.verification.checker import demand

_DENSE = 0.2  # from this share of entries on a matrix is kept dense


@dataclass
class Node:
    """`sum of M v + bias` over earlier nodes, or a ReLU of one of them (`maps` empty); node 0 is the input.

    Arguments:
        terms: The most products in one sum, with room for rounded weights.
        head: Of the last node, the operator that the file ends in (`Softmax`, `Sigmoid`), which is no part of the nodes.
    """

    sources: list[int]
    maps: list[Any] = field(default_factory=list)
    bias: np.ndarray = field(default_factory=lambda: np.zeros(0))
    size: int = 0
    terms: int = 0
    head: str = ""

    @property
    def is_relu(self) -> bool:
        return bool(self.sources) and not self.maps


def affine(sources: list[int], maps: list[Any], bias: np.ndarray) -> Node:
    maps = [_stored(M) for M in maps]
    size = len(bias)
    most = sum(int(np.diff(M.indptr).max(initial=0)) if sparse.issparse(M) else M.shape[1] for M in maps)
    demand(all(M.shape[0] == size for M in maps), "a map does not fit its bias")
    demand(all(np.isfinite(M.data if sparse.issparse(M) else M).all() for M in maps) and np.isfinite(bias).all(), "a weight is not finite")  # fmt: skip
    return Node(sources, maps, bias, size, max(most, size) + 8)


def _stored(M: Any) -> Any:
    if sparse.issparse(M):
        return M.toarray() if M.nnz > _DENSE * M.shape[0] * M.shape[1] else sparse.csr_matrix(M)
    M = np.asarray(M, float)
    return M if np.count_nonzero(M) > _DENSE * M.size or M.size < 10_000 else sparse.csr_matrix(M)


__all__ = ["Node", "affine", "demand"]
