"""Compiled code read from the cache is that of the kernels as they are: a kernel of another file, changed, changes its callers."""

import os
import subprocess
import sys


def answer(folder):
    code = "import sys; sys.path.insert(0, '.'); import caller; print(caller.twice(3.0), len(caller.twice.stats.cache_hits))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return found.stdout.split()


def test_a_changed_callee_in_another_file_is_compiled_anew(tmp_path):
    kernel = "from relukit._numba import njit\n{more}\n@njit(cache=True)\ndef {name}(x):\n    return {body}\n"
    (tmp_path / "caller.py").write_text(kernel.format(more="from callee import one", name="twice", body="2 * one(x)"))
    (tmp_path / "callee.py").write_text(kernel.format(more="", name="one", body="x + 1"))
    assert answer(tmp_path) == ["8.0", "0"]
    assert answer(tmp_path) == ["8.0", "1"]  # read from the cache
    (tmp_path / "callee.py").write_text(kernel.format(more="", name="one", body="x + 2"))
    assert answer(tmp_path) == ["10.0", "0"]
