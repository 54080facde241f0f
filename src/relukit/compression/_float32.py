"""What float32 evaluation can add to the difference of two networks."""

import numpy as np

from relukit._types import Array
from relukit.bounds import Bounds
from relukit.network import Affine, Network
from relukit.piecewise import AbstractActivation

_U, _TINY = 2.0**-24, 2.0**-126


def float32_error(network: Network, bounds: Bounds) -> float:
    """How far float32 outputs can be from those in real arithmetic, for float32 inputs within the bounds' set.

    Any order of summation; weights rounded to float32 included. A sum of n products is off by at most
    `gamma_n |W| |v|`, and each node carries on what the nodes before it were off by (Higham, Accuracy and Stability of Numerical Algorithms, 2002).
    """
    errors: list[Array] = []
    reach = [np.maximum(np.abs(l), np.abs(u)) for l, u in zip(bounds.lower, bounds.upper)]
    for i, node in enumerate(network.nodes):
        if i == 0:
            error = np.zeros(node.size)
        elif isinstance(node.op, Affine):
            carried, size = np.zeros(node.size), np.abs(node.op.bias)
            for m, j in zip(node.op.maps, node.inputs):
                absolute = m.absolute()
                carried = carried + absolute.apply(errors[j])
                size = size + absolute.apply(reach[j] + errors[j])
            n = node.op.terms + len(node.op.maps) + 3
            gamma = n * _U / (1 - n * _U) if n * _U < 0.5 else np.inf
            error = carried + gamma * size + n * _TINY
        else:
            assert isinstance(node.op, AbstractActivation)
            j, steepest = node.inputs[0], node.op.lipschitz()
            relu = getattr(node.op, "is_relu", False)
            error = errors[j] * steepest + (0 if relu else 16 * _U * (steepest * (reach[j] + errors[j]) + reach[i]))
        errors.append(1.0001 * np.asarray(error, float))
    return float(errors[-1].max(initial=0.0))
