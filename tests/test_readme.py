"""The README's examples run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.S)


def test_library_example(capsys):
    exec(compile(BLOCKS[-1], "README.md", "exec"), {})
    said = capsys.readouterr().out
    for word in ("Dense 64 -> 64", "Health(", "Regions(", "Flip(", "Compression("):
        assert word in said


@pytest.mark.slow
def test_models_of_ones_own_are_opened(tmp_path, monkeypatch):
    import torch

    import relukit

    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="keras is not installed")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)]
    given = {"torch_module": module, "keras_model": keras.Sequential(layers), "relukit": relukit}
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 2
    exec(compile(BLOCKS[0], "README.md", "exec"), given | {"rows": np.random.default_rng(0).normal(size=(30, 3))})
    assert (tmp_path / "report" / "index.html").is_file()
