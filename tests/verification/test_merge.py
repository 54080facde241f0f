"""Jobs shared out: by shards that are merged, and by workers; what comes out is what one run writes."""

import json
import subprocess
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from relukit import InvalidInput, UnreadableFile
from relukit._errors import SolverDisagreement
from relukit._spread import answers
from relukit.network import from_layers
from relukit.verification import Shard, flips, merge, run_instances
from tests.strategies import RELU


@pytest.fixture
def listed(data_folder, tmp_path):
    folder = data_folder / "vnncomp" / "rl_benchmarks"
    rows = [line.split(",") for line in (folder / "instances.csv").read_text().splitlines()[::25]]
    path = tmp_path / "list.csv"
    path.write_text("".join(f"{folder / a},{folder / b},5\n" for a, b, _ in rows))
    return path


def results(path):
    """The lines of a file, without what differs from run to run."""
    keys = ("number", "network", "property", "status", "witness")
    return [{k: v for k, v in json.loads(line).items() if k in keys} for line in path.read_text().splitlines()]


def network():
    g = np.random.default_rng(0)
    return from_layers(
        [g.standard_normal((8, 3)), g.standard_normal((3, 8))], [g.standard_normal(8), np.zeros(3)], [RELU]
    )


class Backwards(Executor):
    """Does what was submitted when the iteration asks, the last first."""

    def __init__(self):
        self.waiting = []

    def submit(self, work, /, *arguments, **named):
        future = Future()
        self.waiting.append((future, work, arguments))
        if len(self.waiting) == 3:
            for future_, work_, given in reversed(self.waiting):
                future_.set_result(work_(*given))
            self.waiting.clear()
        return future


@pytest.mark.parametrize("of", [1, 3, 7])
def test_any_sharding_merges_to_what_one_run_writes(listed, tmp_path, of):
    run_instances(listed, tmp_path / "whole")
    whole = results(tmp_path / "whole" / "results.jsonl")
    assert len(whole) == 8
    for k in reversed(range(1, of + 1)):
        run_instances(listed, tmp_path / "parts", shard=Shard(k, of))
    found = merge([tmp_path / "parts"], tmp_path / "parts")
    assert (found.entries, found.missing) == (8, ()) and results(tmp_path / "parts" / "results.jsonl") == whole
    merge([tmp_path / "parts", tmp_path / "whole"], tmp_path / "twice")
    assert results(tmp_path / "twice" / "results.jsonl") == whole


def test_the_order_of_workers_does_not_matter(listed, tmp_path):
    run_instances(listed, tmp_path / "a")
    (tmp_path / "b").mkdir()
    kept = (tmp_path / "a" / "results.jsonl").read_text().splitlines()
    (tmp_path / "b" / "results.jsonl").write_text("".join(line + "\n" for line in kept[:2]))  # six are left: two threes
    run_instances(listed, tmp_path / "b", executor=Backwards())
    assert results(tmp_path / "b" / "results.jsonl") == results(tmp_path / "a" / "results.jsonl")


def test_a_missing_shard_is_named_and_a_contradiction_refused(tmp_path):
    line = {"number": 0, "network": "n", "property": "p", "status": "sat"}
    for k, status in ((1, "sat"), (3, "timed-out"), (4, "unsat")):
        (tmp_path / f"results-{k}-of-4.jsonl").write_text(json.dumps(line | {"status": status}) + '\n{"torn')
    with pytest.raises(SolverDisagreement, match=r"n, p: sat in .*1-of-4.*, unsat in .*4-of-4"):
        merge([tmp_path], tmp_path / "out")
    (tmp_path / "results-4-of-4.jsonl").unlink()
    assert merge([tmp_path], tmp_path / "out").missing == ("2-of-4", "4-of-4")
    assert results(tmp_path / "out" / "results.jsonl") == [line]  # what was decided stays


def test_flips_of_shards_and_of_processes_are_those_of_one_run(tmp_path):
    x = np.random.default_rng(1).standard_normal((6, 3))
    alone = flips(network(), x, labels=[0, 1, 2, 0, 1, 2], timeout=10)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        spread = flips(network(), x, labels=[0, 1, 2, 0, 1, 2], timeout=10, executor=pool)
    assert [f.upper for f in spread.flips] == [f.upper for f in alone.flips]
    assert (spread.right == alone.right).all()
    with pytest.raises(InvalidInput, match="with an executor give timeout"):
        flips(network(), x, total=5, executor=Backwards())
    paths = []
    for k in (1, 2, 3, 4):
        numbers = Shard(k, 4).take(range(6))
        part = flips(network(), x[numbers], labels=np.array([0, 1, 2, 0, 1, 2])[numbers], timeout=10, starts=x)
        paths.append(tmp_path / f"f-{k}-of-4.json")
        paths[-1].write_text(json.dumps(part.to_dict() | {"numbers": numbers}))
    found = merge(paths[::-1], tmp_path / "all.json").content
    assert found is not None
    whole = alone.to_dict()
    assert all(found[k] == whole[k] for k in ("rows", "proven", "accuracy", "median", "curve", "histogram", "right"))


def test_what_is_refused(tmp_path):
    for text in ("3", "0/2", "3/2", "a/b", "/2", "-1/2"):
        with pytest.raises(InvalidInput, match="NUMBER/OF"):
            Shard.read(text)
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.json").write_text('{"flips": []}')
    with pytest.raises(InvalidInput, match="cannot be merged into one"):
        merge([tmp_path / "a.jsonl", tmp_path / "b.json"], tmp_path)
    with pytest.raises(UnreadableFile, match="no part of"):
        merge([tmp_path / "b.json"], tmp_path)
    with pytest.raises(UnreadableFile, match=r"holds no results\*\.jsonl"):
        merge([tmp_path], tmp_path)


class FailsFirst(Executor):
    """Fails in what is submitted first and begins nothing else."""

    def __init__(self):
        self.futures = []

    def submit(self, work, /, *arguments, **named):
        self.futures.append(Future())
        if len(self.futures) == 1:
            self.futures[0].set_exception(ValueError("the first one"))
        return self.futures[-1]


def test_what_is_not_begun_is_called_off():
    executor = FailsFirst()
    with pytest.raises(ValueError, match="the first one"):
        list(answers(int, [("1",), ("2",), ("3",)], executor))
    assert [future.cancelled() for future in executor.futures] == [False, True, True]


@pytest.mark.slow
def test_a_dask_cluster(listed, tmp_path):
    distributed = pytest.importorskip("distributed")
    run_instances(listed, tmp_path / "a")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        command = ["verify", "--instances", str(listed), "--out", "b", "--cluster", cluster.scheduler_address]
        subprocess.run([sys.executable, "-m", "relukit", *command], cwd=tmp_path, check=True, timeout=120)
    assert results(tmp_path / "b" / "results.jsonl") == results(tmp_path / "a" / "results.jsonl")
    command = ["verify", "--instances", str(listed), "--cluster", "tcp://127.0.0.1:1"]
    found = subprocess.run(
        [sys.executable, "-m", "relukit", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2 and "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in found.stderr
