"""Small networks with the compiled engine and the torch engine over them, and questions with known answers."""

import numpy as np
import torch

from relukit import Ball, Box
from relukit.bounds import compact
from relukit.network import from_layers
from relukit.search import Search
from relukit.search import _few as few
from relukit.search._dual import Dual
from relukit.search._graph import Graph, make_graph
from relukit.search._graph_dual import GraphDual
from relukit.search._refine import dual_of
from relukit.search._torch_device import Device
from tests.search.conv_nets import milp_minimum, random_network
from tests.search.test_dual import layers, regions
from tests.strategies import RELU

HERE = Device(torch.device("cpu"), batch=16, memory=1e6)  # small: several rounds, and batches that are cut


def dense(seed, region=0, hidden=(9, 8, 7)):
    weights, biases, x = layers(seed, hidden=hidden)
    network = from_layers(weights, biases, [RELU] * len(hidden))
    small = compact(network, regions(x)[region])
    return network, small, Dual(small), dual_of(small, np.inf, HERE)


def convolutional(seed, norm=np.inf):
    builder, lower, upper = random_network(seed)
    box = Box(lower, upper)
    region = box if norm == np.inf else Ball((lower + upper) / 2, 0.5, norm, box)
    graph = make_graph(builder.network(), region, np.inf)
    return builder, graph, GraphDual(graph), dual_of(graph, np.inf, HERE)


def questions(seeds):
    """Rows of random convolutional networks at levels close to their exact minimum, and the right answers."""
    for seed in seeds:
        builder, lower, upper = random_network(seed)
        network, box = builder.network(), Box(lower, upper)
        row = np.random.default_rng(seed).standard_normal(2)
        minimum = milp_minimum(builder, row, lower, upper)
        for gap in (-1e-2, -1e-4, 1e-4, 1e-2):
            confirm = lambda points, r=row, level=minimum + gap, n=network, b=box: next(
                (p for p in points if b.contains(p) and r @ n(p) - level <= 0), None
            )
            search = Search(network, box, row[None], np.array([-(minimum + gap)]), confirm)
            yield search, gap, "sat" if gap > 0 else "unsat"


def by_gates(monkeypatch, as_graphs):
    monkeypatch.setattr(few, "_INPUTS", 0)
    monkeypatch.setattr(few, "_BOTH", 0)
    monkeypatch.setattr(Graph, "is_small", property(lambda graph: not as_graphs))
