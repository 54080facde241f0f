"""Certificates of networks with branches: accepted as written, rejected once the network, the property or the tree is another."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import relukit
from relukit.network import load
from relukit.verification import checker


class Maker:
    """An ONNX file operator by operator."""

    def __init__(self, seed, shape):
        self.g, self.nodes, self.tensors, self.shape = np.random.default_rng(seed), [], [], shape

    def weight(self, *size):
        name = f"w{len(self.tensors)}"
        fan = np.prod(size[1:]) if len(size) > 1 else 4
        value = self.g.standard_normal(size) / np.sqrt(fan) * (1.2 if len(size) > 1 else 0.4)
        self.tensors.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def add(self, op, *inputs, **attributes):
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def conv(self, x, into, out, size=3, stride=1):
        pad = size // 2
        return self.add(
            "Conv", x, self.weight(out, into, size, size), self.weight(out), strides=[stride] * 2, pads=[pad] * 4
        )

    def save(self, path, last, outputs):
        self.nodes[-1].output[0] = last
        info = lambda name, dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *dims])
        graph = helper.make_graph(self.nodes, "g", [info("x", self.shape)], [info(last, (outputs,))], self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def resnet(path, seed):
    """A block with the identity beside it, and one of stride 2 with a convolution beside it."""
    m = Maker(seed, (2, 4, 4))
    x = m.add("Relu", m.conv("x", 2, 3))
    y = m.conv(m.add("Relu", m.conv(x, 3, 3)), 3, 3)
    x = m.add("Relu", m.add("Add", y, x))
    y = m.conv(m.add("Relu", m.conv(x, 3, 4, stride=2)), 4, 4)
    x = m.add("Relu", m.add("Add", m.conv(x, 3, 4, 1, 2), y))
    m.add("Gemm", m.add("Flatten", x), m.weight(3, 16), m.weight(3), transB=1)
    return m.save(path, "y", 3)


def dense(path, seed):
    """Dense layers, the activation before the sum: pre-activations are read twice, one value is subtracted, one is doubled."""
    m = Maker(seed, (5,))
    a = m.add("Gemm", "x", m.weight(6, 5), m.weight(6), transB=1)
    b = m.add("Add", m.add("MatMul", m.add("Relu", a), m.weight(6, 6)), m.weight(6))
    c = m.add("Sub", b, a)
    d = m.add("Relu", m.add("Add", c, c))
    e = m.add("Sub", m.add("Gemm", d, m.weight(6, 6), m.weight(6), transB=1), m.weight(6))
    m.add("Gemm", m.add("Add", e, m.add("Relu", b)), m.weight(3, 6), m.weight(3), transB=1)
    return m.save(path, "y", 3)


MAKERS = {"residual": resnet, "dense": dense}


def asked(folder, make, seed, radius, margin):
    """A network and a property that holds with some splitting: outputs 0 and 1 do not reach so high together."""
    network = make(folder / "n.onnx", seed)
    net = load(network)
    n = net.inputs
    g = np.random.default_rng(seed)
    center = g.random(n)
    y = net(center + radius * g.uniform(-1, 1, (4000, n)))
    top = float(np.min(y[:, :2], axis=1).max()) + margin * float(np.ptp(y[:, :2]))
    text = "".join(
        f"(declare-const X_{i} Real)(assert (>= X_{i} {center[i] - radius}))(assert (<= X_{i} {center[i] + radius}))"
        for i in range(n)
    )
    text += "".join(f"(declare-const Y_{k} Real)" for k in range(3)) + f"(assert (and (>= Y_0 {top}) (>= Y_1 {top})))"
    (folder / "p.vnnlib").write_text(text)
    return network, folder / "p.vnnlib"


@pytest.fixture(scope="module", params=["residual", "dense"])
def proof(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    radius, margin, most = {"residual": (0.1, 0.4, 400), "dense": (0.5, 0.02, 60)}[request.param]
    for seed in range(20):
        network, prop = asked(folder, MAKERS[request.param], seed, radius, margin)
        verdict = relukit.verify(network, prop, timeout=20, certificate=True)
        if verdict.status == "unsat" and verdict.certificate is not None and 8 < verdict.certificate.nodes < most:
            return network, prop, verdict.certificate.save(folder / "c.npz")
    raise AssertionError("no random network needed splitting")


def test_the_checker_reads_branches_as_onnxruntime_runs_them(proof):
    network, _, _ = proof
    layers, net = checker.read_network(str(network)), load(network)
    x = value = np.random.default_rng(0).random((50, net.inputs))
    for W, b, relu in layers:
        value = value @ W.T + b
        value = np.where(relu, np.maximum(value, 0), value)
    assert np.abs(value - net.replay(x)).max() < 1e-5


def test_accepted_in_floating_point_and_in_fractions(proof):
    network, prop, certificate = proof
    leaves = checker.check(certificate, network, prop)
    assert leaves > 4
    if load(network).inputs < 10:  # fractions take a minute on the larger one
        assert checker.check(certificate, network, prop, exact=True) == leaves


def test_another_network_is_rejected_unless_it_holds_there_as_well(proof, tmp_path):
    """Every weight tensor changed in turn, a sum turned into a difference: accepted only where no sample breaks the property."""
    network, prop, certificate = proof
    model, text = onnx.load(network), prop.read_text()
    top = float(text[text.index("(>= Y_0") + 8 :].split(")")[0])
    with np.load(certificate) as file:
        box = relukit.Box(file["0_lower"], file["0_upper"])
    outcomes = []

    def change(edit):
        other = onnx.load_from_string(model.SerializeToString())
        edit(other.graph)
        onnx.save(other, tmp_path / "n.onnx")
        try:
            checker.check(certificate, tmp_path / "n.onnx", prop)
        except checker.Rejected:
            outcomes.append("rejected")
            return
        outcomes.append("accepted")
        y = load(tmp_path / "n.onnx")(box.sample(3000, 1))
        assert np.min(y[:, :2], axis=1).max() < top

    for k, tensor in enumerate(model.graph.initializer):
        for new in (-2 * numpy_helper.to_array(tensor), numpy_helper.to_array(tensor) + np.float32(2.0)):
            change(
                lambda graph, k=k, new=new: graph.initializer[k].CopyFrom(
                    numpy_helper.from_array(new, graph.initializer[k].name)
                )
            )
    for k, node in enumerate(model.graph.node):
        if node.op_type in ("Add", "Sub"):
            change(
                lambda graph, k=k, node=node: setattr(
                    graph.node[k], "op_type", "Sub" if node.op_type == "Add" else "Add"
                )
            )
    assert outcomes.count("rejected") > len(outcomes) / 2
    broken = onnx.load_from_string(model.SerializeToString())
    next(n for n in broken.graph.node if n.op_type == "Add").input[0] = "nowhere"
    onnx.save(broken, tmp_path / "n.onnx")
    with pytest.raises(checker.Rejected, match="does not know"):
        checker.check(certificate, tmp_path / "n.onnx", prop)


def test_a_damaged_tree_is_rejected(proof, tmp_path):
    network, prop, certificate = proof
    with np.load(certificate) as file:
        arrays = {k: file[k] for k in file.files if k != "seal"}
    inner = int(np.flatnonzero(arrays["0_split"] >= 0)[1])
    at = np.arange(len(arrays["0_split"])) == inner
    for changes in (
        {"0_split": np.where(at, -1, arrays["0_split"])},
        {"0_weights": arrays["0_weights"] * 0},
        {"0_d": arrays["0_d"] + 1.0},
        {"0_split": np.where(at, 10**6, arrays["0_split"])},
        {"0_upper": arrays["0_upper"] - 1e-3},
        {"0_layer": arrays["0_layer"] - 1},
    ):
        np.savez(tmp_path / "c.npz", **(arrays | changes))
        with pytest.raises(checker.Rejected):
            checker.check(tmp_path / "c.npz", network, prop)
