"""Certificates: accepted as written, in floating point and in fractions; rejected once anything that matters is changed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import relukit
from relukit import Box
from relukit.network import from_layers
from relukit.verification import Certificate, Claim, certify, checker
from tests.strategies import RELU


def onnx_file(path, weights, biases, subtract=None):
    """An ONNX chain in float32: Sub, then MatMul, Add, Relu in turn, the last Gemm."""
    nodes, tensors, last = [], [], "x"
    keep = lambda name, array: tensors.append(numpy_helper.from_array(np.asarray(array, np.float32), name)) or name
    if subtract is not None:
        nodes.append(helper.make_node("Sub", [last, keep("mean", subtract)], ["s"]))
        last = "s"
    for k, (W, b) in enumerate(zip(weights[:-1], biases[:-1])):
        nodes.append(helper.make_node("MatMul", [last, keep(f"W{k}", W.T)], [f"m{k}"]))
        nodes.append(helper.make_node("Add", [keep(f"b{k}", b), f"m{k}"], [f"a{k}"]))
        nodes.append(helper.make_node("Relu", [f"a{k}"], [f"r{k}"]))
        last = f"r{k}"
    nodes.append(helper.make_node("Gemm", [last, keep("W", weights[-1]), keep("b", biases[-1])], ["y"], transB=1))
    info = lambda name, size: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
    graph = helper.make_graph(nodes, "g", [info("x", weights[0].shape[1])], [info("y", len(weights[-1]))], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def made(folder, seed, sizes=(2, 6, 5, 2)):
    """A random network file, and a property that is proven with some splitting."""
    g = np.random.default_rng(seed)
    weights = [g.standard_normal((b, a)) / np.sqrt(a) for a, b in zip(sizes, sizes[1:])]
    biases = [g.standard_normal(b) / 3 for b in sizes[1:]]
    network = onnx_file(folder / "n.onnx", weights, biases, g.standard_normal(sizes[0]) / 4)
    out = relukit.load(network)(Box(-np.ones(sizes[0]), np.ones(sizes[0])).sample(5000))
    head = "".join(f"(declare-const X_{i} Real)" for i in range(sizes[0])) + "".join(
        f"(declare-const Y_{i} Real)" for i in range(sizes[-1])
    )
    sides = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(sizes[0]))
    highest = np.max(np.min([out[:, 0], out[:, 1] + 0.25], axis=0)) + 0.02
    (folder / "p.vnnlib").write_text(
        head
        + sides
        + f"(assert (or (and (>= Y_0 {highest}) (>= Y_1 {highest - 0.25})) (<= Y_0 {out[:, 0].min() - 0.05})))"
    )
    return folder / "n.onnx", folder / "p.vnnlib"


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    for seed in range(20):
        network, prop = made(folder, seed)
        verdict = relukit.verify(network, prop, timeout=20, certificate=True)
        if verdict.status == "unsat" and verdict.certificate is not None and verdict.certificate.nodes > 20:
            return network, prop, verdict.certificate.save(folder / "c.npz")
    raise AssertionError("no random network needed splitting")


def test_accepted_in_floating_point_and_in_fractions(proof):
    network, prop, certificate = proof
    leaves = checker.check(certificate, network, prop)
    assert leaves > 10
    assert checker.check(certificate, network, prop, exact=True) == leaves
    alone = subprocess.run(
        [sys.executable, checker.__file__, certificate, network, prop], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0 and alone.stdout == f"accepted: {leaves} leaves\n", alone.stderr


def test_checker_stands_by_itself():
    text = Path(checker.__file__).read_text()
    assert "relukit" not in "".join(line for line in text.splitlines(True) if line.startswith(("import", "from")))
    assert len(text.splitlines()) < 400
    modules = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))}
    assert modules <= {"functools", "gzip", "hashlib", "io", "re", "struct", "sys", "fractions", "numpy"}


def changed(path, target, **changes):
    """A copy with other entries and without its seal, so that the checker has to see what they prove."""
    with np.load(path) as file:
        arrays = {k: file[k] for k in file.files if k != "seal"}
    for name, change in changes.items():
        arrays[name] = change(arrays[name].copy())
    np.savez(target, **arrays)
    return target


def rejected(certificate, network, prop):
    with pytest.raises(checker.Rejected) as found:
        checker.check(certificate, network, prop)
    return str(found.value)


def set_at(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def test_a_missing_leaf_is_found(proof, tmp_path):
    network, prop, certificate = proof
    with np.load(certificate) as file:
        split, child = file["0_split"], file["0_child"]
    inner = int(np.flatnonzero(split >= 0)[-1])
    cut = lambda keep: lambda a: a[keep]
    keep = np.arange(len(split)) < len(split) - 1
    for name in ("child", "value"):
        assert rejected(changed(certificate, tmp_path / "m.npz", **{f"0_{name}": cut(keep)}), network, prop)
    everywhere = {f"0_{k}": cut(keep) for k in ("split", "value", "fresh", "row", "child")}
    assert "misses a node" in rejected(changed(certificate, tmp_path / "m.npz", **everywhere), network, prop)
    # Both halves of a cut point to one leaf: the other half is not covered.
    twice = changed(certificate, tmp_path / "m.npz", **{"0_child": set_at((inner, 1), child[inner, 0])})
    assert "misses a node or holds one twice" in rejected(twice, network, prop)
    loop = changed(certificate, tmp_path / "m.npz", **{"0_child": set_at((inner, 0), 0)})
    assert rejected(loop, network, prop)
    # A subtree cut off: its root called a leaf.
    first = int(np.flatnonzero(split >= 0)[1])
    assert rejected(changed(certificate, tmp_path / "m.npz", **{"0_split": set_at(first, -1)}), network, prop)


def test_corrupted_entries_are_rejected(proof, tmp_path):
    network, prop, certificate = proof
    with np.load(certificate) as file:
        C, d, upper, split = file["0_C"], file["0_d"], file["0_upper"], file["0_split"]
    cut = int(np.flatnonzero((split >= 0) & (split < 2))[0])
    worse = {
        "the box shrunk": {"0_upper": set_at(0, upper[0] * 0.5)},
        "a row of another property": {"0_C": set_at((0, 0), C[0, 0] * 2)},
        "an easier constant": {"0_d": set_at(0, d[0] + 1)},
        "a cut outside its box": {"0_value": set_at(cut, 7.0)},
        "not a number": {"0_value": set_at(cut, np.nan)},
        "a negative weight": {"0_weights": set_at((0, 0), -1.0)},
        "no weights": {"0_weights": lambda a: a * 0},
        "weights of infinity": {"0_weights": set_at((0, 0), np.inf)},
        "an unknown leaf row": {"0_row": set_at(np.flatnonzero(split < 0)[0], 10**6)},
        "a gate that does not exist": {"0_split": set_at(cut, 2 + 11)},
        "another layer": {"0_layer": lambda a: a - 1},
        "no claims": {"claims": lambda a: a * 0},
        "too few claims": {"claims": lambda a: a - 1},
        "bounds never renewed": {"0_fresh": lambda a: a * 0},
    }
    for what, change in worse.items():
        assert rejected(changed(certificate, tmp_path / "m.npz", **change), network, prop), what


def test_any_change_after_writing_shows(proof, tmp_path):
    """Also one that leaves a valid proof: other weights of a leaf, or an entry that no leaf reads."""
    network, prop, certificate = proof
    with np.load(certificate) as file:
        arrays = {k: file[k] for k in file.files}
    assert checker.check(certificate, network, prop)
    for name in arrays:
        worse = {k: v.copy() for k, v in arrays.items()}
        if not worse[name].size or name == "seal":
            continue
        worse[name].ravel()[-1] += 1
        np.savez(tmp_path / "m.npz", **worse)
        assert "changed after it was written" in rejected(tmp_path / "m.npz", network, prop), name
        del worse[name]
        np.savez(tmp_path / "m.npz", **worse)
        assert rejected(tmp_path / "m.npz", network, prop), name


def test_no_byte_of_a_file_can_change(proof, tmp_path):
    """Neither what is proven nor what merely packs it, like the date of an entry; nor can the file lose or gain a byte."""
    network, prop, certificate = proof
    whole = certificate.read_bytes()
    for at in range(0, len(whole), max(len(whole) // 150, 1)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        (tmp_path / "m.npz").write_bytes(damaged)
        assert rejected(tmp_path / "m.npz", network, prop), at
    for damaged in (whole[:-1], whole + b"0", whole[:-64], whole.replace(whole[-66:-64], b"\0\0")):
        (tmp_path / "m.npz").write_bytes(damaged)
        assert rejected(tmp_path / "m.npz", network, prop)


def test_another_network_or_property_is_rejected(proof, tmp_path):
    network, prop, certificate = proof
    text = prop.read_text()
    (tmp_path / "p.vnnlib").write_text(text.replace("(assert (<= X_0 1))", "(assert (<= X_0 1.001))"))
    assert "no claim covers" in rejected(certificate, network, tmp_path / "p.vnnlib")
    (tmp_path / "q.vnnlib").write_text(text.replace("(>= X_0 -1)", "(>= X_0 -0.5)"))  # a smaller box is covered
    assert checker.check(certificate, network, tmp_path / "q.vnnlib")
    model = onnx.load(network)
    bias = next(t for t in model.graph.initializer if t.name == "b")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), "b"))
    onnx.save(model, tmp_path / "n.onnx")
    assert "is not proven" in rejected(certificate, tmp_path / "n.onnx", prop)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_damage_never_proves_what_is_false(proof, tmp_path_factory, data):
    """Whatever happens to the tree of a proof, it does not become a proof of a property with a counterexample."""
    network, prop, certificate = proof
    folder = tmp_path_factory.mktemp("damage")
    with np.load(certificate) as file:
        arrays = {k: file[k] for k in file.files if k != "seal"}
    false = {**arrays, "0_d": arrays["0_d"] - 0.3, "1_d": arrays["1_d"] - 3.0}  # counterexamples exist now
    lines = prop.read_text()
    values = [
        float(v)
        for v in lines[lines.index("(or") :].replace(")", " ").split()
        if v.lstrip("-").replace(".", "").replace("e", "").isdigit()
    ]
    for value, shift in zip(values, (0.3, 0.3, -3.0)):
        lines = lines.replace(f"{value}", f"{value - shift}")
    (folder / "p.vnnlib").write_text(lines)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(
            st.sampled_from(
                sorted(
                    k
                    for k in false
                    if k[:2] in ("0_", "1_") and k[2:] not in ("C", "D", "d", "lower", "upper", "layer")
                )
            )
        )
        flat = false[name].copy().ravel()
        if len(flat):
            at = data.draw(st.integers(0, len(flat) - 1))
            flat[at] = data.draw(st.integers(-2, 20)) if flat.dtype.kind == "i" else data.draw(st.floats(-4, 1e300))
        false[name] = flat.reshape(false[name].shape)
    np.savez(folder / "c.npz", **false)
    with pytest.raises(checker.Rejected):
        checker.check(folder / "c.npz", network, folder / "p.vnnlib")


def test_least_values_over_a_box_and_a_half_space():
    """Against linear programs: never above the least value, and at most rounding below it."""
    from scipy.optimize import linprog

    net = checker.Bounder([(np.eye(4), np.zeros(4), np.zeros(4, bool))])
    g = np.random.default_rng(5)
    binding = 0
    for _ in range(150):
        lo = g.normal(size=4) * (g.random(4) < 0.8)
        hi, c, p = (
            lo + g.random(4) * (g.random(4) < 0.9),
            g.normal(size=(1, 3, 4)),
            np.append(g.normal(size=4) * (g.random(4) < 0.8), 0.0),
        )
        p[4] = -p[:4] @ (lo + (hi - lo) * g.random(4))  # the half-space has points in the box
        e = g.normal(size=(1, 3))
        found = net.lowest(c, e, lo[None], hi[None], p[None])[0]
        for row in range(3):
            best = linprog(c[0, row], A_ub=p[None, :4], b_ub=[-p[4]], bounds=list(zip(lo, hi)))
            assert best.status == 0
            assert best.fun + e[0, row] - 1e-7 < found[row] < best.fun + e[0, row] + 1e-9
            plain = e[0, row] + np.maximum(c[0, row], 0) @ lo + np.minimum(c[0, row], 0) @ hi
            binding += found[row] > plain + 1e-3
    assert binding > 100


def test_half_spaces_prove_nothing_false(tmp_path):
    """Trees of true claims, planes weighed at will in every node, for claims with a known counterexample."""
    g, used = np.random.default_rng(11), 0
    for seed in range(12):
        network, prop = made(tmp_path, seed, (3, 7, 6, 3))
        verdict = relukit.verify(network, prop, timeout=20, certificate=True)
        if verdict.status != "unsat" or verdict.certificate is None or verdict.certificate.nodes < 10:
            continue
        claim = verdict.certificate.claims[0]
        handed = claim.tree.row[claim.tree.split >= 0] >= 0
        used += int(handed.sum())
        x = claim.box.sample(3000, seed)
        least = (relukit.load(network)(x) @ claim.C.T + claim.d).max(axis=1).min()
        false = Claim(claim.box, claim.C, claim.d - least - 1e-3, None, None, claim.tree)
        Certificate((false,), 2).save(tmp_path / "c.npz")
        rows = lambda row: np.where(row < 0, g.integers(0, row.max() + 1, len(row)), row)
        for change in (
            {},
            {"0_row": rows},
            {"0_weights": lambda w: g.random(w.shape) * 10.0 ** g.integers(-3, 4, w.shape)},
        ):
            changed(tmp_path / "c.npz", tmp_path / "m.npz", **change)
            for exact in (False, True):
                with pytest.raises(checker.Rejected, match="is not proven"):
                    checker.check_claims(tmp_path / "m.npz", network, exact=exact)
    assert used > 20


def test_claims_about_a_layer(tmp_path):
    """What `compress` needs: a unit that is never on, and one that always is, each with its proof."""
    g = np.random.default_rng(0)
    weights = [g.standard_normal((4, 2)), g.standard_normal((3, 4)) / 2, g.standard_normal((1, 3))]
    biases = [g.standard_normal(4), np.array([-6.0, 6.0, 0.0]), np.zeros(1)]
    network = from_layers(weights, biases, [RELU, RELU], np.float64)
    np.savez(
        tmp_path / "n.npz", **{f"W{k}": W for k, W in enumerate(weights)}, **{f"b{k}": b for k, b in enumerate(biases)}
    )
    box, eye = Box([-1.0, -1.0], [1.0, 1.0]), np.eye(3)
    claims = [Claim(box, -eye[[0]], np.zeros(1), layer=1), Claim(box, eye[[1]], np.zeros(1), layer=1)]
    certify(network, claims, 10).save(tmp_path / "c.npz")
    assert len(checker.check_claims(tmp_path / "c.npz", tmp_path / "n.npz", exact=True)) == 2
    assert certify(network, [Claim(box, eye[[2]], np.zeros(1), layer=1)], 2) is None  # not so
    with pytest.raises(relukit.ShapeMismatch, match="layer 1"):
        certify(network, [Claim(box, np.eye(4)[[0]], np.zeros(1), layer=1)])


def test_many_inputs(data_folder, tmp_path):
    """784 inputs: linear bounds at the root, no splitting."""
    folder = data_folder / "vnncomp" / "mnist_fc"
    network, prop = folder / "onnx" / "mnist-net_256x2.onnx", folder / "vnnlib" / "prop_0_0.03.vnnlib"
    verdict = relukit.verify(network, prop, timeout=20, certificate=True)
    assert verdict.status == "unsat" and verdict.certificate is not None
    verdict.certificate.save(tmp_path / "c.npz")
    assert checker.check(tmp_path / "c.npz", network, prop) == 9


@pytest.mark.slow
def test_acas_xu(data_folder, tmp_path):
    """A proof, its certificate and its check on every 12th unsatisfiable instance."""
    import csv

    folder = data_folder / "vnncomp" / "acasxu"
    with open(folder / "truth.csv") as file:
        rows = [r for r in csv.DictReader(file) if r["expected"] == "unsat"]
    for row in rows[::12]:
        verdict = relukit.verify(folder / row["net"], folder / row["prop"], timeout=60, certificate=True)
        assert verdict.certificate is not None, row
        verdict.certificate.save(tmp_path / "c.npz")
        assert (
            checker.check(tmp_path / "c.npz", folder / row["net"], folder / row["prop"]) == verdict.certificate.leaves
        )


def test_claims_about_the_first_layer(tmp_path):
    network = from_layers([np.eye(2), np.ones((1, 2))], [np.full(2, 3.0), np.zeros(1)], [RELU])
    box, row = Box(-np.ones(2), np.ones(2)), np.array([[1.0, 0.0]])
    proof = certify(network, [Claim(box, row, np.array([-1.5]), layer=0)])
    relukit.save(network, tmp_path / "n.npz")
    proof.save(tmp_path / "c.npz")
    assert len(checker.check_claims(tmp_path / "c.npz", tmp_path / "n.npz")) == 1
    assert certify(network, [Claim(box, row, np.array([-2.5]), layer=0)], timeout=1) is None


def test_a_gate_that_is_zero_throughout_goes_by_its_phase(tmp_path):
    """In fractions its bound is 0 where float64 has a little less: both must follow the tree's phase (found by the fuzz of small networks)."""
    weights = [
        np.array([[0.875, -1.625], [-2, 0.25]]), np.array([[1.875, 1], [-0.875, 1.75], [-0.5, -0.125]]),
        np.array([[1.875, -0.625, -0.625], [0, 0.25, -0.375], [0.25, -1.625, -0.125], [-0.25, -0.625, 1]]),
        np.array([[-1.875, -0.25, 2, -0.5], [0, -2, 0.375, -1.375], [-0.375, 0.875, -0.25, 0.625]]),
    ]  # fmt: skip
    biases = [np.array(b) for b in ([-0.25, 0.25], [-1.625, -1, -0.5], [0, 1.375, 1.375, 0.125], [1.375, 1, 0.25])]
    C, d = np.array([[0, 2, -2], [-1.5, -0.5, 1.5], [-2, 2, 1.5]]), np.array([1.25, 3.75, 4.5])
    path = onnx_file(tmp_path / "n.onnx", weights, biases)
    found = certify(relukit.load(path), [Claim(relukit.Box([0.875, -0.75], [2.25, 0.375]), C, d)], 20)
    assert found is not None
    found.save(tmp_path / "c.npz")
    for exact in (False, True):
        assert len(checker.check_claims(tmp_path / "c.npz", path, exact=exact)) == 1
