"""The verification engine on a GPU: proposals equal the compiled loops', decisions are right, and the CPU has the last word."""

import numpy as np
import pytest
import torch

import relukit
from relukit import Box
from relukit.network import from_layers
from relukit.search import decide_any
from relukit.search._refine import dual_of
from relukit.search._torch_device import device_named
from tests.search.test_dual import layers
from tests.search.torch_cases import by_gates, convolutional, dense, questions
from tests.strategies import RELU

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_on_the_device_equals_itself(place, dtype):
    weights, biases, _ = layers(0, inputs=6, hidden=(20, 15))
    builder = convolutional(1)[0]
    for network in (from_layers(weights, biases, [RELU, RELU]), builder.network()):
        x = np.random.default_rng(0).standard_normal((50, network.inputs))
        module = network.on(place, dtype)
        assert module is network.on(place, dtype) and next(module.parameters()).device.type == torch.device(place).type
        with torch.no_grad():
            found = module(torch.as_tensor(x, dtype=dtype, device=place)).cpu().numpy().reshape(50, -1)
        assert np.allclose(found, network(x), atol=1e-4 if dtype == torch.float32 else 1e-10)


def test_proposals_equal_the_compiled_loops(place):
    device, seen = device_named(place), 0
    for seed in range(6):
        for small, one in (dense(seed, seed % 5)[1:3], convolutional(seed, (np.inf, 2, 1)[seed % 3])[1:3]):
            if not one.K:
                continue
            two = dual_of(small, np.inf, device)
            P, S = one.start(2)
            for steps in (0, 6):
                found, want = one.improve(one.output_rows(), P, S, steps)[1], two.improve(two.output_rows(), P, S, steps)[1]  # fmt: skip
                open_ = (found <= 0) & (want <= 0)
                assert np.all(np.abs(found - want)[open_] <= 1e-2 * (1 + np.abs(want[open_])))
                seen += open_.sum()
    assert seen > 10


@pytest.mark.parametrize("as_graphs", [True, False])
def test_decisions_agree_with_a_milp(place, as_graphs, monkeypatch):
    by_gates(monkeypatch, as_graphs)
    decided = 0
    for search, gap, want in questions(range(20, 28)):
        found = decide_any([search], 60, device_named(place))
        assert found.status == want or (found.status == "unknown" and abs(gap) < 1e-3), (gap, found)
        decided += found.status == want
    assert decided >= 24


def test_a_real_network(place, data_folder):
    """mnist_fc: proven, refuted, and the same answers as the published ones."""
    folder = data_folder / "vnncomp" / "mnist_fc"
    for name, want in (("prop_3_0.05", "unsat"), ("prop_6_0.05", "sat"), ("prop_5_0.05", "unsat")):
        found = relukit.verify(
            folder / "onnx" / "mnist-net_256x4.onnx", folder / "vnnlib" / f"{name}.vnnlib", timeout=60, device=place
        )
        assert found.status == want, (name, found)


def test_precision_settings_are_left_as_they_were(place):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    weights, biases, x = layers(0, inputs=60, hidden=(20, 15))
    network, box = from_layers(weights, biases, [RELU, RELU]), Box(x - 0.2, x + 0.2)
    y = network(x)
    claim = network.variables()
    found = relukit.verify(network, claim[0].within(box), claim[1][0] <= y[0] + 1e-3, timeout=20, device=place)
    assert found.status in ("sat", "unsat")
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
