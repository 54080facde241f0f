"""A network as a function of the inputs that a box leaves free."""

from dataclasses import replace

import numpy as np

from relukit._types import IntArray
from relukit.bounds._mirror import without_mirrored
from relukit.network import Affine, Input, Network, Node
from relukit.network.affine import Dense, Gather
from relukit.sets import Box

_DENSE = 100  # inputs up to which a selection of them is a dense matrix


def joined(network: Network) -> Network:
    """The network with equal and opposite gates joined, found once."""
    cache = network.__dict__.setdefault("_joined", {})
    if "network" not in cache:
        cache["network"] = without_mirrored(network)
    return cache["network"]


def moving_inputs(box: Box) -> tuple[IntArray, Box]:
    """The inputs that a box leaves free (at least one), and the box of those."""
    moving = np.flatnonzero(box.lower < box.upper)
    moving = moving if len(moving) else np.zeros(1, np.int64)
    return moving, Box(box.lower[moving], box.upper[moving])


def restricted(network: Network, box: Box, moving: IntArray) -> Network:
    """The network as a function of the moving inputs, the others at their values."""
    n = network.inputs
    if len(moving) == n:
        return network
    index = np.full(n, -1)
    index[moving] = np.arange(len(moving))
    pinned = box.lower.copy()
    pinned[moving] = 0.0
    cache, key = network.__dict__.setdefault("_restricted", {}), (moving.tobytes(), pinned.tobytes())
    if key in cache:
        return cache[key]
    cache.clear()
    place = Gather(index, len(moving)) if n > _DENSE else Dense(np.eye(n)[:, moving])
    shape = (len(moving),)
    first = (Node(Input(len(moving)), (), shape, "moving inputs"), Node(Affine((place,), pinned), (0,), network.input_shape, "inputs"))  # fmt: skip
    rest = tuple(replace(node, inputs=tuple(j + 1 for j in node.inputs)) for node in network.nodes[1:])
    cache[key] = Network((*first, *rest), network.notes, network.head, network.dtype)
    return cache[key]
