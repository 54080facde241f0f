"""The VNN-LIB parser, on made files, real files and broken ones."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relukit
from relukit import RelukitError, UnboundedSet, UnreadableFile
from relukit.verification import vnnlib
from relukit.verification._question import ask

HEAD = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
BOX = "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 2))\n"


def test_conjunction_disjunction_and_arithmetic():
    text = (
        HEAD
        + BOX
        + "; comment (assert\n(assert (or (and (<= Y_0 Y_1) (>= Y_0 0.5)) (and (>= (+ (* 2 Y_0) X_0) (- Y_1 3)) (<= X_0 0.25))))"
    )
    found = vnnlib.parse(text)
    assert len(found.cases) == 2
    first, second = found.cases
    np.testing.assert_array_equal(first.C, [[1, -1], [-1, 0]])
    np.testing.assert_array_equal(first.d, [0, -0.5])
    np.testing.assert_array_equal(second.C, [[-2, 1]])
    np.testing.assert_array_equal(second.D, [[-1, 0]])
    np.testing.assert_array_equal(second.d, [3])
    np.testing.assert_array_equal(second.box.upper, [0.25, 2])
    assert found.violated(np.array([0.5, 0.0]), np.array([0.6, 0.7]))
    assert not found.violated(np.array([0.5, 0.0]), np.array([0.4, -10.0]))


def test_boxes_in_disjunctions():
    found = vnnlib.parse(
        HEAD
        + "(assert (<= Y_0 0))(assert (or (and (>= X_0 0)(<= X_0 1)(>= X_1 0)(<= X_1 1)) (and (>= X_0 5)(<= X_0 6)(>= X_1 0)(<= X_1 1))))"
    )
    assert [c.box.lower[0] for c in found.cases] == [0, 5]


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("(assert (<= (* Y_0 Y_1) 0))", "is not linear"), ("(assert (=> Y_0 0))", "expected and, or"), ("(assert (<= Y_0 z))", "neither a number"),
        ("(assert (<= Y_7 0))", "line 6: Y_7 is used but not declared"), ("(assert (<= Y_0 1e999))", "line 6: '1e999' lies beyond"),
        ("(assert (<= X_0 1e999))", "line 6: '1e999' lies beyond"), ("(assert (<= (* 1e300 1e300 Y_0) 0))", "about 1e599 in the conditions"),
        ("(assert (<= (* 1e300 1e300 Y_0) (* 1e300 1e300)))", "about 1e599 in the conditions"), (f"(assert (<= Y_0 (* {'1e300 ' * 40})))", "about 1e11999"),
         ("(assert (<= Y_0 0)", "not closed"), ("(assert (<= Y_0 0)))", "too many"), ("(define x)", "expected"),
    ],
)  # fmt: skip
def test_broken_files_name_the_place(tail, words):
    with pytest.raises(UnreadableFile, match=words):
        vnnlib.parse(HEAD + BOX + tail)


def test_unbounded_inputs_are_refused():
    with pytest.raises(UnboundedSet, match="X_1 has no upper"):
        vnnlib.parse(HEAD + BOX.replace("(assert (<= X_1 2))", "") + "(assert (<= Y_0 0))")


@settings(max_examples=150, deadline=None)
@given(st.text("()<=>+-* XY_019.ae\nasert", max_size=80), st.integers(0, 300))
def test_noise_never_crashes(noise, cut):
    text = HEAD + BOX + "(assert (or (and (<= Y_0 Y_1)) (and (>= Y_0 0.5))))"
    for broken in (HEAD + noise, text[: cut % len(text)], text[: cut % len(text)] + noise + text[cut % len(text) :]):
        try:
            vnnlib.parse(broken)
        except (RelukitError, ValueError) as error:
            assert isinstance(error, RelukitError), error


def test_every_real_file_reads(data_folder):
    count = 0
    for path in sorted((data_folder / "vnncomp").glob("*/vnnlib/**/*.vnnlib"))[::6]:
        found = vnnlib.read(path)
        assert found.cases and all(c.C.shape[1] == found.outputs for c in found.cases)
        count += 1
    assert count > 80


def test_a_number_with_a_sign_inside_is_no_number():
    with pytest.raises(UnreadableFile, match="neither a number"):
        vnnlib.parse(HEAD + BOX + "(assert (<= Y_0 0-1))")


def test_spellings_that_other_tools_write():
    plain = vnnlib.parse(HEAD + BOX + "(assert (<= Y_0 Y_1))")
    functions = HEAD.replace("declare-const", "declare-fun").replace(" Real", " () Real")
    for text in (
        "\r\n".join((HEAD + BOX + "(assert (<= Y_0 Y_1))").splitlines()),
        functions + BOX + "(assert (<= Y_0 Y_1))",
        functions.replace(" () ", "() ") + BOX + "(assert (>= Y_1 Y_0))",
        "(set-logic QF_LRA)(set-option :produce-models true)" + HEAD + BOX + "(assert (<= (- Y_0 Y_1) 0))(check-sat)(get-model)",
        "".join(reversed(HEAD.splitlines(keepends=True))) + BOX + "(assert (or (and (<= (+ Y_0 (* -1.0 Y_1)) 0.0e0))))",
    ):  # fmt: skip
        found = vnnlib.parse(text)
        np.testing.assert_array_equal(found.cases[0].C, plain.cases[0].C)
        np.testing.assert_array_equal(found.cases[0].box.upper, plain.cases[0].box.upper)


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "marked.vnnlib"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + BOX + "(assert (<= Y_0 Y_1))").encode())
    assert len(vnnlib.read(path).cases) == 1


def _rational(c: float, k: float) -> Fraction:
    return Fraction(c) * Fraction(k)


@pytest.mark.parametrize("below", [True, False])
def test_products_of_numbers_are_exact_in_the_conditions(below):
    """`(* c k Y_0)` has the coefficient c k, which is no float64 number: its rounding must decide neither way."""
    network = relukit.load({"W0": np.eye(1), "b0": np.zeros(1), "W1": np.eye(1), "b1": np.zeros(1)})  # y = x where x >= 0
    tried = 0
    for c, k in ((0.1 + 0.001 * i, 3.0 + 0.7 * j) for i in range(20) for j in range(10)):
        v, x = _rational(c, k), 3.0
        limit = float(v * 3)  # between what the rounded coefficient and what the exact one gives
        limit = np.nextafter(limit, -np.inf if below else np.inf) if (Fraction(limit) < v * 3) != below else limit
        rounded = Fraction(float(v)) * 3
        if not (rounded <= Fraction(limit) < v * 3 if below else v * 3 <= Fraction(limit) < rounded):
            continue
        tried += 1
        text = f"(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 {x}))(assert (>= X_0 {x}))(assert (<= (* {c!r} {k!r} Y_0) {float(limit)!r}))"
        asked = vnnlib.parse(text)
        assert relukit.verify(network, asked, timeout=5).status != ("sat" if below else "unsat"), (c, k)
        A, b = ask(network, (asked,)).rows[0]
        assert below or Fraction(A[0, 0]) * 3 <= Fraction(b[0])  # the counterexample satisfies the row that proofs are about
    assert tried >= 5


SIMPLEX = "".join(f"(declare-const X_{i} Real)(assert (>= X_{i} 0))" for i in range(3)) + "(declare-const Y_0 Real)\n"


@pytest.mark.parametrize(("limit", "status"), [(2.1, "unsat"), (1.9, "sat")])
def test_bounds_that_other_conditions_imply(limit, status):
    """On a simplex no upper bound is written down; a convex network is largest at a corner, here 2 at the third."""
    network = relukit.load({"W0": np.array([[1.0, -1, 2], [0.5, 1, -1]]), "b0": np.zeros(2), "W1": np.ones((1, 2)), "b1": np.zeros(1)})
    asked = vnnlib.parse(f"{SIMPLEX}(assert (<= (+ X_0 X_1 X_2) 1))(assert (>= Y_0 {limit}))")
    np.testing.assert_array_equal(asked.cases[0].box.upper, np.ones(3))
    found = relukit.verify(network, asked, timeout=10, certificate=True)
    assert found.status == status and (status == "sat" or "plain bounds" in found.note)


def test_implied_bounds_go_from_one_input_to_the_next():
    text = SIMPLEX.replace("(assert (>= X_2 0))", "") + "(assert (and (<= X_0 0.1) (<= X_1 (* 3 X_0)) (== X_2 (- X_1 X_0))))(assert (>= Y_0 0))"
    box = vnnlib.parse(text).cases[0].box
    high, low = 3 * Fraction(0.1), -Fraction(0.1)
    assert high <= Fraction(box.upper[1]) <= Fraction(np.nextafter(float(high), 1))  # rounded outward, as little as can be
    assert Fraction(box.lower[2]) == low and box.upper[2] >= high
    with pytest.raises(UnboundedSet, match="X_2 has no upper bound, given or implied"):
        vnnlib.parse(text.replace("==", ">="))
