"""Proteins that are alike: same neighbors, close in the map, same measured state, same gene family; a kernel machine on it."""

import numpy as np
import scipy.sparse as sp

from relukit.gallery._life import Array
from relukit.gallery.protein_network._families import Families
from relukit.gallery.protein_network._graph import EMBEDDING, Graph, measured
from relukit.gallery.protein_network._model import normal_scores

_STEPS, _BACK, _HALF = 5, 0.4, 0.5


def alike(graph: Graph, state: Array, place: Array, families: Families, tables: dict[str, Array], rows: Array) -> Array:
    """(genes, len(rows)) similarity; the proteins of the network come first, then genes that are not in it.

    On the map: shared neighbors (plain and weighted by how rare a neighbor is) and a random walk with restart, the angle between two
    proteins' leading singular vectors at half weight, and state, neighbors' states included. Everywhere: the gene's own measurements
    at half weight, and its families. A gene outside the network is like none on the map but itself.
    """
    size, inside = len(graph.names), rows[rows < len(graph.names)]
    total = families.kernel(rows) + np.float32(_HALF) * _state(normal_scores(measured(tables)), rows)
    at = np.flatnonzero(rows < size)
    direction = place[:, :EMBEDDING] / np.maximum(np.linalg.norm(place[:, :EMBEDDING], axis=1, keepdims=True), 1e-12)
    total[:size, at] += _map(graph, inside) + _state(state, inside) + _HALF * (direction @ direction[inside].T)
    outside = np.flatnonzero(rows >= size)
    total[rows[outside], outside] += 1
    return total


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

    return rbf_kernel(state, state[rows], gamma=0.5 / state.shape[1]).astype(np.float32)


def machine(similarity: Array, rows: Array, drivers: Array) -> Array:
    """Decision values of all proteins: a support vector machine on `similarity`, whose columns are `rows`."""
    from sklearn.svm import SVC

    model = SVC(C=0.5, kernel="precomputed").fit(similarity[rows], drivers)
    return model.decision_function(similarity)
