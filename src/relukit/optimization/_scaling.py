"""Standardization folded into a network, so that boxes, goals and constraints are in the user's own units."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.network import Affine, Network, Node, Origin
from relukit.network.affine import Scale
from relukit.sets import Box


def scaled(network: Network, input_scaler: Any = None, output_scaler: Any = None) -> Network:
    """A network in natural units from one that was trained on standardized ones.

    Arguments:
        network: Takes `(x - mean) / scale` and returns `(y - mean) / scale`.
        input_scaler: `(mean, scale)`, or a fitted scikit-learn `StandardScaler` or `MinMaxScaler`.
        output_scaler: Likewise, of the target.

    Raises:
        InvalidInput: A scaler that does not fit, or with entries that are no finite numbers.
    """
    mean, scale = _pair(input_scaler, network.inputs, "input_scaler")
    out_mean, out_scale = _pair(output_scaler, network.outputs, "output_scaler")
    if output_scaler is not None and network.head:
        raise InvalidInput(f"the network ends in {network.head}: an output_scaler goes with regression only")
    first = Node(Affine((Scale(1 / scale),), -mean / scale), (0,), (network.inputs,), "standardize")
    shift = lambda j: j + 1
    nodes = [network.nodes[0], first]
    nodes += [Node(n.op, tuple(map(shift, n.inputs)), n.shape, n.name, n.source) for n in network.nodes[1:]]
    if output_scaler is not None:
        nodes.append(
            Node(Affine((Scale(out_scale),), out_mean), (len(nodes) - 1,), (network.outputs,), "natural units")
        )
    box = None
    if network.box is not None:
        ends = np.stack([network.box.lower, network.box.upper]) * scale + mean
        box = Box(ends.min(axis=0), ends.max(axis=0))

    def run(rows: Array) -> Array:
        y = np.asarray(network.replay((rows.astype(np.float64) - mean) / scale), np.float64)
        return y * out_scale + out_mean if output_scaler is not None else y

    return Network(tuple(nodes), network.notes, network.head, network.dtype, box, origin=Origin("built", run=run))


def _pair(given: Any, size: int, name: str) -> tuple[Array, Array]:
    if given is None:
        return np.zeros(size), np.ones(size)
    if hasattr(given, "data_min_"):  # MinMaxScaler: x * scale_ + min_
        given = (-np.asarray(given.min_) / given.scale_, 1 / np.asarray(given.scale_))
    elif hasattr(given, "scale_"):
        mean, width = getattr(given, "mean_", None), given.scale_
        given = (np.zeros(size) if mean is None else mean, np.ones(size) if width is None else width)
    try:
        mean, scale = (np.broadcast_to(np.asarray(v, float), (size,)).copy() for v in given)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} takes (mean, scale), numbers or arrays of {size} entries: {error}") from error
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(scale)) and np.all(scale != 0)):
        raise InvalidInput(f"{name} needs finite numbers and scales that are not 0")
    return mean, scale
