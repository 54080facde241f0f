"""Proteins that are alike: same neighbors, close in the map, same measured state, same gene family; a kernel machine on it."""

import re

import numpy as np
import scipy.sparse as sp

from relukit.gallery._life import Array
from relukit.gallery.protein_network._graph import Graph

_STEPS, _BACK = 5, 0.4


def alike(graph: Graph, state: Array, rows: Array) -> Array:
    """(proteins, len(rows)) similarity: the sum of four kernels, each 1 on the diagonal.

    Shared neighbors (plain and weighted by how rare a neighbor is, and a random walk with restart) weigh as much as state and family.
    The family is read from the symbol: the first two and three letters, and all before the first digit (HGNC names families so).
    """
    return (_map(graph, rows) + _state(state, rows) + _family(graph.names, rows)).astype(np.float32)


def _map(graph: Graph, rows: Array) -> Array:
    A, S = graph.adjacency, graph.normalized()
    total = np.zeros((A.shape[0], len(rows)), np.float32)
    for weight in (np.ones(A.shape[0]), 1 / np.sqrt(np.maximum(graph.degree, 1))):
        B = sp.csr_matrix(A @ sp.diags(weight))
        length = np.sqrt(np.asarray(B.multiply(B).sum(1)).ravel())
        B = sp.csr_matrix(sp.diags(1 / np.maximum(length, 1e-9)) @ B)
        total += (B @ B[rows].T).toarray()
    start = np.zeros(total.shape, np.float32)
    start[rows, np.arange(len(rows))] = 1
    walk, step = start, sp.csr_matrix(S, dtype=np.float32)
    for _ in range(_STEPS):
        walk = _BACK * start + (1 - _BACK) * (step @ walk)
    # a walk's way back home after two and three steps; later ones add little
    square = S @ S
    home = _BACK * (
        1 + (1 - _BACK) ** 2 * np.asarray(S.multiply(S).sum(1)).ravel()
        + (1 - _BACK) ** 3 * np.asarray(square.multiply(S).sum(1)).ravel()
    )  # fmt: skip
    return (total + walk / np.sqrt(home[:, None] * home[rows])) / 3


def _state(state: Array, rows: Array) -> Array:
    from sklearn.metrics.pairwise import rbf_kernel

    return rbf_kernel(state, state[rows], gamma=0.5 / state.shape[1])


def _family(names: list[str], rows: Array) -> Array:
    total = np.zeros((len(names), len(rows)), np.float32)
    for cut in (lambda s: s[:2], lambda s: s[:3], lambda s: re.sub(r"[0-9].*$", "", s)):
        _, code = np.unique([cut(n) for n in names], return_inverse=True)
        total += code[:, None] == code[rows]
    total[rows, np.arange(len(rows))] += 1
    return total / 4


def machine(similarity: Array, rows: Array, drivers: Array) -> Array:
    """Decision values of all proteins: a support vector machine on `similarity`, whose columns are `rows`."""
    from sklearn.svm import SVC

    model = SVC(C=0.5, kernel="precomputed").fit(similarity[rows], drivers)
    return model.decision_function(similarity)
