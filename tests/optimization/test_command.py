"""`relukit optimize` as it is typed: every question, and every mistake as one sentence with exit code 2."""

import json
import sys

import numpy as np
import pytest

from relukit import Box
from relukit.activations import get
from relukit.network import from_layers, save
from tests.optimization.test_questions import layers, network


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Runs `relukit optimize` in a folder with a few files; returns exit code, stdout and stderr."""
    from relukit.cli import app
    from relukit.cli._frame import run_app

    W, b = layers(3, (2, 4, 2))
    net = network(W, b).with_(box=Box([-1.0, -1.0], [1.0, 1.0]))
    arrays = {"W0": W[0], "b0": b[0], "W1": W[1], "b1": b[1]}
    np.savez(tmp_path / "n.npz", lo=-np.ones(2), hi=np.ones(2), **arrays)
    np.savez(tmp_path / "open.npz", **arrays)
    np.savez(tmp_path / "nan.npz", **(arrays | {"W0": np.full((4, 2), np.nan)}))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["relukit", "optimize", *map(str, arguments)])
        code = run_app(app)
        out, err = capsys.readouterr()
        return code, out, err

    run.net, run.folder = net, tmp_path
    return run


def test_answers(ask):
    net = ask.net
    code, out, _ = ask("n.npz", "--maximize", "y[0]", "--json")
    content = json.loads(out)
    assert code == 0
    assert {"status", "value", "bound", "gap", "witness", "replayed", "engine", "cpu_seconds"} <= set(content)
    points = net.box.sample(20_000, 0)
    assert content["bound"] >= net(points)[:, 0].max() and net(np.array(content["witness"]))[0] == pytest.approx(
        content["value"]
    )
    code, out, _ = ask(
        "n.npz", "--maximize", "y[0]", "--box=-0.5:0.5,0:1", "--constraint", "y[1] <= 0.4", "--integer", "1", "--json"
    )
    x = np.array(json.loads(out)["witness"])
    assert code == 0 and abs(x[0]) <= 0.5 and x[1] in (0, 1) and net(x)[1] <= 0.4 + 1e-6
    level = float(np.quantile(net(points)[:, 0], 0.9))
    code, out, _ = ask("n.npz", "--target", f"y[0] == {level} +- 0.01", "--near", "0.1,0.2", "--norm", "linf", "--json")
    found = json.loads(out)
    x = np.array(found["witness"])
    assert abs(net(x)[0] - level) <= 0.0101 and found["value"] == pytest.approx(np.abs(x - [0.1, 0.2]).max(), abs=1e-9)
    assert len(found["outputs"]) == 2
    code, out, _ = ask("n.npz", "--counterfactual", f"y[0] >= {level}", "--near", "0.1,0.2", "--scale", "range")
    assert code == 0 and out.startswith("optimal")
    code, out, _ = ask("n.npz", "--constraint", f"y[0] >= {level}")
    assert code == 0 and out.startswith("feasible")
    code, out, _ = ask("n.npz", "--constraint", "y[0] >= 1000", "--json")
    found = json.loads(out)
    assert found["status"] == "infeasible" and "lies in" in found["reason"] and found["value"] is None
    code, out, _ = ask("n.npz", "--argmax", "--json")
    found = json.loads(out)
    assert [o["status"] for o in found["outputs"]] and found["status"] == "optimal"
    seen = {int(k) for k in np.argmax(net(points), axis=1)}
    assert seen <= {o["output"] for o in found["outputs"] if o["status"] == "possible"}


def test_several_networks(ask):
    code, out, _ = ask(
        "a=n.npz", "--also", "b=n.npz", "--link", "b.x[0] == a.x[0]", "--maximize", "a.y[0] - b.y[0]",
        "--constraint", "a.x[1] - b.x[1] <= 0.25", "--constraint", "b.x[1] - a.x[1] <= 0.25", "--json",
    )  # fmt: skip
    found = json.loads(out)
    a, b = (np.array(found["inputs"][k]) for k in "ab")
    assert code == 0 and a[0] == b[0] and abs(a[1] - b[1]) <= 0.25 + 1e-6
    assert found["value"] == pytest.approx(ask.net(a)[0] - ask.net(b)[0])
    grid = ask.net.box.sample(4000, 1)
    moved = np.clip(grid + [0, 0.25], -1, 1)
    assert found["bound"] >= np.abs(ask.net(moved)[:, 0] - ask.net(grid)[:, 0]).max()


def test_export_and_second_opinion(ask):
    code, out, _ = ask(
        "n.npz", "--maximize", "y[0]", "--category", "0,1", "--export", "m.lp", "--formulation", "partition"
    )
    assert code == 0 and (ask.folder / "m.lp").exists() and "m.lp" in out
    code, out, _ = ask(
        "n.npz", "--maximize", "y[0]", "--constraint", "x[0] + x[1] <= 0.5", "--second-opinion", "--json"
    )
    assert code == 0 and json.loads(out)["second_opinion"]["agrees"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.npz", "--maximize", "y[0]"], "does not exist"),
        (["n.npz"], "give maximize or minimize"),
        (["n.npz", "--maximize", "y[0]", "--minimize", "y[0]"], "one question at a time"),
        (["n.npz", "--maximize", "y[7]"], r"outputs y[0] to y[1]"),
        (["n.npz", "--maximize", "y[0"], "cannot read"),
        (["n.npz", "--maximize", "__import__('os')"], "cannot read"),
        (["n.npz", "--maximize", "y[0]", "--box", "0:inf"], "finite"),
        (["n.npz", "--maximize", "y[0]", "--box", "1:0"], "lower > upper"),
        (["n.npz", "--maximize", "y[0]", "--box", "0:1,0:1,0:1"], "takes 2 ranges"),
        (["n.npz", "--maximize", "y[0]", "--box", "a:b"], "LO:HI"),
        (["open.npz", "--maximize", "y[0]"], "needs a box"),
        (["nan.npz", "--maximize", "y[0]", "--box=-1:1"], "NaN"),
        (["n.npz", "--maximize", "y[0]", "--solver", "cplex"], "unknown solver 'cplex'"),
        (["n.npz", "--maximize", "y[0]", "--constraint", "x[0] < 1"], "strict"),
        (["n.npz", "--maximize", "y[0]", "--constraint", "x[0] ? 1"], "exactly one of"),
        (["n.npz", "--maximize", "y[0]", "--integer", "9"], "integer inputs [9]"),
        (["n.npz", "--maximize", "y[0]", "--category", "0"], "two or more"),
        (["n.npz", "--maximize", "y[0]", "--export", "m.txt"], ".mps or .lp"),
        (["n.npz", "--maximize", "y[0]", "--near", "0,0"], "closest input"),
        (["n.npz", "--counterfactual", "y[0] >= 1"], "closest to what"),
        (["n.npz", "--target", "y[0] == 1", "--near", "0,0,0"], "3 numbers"),
        (["n.npz", "--target", "y[0] == 1", "--near", "0,0", "--norm", "l7"], "l1, l2 or linf"),
        (["n.npz", "--maximize", "y[0]", "--link", "b.x[0] == a.x[0]"], "--also"),
        (["n.npz", "--maximize", "y[0]", "--also", "b=n.npz"], "NAME=FILE"),
        (["n.npz", "--maximize", "y[0]", "--timeout", "0"], "above 0"),
    ],
)
def test_mistakes(ask, arguments, said):
    code, out, err = ask(*arguments)
    assert code == 2 and said in err and not out and len(err.strip().splitlines()) == 1


def test_smooth_activations_are_refused(ask):
    W, b = layers(0, (2, 3, 1))
    save(from_layers(W, b, [get("sigmoid")]), ask.folder / "s.onnx")
    code, _, err = ask("s.onnx", "--maximize", "y[0]", "--box=-1:1")
    assert code == 2 and "sigmoid" in err and "piecewise-linear" in err
