"""One way to write a box for all commands."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import relukit
from relukit import InvalidInput, UnreadableFile
from relukit.cli._domains import box_of, domain_of
from relukit.network import from_layers
from tests.strategies import RELU


@pytest.mark.parametrize("text", ["-1:2,0:3", "-1,0,2,3", "b.npz", "b.vnnlib"])
def test_all_spellings_name_the_same_box(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("b.npz", lo=[-1.0, 0.0], hi=[2.0, 3.0])
    ends = "".join(f"(assert (>= X_{i} {l}))(assert (<= X_{i} {u}))" for i, l, u in ((0, -1.0, 2.0), (1, 0.0, 3.0)))
    text_of = (
        "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)" + ends + "(assert (<= Y_0 0.0))"
    )
    (tmp_path / "b.vnnlib").write_text(text_of)
    for read in (box_of, domain_of):
        found = read(text, 2)
        assert found.lower.tolist() == [-1, 0] and found.upper.tolist() == [2, 3]


def test_one_range_serves_all_inputs():
    assert box_of("-0.5:0.5", 7).upper.tolist() == [0.5] * 7 == box_of("-0.5,0.5", 7).upper.tolist()


@pytest.mark.parametrize("text", ["0:1,0:1,0:1", "1,2,3", "a:b", "0:1:2", "missing.vnnlib", ""])
def test_what_is_no_box_is_refused_in_words(text):
    with pytest.raises((InvalidInput, UnreadableFile)):
        box_of(text, 2)


def test_commands_take_ranges_and_write_several_files(tmp_path):
    from relukit.cli import app

    g = np.random.default_rng(0)
    network = from_layers(
        [g.standard_normal((6, 2)), g.standard_normal((2, 6))], [g.standard_normal(6), np.zeros(2)], [RELU]
    )
    relukit.save(network, tmp_path / "n.npz")
    np.save(tmp_path / "x.npy", g.uniform(-1, 1, (20, 2)))
    model = str(tmp_path / "n.npz")
    command = [
        "regions",
        model,
        "--box",
        "-1:1",
        "--json",
        "--save",
        str(tmp_path / "a.npz"),
        "--save",
        str(tmp_path / "a.json"),
    ]
    found = json.loads(CliRunner().invoke(app, command).stdout)
    assert found["regions"] == len(relukit.regions(network, relukit.Box([-1, -1], [1, 1])))
    assert (tmp_path / "a.npz").is_file() and (tmp_path / "a.json").is_file()
    for command in (
        ["summary", model],
        ["health", model, "--data", str(tmp_path / "x.npy")],
        ["optimize", model, "--maximize", "y[0]"],
    ):
        done = CliRunner().invoke(app, [*command, "--box", "-1:1,-1:1", "--json"])
        assert done.exit_code == 0, done.output


@pytest.fixture
def heads(tmp_path):
    """y = 2 relu(x0) - relu(x1) - 1 as a regression and with a sigmoid."""
    network = from_layers([np.eye(2), np.array([[2.0, -1.0]])], [np.zeros(2), np.array([-1.0])], [RELU])
    relukit.save(network, tmp_path / "value.onnx")
    relukit.save(network.with_(head="sigmoid"), tmp_path / "chance.onnx")
    return tmp_path


def said(*command):
    from relukit.cli import app

    found = CliRunner().invoke(app, list(map(str, command)))
    assert found.exit_code == 0, found.output
    return found.stdout


def test_explain_speaks_of_decisions_only_where_there_are_some(heads):
    """At (1, 1) y = 0; at (2, 1) it is 2, and the sigmoid of it 0.880797."""
    value, chance = (said("explain", heads / f"{n}.onnx", "--at", "2,1") for n in ("value", "chance"))
    assert "decision" not in value and "output 2\n" in value and "the output is 0" in value
    assert "decision 1; 2 of 2 units on" in chance and "before the last sigmoid; after it 0.880797" in chance
    assert "the decision becomes 0" in chance
    assert json.loads(said("explain", heads / "chance.onnx", "--at", "2,1", "--json"))["head"] == "sigmoid"


def test_optimize_tells_that_a_last_sigmoid_is_set_aside(heads):
    found = said("optimize", heads / "chance.onnx", "--maximize", "y[0]", "--box", "0:1")
    assert "y = 1\ny is the value before the last sigmoid; after it 0.731059" in found
    assert "before the last" not in said("optimize", heads / "value.onnx", "--maximize", "y[0]", "--box", "0:1")
    none = said("optimize", heads / "chance.onnx", "--constraint", "y[0] >= 7", "--box", "0:1")
    assert "infeasible" in none and none.endswith("y is the value before the last sigmoid\n")


def test_flip_takes_numbers_and_the_box_of_the_other_commands(heads):
    """From (2, 1) the nearest flip of y > 0 is by 1/2 + 1/6: 2 (2 - d) - (1 + d) - 1 = 0 at d = 2/3."""
    model = heads / "chance.onnx"
    free = json.loads(said("flip", model, "--at", "2,1", "--json"))
    assert abs(free["distance"] - 2 / 3) < 1e-4 and (free["from"], free["to"]) == (1, 0)
    kept = json.loads(said("flip", model, "--at", "2,1", "--box", "0:3,1:1", "--json"))  # x1 stays: 2 (2 - d) - 2 = 0
    assert abs(kept["distance"] - 1) < 1e-4
    from relukit.cli import app

    both = CliRunner().invoke(app, ["flip", str(model), "--at", "2,1", "--box", "0:3", "--low", "0"])
    assert isinstance(both.exception, InvalidInput) and "not two of them" in str(both.exception)


def test_build_takes_ranges_for_the_way_back_and_says_where_nothing_went(heads):
    (heads / "table.csv").write_text("x,y\n0,0\n1,2\n2,1\n")
    assert "nothing was written" in said("build", heads / "table.csv")
    assert "nothing was written" not in said("build", heads / "table.csv", "-o", heads / "net.onnx")
    said("build", heads / "net.onnx", "--box", "0:2", "-o", heads / "back.csv")
    assert np.loadtxt(heads / "back.csv", delimiter=",", skiprows=1).tolist() == [[0, 0], [1, 2], [2, 1]]


def test_compress_says_what_it_wrote(heads):
    """On [1, 2] both units are always on and fold away; on [-1, 1] nothing can go."""
    model, out = heads / "value.onnx", heads / "small.onnx"
    assert f"the smaller network is written to {out}" in said("compress", model, "--box", "1:2", "-o", out)
    assert f"the network, unchanged, is written to {out}" in said("compress", model, "--box=-1:1", "-o", out)
    assert "written" not in said("compress", model, "--box", "1:2")
