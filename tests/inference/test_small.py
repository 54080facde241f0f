"""Small networks: one compiled call for all layers, and nothing between a caller and the dense network where that is the plan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relukit
from relukit.inference._chain import evaluate, flatten
from relukit.inference._layers import Layer
from tests.inference.test_speed import network, plain
from tests.strategies import RELU


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from([1, 2, 5, 15, 16, 17, 40]), min_size=2, max_size=5), st.integers(1, 4))  # fmt: skip
def test_one_call_equals_loops_over_units(seed, sizes, batch):
    g = np.random.default_rng(seed)
    net, weights, biases = network(sizes, float(g.choice([0.0, -1.0])), seed)
    x = g.standard_normal((batch, sizes[0])).astype(np.float32)
    x[0, 0] = 0
    fast = relukit.speed(net, x, (1,), budget=0.0)
    found = fast.run(x, ("chain",) * len(weights))
    assert np.abs(found - plain(weights, biases, x.astype(float))).max() < 1e-5 * (1 + np.abs(found).max())


def test_not_a_number_stays_one():
    net, *_ = network([4, 20, 3], 0.0, 1)
    x = np.ones((2, 4), np.float32)
    x[1, 2] = np.nan
    flat, sizes = flatten(relukit.speed(net, np.ones((1, 4)), (1,), budget=0.0).layers)  # type: ignore[misc]
    out = np.empty((2, 3), np.float32)
    evaluate(flat, sizes, x, out)
    assert np.isfinite(out[0]).all() and np.isnan(out[1]).all()


def test_large_networks_and_other_activations_have_no_such_form():
    big = [Layer(np.zeros((1024, 1024), np.float32), np.zeros(1024, np.float32), RELU, False)]
    assert flatten([*big, Layer(np.zeros((1, 1024), np.float32), np.zeros(1, np.float32), None, True)]) is None
    leaky = relukit.activations.get("leaky_relu")
    small = [Layer(np.zeros((2, 2), np.float32), np.zeros(2, np.float32), a, False) for a in (leaky, None)]
    assert flatten(small) is None and flatten([]) is None


def test_a_module_passes_what_is_dense_to_its_owner():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    owner = torch.nn.Sequential(torch.nn.Linear(6, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2)).eval()
    x = torch.randn(8, 6)
    fast = relukit.speed(relukit.load(owner, input_shape=(6,)), x.numpy(), (1, 8), budget=0.0)
    module = fast.module()
    calls = []
    owner.register_forward_hook(lambda *_: calls.append(1))
    for plan in (None, ("chain", "chain"), ("torch", "torch")):
        fast._chosen.clear()
        fast._chosen[8], fast._chosen[1] = plan, plan
        module._plans.clear()
        for _ in range(3):  # the second time by shape
            calls.clear()
            out = module(x)
            assert torch.allclose(out, owner(x), atol=1e-6) and not out.requires_grad
            assert (len(calls) > 1) == (plan is None)
        assert torch.allclose(module(x.double()), owner(x), atol=1e-6)
        assert torch.allclose(module(x.requires_grad_()), owner(x), atol=1e-6)
        x = x.detach()
    with pytest.raises(ValueError):
        module(torch.zeros(2, 5))
    x.requires_grad_()
    kept = x.detach().clone()
    assert not module(x).requires_grad and torch.equal(
        x.detach(), kept
    )  # relu in place never reaches the caller's rows


def test_modules_of_other_shapes_and_kinds_have_no_plain_torch_form():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    leaky = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(), nn.Linear(4, 2)).eval()

    image = nn.Sequential(nn.Flatten(), nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 2)).eval()
    for module, shape, there in ((leaky, (3,), False), (image, (3, 2, 2), True)):
        fast = relukit.speed(relukit.load(module, input_shape=shape), budget=0.0, batches=(2,))
        assert (fast.straight is not None) == there
        x = torch.randn(5, *shape)
        if there:
            fast._chosen[5] = ("torch",) * 2
            assert torch.allclose(fast.module()(x), module(x), atol=1e-6)
            assert np.allclose(fast(x.numpy()), module(x).detach(), atol=1e-6)


@pytest.mark.parametrize("batch", ["batch", 1])
def test_an_onnx_file_is_dense_in_onnxruntime(tmp_path, batch, monkeypatch):
    import onnx
    import onnxruntime

    net, weights, biases = network([5, 12, 3], 0.0, 2)
    path = tmp_path / "net.onnx"
    relukit.save(net.with_(dtype=np.dtype(np.float32)), path)
    model = onnx.load(path)
    if batch == 1:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].Clear()
            value.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, path)
    ran = []

    class Counted:  # what lies below a session, where names are not checked anew
        def __init__(self, inner):
            self.run = lambda *a: ran.append(1) or inner.run(*a)

    create = onnxruntime.InferenceSession

    def counted(*a, **k):
        session = create(*a, **k)
        session._sess = Counted(session._sess)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    fast = relukit.speed(relukit.load(path), x, (1, 4), budget=0.0)
    for rows in (x, x[:1]):
        ran.clear()
        assert np.abs(fast.dense(rows) - plain(weights, biases, rows.astype(float))).max() < 1e-5
        assert bool(ran) == (batch == "batch" or len(rows) == 1)
