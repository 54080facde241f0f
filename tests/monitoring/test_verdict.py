"""Verdicts on finished networks, and pictures of units."""

import numpy as np
import pytest

import relukit
from relukit import InvalidInput
from relukit.activations import get
from relukit.monitoring import draw_dying_unit
from relukit.network import from_layers

X = np.random.default_rng(0).normal(size=(200, 3))


def network(bias):
    g = np.random.default_rng(1)
    return from_layers([g.normal(size=(10, 3)), g.normal(size=(2, 10))], [bias, np.zeros(2)], [get("relu")])


def test_a_network_with_most_units_dead_is_an_error_and_a_healthy_one_is_not():
    bias = np.where(np.arange(10) < 8, -50.0, 0.3)
    (finding,) = relukit.health(network(bias), X).findings
    assert (finding.symptom, finding.severity, finding.units) == ("dying_relu", "error", tuple(range(8)))
    assert finding.evidence["prognosis"] == "stay off for these rows"
    assert relukit.health(network(np.full(10, 0.3)), X).findings == ()


def test_the_cause_is_told_where_a_finished_network_tells_it():
    bias = np.where(np.arange(10) < 8, -50.0, 0.3)
    assert relukit.health(network(bias), X).findings[0].cause == "negative_bias"
    # Rows far from 0 switch the same units off for every one of them; no bias has a part in it.
    (finding,) = relukit.health(network(np.zeros(10)), X - 40).findings
    assert finding.cause == "shifted_input" and finding.remedies[0] == "standardize_input"
    g = np.random.default_rng(3)
    weights = np.where(np.arange(10) < 8, -1, 1)[:, None] * np.abs(g.normal(size=(10, 3)))
    made = from_layers([weights, g.normal(size=(2, 10))], [np.zeros(10), np.zeros(2)], [get("relu")])
    assert relukit.health(made, np.abs(X)).findings[0].cause == ""


def test_a_network_that_says_the_same_for_all_rows():
    findings = relukit.health(network(np.full(10, -50.0)), X).findings
    assert [f.symptom for f in findings] == ["dead_output", "dying_relu"]


def test_pictures_are_written(tmp_path):
    relukit.health(network(np.full(10, 0.3)), X).plot(tmp_path / "units.png")
    assert (tmp_path / "units.png").read_bytes()[:4] == b"\x89PNG"


def test_the_unit_dies_in_the_flat_wedge_and_the_leaky_one_comes_back(tmp_path):
    g = np.random.default_rng(2)
    x = g.normal(size=300)
    found = draw_dying_unit(x, x + g.normal(size=300), tmp_path / "dying.png")
    assert found["died_at"] == 1 and found["leaky_loss"] < 0.9 * found["relu_loss"]
    with pytest.raises(InvalidInput, match="one length"):
        draw_dying_unit(x, x[:5], tmp_path / "no.png")
