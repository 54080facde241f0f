"""Rounding terms and atomic files."""

import json
from fractions import Fraction

import numpy as np
import pytest

from relukit import UnwritablePath
from relukit._numerics import Tolerance, atomic_path, gamma, write_json


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gamma_covers_dot_products(dtype):
    g = np.random.default_rng(0)
    for n in (1, 7, 300):
        a, b = g.standard_normal((2, n)).astype(dtype)
        exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b))
        size = sum(abs(Fraction(float(x)) * Fraction(float(y))) for x, y in zip(a, b))
        assert abs(Fraction(float(np.dot(a, b))) - exact) <= Fraction(gamma(n, dtype)) * size


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "out.json"
    write_json(target, {"a": np.float64(1.5), "b": np.arange(2)})
    assert json.loads(target.read_text()) == {"a": 1.5, "b": [0, 1]}
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as path:
        path.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(target.read_text())["a"] == 1.5
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_unwritable_places_and_full_disks(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritablePath, match="cannot write"):
        write_json(tmp_path / "file" / "out.json", {})
    with (
        pytest.raises(UnwritablePath, match="No space left"),
        atomic_path(tmp_path / "x"),
        open("/dev/full", "w") as full,
    ):
        full.write("x" * 100_000)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_tolerance_is_relative_to_its_scale():
    t = Tolerance(1e-6, 1000.0)
    assert t.equal(np.array([5.0]), np.array([5.0009]))[0]
    assert not t.equal(np.array([5.0]), np.array([5.0011]))[0]
