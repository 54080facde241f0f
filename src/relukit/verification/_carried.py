"""A ReLU network with branches as a chain: values that are read later are carried along beside the ReLUs of each layer."""

from typing import NamedTuple

import numpy as np

from relukit._types import Array, BoolArray
from relukit.network import Affine, Network
from relukit.piecewise import PiecewiseLinear

_ENTRIES = 50_000_000  # of one matrix at most


class CarriedChain(NamedTuple):
    """Layers over the state before them: `z = W s + b`, and in the next state `max(0, z)` where `relu`, z where not.

    The units of a ReLU node come first in its layer, in the order of the file: an independent reader numbers gates alike.
    """

    weights: list[Array]
    biases: list[Array]
    relu: list[BoolArray]


def carried_chain(network: Network) -> CarriedChain | None:
    """The chain, one layer for each ReLU node and a last one for the outputs; None where an activation is no ReLU or a matrix is too large."""
    readers, state = network.consumers, network.inputs
    values: dict[int, Array | int] = {0: 0}  # rows over (state, 1), or where its units start in the state
    weights, biases, masks = [], [], []

    def rows(j: int) -> Array:
        found = values[j]
        return _placed(np.eye(network.nodes[j].size), found, state) if isinstance(found, int) else found

    for i, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node.op, Affine):
            if node.size * max(state, *(network.nodes[j].size for j in node.inputs)) > _ENTRIES:
                return None
            total = np.zeros((node.size, state + 1))
            total[:, -1] = node.op.bias
            for map_, j in zip(node.op.maps, node.inputs):
                at = values[j]
                total += _placed(map_.matrix(), at, state) if isinstance(at, int) else map_.apply(at.T).T
            values[i] = total
        elif isinstance(node.op, PiecewiseLinear) and node.op.is_relu:
            kept = [j for j in values if any(k > i for k in readers[j])]
            stacked = np.concatenate([rows(j) for j in (*node.inputs, *kept)])
            ends = np.cumsum([0, node.size, *(network.nodes[j].size for j in kept)]).tolist()
            if stacked.size > _ENTRIES:
                return None
            weights.append(stacked[:, :-1])
            biases.append(stacked[:, -1])
            masks.append(np.arange(ends[-1]) < node.size)
            values, state = dict(zip([i, *kept], ends)), ends[-1]
        else:
            return None
    last = rows(len(network.nodes) - 1)
    return CarriedChain([*weights, last[:, :-1]], [*biases, last[:, -1]], [*masks, np.zeros(len(last), bool)])


def _placed(matrix: Array, start: int, state: int) -> Array:
    """A matrix over some units of the state, as one over (state, 1)."""
    return np.pad(matrix, ((0, 0), (start, state + 1 - start - matrix.shape[1])))
