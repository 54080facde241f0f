"""Lists of properties: what a line may be, what a second run asks again, and which execution is proven."""

import json

import numpy as np
import pytest

import relukit
from relukit import UnreadableFile
from relukit.network import save
from relukit.verification import _verdict, instances
from relukit.verification.instances import read_instances, run_instances

HEAD = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (>= X_0 0))(assert (<= X_0 1))\n"


@pytest.fixture
def listed(tmp_path):
    """y = 2 max(0, x): can it reach 3? can it reach 1? and a property that is not there yet."""
    network = relukit.load({"W0": np.eye(1), "b0": np.zeros(1), "W1": 2 * np.eye(1), "b1": np.zeros(1)})
    save(network, tmp_path / "net.onnx")
    for name, limit in (("high", 3), ("low", 1)):
        (tmp_path / f"{name}.vnnlib").write_text(f"{HEAD}(assert (>= Y_0 {limit}))")
    path = tmp_path / "list.csv"
    path.write_text("# ours\nNetwork,Property,Timeout\n\n net.onnx, high.vnnlib, 5\nnet.onnx,low.vnnlib,5\nnet.onnx,later.vnnlib,5\n")
    return path


def entries(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_titles_comments_and_spaces(listed):
    assert read_instances(listed)[0] == ("net.onnx", "high.vnnlib", 5.0)
    assert len(read_instances(listed)) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("net.onnx,high.vnnlib", "line 2: .*fewer than three fields"), ("net.onnx,high.vnnlib,soon", "line 2: .*'soon' is no number"),
        ("net.onnx,high.vnnlib,nan", "line 2: .*'nan'"), ("net.onnx,high.vnnlib,-1", "line 2: .*'-1'"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_instance_is_refused_with_its_number(tmp_path, line, words):
    (tmp_path / "list.csv").write_text(f"# first\n{line}\n")
    with pytest.raises(UnreadableFile, match=words):
        read_instances(tmp_path / "list.csv")


def test_errors_are_asked_again(listed, tmp_path):
    assert run_instances(listed, tmp_path) == {"unsat": 1, "sat": 1, "error": 1}
    assert entries(tmp_path)[2]["reason"].endswith("later.vnnlib does not exist")
    before = entries(tmp_path)[:2]
    (tmp_path / "later.vnnlib").write_text(f"{HEAD}(assert (<= Y_0 -1))")
    assert run_instances(listed, tmp_path) == {"unsat": 2, "sat": 1}
    assert entries(tmp_path)[:2] == before and entries(tmp_path)[2]["status"] == "unsat"


def test_what_timed_out_is_asked_again_with_more_time_only(listed, tmp_path, monkeypatch):
    asked = []

    def slow(network, question, timeout, **options):
        asked.append(timeout)
        return _verdict.Undecided("time is up", "", 0, "none", 0.0)

    monkeypatch.setattr(instances, "verify", slow)
    listed.write_text("net.onnx,high.vnnlib,5\n")
    for limit in (None, None, 3.0, 9.0, None):
        assert run_instances(listed, tmp_path, limit) == {"timed-out": 1}
    assert np.ceil(asked).tolist() == [5, 9] and entries(tmp_path)[0]["timeout"] == 9


def test_lines_of_something_else_are_passed_over(listed, tmp_path):
    (tmp_path / "results.jsonl").write_text('[1]\n{"a": 1}\n3\n')
    assert sum(run_instances(listed, tmp_path).values()) == 3


def test_the_execution_asked_for_is_the_one_that_is_proven(listed, tmp_path):
    run_instances(listed, tmp_path, execution="float32")
    assert "float32" in entries(tmp_path)[0]["note"]
