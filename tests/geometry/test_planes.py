"""Planes through networks of convolutions, residual connections and pooling: as rational arithmetic has them, pieces below 1e-12 in area included."""

from fractions import Fraction

import numpy as np
import pytest

import relukit
from relukit import Box
from relukit.activations import get
from relukit.network.affine import Conv, Dense
from relukit.network.rewrite import RELU, Builder

from .rational_planes import area, dense, matrix_of_convolution, pieces, signature


def residual_network(seed, apart):
    """Image 4 x 4, convolution, leaky units, a residual block, pooling, a dense layer: as a network, and as steps that read a plane's 16 values.

    The second channel is the first one with a bias larger by `apart`, so that its lines run beside the first one's.
    """
    g = np.random.default_rng(seed)
    first, second = g.standard_normal((2, 1, 3, 3)), g.standard_normal((2, 2, 1, 1))
    offset = g.standard_normal(2) / 4
    if apart:
        first[1], offset[1] = first[0], offset[0] + apart
    W, b, V = g.standard_normal((3, 2)), g.standard_normal(3) / 4, g.standard_normal((2, 3))
    builder = Builder((1, 4, 4))
    one = builder.activation(builder.convolve(0, Conv(first, (1, 4, 4)), offset), get("leaky_relu", negative_slope=0.1))
    block = builder.activation(builder.convolve(one, Conv(second, (2, 2, 2)), offset), RELU)
    pooled = builder.max_pool(builder.add((one, block)), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False)
    hidden = builder.activation(builder.affine(builder.reshape(pooled, (2,)), Dense(W), b), RELU)
    network = builder.build(builder.affine(hidden, Dense(V)))
    wide = np.repeat(offset, 4)
    steps = [
        ("affine", 1, matrix_of_convolution(first, 4), wide), ("leaky", 2, 0.1),
        ("affine", 3, matrix_of_convolution(second, 2), wide), ("leaky", 4, 0.0), ("add", 3, 5),
        ("max", 6, [range(4), range(4, 8)]), ("affine", 7, dense(W), b), ("leaky", 8, 0.0), ("affine", 9, dense(V), np.zeros(2)),
    ]  # fmt: skip
    return network, steps


@pytest.mark.parametrize(("seed", "apart"), [(0, 0), (1, 0), (2, 2.0**-24), (3, 2.0**-30)])
def test_conv_residual_and_max_pool_equal_rational_arithmetic(seed, apart):
    network, steps = residual_network(seed, apart)
    points = np.random.default_rng(seed + 100).standard_normal((3, 16))
    found = relukit.regions(network, Box([-2.0, -2.0], [2.0, 2.0]), tuple(points))
    plane = np.stack([found.plane.u, found.plane.v], axis=1)
    steps = [("affine", 0, dense(plane), found.plane.origin), *steps]
    two = Fraction(2)
    expected = pieces(steps, [(-two, -two), (two, -two), (two, two), (-two, two)])
    areas, (A, c) = {}, found.maps
    for k in range(len(found)):
        corners = [tuple(map(Fraction, p)) for p in found.polygon(k).tolist()]
        middle = tuple(sum(p[i] for p in corners) / len(corners) for i in range(2))
        name = signature(steps, middle)
        areas[name] = areas.get(name, 0.0) + found.areas[k]  # pooling compares in pairs: a piece may come in several
        rows = np.array([[float(v) for v in row] for row in expected[name][1]])
        np.testing.assert_allclose(np.c_[A[k], c[k]], rows, atol=1e-9)
    assert set(areas) == set(expected) and len(found) >= len(expected) > 20 and found.exact
    for name, (ring, _) in expected.items():
        assert areas[name] == pytest.approx(float(area(ring)), rel=1e-5, abs=1e-13)
    assert (min(area(ring) for ring, _ in expected.values()) < 1e-12) == bool(apart)
