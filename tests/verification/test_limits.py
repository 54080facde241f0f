"""Deadlines: they end what does not watch the clock, and leave the process as it was."""

import importlib
import sys
import time

import pytest

from relukit.verification._limits import TimeIsUp, deadline


def test_a_deadline_ends_its_body():
    began = time.perf_counter()
    with pytest.raises(TimeIsUp), deadline(0.1):
        while time.perf_counter() - began < 5:
            pass
    assert time.perf_counter() - began < 1
    with deadline(0.05):
        pass
    time.sleep(0.1)  # no later signal


def test_an_import_is_let_finish(tmp_path, monkeypatch):
    """Half of a module in `sys.modules` made every later instance of a run fail, and the process crash at its end."""
    (tmp_path / "slow_to_import.py").write_text(
        "import time\nfirst = time.perf_counter()\nwhile time.perf_counter() < first + 0.5:\n    pass\nlast = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    began = time.perf_counter()
    with pytest.raises(TimeIsUp), deadline(0.1):
        importlib.import_module("slow_to_import")
        while time.perf_counter() - began < 10:
            pass
    assert sys.modules["slow_to_import"].last == 1
    assert 0.5 <= time.perf_counter() - began < 3


def test_what_fails_after_a_swallowed_deadline_is_the_deadline():
    """Compilers call back from C, where an exception is printed and dropped, and then fail with an error of their own."""

    def swallowing():
        try:
            time.sleep(5)
        except TimeIsUp:
            raise RuntimeError("no compiled object yet") from None

    with pytest.raises(TimeIsUp), deadline(0.05):
        swallowing()
    with pytest.raises(RuntimeError, match="its own"), deadline(5):
        raise RuntimeError("its own")
