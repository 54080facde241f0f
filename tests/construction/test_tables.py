"""Networks of tables: exact where it can be exact, the fewest units, accurate in float32."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relukit
from relukit import Box, InvalidInput, PiecewiseLinear, ShapeMismatch, build
from relukit.construction import Table, exact_pieces, same_function, unbuild
from relukit.construction._rounding import table_bound


def interpolated(x, y, at):
    """The table at a rational point, by the two-point formula."""
    at = Fraction(at)
    for a, b, c, d in zip(x, x[1:], y, y[1:]):
        if at <= Fraction(b) or b == x[-1]:
            a, b, c, d = map(Fraction, (a, b, c, d))
            return c + (d - c) * (at - a) / (b - a)
    raise AssertionError


@st.composite
def dyadic_tables(draw):
    """Steps are powers of two and values have few bits, so that every slope is a float."""
    n = draw(st.integers(2, 9))
    g = np.random.default_rng(draw(st.integers(0, 2**31)))
    x = np.cumsum(2.0 ** g.integers(-3, 3, n)) - 4
    return x, g.integers(-16, 17, n) / 4


@settings(max_examples=15, deadline=None)
@given(dyadic_tables(), st.booleans(), st.sampled_from(["", "hats", "anchored hats", "anchored two-sided hats"]))
def test_dyadic_tables_are_exact_in_rational_arithmetic(table, skip, form):
    x, y = table
    built = build((x, y), skip=skip, form=form)
    slopes = [Fraction(b - a) / Fraction(d - c) for a, b, c, d in zip(y, y[1:], x, x[1:])]
    kinks = sum(a != b for a, b in zip(slopes, slopes[1:]))
    if built.form == "hinges":
        assert built.hidden_units <= (kinks if skip else max(kinks + 1, 2))
        assert skip is False or built.hidden_units == kinks
    seen = 0
    for piece in exact_pieces(built.network, Box(x[:1] - 2, x[-1:] + 3)):  # beyond the table the outer slopes go on
        (slope, offset), low, high = piece.rows[0], min(piece.points)[0], max(piece.points)[0]
        for p in (low, high):
            want = interpolated(x, y, p) if p >= x[0] else y[0] + slopes[0] * (p - Fraction(x[0]))
            if built.form == "hinges":
                assert slope * p + offset == want
            else:  # reciprocals of steps that are no power of two are rounded
                assert abs(slope * p + offset - want) < 1e-12
        seen += 1
    assert seen >= kinks + 1
    if built.form != "hinges":
        return
    back = unbuild(built.network, Box(x[:1], x[-1:]), "table")
    assert back.exact and back.pieces == kinks + 1
    again = build(back.form, form=built.form, skip=skip)
    assert same_function(built.network, again.network, Box(x[:1], x[-1:]))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["even", "uneven", "wild"]), st.booleans())
def test_bounds_hold_and_accuracy_does_not_fall_with_the_knots(seed, spacing, skip):
    g = np.random.default_rng(seed)
    n = int(g.integers(3, 60))
    x = {"even": np.linspace(-1, 3, n), "uneven": np.sort(g.uniform(0, 5, n)), "wild": np.cumsum(10.0 ** g.uniform(-3, 1, n))}[spacing]  # fmt: skip
    y = g.uniform(-1, 1, n)
    if len(np.unique(x.astype(np.float32))) < n:
        return
    built = build((x, y), skip=skip)
    assert built.max_error_float32 <= 1e-6 and built.max_error_float64 <= 1e-15
    for dtype in (np.float32, np.float64):
        rows = np.unique(np.r_[g.uniform(x[0], x[-1], 60), x[1:-1]].astype(dtype))
        rows = rows[(rows >= x[0]) & (rows <= x[-1])]
        got = built.network(rows[:, None], dtype)[:, 0]
        worst = max(abs(Fraction(float(v)) - interpolated(x, y, float(p))) for v, p in zip(got, rows))
        assert float(worst) <= {np.float32: built.error_bound_float32, np.float64: built.error_bound_float64}[dtype]
        for form in ("hinges", "hats"):  # also where the form is a poor one
            other = build((x, y), skip=skip, form=form)
            got = other.network(rows[:, None], dtype)[:, 0]
            worst = max(abs(Fraction(float(v)) - interpolated(x, y, float(p))) for v, p in zip(got, rows))
            assert float(worst) <= table_bound(other.network, Table(x, y), dtype) + 1e-14


@pytest.mark.parametrize("knots", ["random", "doubling", "clusters"])
def test_bounds_of_hats_do_not_grow_with_uneven_intervals(knots):
    """Errors of a short interval's hat count where it may be on, not along a long interval beside it."""
    g = np.random.default_rng(1)
    x = {
        "random": np.unique(g.uniform(0, 1, 300).astype(np.float32)).astype(float),
        "doubling": np.r_[0.0, 2.0 ** np.arange(-16, 5)],
        "clusters": np.unique((np.arange(8)[:, None] + 2.0 ** -np.arange(10, 18)).ravel()),
    }[knots]
    built = build((x, g.uniform(-1, 1, len(x))), form="two-sided hats")
    assert built.max_error_float32 <= built.error_bound_float32 < 2e-6
    assert built.max_error_float64 <= built.error_bound_float64 < 6e-15


@pytest.mark.parametrize("single", [True, False])
def test_a_thousand_rough_knots_in_onnxruntime(tmp_path, single):
    import onnxruntime

    g = np.random.default_rng(5)
    x = np.linspace(0, 1, 1000)
    x = x.astype(np.float32).astype(float) if single else x
    y = g.uniform(-1, 1, 1000)
    built = build((x, y))
    assert built.fewest_units == 998 and built.form == ("hats" if single else "anchored hats")
    relukit.save(built.network, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    points = np.unique(np.r_[g.uniform(0, 1, 3000), x[1:-1]].astype(np.float32))
    got = session.run(None, {"input": points[:, None]})[0][:, 0]
    assert np.abs(got - np.interp(points.astype(float), x, y)).max() <= 1e-6
    textbook = build((x, y), form="hinges")
    assert textbook.hidden_units == 998 and textbook.max_error_float32 > 1e-3


def test_smooth_tables_need_only_hinges():
    x = np.linspace(0, 3, 40)
    built = build((x, np.sin(x)))
    assert (built.form, built.hidden_units) == ("hinges", 38)


def test_points_on_a_line_cost_nothing():
    x = np.linspace(0, 1, 11)
    assert build((x, 3 * np.abs(x - 0.5) + 0.1)).hidden_units == 1
    assert build((x, 0.1 * x + 0.7)).hidden_units == 0
    bent = 0.1 * x
    bent[5] += 1e-9  # far above rounding: a true kink
    assert build((x, bent)).hidden_units == 3


def test_what_a_table_may_be(tmp_path):
    from scipy.interpolate import make_interp_spline

    x, y = np.array([0.0, 1.0, 2.5, 4.0]), np.array([1.0, -1.0, 0.5, 0.0])
    (tmp_path / "a.csv").write_text("knot; value\n# half way\n" + "\n".join(f"{a};{b}" for a, b in zip(x, y)))
    (tmp_path / "a.txt").write_text("\n".join(f"{a}\t{b}" for a, b in zip(x, y)))
    np.save(tmp_path / "a.npy", np.c_[x, y])
    points = np.linspace(0, 4, 33)[:, None]
    sources = [np.c_[x, y], make_interp_spline(x, y, k=1), *(tmp_path / f"a.{e}" for e in ("csv", "txt", "npy"))]
    for source in sources:
        assert np.abs(build(source).network(points)[:, 0] - np.interp(points[:, 0], x, y)).max() < 1e-14
    clip = PiecewiseLinear([-1.0, 2.0], [0.0, 1.0, 0.5], -1.0)
    points = np.linspace(-5, 5, 101)[:, None]
    assert np.abs(build(clip).network(points)[:, 0] - clip(points)[:, 0]).max() < 1e-14
    order = [2, 0, 3, 1]
    assert np.array_equal(build((x[order], y[order]), sort=True).function.x, x)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([0, 1, 1, 2], [0, 1, 2, 3], "1.0 is repeated .*a jump"),
        ([0, 2, 1], [0, 1, 2], "must increase: row 1 has 2.0"),
        ([0, np.nan, 1], [0, 1, 2], "knot 1 is nan"),
        ([0, 1, 2], [0, np.inf, 2], "value 1 is inf"),
        ([1], [2], "at least two points"),
        ([1e6, 1e6 + 1e-3], [0, 1], "one number in float32"),
        ([0, 1e39], [0, 1], "beyond float32"),
        (["a", "b"], [0, 1], "needs numbers"),
    ],
)
def test_bad_tables_say_what_to_do(x, y, message):
    with pytest.raises(InvalidInput, match=message):
        build((x, y))


def test_float64_keeps_knots_that_float32_loses():
    built = build(([1e6, 1e6 + 1e-3, 1e6 + 2e-3], [0, 1, 0]), dtype="float64")
    assert built.network([[1e6 + 1e-3]])[0, 0] == 1 and built.network.dtype == np.float64
    with pytest.raises(ShapeMismatch, match="two vectors of one length"):
        build(([0, 1, 2], [0, 1]))
    with pytest.raises(InvalidInput, match="box= and eps="):
        build(np.sin)


def test_command(tmp_path, capsys):
    import json

    from relukit.cli import app
    from relukit.cli._frame import run_app

    def run(*arguments):
        import sys

        kept, sys.argv = sys.argv, ["relukit", *map(str, arguments)]
        try:
            code = run_app(app)
        finally:
            sys.argv = kept
        return code, capsys.readouterr()

    (tmp_path / "t.csv").write_text("x,y\n0,0\n1,2\n2,-1\n4,3.25\n7,1\n")
    code, said = run("build", tmp_path / "t.csv", "-o", tmp_path / "net.onnx", "--json")
    content = json.loads(said.out)
    assert code == 0 and content["hidden_units"] == 3
    assert content["max_error_float32"] <= 1e-6 and content["max_error_float64"] <= 1e-15
    network = relukit.load(tmp_path / "net.onnx")
    assert np.abs(network(np.array([[0.0], [1.0], [2.0], [4.0], [7.0]]))[:, 0] - [0, 2, -1, 3.25, 1]).max() < 1e-6
    (tmp_path / "t.csv").write_text("x,y\n0,0\n1,\n")
    code, said = run("build", tmp_path / "t.csv")
    assert code == 2 and "line 3, column 2" in said.err
    assert run("build", tmp_path / "none.csv")[0] == 2
