"""Reviving dead channels of convolution networks: outputs stay, channels live; onnxruntime is the judge."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

import relukit
from relukit._errors import InvalidInput

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

ROWS = (load_digits().data / 16)[:300].astype(np.float32)


class Residual(nn.Module):
    """A skip around two convolutions: the units after the addition reach the end by it, those within do not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(i, 6, 3, padding=1) for i in (1, 6, 6))
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.b(torch.relu(self.a(x)))
        return self.out(torch.relu(x).mean((2, 3)))


def _pooled():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, groups=2), nn.ReLU6(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10),
    )  # fmt: skip


def _killed(model, channels):
    with torch.no_grad():
        for name, dead in channels.items():
            model.get_submodule(name).bias[dead] = -80.0
    return model.eval()


def _saved(model, path):
    torch.onnx.export(
        model, torch.zeros(2, 1, 8, 8), path, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
    )
    return path


def _run(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0]
    one = feed.shape[0] == 1
    rows = ROWS.reshape(-1, *(d if isinstance(d, int) else 1 for d in feed.shape[1:]))
    parts = (
        [session.run(None, {feed.name: r[None]})[0] for r in rows] if one else [session.run(None, {feed.name: rows})[0]]
    )
    return np.concatenate(parts).reshape(len(ROWS), -1)


def _dead_channels(path, activation, channels):
    network = relukit.load(path)
    i = network.activations[activation]
    z = network.values(ROWS.astype(float))[network.nodes[i].inputs[0]].reshape(len(ROWS), channels, -1)
    return int((z <= 0).all(axis=(0, 2)).sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "dead", [{"0": [1, 3]}, {"0": list(range(6))}, {"4": [0, 5], "8": [2]}, {"0": [2], "4": list(range(8))}]
)
def test_channels_before_pooling_are_revived(dead, tmp_path):
    torch.manual_seed(0)
    before = _saved(_killed(_pooled(), {"1" if k == "0" else k: v for k, v in dead.items()}), tmp_path / "dead.onnx")
    network, count = relukit.revive(relukit.load(before), ROWS)
    places = {"0": 64, "4": 4, "8": 1}
    assert count >= sum(len(v) * places[k] for k, v in dead.items())
    relukit.save(network, tmp_path / "alive.onnx")
    assert np.abs(_run(tmp_path / "alive.onnx") - _run(before)).max() < 1e-5
    if "0" in dead:
        assert _dead_channels(before, 0, 6) >= len(dead["0"]) and _dead_channels(tmp_path / "alive.onnx", 0, 6) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_skip_keeps_what_it_carries(tmp_path):
    torch.manual_seed(1)
    before = _saved(_killed(Residual(), {"a": [0, 4], "stem": [2]}), tmp_path / "dead.onnx")
    network, count = relukit.revive(relukit.load(before), ROWS)
    assert count == 128  # the stem's channel is added on: it stays
    relukit.save(network, tmp_path / "alive.onnx")
    assert np.abs(_run(tmp_path / "alive.onnx") - _run(before)).max() < 1e-5
    with pytest.raises(InvalidInput, match="added to others"):
        relukit.revive(network, ROWS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_command_line_mends_a_convolution_network(tmp_path):
    from typer.testing import CliRunner

    from relukit.cli import _whole

    torch.manual_seed(2)
    before = _saved(_killed(_pooled(), {"1": [0, 1, 2, 4, 5]}), tmp_path / "dead.onnx")
    np.savez(tmp_path / "rows.npz", x=ROWS)
    asked = [
        "health",
        str(before),
        "--data",
        str(tmp_path / "rows.npz"),
        "--fix",
        str(tmp_path / "alive.onnx"),
        "--json",
    ]
    shown = CliRunner().invoke(_whole(), asked)
    assert shown.exit_code == 0, shown.output
    fix = json.loads(shown.stdout)["fix"]
    assert fix["revived"] >= 5 * 64 and fix["dead_after"] < fix["dead_before"] and fix["max_output_difference"] < 1e-6
    assert np.abs(_run(tmp_path / "alive.onnx") - _run(before)).max() < 1e-5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_gates_of_a_maximum_are_no_units(tmp_path):
    torch.manual_seed(0)
    path = _saved(_killed(_pooled(), {"1": list(range(6))}), tmp_path / "dead.onnx")
    found = relukit.health(relukit.load(path), ROWS)
    assert [layer.units for layer in found.layers] == [384, 32, 12]
    first = found.findings[0]
    assert (
        first.symptom == "dead_output" and first.evidence["whole_layer_dead"] == found.layers[0].name and first.remedies
    )
