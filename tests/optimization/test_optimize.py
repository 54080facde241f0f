"""Optima against known values and exhaustive enumeration; expressions; what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

import relukit
from relukit import Box, InvalidInput, UnsupportedOperation
from relukit.activations import get
from relukit.network import from_layers
from relukit.optimization import _portfolio
from relukit.optimization._expression import parse
from tests.oracles import exact_minimum
from tests.strategies import RELU

KNOWN = {
    "max_2d_2x32": (3.546032, "y[0]"), "max_2d_3x50": (4.065139, "y[0]"), "max_2d_2x100": (4.156154, "y[0]"), "max_5d_2x32": (2.485055, "y[0]"),
    "adv_digits_32x32_e0.05": (-6.479835, "y[3] - y[2]"), "adv_digits_50x50_e0.05": (-8.676698, "y[3] - y[2]"),
    "adv_digits_50x50_l1_e0.1": (-4.958991, "y[3] - y[2]"),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_optima(data_folder, name):
    """The last one is where a mixed-integer solver answered -7.2025 "optimal"."""
    value, goal = KNOWN[name]
    network = relukit.load(data_folder / "bench" / "optimize" / f"{name}.npz")
    found = relukit.optimize(network, goal, timeout=60)
    assert found.status == "optimal"
    assert found.value <= value + 1e-6 * abs(value) and found.bound >= value - 1e-6 * abs(value)
    assert found.gap <= 1.01e-4 * abs(value)
    assert network.box.contains(found.witness)
    coefficients, _ = parse(goal, network.outputs)
    assert float(coefficients @ network(found.witness)) == pytest.approx(found.value)
    assert found.replayed == pytest.approx(found.value, rel=1e-4)


@pytest.mark.parametrize("by_inputs", [True, False])
def test_against_all_patterns(by_inputs, monkeypatch):
    monkeypatch.setattr(_portfolio, "_INPUTS", 100 if by_inputs else 0)
    for seed in range(25):
        g = np.random.default_rng(seed)
        sizes = [2 + seed % 3, int(g.integers(2, 5)), int(g.integers(2, 4)), 2]
        weights = [g.standard_normal((b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
        biases = [g.standard_normal(b) / 2 for b in sizes[1:]]
        network = from_layers(weights, biases, [RELU, RELU], np.float64)
        box, row = Box(-g.random(sizes[0]), g.random(sizes[0])), g.standard_normal(2)
        truth = exact_minimum(weights, biases, row, box.lower, box.upper)
        found = relukit.optimize(network, minimize=row, box=box, tolerance=1e-6, timeout=20)
        assert found.status == "optimal", (seed, found)
        slack = 2e-6 * max(abs(truth), 1e-3)
        assert truth - 1e-9 <= found.value <= truth + slack
        assert found.bound <= truth + 1e-9
        upward = relukit.optimize(network, maximize=-row, box=box, tolerance=1e-6, timeout=20)
        assert upward.value == pytest.approx(-found.value, abs=2 * slack)


def test_expressions():
    row, constant = parse("2*y[3] - y[2] + 0.5 - 1.5e-1*y[0]", 4)
    np.testing.assert_allclose(row, [-0.15, 0, -1, 2])
    assert constant == 0.5
    for text in ("", "y", "y[9]", "y[0] * y[1]", "__import__('os')", "y[0] y[1]", "3", "2*", "y[0] +"):
        with pytest.raises(InvalidInput):
            parse(text, 4)


def test_what_is_refused():
    network = from_layers([np.eye(2), np.eye(2)], [np.zeros(2)] * 2, [RELU])
    with pytest.raises(InvalidInput, match="needs a box"):
        relukit.optimize(network, "y[0]")
    with pytest.raises(InvalidInput, match="give maximize or minimize"):
        relukit.optimize(network, box=Box([0.0, 0.0], [1.0, 1.0]))
    with pytest.raises(UnsupportedOperation, match="gelu"):
        relukit.optimize(
            from_layers([np.eye(2)] * 2, [np.zeros(2)] * 2, [get("gelu")]), "y[0]", box=Box([0.0, 0.0], [1.0, 1.0])
        )


def test_command(data_folder):
    file = data_folder / "bench" / "optimize" / "max_2d_2x32.npz"
    run = subprocess.run(
        [sys.executable, "-m", "relukit", "optimize", str(file), "--maximize", "y[0]", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    content = json.loads(run.stdout)
    assert {"status", "value", "bound", "gap", "witness", "replayed", "engine", "cpu_seconds"} <= set(content)
    assert content["value"] == pytest.approx(3.546032, abs=4e-4)


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_goals_of_ugly_scale_are_as_hard_as_others(scale):
    """Twenty inputs, so that linear programs bound it: their tolerances are absolute, and goals of 1e-6 used to stay open."""
    g = np.random.default_rng(3)
    weights = [g.standard_normal((24, 20)) / 4, g.standard_normal((16, 24)) / 4, g.standard_normal((1, 16))]
    network = from_layers(weights, [g.standard_normal(len(W)) / 4 for W in weights], [RELU, RELU])
    box = Box(-np.full(20, 0.4), np.full(20, 0.4))
    even = relukit.optimize(network, maximize=np.ones(1), box=box)
    ugly = relukit.optimize(network, maximize=np.array([scale]), box=box)
    assert even.status == ugly.status == "optimal" and even.boxes > 1
    assert ugly.bound >= ugly.value == pytest.approx(scale * even.value, rel=2e-4)
    assert network(ugly.witness[None])[0, 0] * scale == pytest.approx(ugly.value, rel=1e-12)
    assert ugly.bound - ugly.value <= 1.01e-4 * abs(ugly.value)
