"""Planes carried forward hold for every activation, and a limit on backward bounds leaves them sound."""

import numpy as np
import pytest

from relukit import Box
from relukit.activations import get
from relukit.bounds import Bounds, linear
from relukit.network import curves
from relukit.network.affine import Conv
from relukit.network.rewrite import Builder
from relukit.search._few_wide import Forward

ACTIVATIONS = {
    "relu": get("relu"), "leaky": get("leaky_relu", negative_slope=0.2), "clip": get("relu6"), "tanh": get("tanh"), "gelu": get("gelu"),
    "sign": curves.sign(), "sin": curves.Wave(), "square": curves.square(),
}  # fmt: skip


def network(op, seed=0):
    g = np.random.default_rng(seed)
    b = Builder((3,))
    image = b.reshape(b.matmul(0, g.normal(size=(3, 32)), g.normal(size=32)), (1, 2, 4, 4))
    bent = b.activation(image, op)
    mixed = b.convolve(bent, Conv(g.normal(size=(3, 2, 3, 3)) * 0.5, (2, 4, 4), (1, 1), (1, 1, 1, 1)), g.normal(size=3))
    last = b.add((b.activation(mixed, op), b.activation(b.scale(mixed, -0.5), op)))
    b.matmul(b.reshape(last, (1, 48)), g.normal(size=(48, 2)))
    return b.build(dtype=np.dtype(np.float64))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_planes_and_limited_bounds_hold_samples(name):
    net, g = network(ACTIVATIONS[name]), np.random.default_rng(1)
    centers, radii = g.normal(size=(4, 3)), np.array([1e-3, 0.03, 0.3, 1.0])[:, None] * np.ones(3)
    found = Forward(net).bounds(centers - radii, centers + radii)
    for k in range(4):
        box = Box(centers[k] - radii[k], centers[k] + radii[k])
        values = net.values(box.sample(3_000, k))
        for i, (low, high) in enumerate(found):
            assert np.all(low[:, k] <= values[i].min(0)) and np.all(high[:, k] >= values[i].max(0)), (i, k)
        start = Bounds(net, tuple(v[0][:, k] for v in found), tuple(v[1][:, k] for v in found))
        full, short = linear(net, box), linear(net, box, budget=0)
        for bounds in (short, linear(net, box, start, budget=0)):
            assert np.all(bounds.output[0] <= values[-1].min(0)) and np.all(bounds.output[1] >= values[-1].max(0))
        # Lines of a jump are chosen by their middle, so that tighter bounds of its argument can cost a little.
        assert name == "sign" or np.all(short.output[1] - short.output[0] >= full.output[1] - full.output[0] - 1e-9)
        span = np.ptp(values[-1], axis=0)
        assert (
            k or name == "sign" or np.all((found[-1][1] - found[-1][0])[:, 0] < 4 * span + 1e-6)
        )  # tight over small boxes
