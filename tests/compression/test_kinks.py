"""Proofs of networks with kinks other than ReLU's, maxima and balls: ONNX files written by hand, onnxruntime and samples as the oracles."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import relukit
from relukit import Ball, Box, compress
from relukit.compression._check import check
from relukit.compression._check_bounds import Bounder
from relukit.compression._check_network import read
from relukit.verification.checker import Rejected
from tests.compression.test_check_network import values
from tests.compression.test_proof import arrays_of, rewrite, run_onnx

PLANE = (1, 6, 6)


def model(middle, shape, seed, path):
    """First layer, the operators of `middle` one after another, and a last layer, as a file."""
    g = np.random.default_rng(seed)
    weights, nodes = [], []

    def constant(name, value):
        weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    if len(shape) == 3:
        kernel = g.standard_normal((3, shape[0], 3, 3)) / 3
        nodes.append(helper.make_node("Conv", ["x", constant("K", kernel), constant("k", g.standard_normal(3))], ["v0"]))  # fmt: skip
    else:
        W, b = g.standard_normal((8, shape[0])), 1.5 * g.standard_normal(8)
        nodes.append(helper.make_node("Gemm", ["x", constant("W", W), constant("b", b)], ["v0"], transB=1))
    for k, (kind, extra, attributes) in enumerate(middle):
        names = [f"v{k}", *("" if v is None else constant(f"c{k}{i}", v) for i, v in enumerate(extra))]
        nodes.append(helper.make_node(kind, names, [f"v{k + 1}"], **attributes))
    nodes.append(helper.make_node("Flatten", [f"v{len(middle)}"], ["flat"]))
    size = onnx.shape_inference.infer_shapes(_graph(nodes, shape, weights, "flat", None))
    wide = int(np.prod([d.dim_value for d in next(v for v in size.graph.value_info if v.name == f"v{len(middle)}").type.tensor_type.shape.dim]))  # fmt: skip
    last = [constant("V", g.standard_normal((2, wide)) / np.sqrt(wide)), constant("w", g.standard_normal(2))]
    nodes.append(helper.make_node("Gemm", ["flat", *last], ["y"], transB=1))
    onnx.save(_graph(nodes, shape, weights, "y", [1, 2]), path)


def _graph(nodes, shape, weights, output, out):
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, *shape]), (output, out))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MIDDLES = {
    "leaky": ((8,), [("LeakyRelu", (), {"alpha": 0.1})]),
    "prelu": ((8,), [("PRelu", (np.linspace(-0.5, 1.5, 8),), {})]),
    "abs": ((8,), [("Abs", (), {}), ("Neg", (), {})]),
    "relu6": ((8,), [("Clip", (0.0, 1.5), {})]),
    "hardtanh": ((8,), [("Clip", (-0.7, 0.9), {})]),
    "at least": ((8,), [("Clip", (0.3, None), {}), ("Max", (1.0,), {})]),
    "at most": ((8,), [("Min", (0.25,), {})]),
    "pooled": (PLANE, [("Relu", (), {}), ("MaxPool", (), {"kernel_shape": [2, 2], "strides": [2, 2]})]),
    "padded": (PLANE, [("MaxPool", (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]}), ("LeakyRelu", (), {})]),
    "to the end": (PLANE, [("MaxPool", (), {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1}), ("Relu", (), {})]),
    "dilated": (PLANE, [("MaxPool", (), {"kernel_shape": [2, 2], "dilations": [2, 1]})]),
    "whole": (PLANE, [("GlobalMaxPool", (), {})]),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLES)
def test_proofs_beyond_relu(tmp_path, name):
    shape, middle = MIDDLES[name]
    original, small, proof = (tmp_path / f for f in ("net.onnx", "small.onnx", "p"))
    model(middle, shape, 1, original)
    network = relukit.load(original)
    n = network.inputs
    g = np.random.default_rng(0)
    x = g.standard_normal((20, n)).astype(np.float32)
    read_here = np.array([values(read(str(original)), row.astype(float))[-1] for row in x])
    assert np.abs(read_here - run_onnx(original, x)).max() < 1e-4
    middle_point = g.standard_normal(n)
    box = Box(middle_point - 0.3 / np.sqrt(n), middle_point + 0.3 / np.sqrt(n))
    found = compress(network, box, proof=True)
    relukit.save(found.network, small)
    bound = found.save_proof(proof, original, small)
    assert found.stable_units > 0 and bound < 1e-4
    inside = np.r_[box.sample(200, 0), box.lower[None], box.upper[None]]
    apart = np.abs(run_onnx(small, inside) - run_onnx(original, inside)).max()
    assert apart <= bound + 1e-4
    plain = compress(network, box)
    for one in (found, plain):
        assert one.stable_units + one.undecided_by_samples + one.open_units == one.units
    good = arrays_of(proof)
    if found.form != "unchanged":
        rewrite(proof, good | {"lower": good["lower"] - 20, "upper": good["upper"] + 20})
        with pytest.raises(Rejected):
            check(str(proof), str(original), str(small))


def test_skip_forms_of_leaky_networks_are_smaller(tmp_path):
    """All but a few units on one slope: what is left is nearly affine. A changed weight of either file is refused."""
    original, small, proof = (tmp_path / f for f in ("net.onnx", "small.onnx", "p"))
    model([("LeakyRelu", (), {"alpha": 0.2})], (3,), 4, original)
    network, box = relukit.load(original), Box(np.full(3, 0.4), np.full(3, 0.6))
    found = compress(network, box, proof=True)
    relukit.save(found.network, small)
    bound = found.save_proof(proof, original, small)
    assert found.form == "skip" and found.parameters_after < found.parameters_before / 2 and bound < 1e-5
    for path in (original, small):
        kept = path.read_bytes()
        changed = onnx.load(path)
        value = numpy_helper.to_array(changed.graph.initializer[0]).copy()
        value.flat[0] += 0.05
        changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(value, changed.graph.initializer[0].name))
        onnx.save(changed, path)
        with pytest.raises(Rejected):
            check(str(proof), str(original), str(small))
        path.write_bytes(kept)
    check(str(proof), str(original), str(small))
    steeper = onnx.load(original)
    next(n for n in steeper.graph.node if n.op_type == "LeakyRelu").attribute[0].f = 0.25
    onnx.save(steeper, original)
    with pytest.raises(Rejected):
        check(str(proof), str(original), str(small))


@pytest.mark.parametrize("norm", [1, 2])
def test_balls(tmp_path, norm):
    """A ball settles what its box does not; the checker's bounds hold on samples; another radius, norm or center is refused."""
    g = np.random.default_rng(norm)
    weights = [g.standard_normal((24, 6)), g.standard_normal((10, 24)) / 4, g.standard_normal((2, 10))]
    biases = [g.standard_normal(len(w)) for w in weights]
    arrays = {f"W{k}": w for k, w in enumerate(weights)} | {f"b{k}": b for k, b in enumerate(biases)}
    original, small, proof = (tmp_path / f for f in ("net.npz", "small.onnx", "p"))
    np.savez(original, **arrays)
    network, ball = relukit.load(original), Ball(g.standard_normal(6), 0.5, norm)
    found, boxed = compress(network, ball, proof=True), compress(network, ball.box(), proof=True)
    assert found.stable_units > boxed.stable_units
    relukit.save(found.network, small)
    bound = found.save_proof(proof, original, small)
    x = ball.sample(500, 0)
    assert bound < 1e-9 and np.abs(run_onnx(small, x) - network(x)).max() <= bound + 1e-9
    good = arrays_of(proof)
    nodes = read(str(original))
    tight = Bounder(nodes, np.zeros((0, 6)), np.zeros(0), (good["center"], 0.5, norm))
    L, H = tight.over(good["lower"][0], good["upper"][0], {}, {})
    seen = [values(nodes, row) for row in x]
    for k in range(1, len(nodes)):
        z = np.array([v[k] for v in seen])
        assert (z >= L[k] - 1e-9).all() and (z <= H[k] + 1e-9).all()
    other = {"radius": np.array(5.0), "center": good["center"] + 2, "norm": np.array(3)}
    if norm == 1:
        other["norm"] = np.array(2)
    for k, value in other.items():
        wide = {"lower": good["lower"] - 9, "upper": good["upper"] + 9} if k != "norm" else {}
        rewrite(proof, good | wide | {k: value})
        with pytest.raises(Rejected):
            check(str(proof), str(original), str(small))
    rewrite(proof, {k: v for k, v in good.items() if k != "center"})  # then the box alone
    with pytest.raises(Rejected):
        check(str(proof), str(original), str(small))


def test_witnesses_leave_nothing_to_search():
    """Units that samples see on one side only, since the other is a corner of the box: found along the gradient, not by a search."""
    g = np.random.default_rng(0)
    W = np.abs(g.standard_normal((30, 12)))
    b = 0.97 * W.sum(axis=1)  # negative only near the corner -1 ... -1
    V = g.standard_normal((20, 30)) / 6
    from relukit.network import from_layers
    from tests.strategies import RELU

    network = from_layers([W, V, g.standard_normal((1, 20))], [b, g.standard_normal(20) / 9, np.zeros(1)], [RELU] * 2)
    box = Box(-np.ones(12), np.ones(12))
    z = np.minimum(box.sample(2000, 0) @ W.T + b, 0)
    assert (z.min(axis=0) == 0).all()  # samples do not see it
    found = compress(network, box, timeout=0.0)
    assert found.undecided_by_samples >= 30 and found.stable_units + found.undecided_by_samples + found.open_units == 50
    edge = from_layers(
        [np.ones((1, 2)), np.ones((1, 1))], [np.array([2.0]), np.zeros(1)], [RELU]
    )  # touches 0, never crosses
    touching = compress(edge, Box(-np.ones(2), np.ones(2)))
    assert touching.undecided_by_samples == 0


def test_points_in_blocks_show_the_same(monkeypatch):
    from relukit.compression import _witness
    from relukit.network import from_layers
    from tests.strategies import RELU

    g = np.random.default_rng(3)
    network = from_layers([g.standard_normal((9, 4)), g.standard_normal((6, 9)), np.ones((1, 6))], [g.standard_normal(9), np.zeros(6), np.zeros(1)], [RELU] * 2)  # fmt: skip
    box = Box(-np.ones(4), np.ones(4))
    x = box.sample(101, 0)
    whole = _witness.Seen.of(network, box, None, x, np.zeros(101, int))
    monkeypatch.setattr(_witness, "_MEMORY", 7 * sum(n.size for n in network))
    parts = _witness.Seen.of(network, box, None, x, np.zeros(101, int))
    z = x @ network.nodes[1].op.maps[0].W.T + network.nodes[1].op.bias  # type: ignore[union-attr]
    for i in network.activations:
        assert np.array_equal(whole.low[i], parts.low[i]) and np.array_equal(whole.high[i], parts.high[i])
    first = network.activations[0]
    assert np.allclose(whole.low[first], z.min(axis=0)) and np.allclose(whole.high[first], z.max(axis=0))
    assert np.array_equal(whole.both(first), (z.min(axis=0) < 0) & (z.max(axis=0) > 0))


@pytest.mark.parametrize("seed", range(3))
def test_a_tolerance_holds_for_the_files(tmp_path, capsys, monkeypatch, seed):
    """What the checker shows for the two files, not only what compress gave up, stays within the tolerance."""
    import json
    import sys

    from relukit.cli import app
    from relukit.cli._frame import run_app

    model([("LeakyRelu", (), {"alpha": 0.25})], (5,), seed, tmp_path / "net.onnx")
    out, proof = tmp_path / "small.onnx", tmp_path / "p"
    monkeypatch.setattr(sys, "argv", ["relukit", "compress", str(tmp_path / "net.onnx"), "--box=-1:1", "--tolerance", "1.5", "-o", str(out), "--proof", str(proof), "--json"])  # fmt: skip
    assert run_app(app) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["given_up"] > 0 and said["error_bound_file"] <= 1.5 and said["parameters_after"] < said["parameters_before"]  # fmt: skip
    x = np.random.default_rng(0).uniform(-1, 1, (500, 5))
    assert np.abs(run_onnx(out, x) - run_onnx(tmp_path / "net.onnx", x)).max() <= said["error_bound_file"] + 1e-5
