"""Hypothesis generators of small networks and sets."""

import numpy as np
from hypothesis import strategies as st

from relukit.network import Network, from_layers
from relukit.piecewise import PiecewiseLinear

SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=4)


@st.composite
def layers(draw, sizes=SIZES):
    """Weights and biases of a small dense network; some rows repeated, negated or zero, some weights huge or tiny."""
    shape = draw(sizes)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-6, 1.0, 1.0, 1.0, 1e6]))
    weights = [scale * generator.standard_normal((b, a)) for a, b in zip(shape[:-1], shape[1:])]
    biases = [generator.standard_normal(b) for b in shape[1:]]
    trick = draw(st.sampled_from(["none", "zero", "repeat", "negate", "no bias"]))
    for W, b in zip(weights, biases):
        if trick == "zero":
            W[0] = 0
        if trick in ("repeat", "negate") and len(W) > 1:
            W[1], b[1] = (W[0], b[0]) if trick == "repeat" else (-W[0], -b[0])
        if trick == "no bias":
            b[:] = 0
    return weights, biases


RELU = PiecewiseLinear([0.0], [0.0, 1.0], name="relu")


@st.composite
def networks(draw, activation=RELU) -> Network:
    weights, biases = draw(layers())
    return from_layers(weights, biases, [activation] * (len(weights) - 1))
