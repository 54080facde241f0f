"""`verify` on convolutional and residual networks from torch: any layer that can be read is proven or refuted, never wrongly."""

import time

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import relukit
from relukit import Box
from relukit.bounds import linear
from relukit.search._graph import Graph
from relukit.verification import checker
from relukit.verification.vnnlib import Case, Property


class Residual(nn.Module):
    """Two residual blocks as in the small ResNets of the competition: one keeps the shape, one halves it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.a = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
        )
        self.b = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
        self.short = nn.Conv2d(4, 6, 1, stride=2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 9, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.a(x) + x)
        x = torch.relu(self.b(x) + self.short(x))
        return self.head(x)


KINDS = {
    "residual": Residual,
    "strided": lambda: nn.Sequential(nn.Conv2d(2, 4, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)),
    "dilated and grouped": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, dilation=2, padding=2, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)),
    "average pooling": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "max pooling": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 6), nn.ReLU(), nn.Linear(6, 3)),
    "leaky": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)),
}  # fmt: skip


def make(kind, seed):
    torch.manual_seed(seed)
    module = KINDS[kind]()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_never_wrong(kind, monkeypatch):
    """Levels just above a sampled minimum have a counterexample; levels far below are proven, and every claim is sampled again."""
    monkeypatch.setattr(Graph, "is_small", property(lambda graph: False))
    counts = {"sat": 0, "unsat": 0, "unknown": 0}
    for seed in range(2):
        module = make(kind, seed)
        network = relukit.load(module, input_shape=(2, 6, 6))
        g = np.random.default_rng(seed)
        center = g.random(72)
        box = Box(center - 0.08, center + 0.08)
        points = np.concatenate([box.sample(2000, seed), np.where(g.random((2000, 72)) < 0.5, box.lower, box.upper)])
        with torch.no_grad():
            out = module.double()(torch.from_numpy(points.reshape(-1, 2, 6, 6))).numpy()
        margin = out[:, 0] - out[:, 1]
        low, spread = margin.min(), margin.max() - margin.min()
        for level, want in ((low + 1e-3 * spread, "sat"), (low - 0.3 * spread, None), (low - 4 * spread, "unsat")):
            asked = Property(
                [
                    Case(
                        box,
                        np.zeros((0, 72)),
                        np.zeros(0),
                        np.array([[1.0, -1, 0]]),
                        np.zeros((1, 72)),
                        np.array([level]),
                    )
                ],
                72,
                3,
            )
            found = relukit.verify(network, asked, timeout=20)
            assert want is None or found.status == want, (kind, seed, level, found)
            assert found.status != "unsat" or level < low
            counts[found.status] += 1
            if found.status == "sat":
                assert box.contains(found.witness) and found.outputs[0] - found.outputs[1] <= level + 1e-6
    assert counts["sat"] >= 2 and counts["unsat"] >= 2


def test_time_limit_of_a_wide_network():
    """20,000 units, bounds of which take longer than the limit: the answer comes within two seconds of it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 196, 10)).eval()  # fmt: skip
    network = relukit.load(module, input_shape=(3, 28, 28))
    n = network.inputs
    center = np.random.default_rng(0).random(n)
    box = Box(center - 0.1, center + 0.1)
    level = float(network(center) @ (np.eye(10)[0] - np.eye(10)[1])) - 3.0
    asked = Property([Case(box, np.zeros((0, n)), np.zeros(0), (np.eye(10)[0] - np.eye(10)[1])[None], np.zeros((1, n)), np.array([level]))], n, 10)  # fmt: skip
    relukit.verify(network, asked, timeout=0.1)
    began = time.process_time()  # other processes may hold this one up
    found = relukit.verify(network, asked, timeout=1.0)
    assert found.status == "unknown" and time.process_time() - began < 3.0


def convolutional_file(folder, seed):
    """Two convolutions with strides, padding, dilations and groups, and dense rows; a property that is proven with some splitting."""
    g = np.random.default_rng(seed)
    tensors = [
        numpy_helper.from_array(a.astype(np.float32), name)
        for name, a in {
            "K": g.standard_normal((4, 2, 3, 2)) / 3, "b": g.standard_normal(4) / 4, "L": g.standard_normal((4, 2, 2, 2)) / 3,
            "W": g.standard_normal((3, 16)) / 3, "c": g.standard_normal(3) / 3,
        }.items()
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "K", "b"], ["z"], pads=[1, 0, 0, 1], strides=[1, 2]),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Conv", ["h", "L"], ["v"], group=2, dilations=[2, 1], auto_pad="NOTSET"),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "W", "c"], ["y"], transB=1),
    ]
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", [info("x", [1, 2, 5, 6])], [info("y", [1, 3])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, folder / "n.onnx")
    network = relukit.load(folder / "n.onnx")
    center = g.random(60)
    box = Box(center - 0.12, center + 0.12)
    bound = float(linear(network.append(np.array([[1.0, -1, 0]])), box).output[0][0])
    level = bound + 0.03 * abs(bound)  # above what linear bounds prove
    lines = [f"(declare-const X_{i} Real)" for i in range(60)] + [f"(declare-const Y_{i} Real)" for i in range(3)]
    lines += [f"(assert (>= X_{i} {box.lower[i]:.17f}))(assert (<= X_{i} {box.upper[i]:.17f}))" for i in range(60)]
    (folder / "p.vnnlib").write_text("\n".join([*lines, f"(assert (<= (- Y_0 Y_1) {level:.17f}))"]))
    return folder / "n.onnx", folder / "p.vnnlib"


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    for seed in range(1, 30):
        network, prop = convolutional_file(folder, seed)
        verdict = relukit.verify(network, prop, timeout=20, certificate=True)
        if verdict.status == "unsat" and verdict.certificate is not None and verdict.certificate.nodes > 5:
            return network, prop, verdict.certificate.save(folder / "c.npz")
    raise AssertionError("no random network needed splitting")


def test_checker_reads_convolutions_as_onnxruntime_runs_them(proof):
    network, _, _ = proof
    layers = checker.read_network(str(network))
    x = np.random.default_rng(0).random((50, 60))
    value = x
    for W, b, relu in layers:
        value = value @ W.T + b
        value = np.where(relu, np.maximum(value, 0), value)
    assert np.abs(value - relukit.load(network).replay(x)).max() < 1e-5


def test_a_certificate_of_a_convolution_is_accepted_and_any_change_is_found(proof, tmp_path):
    network, prop, certificate = proof
    assert checker.check(certificate, network, prop) > 1
    with np.load(certificate) as file:
        arrays = {k: file[k] for k in file.files}
    inner = int(np.flatnonzero(arrays["0_split"] >= 60)[0])

    def rejected(file=network, **changes):
        np.savez(tmp_path / "c.npz", **(arrays | changes))
        with pytest.raises(checker.Rejected):
            checker.check(tmp_path / "c.npz", file, prop)

    rejected(**{"0_split": np.where(np.arange(len(arrays["0_split"])) == inner, -1, arrays["0_split"])})
    rejected(**{"0_weights": arrays["0_weights"] * 0})
    rejected(**{"0_d": arrays["0_d"] + 0.5})
    model = onnx.load(network)
    for k, change in enumerate((lambda n: n.attribute[0].ints.__setitem__(0, 0), lambda n: n.attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER")))):  # fmt: skip
        other = onnx.load_from_string(model.SerializeToString())
        change(other.graph.node[0])
        onnx.save(other, tmp_path / f"{k}.onnx")
        rejected(str(tmp_path / f"{k}.onnx"))
    other = onnx.load_from_string(model.SerializeToString())
    kernel = numpy_helper.to_array(other.graph.initializer[0]) * 1.5
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "K"))
    onnx.save(other, tmp_path / "w.onnx")
    rejected(str(tmp_path / "w.onnx"))


def test_networks_that_have_no_certificate_are_told_so():
    slope = relukit.activations.get("leaky_relu")
    network = relukit.network.from_layers([np.eye(2), np.ones((1, 2))], [np.zeros(2), np.zeros(1)], [slope])
    box = Box(np.zeros(2), np.ones(2))
    asked = Property([Case(box, np.zeros((0, 2)), np.zeros(0), np.eye(1), np.zeros((1, 2)), np.array([-5.0]))], 2, 1)
    found = relukit.verify(network, asked, timeout=10, certificate=True)
    assert found.status == "unsat" and found.certificate is None and "another activation" in found.note
