"""Active subnetworks: where high scores lie together more than the proteins' degrees explain."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from relukit.gallery._life import Array
from relukit.gallery.protein_network._graph import Graph

TOP, SMALLEST = 200, 5


def active_modules(graph: Graph, scores: Array, repeats: int = 99, seed: int = 0) -> list[dict[str, Any]]:
    """The five strongest communities among the 200 highest scores, each with an empirical p-value.

    Strength is the number of edges inside beyond what degrees would give (modularity's excess). Each rewired network
    has every protein's degree exactly, is searched in the same way, and its best community of all is compared: the
    search is paid for.
    """
    generator = np.random.default_rng(seed)
    top = highest(scores)
    found = _communities(graph.adjacency, graph.degree, top)
    coo = sp.triu(graph.adjacency, 1).tocoo()
    ends, best = np.stack([coo.row, coo.col]).astype(np.int64), []
    for k in range(repeats):
        ends = rewired(ends, len(scores), generator, 12 if k == 0 else 5)
        half = sp.coo_matrix((np.ones(ends.shape[1]), ends), graph.adjacency.shape).tocsr()
        best.append(max((s for s, _ in _communities(sp.csr_matrix(half + half.T), graph.degree, top)), default=0.0))
    answer = []
    for strength, members in found[:5]:
        inside = graph.adjacency[members][:, members]
        order = members[np.argsort(-scores[members])]
        answer.append({
            "proteins": [graph.names[i] for i in order], "edges": int(inside.sum() / 2), "excess_edges": float(strength),
            "p": float((1 + np.sum(np.array(best) >= strength)) / (1 + repeats)), "rewired_best": float(np.max(best)),
        })  # fmt: skip
    return answer


def highest(scores: Array) -> Array:
    """Rows of the proteins among which communities are sought."""
    return np.argsort(-scores)[:TOP]


def rewired(ends: Array, size: int, generator: np.random.Generator, rounds: int) -> Array:
    """Edges with the same degrees: in each round all are paired at random, and every pair that can exchanges its second ends.

    A pair keeps its edges where the exchange would make a loop, or an edge that is there or that another pair makes.

    Arguments:
        ends: (2, edges), no loop and no edge twice.
    """
    for _ in range(rounds):
        order = generator.permutation(ends.shape[1])
        one, two = order[: len(order) // 2], order[len(order) // 2 : len(order) // 2 * 2]
        flip = generator.random(len(two)) < 0.5  # an edge has no direction
        a, b = ends[0, one], ends[1, one]
        c, d = np.where(flip, ends[1, two], ends[0, two]), np.where(flip, ends[0, two], ends[1, two])
        first, second = _key(a, d, size), _key(c, b, size)
        _, index, count = np.unique(
            np.concatenate([_key(*ends, size), first, second]), return_inverse=True, return_counts=True
        )
        new = count[index[ends.shape[1] :]] == 1
        fine = (a != d) & (c != b) & new[: len(one)] & new[len(one) :]
        ends = ends.copy()
        ends[:, one[fine]] = np.stack([a, d])[:, fine]
        ends[:, two[fine]] = np.stack([c, b])[:, fine]
    return ends


def _key(a: Array, b: Array, size: int) -> Array:
    return np.minimum(a, b) * size + np.maximum(a, b)


def _communities(A: sp.csr_matrix, degree: Array, top: Array) -> list[tuple[float, Array]]:
    """(excess edges, members) of the communities among `top`, the strongest first."""
    import networkx as nx

    net = nx.from_scipy_sparse_array(A[top][:, top])
    total = degree.sum()
    answer = []
    for group in nx.community.louvain_communities(net, seed=0, resolution=1.2):
        members = top[np.array(sorted(group))]
        if len(members) < SMALLEST:
            continue
        inside = A[members][:, members].sum() / 2
        d = degree[members]
        answer.append((float(inside - (d.sum() ** 2 - (d**2).sum()) / (2 * total)), members))
    return sorted(answer, key=lambda item: -item[0])
