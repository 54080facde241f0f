"""Checkpoints, images, tables, estimators, deep starts, sparsity."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import relukit
from relukit import InvalidInput, UnreadableFile
from relukit.cli.train import _constant
from relukit.training.table import read_table


def _rows(n=160):
    g = np.random.default_rng(0)
    X = g.standard_normal((n, 4))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def test_an_interrupted_run_ends_with_the_same_network(tmp_path):
    X, y = _rows()
    settings = {"hidden": (8,), "epochs": 6, "seed": 3}
    whole = relukit.fit(X, y, **settings)

    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relukit.fit(X, y, **settings, checkpoint=tmp_path / "c.pt", on_progress=stop)
    # The interrupt came before epoch 3 was written.
    rest = relukit.fit(X, y, **settings, checkpoint=tmp_path / "c.pt")
    assert rest.resumed == 2 and len(rest.history) == 6
    np.testing.assert_array_equal(rest.network(X), whole.network(X))
    with pytest.raises(InvalidInput, match="another model"):
        relukit.fit(X, y, hidden=(9,), epochs=6, checkpoint=tmp_path / "c.pt")
    (tmp_path / "c.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UnreadableFile, match="damaged"):
        relukit.fit(X, y, **settings, checkpoint=tmp_path / "c.pt")


def test_progress_tells_what_health_finds():
    seen = []
    settings = {"hidden": (8,), "epochs": 6, "on_progress": lambda done, _, row: seen.append(row["finding"])}
    relukit.fit(*_rows(), **settings)
    assert seen == [""] * 6
    relukit.fit(*_rows(), **settings, learning_rate=30.0)
    assert "learning_rate_too_high" in seen[-1]


def test_the_constant_guess_is_each_targets_own_mean():
    targets = np.column_stack([np.arange(10.0), 1000 + np.arange(10.0)])
    assert _constant(targets, targets, "regression") == 0


def test_a_class_for_every_row_is_refused():
    X, _ = _rows(12)
    with pytest.raises(InvalidInput, match="12 classes in 12 rows"):
        relukit.fit(X, [f"k{i}" for i in range(12)])


def test_a_cnn_on_images_is_folded_into_its_network():
    X, y = load_digits(return_X_y=True)
    X, y = X[:400].reshape(-1, 8, 8), y[:400]
    fitted = relukit.fit(X, y, hidden=(16,), epochs=4, architecture="cnn")
    assert fitted.score > 0.5
    flat = X.reshape(len(X), -1)
    scale = np.sqrt(np.mean((flat - flat.mean(0)) ** 2))
    direct = fitted.module(torch.as_tensor(flat / scale, dtype=torch.float32)).detach().numpy()
    assert np.mean(np.argmax(fitted.network(flat), 1) == direct.argmax(1)) > 0.97
    with pytest.raises(InvalidInput, match="height, width"):
        relukit.fit(flat, y, architecture="cnn")


@pytest.mark.parametrize("activation", ["prelu", "mish", "relu_squared"])
def test_other_activations_of_the_catalogue(activation):
    X, y = _rows()
    fitted = relukit.fit(X, y, hidden=(8,), epochs=3, activation=activation)
    assert np.all(np.isfinite(fitted.network(X)))


def test_sparsity_brings_zeros():
    X, y = load_digits(return_X_y=True)
    share = {}
    for weight in (0.0, 3.0):
        fitted = relukit.fit(X / 16, y, hidden=(64,), epochs=12, sparsity=weight, noise=0.0)
        share[weight] = relukit.health(fitted.network, X / 16).layers[0].zero_share
    assert share[3.0] > share[0.0] + 0.15


def test_tables(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a;b;kind\n1;2,5;x\n")
    with pytest.raises(InvalidInput, match="not numbers: b"):
        read_table(path, "kind")
    path.write_text("a,b,y\n1,2,0\n3,,1\n")
    with pytest.raises(InvalidInput, match=r"missing values: b \(1\).*--drop"):
        read_table(path, "y")
    assert read_table(path, "y", ["b"]).x.tolist() == [[1.0], [3.0]]
    with pytest.raises(InvalidInput, match=r"no column 'z'; say which to predict with --target\. It has a, b, y"):
        read_table(path, "z")
    path.write_text("a,b,y\n1,2,0\n3,1\n")
    with pytest.raises(UnreadableFile, match="line 3: 2 fields"):
        read_table(path, "y")
    path.write_text("a,y\n1,0.5\n2,1.5\n")
    assert read_table(path, "y").y.dtype == np.float64
    with pytest.raises(UnreadableFile, match="does not exist"):
        read_table(tmp_path / "none.csv", "y")


@pytest.mark.slow
def test_estimators_pass_the_checks_of_scikit_learn():
    from sklearn.utils.estimator_checks import check_estimator

    for estimator in (relukit.ReLUClassifier(epochs=20, hidden=(16,)), relukit.ReLURegressor(epochs=20, hidden=(16,))):
        found = check_estimator(estimator, on_fail=None, on_skip=None)
        assert [r["check_name"] for r in found if r["status"] == "failed"] == []


@pytest.mark.parametrize("make", [nn.ReLU, lambda: nn.LeakyReLU(0.1), nn.Tanh])
def test_deep_start_brings_the_gradient_to_the_first_layer(make):
    def build():
        torch.manual_seed(0)
        parts = [nn.Linear(2, 32), make()]
        for _ in range(200):
            parts += [nn.Linear(32, 32), make()]
        return nn.Sequential(*parts, nn.Linear(32, 2))

    def first_gradient(model):
        loss = nn.functional.cross_entropy(model(torch.randn(64, 2)), torch.arange(64) % 2)
        loss.backward()
        return float(model[0].weight.grad.norm())

    plain, deep = build(), build()
    groups = relukit.init.deep_(deep, seed=1)
    assert first_gradient(plain) < 1e-12
    assert first_gradient(deep) > 1e-3
    assert sum(len(g["params"]) for g in groups) == len(list(deep.parameters()))
    assert groups[1]["lr"] < groups[0]["lr"] / 50


def test_a_relu_net_of_300_layers_learns():
    torch.manual_seed(0)
    parts = [nn.Linear(2, 16), nn.ReLU()]
    for _ in range(298):
        parts += [nn.Linear(16, 16), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Linear(16, 2))
    x = torch.randn(256, 2)
    y = (x[:, 0] * x[:, 1] > 0).long()
    optimizer = torch.optim.Adam(relukit.init.deep_(model, seed=0))
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.95


def test_activations_side_by_side():
    from relukit.training.compare import compare

    X, y = _rows(300)
    found = compare(X, y, ["relu", "sigmoid"], depths=(1, 6), seeds=2, rates=(1e-2,), epochs=4, width=16)
    rows = {(r["activation"], r["hidden_layers"]): r for r in found.rows}
    assert rows["relu", 6]["gradient_reach"]["mean"] > 30 * rows["sigmoid", 6]["gradient_reach"]["mean"]
    assert rows["relu", 1]["zero_share"]["mean"] > 0.2 and rows["sigmoid", 1]["zero_share"]["mean"] == 0
    assert rows["relu", 1]["bytes_kept"] == 64 * 16 * 4
    with pytest.raises(InvalidInput, match="at least 50"):
        compare(X[:20], y[:20])


def test_the_comparison_is_drawn(tmp_path):
    from relukit.training.compare import compare, draw

    X, y = _rows(120)
    draw(compare(X, y, ["relu", "tanh"], depths=(1,), seeds=2, rates=(1e-2,), epochs=1, width=4), tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 5_000


def test_the_default_comparison_takes_the_policy_where_it_is(tmp_path, monkeypatch):
    from relukit.training.compare import compare, default_data, draw

    monkeypatch.delenv("RELUKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert list(default_data()) == ["digits"]
    folder = tmp_path / "consumption_savings"
    folder.mkdir()
    cash = np.linspace(0.1, 4, 60)
    rows = np.column_stack([cash, np.minimum(cash, 1 + 0.2 * cash), np.minimum(cash, 1.5 + 0.1 * cash)])
    np.savetxt(folder / "egm_reference_0.csv", rows, delimiter=",", header="cash_on_hand,c_y0,c_y1", comments="")
    monkeypatch.setenv("RELUKIT_DATA", str(tmp_path))
    X, y = default_data()["borrowing-limit"]
    assert X.shape == (60, 1) and y.shape == (60, 2)
    found = compare(X, y, ["relu"], depths=(1,), seeds=2, rates=(1e-2,), epochs=2, width=4)
    assert found.rows[0]["steps_per_epoch"] == 1
    draw({"a": found, "b": found}, tmp_path / "two.png")
    assert (tmp_path / "two.png").stat().st_size > 5000
