"""Studies of economy, climate and images: promises that hold by construction, and results on the data where they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import relukit
from relukit.gallery.borrowing_limit import _solve
from relukit.gallery.borrowing_limit.study import kinks

DATA = Path(os.environ.get("RELUKIT_DATA", "absent"))
needs = lambda folder: pytest.mark.skipif(not (DATA / folder).exists(), reason=f"RELUKIT_DATA/{folder} is absent")


def small_model() -> _solve.Calibration:
    return _solve.Calibration(0.95, 1.02, 2.0, 0.0, np.array([0.5, 1.5]), np.array([[0.8, 0.2], [0.2, 0.8]]))


def value_iteration_kink(model: _solve.Calibration, state: int) -> float:
    """Where saving starts, by brute value iteration on a grid: shares nothing with the solver."""
    assets = 6 * np.linspace(0, 1, 500) ** 2
    value = np.zeros((2, 500))
    for _ in range(500):
        future = model.beta * model.transition @ value
        cash = model.R * assets[None] + model.income[:, None]
        spent = cash[:, :, None] - assets
        value = np.where(spent > 0, -1 / np.maximum(spent, 1e-12), -1e9).__add__(future[:, None, :]).max(2)
    cash = np.linspace(0.3, 2.0, 400)
    spent = cash[:, None] - assets
    choice = np.where(spent > 0, -1 / np.maximum(spent, 1e-12), -1e9) + model.beta * model.transition[state] @ value
    return float(cash[np.argmax(choice.argmax(1) > 0)])


def test_policy_respects_the_limit_exactly_and_its_kink_is_that_of_value_iteration():
    model = small_model()
    policy = _solve.solve(model, 24, 0, 6.0, 300)
    cash = np.linspace(0.01, 20, 3000)
    for state in range(2):
        network = relukit.load(policy.chain(state))
        saving = network(cash[:, None])[:, 0]
        assert (saving >= 0).all()
        assert (cash - saving > 0).all()
        np.testing.assert_allclose(saving, policy.save(state, cash), atol=1e-9)
        assert (saving[cash < kinks(policy)[state]] == 0).all()
    assert kinks(policy)[1] == pytest.approx(value_iteration_kink(model, 1), rel=0.02)


@needs("consumption_savings")
def test_kinks_agree_with_the_reference():
    file = DATA / "consumption_savings" / "egm_reference_0.json"
    values = json.loads(file.read_text())
    policy = _solve.solve(_solve.Calibration.of(values), seed=3, top=40.0)
    np.testing.assert_allclose(kinks(policy), values["kink_cash_on_hand"], rtol=0.005)


def test_flood_loss_rises_with_depth_and_value_and_stays_below_the_value():
    from relukit.gallery.catastrophe import _model

    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(400, 5))) * [8, 3, 1, 1, 1]
    chain = _model.fit(x, rng.uniform(size=400), np.ones(400), seed=0, epochs=2)
    assert _model.monotone(chain)
    network = relukit.load(chain)
    loss = lambda z: np.exp(z[:, 1]) * _model.ratio(network, z)[:, 0]
    for column in (0, 1):
        more = x.copy()
        more[:, column] += rng.uniform(0, 2, 400)
        assert (loss(more) >= loss(x) * (1 - 1e-12)).all()
    assert (loss(x) <= np.exp(x[:, 1]) * (1 + 1e-12)).all()
    turned = {**chain, "W4": -chain["W4"]}
    assert not _model.monotone(turned)


def test_feet_from_a_column_of_feet_and_inches():
    from relukit.gallery.catastrophe._claims import feet

    np.testing.assert_allclose(
        feet(np.array([4.0, 12.0, 36.0, -24.0, 12.0]), np.array([2012, 2012, 2012, 2012, 1985])), [4, 1, 3, -2, 12]
    )


def test_attack_stays_inside_its_radius_and_flips():
    import torch

    from relukit.gallery.images import _model

    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        module.bias.zero_()
    # by hand: x0 - x1 = 0.2 closes when both move by 0.1
    found = _model.attack(module, np.array([0.6, 0.4, 0.5], np.float32), np.array([0.05, 0.09, 0.11, 0.2]))
    assert 0.1 <= found <= 0.11 + 1e-6


def test_sparse_first_layer_is_a_product_with_the_token_matrix():
    from scipy.sparse import random as sparse_rows

    from relukit.gallery.retail_index import _model

    rows = sparse_rows(30, 50, 0.2, format="csr", dtype=np.float32, random_state=0)
    module = _model.fit(rows, np.arange(30) % 3, 3, seed=0, epochs=1)
    W = [p.detach().numpy().astype(float) for p in module.parameters()]
    hidden = np.maximum(rows.toarray() @ W[0], 0)
    scores = np.maximum(hidden @ W[1].T + W[2], 0) @ W[3].T + W[4]
    expected = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(_model.probabilities(module, rows), expected / expected.sum(1, keepdims=True), atol=1e-5)
