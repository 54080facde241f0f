"""Dead units of a stored network get fresh weights, without changing what it computes on the data."""

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._types import Array
from relukit.monitoring._health import health
from relukit.network import Network, from_layers


def revive(network: Network, data: Array, seed: int = 0) -> tuple[Network, int]:
    """Re-initializes units that are off for every row: incoming weights drawn anew, outgoing weights 0.

    The new bias puts the unit's hinge at the median row, so that it is on for half of them; outgoing weights 0 keep all
    outputs on the data as they were (in exact arithmetic: the unit contributed its constant, which moves into the bias).

    Arguments:
        network: A chain of dense layers.
        data: Rows, shape `(rows, inputs)`.
        seed: Of the new weights.

    Returns:
        The network and the number of units revived.

    Raises:
        InvalidInput: No unit is dead on the data.
        UnsupportedOperation: The network is no chain of dense layers.
    """
    chain = network.dense_chain()
    if chain is None:
        raise UnsupportedOperation(
            "revive works on chains of dense layers; for other torch modules train on with relukit.watch and call h.fix()"
        )
    generator = np.random.default_rng(seed)
    weights, biases = [np.array(W) for W in chain.weights], [np.array(b) for b in chain.biases]
    layers = health(network, data).layers
    rows, _ = network.rows(data)
    below, total = rows, 0
    for k, (layer, f) in enumerate(zip(layers, chain.activations)):
        dead = layer.off_share == 1
        if dead.any():
            constant = f(below @ weights[k].T + biases[k])[0, dead]
            biases[k + 1] = biases[k + 1] + weights[k + 1][:, dead] @ constant
            weights[k + 1][:, dead] = 0
            fresh = generator.normal(size=(int(dead.sum()), weights[k].shape[1])) * np.sqrt(2 / weights[k].shape[1])
            spread = np.std(below @ fresh.T, axis=0)
            fresh = fresh / np.where(spread > 0, spread, 1)[:, None]
            weights[k][dead] = fresh
            biases[k][dead] = -np.median(below @ fresh.T, axis=0)
            total += int(dead.sum())
        below = f(below @ weights[k].T + biases[k])
    if not total:
        raise InvalidInput(f"no dead unit on these {len(rows)} rows: nothing to revive")
    made = from_layers(weights, biases, list(chain.activations), network.dtype)
    return made.with_(box=network.box), total
