"""Fixtures, and run-time type checks of the core floors."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401 - the hook below looks it up by name

# Every annotated function of the core is checked by beartype on every call that a test makes (sets take lists, too).
install_import_hook(
    ["relukit._numerics", "relukit.bounds", "relukit.network", "relukit.compression"], "tests.typecheck.check"
)


# A run in the background of a script starts with Ctrl-C ignored, and the commands that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every CI run; new ones on a developer's machine.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch device for tests that take one")
    parser.addoption("--dtype", default="float64", help="precision for tests that take one")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; the test skips where there is none."""
    folder = os.environ.get("RELUKIT_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RELUKIT_DATA does not name a folder of data")
    return Path(folder)
