"""`verify` and `flip` on real networks with known answers."""

import csv
import json

import numpy as np
import pytest

import relukit
from relukit import Box, ShapeMismatch, UnsupportedOperation
from relukit.activations import get
from relukit.network import from_layers
from relukit.verification.instances import run_instances
from tests.strategies import RELU


def truth(folder):
    with open(folder / "truth.csv") as file:
        return {(r["net"], r["prop"]): r["expected"] for r in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("family", "step"), [("acasxu", 12), ("rl_benchmarks", 10), ("linearizenn", 6), ("safenlp", 40)]
)
def test_a_sample_of_each_family(data_folder, family, step, tmp_path):
    folder = data_folder / "vnncomp" / family
    lines = (folder / "instances.csv").read_text().splitlines()[::step]
    if family == "safenlp":  # those whose answer is easy
        lines = [line for line in lines if "hyperrectangle_635" not in line]
    chosen = [line.split(",") for line in lines]
    listed = tmp_path / "instances.csv"
    listed.write_text("".join(f"{folder / net},{folder / prop},20\n" for net, prop, _ in chosen))
    run_instances(listed, tmp_path / "out")
    known = truth(folder)
    results = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len(results) == len(chosen)
    for (net, prop, _), entry in zip(chosen, results):
        assert entry["status"] in (known[net, prop], "timed-out"), entry
    decided = sum(r["status"] in ("sat", "unsat") for r in results)
    assert decided >= len(results) - (1 if family == "safenlp" else 0)


def test_runs_resume_where_they_stopped(data_folder, tmp_path):
    folder = data_folder / "vnncomp" / "rl_benchmarks"
    rows = [line.split(",") for line in (folder / "instances.csv").read_text().splitlines()[:4]]
    listed = tmp_path / "list.csv"
    listed.write_text("".join(f"{folder / a},{folder / b},5\n" for a, b, _ in rows))
    run_instances(listed, tmp_path)
    results = tmp_path / "results.jsonl"
    whole = results.read_text().splitlines()
    results.write_text("\n".join(whole[:2]) + "\n" + whole[2][:20])  # torn in the middle of a line
    assert sum(run_instances(listed, tmp_path).values()) == 4
    again = results.read_text().splitlines()
    assert len(again) == 4 and again[:2] == whole[:2]


@pytest.mark.slow
def test_all_of_acas_xu(data_folder, tmp_path):
    folder = data_folder / "vnncomp" / "acasxu"
    counts = run_instances(folder / "instances.csv", tmp_path, 60)
    assert counts == {"sat": 47, "unsat": 139}
    known = truth(folder)
    for line in (tmp_path / "results.jsonl").read_text().splitlines():
        entry = json.loads(line)
        assert entry["status"] == known[entry["network"], entry["property"]]


def test_exact_radius_of_a_known_image(data_folder):
    """mnist_fc 256x2, image 2: 0.02570906 by an independent mixed-integer program."""
    from tests.oracles import vnnlib_box

    folder = data_folder / "vnncomp" / "mnist_fc"
    lower, upper = vnnlib_box(folder / "vnnlib" / "prop_2_0.03.vnnlib")
    x = np.clip(np.where(lower <= 0, upper - 0.03, lower + 0.03), 0, 1)
    network = relukit.load(folder / "onnx" / "mnist-net_256x2.onnx")
    found = relukit.flip(network, x, within=Box(np.zeros(784), np.ones(784)), timeout=120)
    assert found.status == "proven" and found.replayed
    assert found.lower <= 0.0257092 and found.upper >= 0.0257090
    assert found.upper - found.lower <= 2e-6


def test_flip_against_a_grid():
    """Two inputs: no point of a fine grid inside the proven distance is decided otherwise; the witness is."""
    g = np.random.default_rng(0)
    for _ in range(6):
        weights = [g.standard_normal((6, 2)), g.standard_normal((5, 6)) / 2, g.standard_normal((3, 5))]
        network = from_layers(weights, [g.standard_normal(len(W)) / 2 for W in weights], [RELU, RELU], np.float64)
        x = g.uniform(-1, 1, 2)
        others = g.uniform(-3, 3, (200, 2))
        found = relukit.flip(network, x, timeout=20, starts=others)
        if found.witness is None:
            assert len(set(network.decide(others))) == 1
            continue
        assert found.status == "proven"
        assert network.decide(found.witness) == found.to != network.decide(x)
        assert np.abs(found.witness - x).max() == pytest.approx(found.upper)
        side = np.linspace(-1, 1, 201) * found.lower * (1 - 1e-9)
        grid = x + np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        assert np.all(network.decide(grid) == network.decide(x))


def test_what_is_refused(data_folder, tmp_path):
    folder = data_folder / "vnncomp" / "acasxu"
    smooth = from_layers([np.eye(5), np.eye(5)], [np.zeros(5)] * 2, [get("gelu")])
    with pytest.raises(UnsupportedOperation, match="gelu"):
        relukit.verify(smooth, folder / "vnnlib" / "prop_3.vnnlib")
    with pytest.raises(ShapeMismatch, match="5 inputs and 5 outputs"):
        relukit.verify(from_layers([np.eye(2)], [np.zeros(2)], []), folder / "vnnlib" / "prop_3.vnnlib")
    with pytest.raises(UnsupportedOperation, match="l2"):
        relukit.flip(from_layers([np.eye(2)], [np.zeros(2)], []), np.zeros(2), norm=2)


def test_too_many_gates_keep_what_was_found(monkeypatch):
    """Above the limit of the exact search the replayed flip and the screened bound are the answer, not an error."""
    from relukit.verification.flip import _Search

    monkeypatch.setitem(_Search.__init__.__globals__, "_GATES", 2)
    g = np.random.default_rng(0)
    weights = [g.standard_normal((12, 4)), g.standard_normal((12, 12)) / 3, g.standard_normal((3, 12))]
    network = from_layers(weights, [g.standard_normal(len(W)) / 2 for W in weights], [RELU, RELU], np.float64)
    found = [relukit.flip(network, x, timeout=5) for x in g.uniform(-1, 1, (6, 4))]
    assert sum(f.witness is not None for f in found) >= 3
    for f in found:
        assert f.lower <= f.upper and (f.witness is None or f.replayed)
    assert any(f.status == "bounded" for f in found)


def test_the_lower_bound_never_exceeds_the_flip_of_another_solver():
    """Against the exact distance from all patterns, by an independent linear program per pattern."""
    import itertools

    from scipy.optimize import linprog

    for seed in range(8):
        g = np.random.default_rng(seed)
        W, b, V, c = (
            g.standard_normal((5, 3)),
            g.standard_normal(5),
            g.standard_normal((2, 5)),
            g.standard_normal(2) / 3,
        )
        network = from_layers([W, V], [b, c], [RELU], np.float64)
        x = g.uniform(-1, 1, 3)
        s = int(network.decide(x))
        best = np.inf
        for on in itertools.product([0.0, 1.0], repeat=5):
            D = np.diag(on)
            q = V[1 - s] - V[s]
            rows = [np.where(np.array(on)[:, None] > 0, -W, W), -(q @ D @ W)[None], np.eye(3), -np.eye(3)]
            ends = [np.where(np.array(on) > 0, b, -b), np.array([q @ D @ b + c[1 - s] - c[s]]), x, -x]
            eps = np.concatenate([np.zeros(6), -np.ones(6)])
            lp = linprog(
                [0, 0, 0, 1.0],
                np.c_[np.concatenate(rows), eps],
                np.concatenate(ends),
                bounds=[(None, None)] * 3 + [(0, None)],
                method="highs",
            )
            if lp.status == 0:
                best = min(best, lp.fun)
        found = relukit.flip(network, x, timeout=10, starts=g.uniform(-5, 5, (100, 3)))
        assert found.lower <= best + 1e-8
        if found.witness is not None:
            assert found.upper >= best - 1e-8
