"""How many pieces a network of given widths can have at most: bounds of the literature, beside an exact count."""

from math import comb
from typing import Any

from relukit.network import Network


def zaslavsky(hinges: int, dimension: int) -> int:
    """Most cells that this many hyperplanes cut a space into: attained in general position.

    References:
        Facing up to arrangements: face-count formulas for partitions of space by hyperplanes, Zaslavsky, 1975.
    """
    return sum(comb(hinges, j) for j in range(dimension + 1))


def montufar_2014(widths: list[int]) -> int:
    """The trivial bound 2^N over N hidden units, from which Montufar et al. start.

    References:
        On the number of linear regions of deep neural networks, Montufar, Pascanu, Cho and Bengio, 2014.
    """
    return 1 << sum(widths)


def montufar_2014_reached(inputs: int, widths: list[int]) -> int:
    """Pieces that some network of these widths has: what Montufar et al. construct (a lower bound of the maximum)."""
    if not widths:
        return 1
    folds = 1
    for n in widths[:-1]:
        folds *= max(n // inputs, 1) ** inputs
    return folds * zaslavsky(widths[-1], inputs)


def montufar_2017(inputs: int, widths: list[int]) -> int:
    """Product over the layers of the arrangements in as many dimensions as the narrowest layer so far leaves.

    References:
        Notes on the number of linear regions of deep neural networks, Montufar, 2017.
    """
    total, d = 1, inputs
    for n in widths:
        total *= zaslavsky(n, min(d, n))
        d = min(d, n)
    return total


def serra_2018(inputs: int, widths: list[int]) -> int:
    """Sum over how many units each layer has off, which limits the dimensions that reach the next one (ReLU only).

    References:
        Bounding and counting linear regions of deep neural networks, Serra, Tjandraatmadja and Ramalingam, 2018, theorem 1.
    """
    ways = {inputs: 1}  # dimensions that arrive -> number of ways
    for n in widths:
        after: dict[int, int] = {}
        for d, count in ways.items():
            for j in range(min(d, n) + 1):
                left = min(d, n - j)
                after[left] = after.get(left, 0) + count * comb(n, j)
        ways = after
    return sum(ways.values())


def limits(network: Network, dimension: int | None = None) -> dict[str, Any]:
    """Upper bounds on the number of pieces of a network, by its widths alone.

    Every knot of every unit counts as one hinge. Where values pass a layer by (leaky units, residual connections) the
    dimension arguments of Montufar 2017 and Serra 2018 fail: the first is then taken with all dimensions in every layer, the second is None.

    Arguments:
        network: Piecewise linear.
        dimension: Of the plane, where pieces of a plane are counted; by default the number of inputs.

    Returns:
        `hinges` per layer, and the bounds `zaslavsky` (None for more than one layer), `montufar_2014`, `montufar_2017`, `serra_2018`;
        `montufar_2014_reached` is what some ReLU network of these widths has at least.
    """
    network.require_piecewise_linear("a bound on the number of pieces")
    chain = network.dense_chain()
    if chain is not None and chain.is_relu:
        widths = [len(b) for b in chain.biases[:-1]]
        plain = True
    else:
        widths = [network.nodes[i].size * len(network.nodes[i].op.knots) for i in network.activations]
        widths = [n for n in widths if n]
        plain = False
    d = network.inputs if dimension is None else dimension
    product = 1
    for n in widths:
        product *= zaslavsky(n, d)
    return {
        "hinges": widths, "dimension": d, "zaslavsky": zaslavsky(widths[0], d) if len(widths) == 1 else None,
        "montufar_2014": montufar_2014(widths), "montufar_2017": montufar_2017(d, widths) if plain else product,
        "serra_2018": serra_2018(d, widths) if plain else None,
        "montufar_2014_reached": montufar_2014_reached(d, widths) if plain else None,
    }  # fmt: skip
