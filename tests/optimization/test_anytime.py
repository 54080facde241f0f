"""A search that is stopped returns the best point and the best bound so far; the bound only ever closes in."""

import json
import os
import pty
import signal
import subprocess
import sys

import numpy as np
import pytest

import relukit
from relukit import Box
from relukit.activations import get
from relukit.bounds import linear
from relukit.network import from_layers
from relukit.optimization import _box_tree


def hard(inputs, width=40, seed=0):
    """A network that no search here is done with in seconds."""
    g = np.random.default_rng(seed)
    sizes = [inputs, width, width, 1]
    weights = [g.normal(size=(b, a)) / np.sqrt(a) for a, b in zip(sizes[:-1], sizes[1:])]
    return from_layers(weights, [g.normal(size=len(W)) for W in weights], [get("relu")] * 2), Box(
        -np.ones(inputs), np.ones(inputs)
    )


@pytest.mark.parametrize(
    ("inputs", "constraints"), [(12, []), (12, ["x[0] + x[1] <= 0.5"]), (30, []), (30, ["x[0] + x[1] <= 0.5"])]
)
def test_an_early_stop_has_a_bound_far_below_that_of_the_root(inputs, constraints, monkeypatch):
    """Few inputs (boxes) and many (gates over linear programs); the bound holds, falls, and never rises."""
    monkeypatch.setattr(_box_tree, "_FIRST", 0.3)
    net, box = hard(inputs, 60)
    seen = []
    found = relukit.optimize(
        net, "y[0]", box=box, constraints=constraints, timeout=6, on_progress=lambda *step: seen.append(step)
    )
    assert found.status == "bounded" and found.reason == "time limit"
    root = float(linear(net, box).output[1][0])
    assert found.bound < root - 0.05 * (root - found.value)
    bounds, values = [s[2] for s in seen], [s[1] for s in seen if np.isfinite(s[1])]
    assert all(b >= a for a, b in zip(bounds[1:], bounds[:-1])) and all(a >= b for a, b in zip(values[1:], values[:-1]))
    assert len(set(bounds)) > 5 and found.bound <= bounds[-1] and found.value == max(values)
    points = box.sample(20_000, 1)
    allowed = points[points[:, 0] + points[:, 1] <= 0.5] if constraints else points
    assert found.bound >= float(net(allowed).max()) and found.bound >= found.value
    assert net(found.witness)[0] == pytest.approx(found.value)


def test_the_first_point_comes_at_once():
    net, box = hard(10)
    relukit.optimize(net, "y[0]", box=box, timeout=0.1)
    found = relukit.optimize(net, "y[0]", box=box, timeout=0.5)
    assert found.first_seconds < 0.2


def test_what_interrupts_the_search_leaves_its_result():
    net, box = hard(10)
    raised = []

    def interrupt(*step):
        if np.isfinite(step[2]) and not raised:
            raised.append(step)
            raise KeyboardInterrupt

    found = relukit.optimize(net, "y[0]", box=box, timeout=60, on_progress=interrupt)
    assert found.status == "bounded" and found.reason == "interrupted"
    assert np.isfinite(found.bound) and found.bound >= found.value == pytest.approx(net(found.witness)[0])


@pytest.mark.slow
def test_ctrl_c_on_the_command_line_prints_the_answer_so_far(tmp_path):
    """Interrupted when the progress bar, which needs a terminal on stderr, first names a bound: no guess at how long."""
    net, box = hard(30)
    chain = net.dense_chain()
    arrays = {f"W{k}": W for k, W in enumerate(chain.weights)} | {f"b{k}": b for k, b in enumerate(chain.biases)}
    np.savez(tmp_path / "n.npz", lo=box.lower, hi=box.upper, **arrays)
    command = [sys.executable, "-m", "relukit", "optimize", str(tmp_path / "n.npz"), "--maximize", "y[0]", "--json"]
    terminal, stderr = pty.openpty()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ)
    os.close(stderr)
    shown = b""
    while b"bound " not in shown:
        shown += os.read(terminal, 4096)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=120)
    os.close(terminal)
    content = json.loads(out)
    assert run.returncode == 130 and content["reason"] == "interrupted" and content["bound"] >= content["value"]


def test_a_proof_to_a_tolerance_of_a_value_that_falls_to_nearly_nothing():
    """y = |x - 1e-3| shifted so that its maximum is near 0: the tolerance is a share of the value at the end."""
    net = from_layers(
        [np.array([[1.0], [-1.0]]), np.array([[-1.0, -1.0]])], [np.array([-0.3, 0.3]), np.array([1e-4])], [get("relu")]
    )
    found = relukit.optimize(net, "y[0]", box=Box([-1.0], [1.0]))
    assert found.status == "optimal" and found.value == pytest.approx(1e-4, rel=1e-3) and found.gap <= 1.001e-8


def test_a_tolerance_that_shrinks_with_the_distance_is_still_met(data_folder):
    """The first distance is a tenth larger than the last: a tolerance kept from the start leaves the gap open."""
    from relukit.optimization import closest

    net = relukit.load(data_folder / "bench" / "optimize" / "max_5d_4x50.npz")
    found = closest(net, np.zeros(5), ["y[0] >= 2"], norm="l1")
    assert found.status == "optimal" and found.gap <= 1.001e-4 * found.value
    assert found.value == pytest.approx(np.abs(found.witness).sum(), abs=1e-9) and net(found.witness)[0] >= 2 - 2e-6
