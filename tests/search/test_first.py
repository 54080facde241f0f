"""The first search after an installation: compiling costs no question its time."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import relukit
from relukit.network import from_layers
from tests.strategies import RELU


@pytest.mark.slow
def test_a_list_of_properties_is_answered_though_nothing_was_compiled(tmp_path):
    """With an empty cache, a limit far below what compiling takes still gets its answer; the next run says nothing of it."""
    g = np.random.default_rng(1)
    weights = [g.standard_normal((20, 3)), g.standard_normal((20, 20)) / 3, g.standard_normal((1, 20))]
    network = from_layers(weights, [g.standard_normal(len(W)) / 4 for W in weights], [RELU, RELU], np.float32)
    relukit.save(network, tmp_path / "n.onnx")
    best = relukit.optimize(network, 0, box=relukit.Box(-np.ones(3), np.ones(3)))
    lines = [f"(declare-const X_{i} Real)(assert (>= X_{i} -1.0))(assert (<= X_{i} 1.0))" for i in range(3)]
    lines += ["(declare-const Y_0 Real)", f"(assert (>= Y_0 {best.bound + 0.02 * abs(best.bound)}))"]
    (tmp_path / "p.vnnlib").write_text("\n".join(lines))
    (tmp_path / "i.csv").write_text("n.onnx,p.vnnlib,3\n")
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    for out in ("first", "second"):
        command = [sys.executable, "-m", "relukit", "verify", "--instances", "i.csv", "--out", out]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=400)
        (answer,) = map(json.loads, (tmp_path / out / "results.jsonl").read_text().splitlines())
        assert answer["status"] == "unsat" and answer["boxes"] > 1, (done.stderr, answer)
        assert ("compiled at their first use" in done.stderr) == (out == "first")
