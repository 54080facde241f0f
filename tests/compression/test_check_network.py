"""The checker's own reader and bounds, against onnxruntime and samples."""

import numpy as np
import pytest

import relukit
from relukit.compression._check_bounds import Bounder
from relukit.compression._check_network import read
from relukit.verification.checker import Rejected

torch = pytest.importorskip("torch")


def write(module, shape, path):
    module.eval()
    torch.onnx.export(module, (torch.zeros(1, *shape),), str(path), dynamo=False, opset_version=17)


def values(nodes, x):
    found = [x]
    for node in nodes[1:]:
        if node.is_relu:
            found.append(np.maximum(found[node.sources[0]], 0))
        else:
            found.append(sum(M @ found[s] for s, M in zip(node.sources, node.maps)) + node.bias)
    return found


class Mixed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        n = torch.nn
        self.a, self.b = (
            n.Conv2d(3, 4, 3, stride=2, padding=1),
            n.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2, bias=False),
        )
        self.norm, self.c, self.d = n.BatchNorm2d(6), n.Conv2d(3, 6, 1, stride=2), n.Linear(54, 5)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        y = torch.relu(self.norm(self.b(torch.relu(self.a(x))))) + 0.5 * self.c(x)
        y = torch.cat(
            [
                torch.nn.functional.avg_pool2d(y, 2).flatten(1),
                y.mean((2, 3)),
                y.permute(0, 2, 3, 1)[:, 0].flatten(1),
            ],
            1,
        )
        return self.d(torch.relu(y - 0.1))


@pytest.mark.filterwarnings("ignore")
def test_reads_what_onnxruntime_runs(tmp_path):
    import onnxruntime

    torch.manual_seed(0)
    for k, (module, shape) in enumerate([(Mixed(), (3, 8, 8)), (torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(21, 2)), (2, 7))]):  # fmt: skip
        path = tmp_path / f"{k}.onnx"
        write(module, shape, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        x = np.random.default_rng(k).standard_normal((1, *shape)).astype(np.float32)
        want = session.run(None, {session.get_inputs()[0].name: x})[0].ravel()
        nodes = read(str(path))
        assert np.abs(values(nodes, x.ravel().astype(float))[-1] - want).max() < 1e-4


def test_bounds_hold_on_samples_and_rows_make_them_tighter(tmp_path):
    g = np.random.default_rng(0)
    weights = [g.standard_normal((b, a)) for a, b in ((3, 10), (10, 8), (8, 2))]
    np.savez(tmp_path / "n.npz", **{f"W{k}": w for k, w in enumerate(weights)}, **{f"b{k}": g.standard_normal(len(w)) for k, w in enumerate(weights)})  # fmt: skip
    nodes = read(str(tmp_path / "n.npz"))
    A, a = np.array([[1.0, 1, 1], [-1, -1, -1]]), np.array([0.1, 0.1])
    low, high = -np.ones(3), np.ones(3)
    wide = [v.copy() for side in Bounder(nodes, A[:0], a[:0]).over(low, high, {}, {}) for v in side]
    thin = [v.copy() for side in Bounder(nodes, A, a).over(low, high, {}, {}) for v in side]
    x = relukit.Polytope(A, a, relukit.Box(low, high)).sample(300, 0)
    seen = np.array([np.concatenate(values(nodes, row)) for row in x])
    lower, upper = np.concatenate(thin[: len(nodes)]), np.concatenate(thin[len(nodes) :])
    inside = np.concatenate([np.zeros(3, bool), np.ones(len(lower) - 3, bool)])
    assert np.all((seen >= lower - 1e-9)[:, inside]) and np.all((seen <= upper + 1e-9)[:, inside])
    assert sum(v.sum() for v in thin[len(nodes) :]) < sum(v.sum() for v in wide[len(nodes) :]) - 1


def test_what_it_does_not_read_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    make = lambda kind: helper.make_model(helper.make_graph([helper.make_node(kind, ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])]))  # fmt: skip
    onnx.save(make("Tanh"), tmp_path / "s.onnx")
    with pytest.raises(Rejected, match="Tanh"):
        read(str(tmp_path / "s.onnx"))
    for kind in (
        "Softmax",
        "Sigmoid",
    ):  # at the end they bring outputs no farther apart; before something else they are not read
        model = make(kind)
        onnx.save(model, tmp_path / "s.onnx")
        assert read(str(tmp_path / "s.onnx"))[-1].head == kind
        model.graph.node[0].output[0] = "p"
        model.graph.node.append(helper.make_node("Add", ["p", "p"], ["y"]))
        onnx.save(model, tmp_path / "s.onnx")
        with pytest.raises(Rejected, match=kind):
            read(str(tmp_path / "s.onnx"))
