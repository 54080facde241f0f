"""`verify` on real networks with known answers."""

import csv
import json

import numpy as np
import pytest

import relukit
from relukit import ShapeMismatch
from relukit.network import from_layers
from relukit.verification.instances import run_instances


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


def test_what_is_refused(data_folder):
    folder = data_folder / "vnncomp" / "acasxu"
    with pytest.raises(ShapeMismatch, match="5 inputs and 5 outputs"):
        relukit.verify(from_layers([np.eye(2)], [np.zeros(2)], []), folder / "vnnlib" / "prop_3.vnnlib")
