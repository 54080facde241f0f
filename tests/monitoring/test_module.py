"""Health of modules that are no network of affine maps and one-dimensional functions, and units over time."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relukit
from relukit import InvalidInput, UnsupportedOperation
from relukit.monitoring._module import exported_health
from relukit.monitoring._units import deaths_and_revivals

X = np.random.default_rng(0).normal(size=(60, 6, 4)).astype(np.float32)


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.mid, self.out = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 8), nn.Linear(8, 3)
        with torch.no_grad():
            self.mid.bias[:6] = -9

    def forward(self, x):
        return self.out(F.relu(self.mid(self.cell(x)[0][:, -1])))


def test_a_recurrent_module_shows_its_leaves_and_its_functional_activations():
    torch.manual_seed(0)
    model = Cell().train()
    found = relukit.health(model, X)
    layers = {layer.name: layer for layer in found.layers}
    assert list(layers) == ["cell", "mid", "relu", "out"]
    with torch.no_grad():
        truth = F.relu(model.mid(model.cell(torch.as_tensor(X))[0][:, -1])).numpy()
    assert layers["relu"].dead == int((np.ptp(truth, axis=0) == 0).sum()) >= 6
    assert layers["relu"].zero_share == pytest.approx(float(np.mean(truth == 0)))
    assert found.findings[0].symptom == "dying_relu"
    assert model.training and all(p.grad is None for p in model.parameters())
    # The gradient of each row's largest output by the last hidden layer is that output's weight row, where it is on.
    out = model(torch.as_tensor(X))
    rows = model.out.weight.detach()[out.argmax(1)].numpy()
    before = model.mid(model.cell(torch.as_tensor(X))[0][:, -1]).detach().numpy()
    expected = np.linalg.norm(np.abs(rows * (before > 0)).mean(axis=0))
    assert layers["mid"].grad_norm == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UnsupportedOperation, match="Leave box out"):
        relukit.health(model, X, relukit.Box(np.zeros(24), np.ones(24)))
    with pytest.raises(InvalidInput, match="shape"):
        relukit.health(model, X[:, :, :3])


def test_a_torch_chain_is_proven_on_a_box_and_keeps_its_mode():
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 2)).train()
    with torch.no_grad():
        model[0].bias[:2] = -50
    found = relukit.health(model, np.random.default_rng(1).uniform(size=(40, 3)), relukit.Box([0.0] * 3, [1.0] * 3))
    assert found.layers[0].proven_dead >= 2 and model.training


@pytest.mark.filterwarnings("ignore")  # torch.export has much to say about recurrent weights
def test_an_exported_program_runs_row_by_row(tmp_path):
    torch.manual_seed(0)
    model = Cell().eval()
    torch.export.save(torch.export.export(model, (torch.as_tensor(X[:1]),)), tmp_path / "cell.pt2")
    found = exported_health(tmp_path / "cell.pt2", X)
    own = {layer.name: layer for layer in relukit.health(model, X).layers}
    relu = next(layer for layer in found.layers if layer.activation == "relu")
    assert (relu.dead, relu.units, found.rows) == (own["relu"].dead, 8, 60)


def test_deaths_and_revivals_are_counted_once():
    flags = np.array([[0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1], [0, 1, 0]], bool)
    died, revived = deaths_and_revivals(flags)
    assert np.argwhere(died).tolist() == [[0, 1], [1, 0]]  # the third unit was never silent three times in a row
    assert np.argwhere(revived).tolist() == [[3, 1], [5, 0]]
