"""Decisions with a torch device: right against a MILP, also where the device lies, has no memory or is not there."""

import numpy as np
import pytest
import torch

import relukit
from relukit import Box, InvalidInput
from relukit.network import from_layers
from relukit.search import _leaves, decide_any
from relukit.search._decision import Decision
from relukit.search._torch_device import Device, device_named
from relukit.search._torch_dual import _OnDevice
from relukit.verification.instances import run_instances
from tests.search.test_dual import layers
from tests.search.torch_cases import HERE, by_gates, questions
from tests.strategies import RELU


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors are small here, and tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("as_graphs", [True, False])
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 40), marks=pytest.mark.slow)])
def test_decisions_agree_with_a_milp(seeds, as_graphs, monkeypatch):
    by_gates(monkeypatch, as_graphs)
    counts = {"sat": 0, "unsat": 0, "unknown": 0}
    for search, gap, want in questions(seeds):
        found = decide_any([search], 60, HERE)
        assert found.status == want or (found.status == "unknown" and abs(gap) < 1e-3), (gap, found)
        counts[found.status] += 1
    assert counts["sat"] >= 1.7 * len(seeds) and counts["unsat"] >= 1.7 * len(seeds), counts


@pytest.mark.parametrize("as_graphs", [True, False])
def test_a_device_that_lies_proves_nothing(as_graphs, monkeypatch):
    """Every leaf reported as closed: the CPU finds out, and no answer becomes wrong."""
    honest = _OnDevice.ascend

    def lying(self, *a, **k):
        found = honest(self, *a, **k)
        found.value += 100.0
        return found

    monkeypatch.setattr(_OnDevice, "ascend", lying)
    by_gates(monkeypatch, as_graphs)
    decided = 0
    for search, _, want in questions(range(5)):
        found = decide_any([search], 3, HERE)
        assert found.status in (want, "unknown"), found
        decided += found.status == want
    assert decided > 10


@pytest.mark.parametrize("lying", [False, True])
def test_what_no_point_confirms_is_never_proven(lying, monkeypatch):
    """The rows do reach 0, but no point is let through and no linear program ends: the answer is unknown."""
    honest = _OnDevice.ascend

    def ascend(self, *a, **k):
        found = honest(self, *a, **k)
        found.value += 100.0 * lying
        return found

    monkeypatch.setattr(_OnDevice, "ascend", ascend)
    monkeypatch.setattr(_leaves, "split_by_programs", lambda *a: Decision("unknown", None, 1, "linear programs"))
    by_gates(monkeypatch, True)
    for search, gap, _ in questions(range(1, 3)):
        if gap > 0:
            search.confirm = lambda points: None
            assert decide_any([search], 2, HERE).status == "unknown"


def test_a_device_without_memory_leaves_the_question_to_the_loops(monkeypatch):
    def full(*a, **k):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(_OnDevice, "ascend", full)
    by_gates(monkeypatch, False)
    for search, gap, want in questions(range(20, 22)):
        found = decide_any([search], 30, HERE).status
        assert found == want or (found == "unknown" and abs(gap) < 1e-3)


def test_a_full_store_still_ends_right(monkeypatch):
    """With room for next to nothing the search goes depth first, and certificates are asked for early."""
    by_gates(monkeypatch, True)
    tight = Device(torch.device("cpu"), batch=4, memory=200.0, store=100.0)
    found = [
        (decide_any([search], 60, tight).status, want)
        for search, gap, want in questions(range(20, 23))
        if abs(gap) > 1e-3
    ]
    assert all(a == b for a, b in found) and len(found) == 6


def test_a_device_that_is_not_there_is_named():
    for name in ("tpu9", "meta"):
        with pytest.raises(InvalidInput, match=f"'{name}' cannot be used"):
            device_named(name)
        with pytest.raises(InvalidInput, match=name):
            relukit.fit(np.zeros((20, 2)), np.arange(20) % 2, device=name)
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match="'cuda' cannot be used"):
            device_named("cuda")


def test_verify_takes_a_device(tmp_path):
    """The same verdicts as without, on a network with more moving inputs than are split; a bad device stops a whole list at once."""
    weights, biases, x = layers(0, inputs=50, hidden=(12, 10))
    network, box = from_layers(weights, biases, [RELU, RELU]), Box(x - 0.05, x + 0.05)
    variables = network.variables()
    least = network(box.sample(2000, 0))[:, 0].min()
    for level in (least - 5.0, least + 0.01):
        claim = (variables[0].within(box), variables[1][0] >= level)
        found = relukit.verify(network, *claim, timeout=30, device="cpu")
        assert (
            found.status == relukit.verify(network, *claim, timeout=30).status == ("unsat" if level < least else "sat")
        )
    (tmp_path / "list.csv").write_text("a.onnx,b.vnnlib,1\n")
    with pytest.raises(InvalidInput, match="tpu9"):
        run_instances(tmp_path / "list.csv", tmp_path / "out", device="tpu9")
    assert not (tmp_path / "out").exists()
