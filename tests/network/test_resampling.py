"""Transposed convolutions, resizing and moves, read from torch and from ONNX: equal to what torch computes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import relukit


class Step(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


CASES = {
    "transposed": (nn.ConvTranspose2d(3, 4, 4, 2, 1), (3, 5, 6)),
    "transposed, uneven": (
        nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=(1, 2), output_padding=(1, 2), groups=2),
        (4, 5, 4),
    ),
    "transposed, dilated": (nn.ConvTranspose2d(2, 3, 3, dilation=2, padding=3), (2, 5, 6)),
    "transposed, cut": (nn.ConvTranspose2d(2, 3, 2, stride=3, padding=2), (2, 5, 6)),
    "transposed, 1-D": (nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 7)),
    "nearest": (nn.Upsample(scale_factor=2), (3, 4, 5)),
    "nearest, 2.5 times": (nn.Upsample(scale_factor=2.5), (3, 4, 6)),
    "nearest-exact": (Step(lambda x: F.interpolate(x, size=(7, 3), mode="nearest-exact")), (3, 4, 5)),
    "linear": (nn.Upsample(scale_factor=3, mode="linear"), (3, 4)),
    "bilinear": (nn.Upsample(size=(7, 9), mode="bilinear"), (3, 4, 5)),
    "bilinear, corners": (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (3, 4, 5)),
    "bilinear, smaller": (Step(lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear")), (3, 8, 6)),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), (3, 4, 5)),
    "pixel shuffle": (nn.PixelShuffle(2), (8, 3, 4)),
    "pixel unshuffle": (nn.PixelUnshuffle(2), (2, 6, 4)),
    "channel shuffle": (nn.ChannelShuffle(2), (4, 3, 3)),
    "average, hanging over": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 6, 7)),
    "average, hanging over, uncounted": (
        nn.AvgPool2d((3, 2), 2, 1, ceil_mode=True, count_include_pad=False),
        (2, 6, 7),
    ),
    "average, padded": (nn.AvgPool2d(3, 2, 1), (2, 6, 7)),
    "average, padded, uncounted": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 6, 7)),
    "adaptive average, uneven": (nn.AdaptiveAvgPool2d((2, 3)), (3, 5, 7)),
    "adaptive maximum, uneven": (nn.AdaptiveMaxPool2d((2, 3)), (3, 5, 7)),
    "largest over axes": (Step(lambda x: x.amax(dim=(2, 3))), (3, 4, 5)),
    "smallest along an axis": (Step(lambda x: x.min(dim=1)[0]), (3, 4, 5)),
    "stack": (Step(lambda x: torch.stack([x, 2 * x], 1)), (3, 4)),
    "tile": (Step(lambda x: x.repeat(1, 2, 1)), (3, 4)),
    "patches": (nn.Unfold(2, padding=1), (3, 4, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_module_computes_the_same_when_read_from_torch(name):
    torch.manual_seed(0)
    module, shape = CASES[name]
    module = nn.Sequential(module, nn.ReLU()).eval()
    x = torch.randn(5, *shape)
    wanted = np.stack([module(row[None]).detach().flatten().numpy() for row in x])
    network = relukit.load(module, input_shape=shape)
    assert np.allclose(network(x.flatten(1).numpy()), wanted, atol=3e-6)


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of itself
@pytest.mark.parametrize("name", ["transposed, uneven", "transposed, 1-D", "nearest", "bilinear", "pixel shuffle"])
def test_and_from_its_onnx_export(name, tmp_path):
    torch.manual_seed(0)
    module, shape = CASES[name]
    module = nn.Sequential(module, nn.ReLU()).eval()
    x = torch.randn(5, *shape)
    torch.onnx.export(module, (x[:1],), str(tmp_path / "m.onnx"), dynamo=False, opset_version=17)
    network = relukit.load(tmp_path / "m.onnx")
    rows = x.flatten(1).numpy()
    wanted = module(x).detach().flatten(1).numpy()
    assert np.allclose(network(rows), wanted, atol=3e-6) and np.allclose(network.replay(rows), wanted, atol=3e-6)


def test_linear_operators_without_weights_are_probed():
    table = torch.arange(24.0).reshape(4, 6)
    module = Step(lambda x: torch.einsum("bij,jk->bik", x.cumsum(1), table).diff(dim=1))
    x = torch.randn(5, 3, 4)
    network = relukit.load(module, input_shape=(3, 4))
    assert np.allclose(network(x.flatten(1).numpy()), module(x).flatten(1).numpy(), atol=1e-4)


def test_a_threshold_that_jumps_is_refused():
    assert relukit.load(nn.Sequential(nn.Threshold(0.5, 0.5)), input_shape=(3,))(np.array([[0.0, 0.5, 2.0]])).tolist() == [[0.5, 0.5, 2.0]]  # fmt: skip
    with pytest.raises(relukit.UnsupportedOperation, match=r"jumps from 0\.0 to 1\.0"):
        relukit.load(nn.Sequential(nn.Threshold(1.0, 0.0)), input_shape=(3,))


def test_a_decoder_is_bounded_and_decided():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(5, 64), nn.ReLU(), nn.Unflatten(1, (4, 4, 4)), nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3),
    ).eval()  # fmt: skip
    network = relukit.load(module, input_shape=(5,))
    box = relukit.Box(-0.2 * np.ones(5), 0.2 * np.ones(5))
    found = relukit.optimize(network, "y[0] - y[1]", box=box)
    seen = network(box.sample(5_000, 0))
    assert found.status == "optimal" and found.bound >= (seen[:, 0] - seen[:, 1]).max()
    x, y = network.variables()
    assert relukit.verify(network, (x in box), y[0] - y[1] <= found.bound + 1e-3).status == "unsat"
    assert relukit.verify(network, (x in box), y[0] - y[1] <= found.value - 1e-3).status == "sat"
