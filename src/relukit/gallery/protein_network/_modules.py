"""Active subnetworks: where high scores lie together more than the proteins' degrees explain."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from relukit.gallery._life import Array
from relukit.gallery.protein_network._graph import Graph

TOP, SMALLEST = 200, 5


def active_modules(graph: Graph, scores: Array, repeats: int = 39, seed: int = 0) -> list[dict[str, Any]]:
    """The five strongest communities among the 200 highest scores, each with an empirical p-value.

    Strength is the number of edges inside beyond what degrees would give (modularity's excess). Each rewired network
    keeps every protein's degree (its edge ends are paired anew, loops and double edges dropped), is searched in the same
    way, and its best community of all is compared: the search is paid for.
    """
    generator = np.random.default_rng(seed)
    top = np.argsort(-scores)[:TOP]
    found = _communities(graph.adjacency, graph.degree, top)
    coo = sp.triu(graph.adjacency).tocoo()
    ends = np.concatenate([coo.row, coo.col])
    best = []
    for _ in range(repeats):
        pairs = generator.permutation(ends).reshape(2, -1)
        A = sp.coo_matrix((np.ones(pairs.shape[1]), pairs), graph.adjacency.shape).tocsr()
        A = ((A + A.T) > 0).astype(float)
        A = A - sp.diags(A.diagonal())
        best.append(max((s for s, _ in _communities(sp.csr_matrix(A), graph.degree, top)), default=0.0))
    answer = []
    for strength, members in found[:5]:
        inside = graph.adjacency[members][:, members]
        order = members[np.argsort(-scores[members])]
        answer.append({
            "proteins": [graph.names[i] for i in order], "edges": int(inside.sum() / 2), "excess_edges": float(strength),
            "p": float((1 + np.sum(np.array(best) >= strength)) / (1 + repeats)), "rewired_best": float(np.max(best)),
        })  # fmt: skip
    return answer


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
