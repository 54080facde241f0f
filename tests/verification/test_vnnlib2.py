"""VNN-LIB 2.0: declarations, grammar, several networks, hidden values, and the solver's command line."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import relukit
from relukit import InvalidInput, RelukitError, ShapeMismatch, UnreadableFile, UnsupportedOperation
from relukit.verification import vnnlib
from tests.verification.test_certificates import onnx_file

ONE = """(vnnlib-version <2.0>)
(declare-network f
    (declare-input X {kind} [1,2]) ; an input
    (declare-output Y {kind} [2])
)
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0)))
(assert (>= X[0,1] -1)) (assert (<= X[0, 1] 1))
"""


def sum_and_difference(path, weight=1.0, bias=0.0):
    """y = (relu(a + b) + relu(-a - b)) (1, -1) + bias = (|a + b|, -|a + b|)."""
    weights = [np.array([[1.0, 1.0], [-1.0, -1.0]]), weight * np.array([[1.0, 1.0], [-1.0, -1.0]])]
    return onnx_file(path, weights, [np.zeros(2), np.full(2, bias)])


def test_one_network(tmp_path):
    network = sum_and_difference(tmp_path / "f.onnx")
    for kind in ("real", "Real", "float32"):
        low = vnnlib.parse(ONE.format(kind=kind) + "(assert (> Y[0] 2.25))")
        assert (low.inputs, low.outputs, low.version) == (2, 2, "2.0")
        assert relukit.verify(network, low, timeout=10).status == "unsat"
        assert relukit.verify({"f": network}, low, timeout=10).status == "unsat"
        high = vnnlib.parse(ONE.format(kind=kind) + "(assert (or (> Y[0] 1.5) (!= Y[1] Y[1])))")
        found = relukit.verify(network, high, timeout=10)
        assert found.status == "sat" and abs(found.witness.sum()) > 1.5
    assert (
        "float32"
        in relukit.verify(network, vnnlib.parse(ONE.format(kind="float32") + "(assert (> Y[0] 2.25))"), timeout=10).note
    )


def test_strict_and_equal_conditions(tmp_path):
    network = sum_and_difference(tmp_path / "f.onnx")
    head = ONE.format(kind="real")
    at_two = relukit.verify(network, vnnlib.parse(head + "(assert (>= Y[0] 2))"), timeout=10)
    assert at_two.status == "sat" and abs(at_two.witness.sum()) == 2
    assert (
        relukit.verify(network, vnnlib.parse(head + "(assert (> Y[0] 2))"), timeout=10).status != "sat"
    )  # reached, never passed
    equal = vnnlib.parse(head + "(assert (== X[0,0] X[0,1]))(assert (>= Y[0] 1))(assert (<= Y[0] 1.5))")
    assert equal.tie is not None
    found = relukit.verify(network, equal, timeout=10)
    assert found.status == "sat" and found.witness[0] == found.witness[1] and 1 <= 2 * abs(found.witness[0]) <= 1.5
    mixed = vnnlib.parse(
        head
        + "(assert (<= (+ X[0,0] X[0,1]) 0.5))(assert (>= Y[0] (+ X[0,0] X[0,1] 0.01)))(assert (>= X[0,0] 0))(assert (>= X[0,1] 0))"
    )
    assert relukit.verify(network, mixed, timeout=10).status == "unsat"  # there |a + b| = a + b


def test_two_networks(tmp_path):
    f, g = sum_and_difference(tmp_path / "f.onnx"), sum_and_difference(tmp_path / "g.onnx", bias=0.5)
    text = """(vnnlib-version <2.0>)
    (declare-network f (declare-input Xf real [2]) (declare-output Yf real [2]))
    (declare-network g {relation} (declare-input Xg real [2]) (declare-output Yg real [2]))
    (assert (and (== Xf[0] Xg[0]) (== Xf[1] Xg[1])))
    (assert (and (>= Xf[0] -1) (<= Xf[0] 1) (>= Xf[1] -1) (<= Xf[1] 1)))
    (assert {claim})"""
    ask = lambda networks, claim, relation="": relukit.verify(
        networks, vnnlib.parse(text.format(claim=claim, relation=relation)), timeout=20
    )
    both = {"f": f, "g": g}
    assert ask(both, "(> Yf[0] (- Yg[0] 0.49))", "(isomorphic-to f)").status == "unsat"  # Yg = Yf + 0.5
    found = ask(both, "(> Yf[0] (- Yg[0] 0.51))")
    assert found.status == "sat" and len(found.witness) == 4 and (found.witness[:2] == found.witness[2:]).all()
    assert ask({"f": f}, "(> Yf[0] (+ Yg[0] 0.001))", "(equal-to f)").status == "unsat"
    with pytest.raises(InvalidInput, match="missing: g"):
        ask({"f": f}, "(> Yf[0] 0)")
    with pytest.raises(InvalidInput, match="not needed: g"):
        ask(both, "(> Yf[0] 0)", "(equal-to f)")
    deep = onnx_file(tmp_path / "d.onnx", [np.eye(2), np.eye(2), np.eye(2)], [np.zeros(2)] * 3)
    with pytest.raises(ShapeMismatch, match="isomorphic"):
        ask({"f": f, "g": deep}, "(> Yf[0] 0)", "(isomorphic-to f)")


def two_in_two_out(path):
    """p = relu(a - b), q = p + 1 from inputs a, b of one entry each."""
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    nodes = [
        helper.make_node("Sub", ["a", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["p"]),
        helper.make_node("Add", ["p", "one"], ["q"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("a"), info("b")],
        [info("p"), info("q")],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def test_several_inputs_and_outputs_by_order_and_by_name(tmp_path):
    network = two_in_two_out(tmp_path / "n.onnx")
    sides = "".join(f"(assert (>= {v} 0))(assert (<= {v} 1))" for v in ("U[0]", "V[0]"))
    order = "(vnnlib-version <2.0>)(declare-network n (declare-input U real [1])(declare-input V real [1])(declare-output P real [1])(declare-output Q real [1]))"
    found = relukit.verify(network, vnnlib.parse(order + sides + "(assert (>= P[0] 0.9))"), timeout=10)
    assert found.status == "sat" and found.witness[0] > found.witness[1]
    names = '(vnnlib-version <2.0>)(declare-network n (declare-input U real [1] "b")(declare-input V real [1] "a")(declare-output Q real [1] "q")(declare-output P real [1] "p"))'
    found = relukit.verify(network, vnnlib.parse(names + sides + "(assert (>= P[0] 0.9))"), timeout=10)
    assert found.status == "sat" and found.witness[1] > found.witness[0] and found.outputs[0] == found.outputs[1] + 1
    assert (
        relukit.verify(network, vnnlib.parse(names + sides + "(assert (<= Q[0] 0.999))"), timeout=10).status == "unsat"
    )
    with pytest.raises(UnreadableFile, match="'c'"):
        relukit.verify(network, vnnlib.parse(names.replace('"b"', '"c"') + sides + "(assert (>= P[0] 0.9))"))
    with pytest.raises(UnreadableFile, match="all or none"):
        relukit.verify(network, vnnlib.parse(names.replace('"b"', "") + sides + "(assert (>= P[0] 0.9))"))


def test_hidden_values(tmp_path):
    network = sum_and_difference(tmp_path / "f.onnx")
    head = ONE.format(kind="real").replace("(declare-output", '(declare-hidden H real [2] "r0")\n(declare-output')
    found = relukit.verify(network, vnnlib.parse(head + "(assert (>= H[1] 0.5))(assert (>= Y[0] 0.75))"), timeout=10)
    assert found.status == "sat" and found.witness.sum() <= -0.5 and found.outputs[1] >= 0.5
    assert (
        relukit.verify(network, vnnlib.parse(head + "(assert (>= H[0] 0.5))(assert (>= H[1] 0.5))"), timeout=10).status
        == "unsat"
    )
    with pytest.raises(UnreadableFile, match="no value 'nowhere'"):
        relukit.verify(network, vnnlib.parse(head.replace("r0", "nowhere") + "(assert (>= H[0] 0))"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[2])", "[3])"), "2 inputs and 3 outputs|other|declared"), (("X[0,0] -1.0", "X[0] -1.0"), "1 indices"), (("X[0,0] -1.0", "X[0,2] -1.0"), "outside the shape"),
        (("X[0,0] -1.0", "Z[0,0] -1.0"), "not declared"), (("<2.0>", "<3.0>"), "3.0 is not known"), (("declare-output Y", "declare-output X"), "declared twice"),
        (("real [2]", "quaternion [2]"), "no element type"), (("real [2]", "real [2,a]"), "whole numbers"), (("(declare-output Y real [2])", ""), "needs an input and an output"),
        (("(>= X[0,1] -1)", "(>= (* X[0,1] X[0,1]) 0)"), "line 7: .*not linear"), (("(>= X[0,1] -1)", "(forall X[0,1] -1)"), "line 7: .*expected and, or"),
        (("f\n", "f (equal-to h)\n"), "no earlier network"), (("(assert (>= X[0,1] -1))", "(declare-network f)"), "only \\(assert"),
    ],
)  # fmt: skip
def test_errors_name_line_and_reason(tmp_path, change, words):
    text = ONE.format(kind="real") + "(assert (> Y[0] 2.25))"
    assert change[0] in text
    with pytest.raises(RelukitError, match=words):
        relukit.verify(sum_and_difference(tmp_path / "f.onnx"), vnnlib.parse(text.replace(*change)))


def test_types_without_a_sound_analysis_are_refused(tmp_path):
    network = sum_and_difference(tmp_path / "f.onnx")
    with pytest.raises(UnsupportedOperation, match="float16"):
        relukit.verify(network, vnnlib.parse(ONE.format(kind="float16") + "(assert (> Y[0] 2.25))"))
    with pytest.raises(ShapeMismatch, match="declared float64"):
        relukit.verify(network, vnnlib.parse(ONE.format(kind="float64") + "(assert (> Y[0] 2.25))"))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_noise_never_crashes(data):
    text = (
        ONE.format(kind="real")
        + '(declare-network g (equal-to f) (declare-input A real [1,2]) (declare-hidden H real [] "h") (declare-output B real [2]))(assert (or (and (<= Y[0] Y[1])) (!= H B[1])))'
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.text('()<>=!+-*[],"; XYH01.9eassert\n', max_size=10)) + text[at + cut :]
    with contextlib.suppress(RelukitError):
        vnnlib.parse(text)


@pytest.mark.parametrize("depth", [150, 5000, 50_000])
def test_deep_nesting_is_an_error_or_read(depth):
    text = ONE.format(kind="real") + "(assert " + "(and " * depth + "(<= Y[0] 0)" + ")" * depth + ")"
    if depth < 200:
        assert len(vnnlib.parse(text).cases) == 1
    else:
        with pytest.raises(UnreadableFile, match="deeper"):
            vnnlib.parse(text)


def run(*arguments, cwd):
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "relukit", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def test_command_line(tmp_path):
    sum_and_difference(tmp_path / "f.onnx")
    (tmp_path / "sat.vnnlib").write_text(ONE.format(kind="float32") + "(assert (> Y[0] 1.5))")
    (tmp_path / "unsat.vnnlib").write_text(ONE.format(kind="real") + "(assert (> Y[0] 2.25))")
    found = run("verify", "sat.vnnlib", "--network", "f=f.onnx", "--timeout", "10", cwd=tmp_path)
    lines = found.stdout.splitlines()
    assert found.returncode == 0, found.stderr
    assert lines[0] == "sat" and lines[1] == "X float32 [1,2]" and lines[4] == "Y float32 [2]" and len(lines) == 7
    a, b = float(lines[2]), float(lines[3])
    assert abs(a + b) > 1.5 and float(lines[5]) == pytest.approx(abs(a + b), rel=1e-6)
    found = run("verify", "sat.vnnlib", "--network", "f=f.onnx", "--serialise-assignments", "w", cwd=tmp_path)
    assert found.stdout == "sat\n"
    tensor = onnx.load_tensor(tmp_path / "w" / "X.pb")
    assert tensor.name == "X" and abs(numpy_helper.to_array(tensor).sum()) > 1.5
    found = run("verify", "unsat.vnnlib", "--network", "f=f.onnx", "--certificate", "c.npz", cwd=tmp_path)
    assert found.stdout == "unsat\n" and found.returncode == 0
    checked = run("check", "c.npz", "--network", "f.onnx", "--property", "unsat.vnnlib", "--json", cwd=tmp_path)
    assert json.loads(checked.stdout)["status"] == "accepted" and checked.returncode == 0
    wrong = run("check", "c.npz", "--network", "f.onnx", "--property", "sat.vnnlib", cwd=tmp_path)
    assert wrong.stdout.startswith("rejected") and wrong.returncode == 10
    assert run("check", "f.onnx", "--network", "f.onnx", "--property", "sat.vnnlib", cwd=tmp_path).returncode == 10
    for files, words in ((("sat.vnnlib", "sat.vnnlib"), "no network"), (("f.onnx", "f.onnx"), "no property")):
        unread = run("check", "c.npz", "--network", files[0], "--property", files[1], cwd=tmp_path)
        assert unread.returncode == 2 and words in unread.stderr, unread.stderr
    missing = run("verify", "unsat.vnnlib", "--network", "h=f.onnx", cwd=tmp_path)
    assert missing.returncode == 2 and "missing: f" in missing.stderr and missing.stdout == ""
    assert run("supports", "--vnnlib-versions", cwd=tmp_path).stdout == "1.0\n2.0\n"
    assert run("supports", "--onnx-element-types", cwd=tmp_path).stdout == "real\n"
    assert any(
        line.split()[0] == "Relu" for line in run("supports", "--onnx-operators", cwd=tmp_path).stdout.splitlines()
    )


def test_a_limit_of_memory(data_folder, tmp_path):
    folder = data_folder / "vnncomp" / "mnist_fc"
    found = run(
        "verify",
        folder / "onnx" / "mnist-net_256x6.onnx",
        folder / "vnnlib" / "prop_7_0.05.vnnlib",
        "20",
        "--memory",
        "0.001",
        cwd=tmp_path,
    )
    assert found.returncode == 0 and "Traceback" not in found.stderr
    assert found.stdout == "unknown\n"
