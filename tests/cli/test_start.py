"""Start-up: plain lines are read as Typer reads them, and compiled code loads without the rest of Numba."""

import importlib
import inspect
import json
import os
import subprocess
import sys

import pytest

from relukit.cli import COMMANDS, app
from relukit.cli._start import quick_call, read_plainly

LINES = [
    "verify net.onnx q.vnnlib",
    "verify net.onnx q.vnnlib 12 result.txt",
    "verify q.vnnlib --network N=a.onnx --network=M=b.onnx --timeout 3.5 --json",
    "verify --instances list.csv --out there --timeout=2",
    "flip net.onnx --at x.npy --norm 2 --low 0 --high 1 --row 3 --json",
    "flip --at x.npy net.onnx --frozen 0,3-5 --target 2 --all --limit 4",
    "check proof.json --network n.onnx --property p.vnnlib",
    "summary net.onnx --json",
    "explain net.onnx --at x.npy",
    "optimize net.npz --json",
]
# Typer reads these: help, short options, mistakes, and words that only it may judge.
LEFT = [
    "", "--version", "nothing", "verify --help", "flip net.onnx", "flip net.onnx --at", "flip net.onnx --at x --row one",
    "flip net.onnx --at x --all=yes", "flip net.onnx extra --at x", "flip net.onnx --at x -o y", "summary", "verify a b --unknown 1",
    "gallery list", "flip net.onnx --at x --row 1_0", "verify a b --timeout nan_", "explain net.onnx --at x --walls 3",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_plain_lines_are_read_as_typer_reads_them(line, monkeypatch):
    name, *words = line.split()
    module = importlib.import_module(f"relukit.cli.{name}")
    command, seen = module.command, []

    def spy(**values):
        seen.append(values)

    spy.__signature__ = inspect.signature(command)  # type: ignore[attr-defined]
    spy.__annotations__ = command.__annotations__
    import typer

    one = typer.Typer()
    one.command()(spy)
    one(words, standalone_mode=False)
    mine = read_plainly(command, words)
    assert mine is not None
    normal = lambda values: {k: v or None if isinstance(v, list) else v for k, v in values.items()}
    assert normal(mine) == normal(seen[0])
    assert {k: type(v) for k, v in normal(mine).items()} == {k: type(v) for k, v in normal(seen[0]).items()}


@pytest.mark.parametrize("line", LEFT)
def test_typer_reads_the_rest(line, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert quick_call(line.split(), COMMANDS) is None
    os.environ.pop("OPENBLAS_NUM_THREADS", None)


def test_every_command_can_be_read_plainly_or_says_why_not():
    assert app.registered_commands and app.registered_groups
    plain = [n for n in COMMANDS if hasattr(importlib.import_module(f"relukit.cli.{n}"), "command")]
    assert {"verify", "flip", "check", "open", "optimize"} <= set(plain)


def test_compiled_code_is_loaded_without_numbas_registries(tmp_path):
    """The first process fills a cache; the second reads it, and can still compile something else that calls it."""
    code = (
        "import sys, json\nfrom relukit.cli._start import quick_call\nquick_call(['verify', 'a', 'b'], ('verify',))\n"
        "import importlib.util\nimport kernel\nimport numpy as np\nv = kernel.total(np.arange(4.0))\n"
        "light = 'scipy.linalg' not in sys.modules and 'numba.np.arraymath' not in sys.modules\n"
        "w = kernel.twice(np.arange(3.0)) if len(sys.argv) > 1 else 0\n"
        "print(json.dumps([v, light, w, sum(kernel.total.stats.cache_hits.values())]))"
    )
    (tmp_path / "kernel.py").write_text(
        "from numba import njit\n"
        "@njit(cache=True)\ndef total(x):\n    s = 0.0\n    for v in x:\n        s += v\n    return s\n"
        "@njit\ndef twice(x):\n    return 2 * total(x)\n"
    )
    env = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    answer = lambda *more: json.loads(
        subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True, env=env, check=True, cwd=tmp_path).stdout
    )  # fmt: skip
    assert answer() == [6.0, False, 0, 0]  # compiled
    assert answer() == [6.0, True, 0, 1]  # read
    assert answer("more") == [6.0, True, 6.0, 1]  # read, then another function compiled around it


@pytest.mark.parametrize("alone", [False, True])
def test_compiling_is_announced_once(alone):
    """Beside the patch of Numba's cache and without it; what is only imported is not announced."""
    code = f"""
from relukit.cli import _start
_start.tell_compiling()
if {alone}: _start._load_compiled_code_alone()
import sys, numba
print("imported", file=sys.stderr)
f, g = numba.njit(lambda x: x + 1), numba.njit(lambda x: x + 2)
assert (f(1), g(1)) == (2, 3)
import numba.core.caching as caching
assert (caching.FunctionCache.load_overload.__module__ == "relukit.cli._start") == {alone}
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.splitlines()[0] == "imported" and found.stderr.count("compiling loops, once") == 1
