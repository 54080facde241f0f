"""The VNN-LIB parser, on made files, real files and broken ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relukit import RelukitError, UnboundedSet, UnreadableFile
from relukit.verification import vnnlib

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
        ("(assert (<= Y_7 0))", "used but not declared"), ("(assert (<= Y_0 0)", "not closed"), ("(assert (<= Y_0 0)))", "too many"), ("(define x)", "expected"),
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
