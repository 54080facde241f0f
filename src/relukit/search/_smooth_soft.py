"""Slopes for attacks where a network jumps: its own are 0 everywhere."""

from dataclasses import dataclass, replace

import numpy as np

from relukit._types import Array
from relukit.network import Network
from relukit.network.curves import Jump
from relukit.sets import Box

_SAMPLES = 32


@dataclass(frozen=True, eq=False)
class Soft(Jump):
    """A jump with the slope of a smooth step as wide as the values that it meets.

    References:
        Estimating or Propagating Gradients Through Stochastic Neurons, Bengio, Leonard, Courville, 2013.
    """

    width: float = 1.0

    def derivative(self, x: Array) -> Array:
        return (self.right - self.left) / (2 * self.width) / (1 + np.square(x / self.width))


def softened(network: Network, box: Box) -> Network:
    """The same values; gradients pass its jumps."""
    points = np.concatenate([box.center()[None], box.sample(_SAMPLES, seed=0)])
    nodes, values = list(network.nodes), network.values(points)
    for i in network.activations:
        op = nodes[i].op
        if isinstance(op, Jump):
            width = float(np.mean(np.abs(values[nodes[i].inputs[0]])))
            nodes[i] = replace(nodes[i], op=Soft(op.name, op.left, op.middle, op.right, width if width > 0 else 1.0))
    return network.with_(nodes=tuple(nodes))
