"""The device that these tests run on: a GPU; `--device cpu:0` runs the same code without one."""

import pytest
import torch


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest) -> str:
    asked = request.config.getoption("--device")
    if asked != "cpu":
        return asked
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    return "cuda"
