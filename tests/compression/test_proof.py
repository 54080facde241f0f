"""Proofs of compressions: accepted as written, refused after any change."""

import json
import sys
from fractions import Fraction

import numpy as np
import pytest

import relukit
from relukit import Box, InvalidInput, UnsupportedOperation, compress
from relukit.compression._check import check
from relukit.network import from_layers
from relukit.network.arrays import write_npz
from relukit.verification.checker import Rejected
from tests.oracles import exact_forward
from tests.strategies import RELU


def net(seed, sizes=(3, 12, 10, 2), width=0.15):
    """Random layers, with a copy, a multiple and an input that does not move; and a small box."""
    g = np.random.default_rng(seed)
    weights = [g.standard_normal((b, a)) for a, b in zip(sizes, sizes[1:])]
    biases = [g.standard_normal(b) for b in sizes[1:]]
    weights[0][1], biases[0][1] = 2.5 * weights[0][0], 2.5 * biases[0][0]
    weights[1][4], biases[1][4] = weights[1][2], biases[1][2]
    middle = g.standard_normal(sizes[0])
    side = np.full(sizes[0], width)
    side[-1] = 0
    return weights, biases, Box(middle - side, middle + side)


def files(tmp_path, seed, suffix=".npz", width=0.15):
    weights, biases, box = net(seed, width=width)
    network = from_layers(weights, biases, [RELU] * 2).with_(box=box)
    write_npz(network, tmp_path / "net.npz")
    found = compress(network, box, proof=True)
    small, proof = tmp_path / f"small{suffix}", tmp_path / "small.proof"
    if suffix == ".npz" and found.network.dense_chain() is None:
        suffix, small = ".onnx", tmp_path / "small.onnx"
    relukit.save(found.network, small)
    bound = found.save_proof(proof, tmp_path / "net.npz", small)
    return weights, biases, box, found, tmp_path / "net.npz", small, proof, bound


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [0.15, 0.6])
def test_accepted_proofs_hold_in_rational_arithmetic(tmp_path, seed, width):
    weights, biases, box, found, original, small, proof, bound = files(tmp_path, seed, ".onnx", width)
    assert found.form != "unchanged" and check(str(proof), str(original), str(small))["error_bound"] <= bound < 1e-9
    written = relukit.load(small)
    for row in np.r_[box.sample(4, seed), box.lower[None], box.upper[None]]:
        exact = exact_forward(weights, biases, row)[1]
        for k, v in enumerate(exact):
            assert abs(Fraction(float(written(row)[k])) - v) <= Fraction(bound) + Fraction(1e-12) * (1 + abs(v))


def arrays_of(path):
    with np.load(path) as file:
        return {k: file[k] for k in file.files}


def rewrite(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize("seed", range(3))
def test_every_mutation_of_a_proof_is_refused(tmp_path, seed):
    *_, original, small, proof, _ = files(tmp_path, seed, width=0.6)
    good = arrays_of(proof)
    run = lambda: check(str(proof), str(original), str(small))
    run()
    wide = np.where(good["lower"] < good["upper"], 50.0, 0.0)
    changes = {
        "a wider box": {"lower": good["lower"] - wide, "upper": good["upper"] + wide},
        "a smaller bound": {"error_bound": np.array(1e-300)},
        "a gate less": {"kept": good["kept"][:-1]},
        "gates exchanged": {"kept": good["kept"][::-1]},
        "another unit": {"kept": np.r_[good["kept"][:-1], [[0, 99]]]},
        "a unit off that is not": {"first_off": np.arange(12)},
        "a unit on that is not": {"first_on": np.arange(12)},
    }
    if len(good["factors"]):
        changes["another factor"] = {"factors": good["factors"] * (1 + 1e-6)}
        changes["nothing merged"] = {"factors": good["factors"][:0], "merged": good["merged"][:0]}
    for what, change in changes.items():
        rewrite(proof, good | change)
        with pytest.raises(Rejected):
            run()
            pytest.fail(what)
    claims = [k for k in good if k.endswith("_C")]
    for k in claims[:3]:
        rewrite(proof, good | {k: -good[k]})
        with pytest.raises(Rejected):
            run()
    proof.write_bytes(b"no archive")
    with pytest.raises(Rejected, match="damaged"):
        run()


@pytest.mark.parametrize("seed", range(3))
def test_every_changed_weight_is_refused(tmp_path, seed):
    import onnx
    from onnx import numpy_helper

    *_, original, small, proof, _ = files(tmp_path, seed, ".onnx", 0.6)
    model, g, tried = onnx.load(small), np.random.default_rng(seed), 0
    for k, tensor in enumerate(model.graph.initializer):
        value = numpy_helper.to_array(tensor).copy()
        if value.dtype.kind != "f" or not value.any():
            continue
        at = tuple(g.permutation(np.argwhere(value != 0))[0])
        value[at] += 1e-3
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.graph.initializer[k].CopyFrom(numpy_helper.from_array(value, tensor.name))
        onnx.save(changed, small)
        with pytest.raises(Rejected, match="may be"):
            check(str(proof), str(original), str(small))
        tried += 1
    assert tried >= 4


def test_a_proof_of_another_network_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    *_, small, proof, _ = files(tmp_path / "a", 0)
    *_, other, _, _, _ = files(tmp_path / "b", 1)
    with pytest.raises(Rejected):
        check(str(proof), str(other), str(small))


def test_refusals():
    weights, biases, box = net(0)
    network = from_layers(weights, biases, [RELU] * 2)
    with pytest.raises(InvalidInput, match="proof=True"):
        compress(network, box).save_proof("p", "a", "b")
    with pytest.raises(InvalidInput, match="cover one box"):
        compress(network, relukit.Ball(np.zeros(3), 0.1), proof=True)
    residual = relukit.network.rewrite.Builder((2,))
    z = residual.activation(residual.affine(0, relukit.network.affine.Dense(np.eye(2)), -5.0), RELU)
    with pytest.raises(UnsupportedOperation, match="chains of dense layers"):
        compress(residual.build(residual.add((0, z))), Box([-1, -1], [1, 1]), proof=True)


def test_command(tmp_path, capsys, monkeypatch):
    from relukit.cli import app
    from relukit.cli._frame import run_app

    *_, original, _, _, _ = files(tmp_path, 2)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["relukit", *map(str, arguments)])
        return run_app(app), capsys.readouterr()

    small, proof = tmp_path / "out.onnx", tmp_path / "out.proof"
    code, said = run("compress", original, "-o", small, "--proof", proof, "--json")
    content = json.loads(said.out)
    assert code == 0 and content["proven"] and content["parameters_after"] < content["parameters_before"]
    assert {"stable_units", "max_difference_float32", "cpu_seconds"} <= set(content)
    code, said = run("compress", original, "--check", proof, "-o", small, "--json")
    assert code == 0 and json.loads(said.out)["status"] == "accepted"
    proof.write_bytes(proof.read_bytes()[:200])
    code, said = run("compress", original, "--check", proof, "-o", small, "--json")
    assert code == 10 and json.loads(said.out)["status"] == "rejected"
    assert run("compress", original, "--proof", proof)[0] == 2
    assert run("compress", original, "--margin", 0.1)[0] == 2
