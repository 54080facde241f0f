"""The page's training: gradients against finite differences and torch, replays, dead units, the exact error."""

import numpy as np
import pytest

from relukit import InvalidInput
from relukit.activations import get
from relukit.explorer._answers import Engine, curve, error_to_max
from relukit.explorer._state import ACTIVATIONS, Settings, read_settings
from relukit.explorer._trainer import _FAST, Trainer


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("data", ["spiral", "max"])
def test_gradients_are_those_of_torch(activation, data):
    import torch

    run = Trainer(Settings(data=data, widths=(5, 4), activation=activation))
    loss, gradients, _ = run._forward_backward()
    W = [torch.tensor(w, requires_grad=True) for w in run.W]
    b = [torch.tensor(v, requires_grad=True) for v in run.b]
    slope = torch.tensor(run.slope, requires_grad=True)
    f = {
        "relu": torch.relu, "leaky_relu": torch.nn.functional.leaky_relu, "elu": torch.nn.functional.elu,
        "gelu": torch.nn.functional.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
    }  # fmt: skip
    h = torch.tensor(run.x)
    for k in range(2):
        z = h @ W[k].T + b[k]
        h = torch.where(z > 0, z, slope[k] * z) if activation == "prelu" else f[activation](z)
    out, y = (h @ W[2].T + b[2])[:, 0], torch.tensor(run.y, dtype=torch.float64)
    if data == "max":
        expected = torch.nn.functional.mse_loss(out, y)
    else:
        expected = torch.nn.functional.binary_cross_entropy_with_logits(out, y)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-9)
    for ours, theirs in zip(gradients, [*W, *b]):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-8, atol=1e-12)
    if activation == "prelu":
        np.testing.assert_allclose(gradients[-1], slope.grad.numpy(), rtol=1e-8)


@pytest.mark.parametrize("name", _FAST)
def test_fast_forms_agree_with_the_catalogue(name):
    z = np.linspace(-6, 6, 101) + 0.005
    value, slope = _FAST[name](z)
    np.testing.assert_allclose(value, get(name)(z), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(slope, get(name).derivative(z), rtol=1e-7, atol=1e-12)


def test_a_link_replays_the_run_whatever_the_tab_did_before():
    settings = {"widths": [8, 8], "seed": 3, "events": [[10, "lr", 0.3], [25, "revive", 0]]}
    watched, opened = Engine(), Engine()
    for step in range(0, 41, 5):
        seen = watched.frame({"settings": settings, "step": step, "tab": "a"})
    fresh = opened.frame({"settings": settings, "step": 40, "tab": "b"})
    assert seen[0]["loss"] == fresh[0]["loss"] and seen[0]["count"] == fresh[0]["count"]
    assert seen[0]["off_since"] == fresh[0]["off_since"]
    back = watched.frame({"settings": settings, "step": 5, "tab": "a"})[0]
    assert back["step"] == 5 and back["loss"] == Engine().frame({"settings": settings, "step": 5})[0]["loss"]


def test_a_large_rate_kills_units_and_revive_brings_them_back():
    killed = Settings(widths=(16, 16), momentum=False, lr=30.0)
    run = Trainer(killed)
    run.run_to(20)
    since = np.concatenate(run.off_since)
    h1 = np.maximum(run.x @ run.W[0].T + run.b[0], 0)
    h2 = np.maximum(h1 @ run.W[1].T + run.b[1], 0)
    off = np.concatenate([h1.max(axis=0) == 0, h2.max(axis=0) == 0])
    assert off.any() and np.array_equal(since >= 0, off)
    run.revive()
    h1 = np.maximum(run.x @ run.W[0].T + run.b[0], 0)
    h2 = np.maximum(h1 @ run.W[1].T + run.b[1], 0)
    assert (h1.max(axis=0) > 0).all() and (h2.max(axis=0) > 0).all()


def test_the_error_to_max_is_the_largest_on_the_box():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.25, 1.25, (200_000, 2))
    for widths in ((6,), (4, 4)):
        run = Trainer(Settings(data="max", widths=widths))
        run.run_to(50)
        network = run.network()
        sampled = np.abs(network(x)[:, 0] - np.maximum(0, x.max(axis=1))).max()
        exact = error_to_max(network)
        assert sampled <= exact + 1e-12 and exact - sampled < 0.03
    exact = Engine().frame({"settings": {"data": "max", "widths": [3, 1], "events": [[0, "construct", 0]]}})[0]
    assert exact["max_error"] == 0
    with pytest.raises(InvalidInput, match="Add a layer"):
        Engine().frame({"settings": {"data": "max", "widths": [64], "events": [[0, "construct", 0]]}})


def test_the_nearest_boundary_is_nearer_than_any_sampled_flip():
    engine, asked = Engine(), {"settings": {"widths": [16, 16]}, "step": 100}
    network = engine._run(asked).network()
    rng = np.random.default_rng(1)
    for p in rng.uniform(-1, 1, (5, 2)):
        answer = engine.point({**asked, "point": p.tolist()})[0]
        others = p + rng.normal(size=(50_000, 2)) * 0.3
        others = others[np.abs(others).max(axis=1) <= 1.25]
        flipped = others[(network(others)[:, 0] > 0) != answer["label"]]
        nearest = np.linalg.norm(flipped - p, axis=1).min()
        assert answer["distance"] <= nearest <= answer["distance"] + 0.05
        assert abs(network(np.array([answer["nearest"]]))[0, 0]) < 1e-9
        value = np.array(answer["slopes"][0]) @ p + answer["offset"][0]
        assert value == pytest.approx(answer["value"][0], abs=1e-9)


def test_boundary_of_several_classes_ties_the_two_largest():
    from relukit import regions
    from relukit.explorer._trainer import BOX

    run = Trainer(Settings(data="digits", widths=(16, 16)))
    run.run_to(60)
    network = run.network()
    segments = regions(network, BOX).boundary()
    top = np.sort(network(segments.mean(axis=1)), axis=1)
    assert len(segments) > 20 and np.abs(top[:, -1] - top[:, -2]).max() < 1e-8
    grid = np.stack(np.meshgrid(np.linspace(-1.2, 1.2, 60), np.linspace(-1.2, 1.2, 60)), -1).reshape(-1, 2)
    nudged = grid + [1e-9, 0.04]
    changed = network(grid).argmax(axis=1) != network(nudged).argmax(axis=1)
    for p, q in zip(grid[changed], nudged[changed]):  # every flip on the way from p to q lies near a segment
        a, d = segments[:, 0], segments[:, 1] - segments[:, 0]
        share = np.clip((((p + q) / 2 - a) * d).sum(1) / (d**2).sum(1), 0, 1)
        assert np.linalg.norm(a + share[:, None] * d - (p + q) / 2, axis=1).min() <= 0.0201


def test_a_curve_becomes_hinges():
    answer = curve({"points": [[0, 0], [0.5, 1], [1, 0]]})[0]
    assert answer["knots"] == [0, 0.5] and answer["bends"] == [2, -4] and answer["error"] == 0
    with pytest.raises(InvalidInput):
        curve({"points": [[0, 0], [0, 1]]})


@pytest.mark.parametrize(
    "bad",
    [
        [], {"widths": []}, {"widths": [1000]}, {"widths": "8"}, {"data": "/etc/passwd"}, {"lr": "x"}, {"lr": True}, {"seed": -1},
        {"seed": 0.5}, {"path": "x"}, {"events": [[1, "exec", 0]]}, {"points": [[1, 2]]}, {"activation": ["relu"]}, {"lr": float("nan")},
    ],
)  # fmt: skip
def test_settings_are_checked(bad):
    with pytest.raises(InvalidInput):
        read_settings(bad)
