"""torch modules: direct, exported, from checkpoints, and back."""

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit import InvalidInput, UnreadableFile, UnsupportedOperation


class Block(nn.Module):
    """A residual block as in ResNet (He et al., 2016)."""

    def __init__(self, i, o, stride):
        super().__init__()
        self.a, self.na = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.b, self.nb = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.skip = (
            nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
            if stride > 1 or i != o
            else nn.Identity()
        )
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.nb(self.b(self.act(self.na(self.a(x))))) + self.skip(x))


class ResNet(nn.Module):
    def __init__(self, width, classes, depth=4):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)
        )
        widths = [width * 2**k for k in range(depth)]
        blocks = []
        for k, w in enumerate(widths):
            blocks += [Block(widths[max(k - 1, 0)], w, 1 if k == 0 else 2), Block(w, w, 1)]
        self.layers, self.pool, self.fc = (
            nn.Sequential(*blocks),
            nn.AdaptiveAvgPool2d(1),
            nn.Linear(widths[-1], classes),
        )

    def forward(self, x):
        return self.fc(torch.flatten(self.pool(self.layers(self.stem(x))), 1))


class Mixed(nn.Module):
    """Functional activations, arithmetic, slicing, joining."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 8)
        self.register_buffer("scale", torch.linspace(0.5, 2, 8))

    def forward(self, x):
        h = torch.relu(self.a((x - 0.1) / 1.5)) * self.scale
        left, right = self.b(h).chunk(2, dim=1)
        joined = torch.cat([torch.maximum(left, right), h[:, 2:5].abs(), x.mean(1, keepdim=True)], dim=1)
        return nn.functional.leaky_relu(joined, 0.1).clamp(-1, 2) + 1 - torch.minimum(left, right)[:, :1]


def make(seed, module):
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.eval()


MODELS = {
    "chain": (
        lambda: nn.Sequential(
            nn.Linear(5, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Dropout(),
            nn.Sequential(nn.Linear(8, 4), nn.LeakyReLU(0.2)),
            nn.Linear(4, 3),
            nn.Softmax(1),
        ),
        None,
    ),
    "smooth": (
        lambda: nn.Sequential(
            nn.Linear(5, 8),
            nn.GELU(),
            nn.Linear(8, 8),
            nn.SiLU(),
            nn.Linear(8, 8),
            nn.ELU(),
            nn.Linear(8, 2),
            nn.Tanh(),
        ),
        None,
    ),
    "signal": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 5, padding="same"),
            nn.PReLU(4),
            nn.MaxPool1d(2),
            nn.AvgPool1d(3, 2, 1),
            nn.Flatten(),
            nn.Linear(16, 3),
            nn.Hardtanh(),
        ),
        (2, 16),
    ),
    "resnet": (lambda: ResNet(4, 5, depth=2), (3, 24, 24)),
    "mixed": (Mixed, (6,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_module_network_and_back(name, tmp_path):
    build, shape = MODELS[name]
    module = make(0, build())
    network = relukit.load(module, shape)
    x = np.random.default_rng(0).standard_normal((4, network.inputs)).astype(np.float32)
    want = network.replay(x)
    np.testing.assert_allclose(network.apply_head(network(x)), want, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(network.on()(torch.from_numpy(x)).numpy(), network(x), rtol=1e-4, atol=1e-5)
    assert network.on() is network.on()
    np.testing.assert_allclose(
        relukit.load(relukit.save(network, tmp_path / "n.onnx")).replay(x), want, rtol=1e-4, atol=1e-5
    )


def test_gradient_matches_autograd():
    module = make(
        1, nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.LeakyReLU(0.1), nn.Linear(7, 3))
    ).double()
    network = relukit.load(module)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    (module(x) * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    np.testing.assert_allclose(
        network.gradient(x.detach().numpy(), np.array([1.0, -2.0, 0.5])), x.grad.numpy(), rtol=1e-12
    )


def test_training_mode_and_unknown_shapes_are_refused():
    with pytest.raises(InvalidInput, match=r"module '1' \(Dropout\) is in training mode.*eval"):
        relukit.load(nn.Sequential(nn.Linear(3, 2), nn.Dropout()))
    assert (
        relukit.load(nn.Sequential(nn.Linear(3, 2), nn.ReLU())).outputs == 2
    )  # nothing random inside: no eval() needed
    with pytest.raises(InvalidInput, match="input_shape"):
        relukit.load(nn.Sequential(nn.Conv2d(1, 2, 3)).eval())


def test_attention_is_read_and_bounded():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu").eval()
    network = relukit.load(layer, (5, 8))
    x = 0.5 * torch.randn(20, 5, 8)
    want = torch.cat([layer(row[None]) for row in x]).flatten(1).detach().numpy()
    np.testing.assert_allclose(network(x.flatten(1).numpy()), want, atol=2e-5)
    center = x[0].flatten().double().numpy()
    low, high = relukit.bounds.linear(network, relukit.Box(center - 1e-3, center + 1e-3)).output
    near = network(center + 1e-3 * np.random.default_rng(0).uniform(-1, 1, (500, 40)))
    assert np.all(low <= near.min(0)) and np.all(high >= near.max(0)) and (high - low).max() < 0.1


class Formula(nn.Module):
    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x):
        return self.formula(x)


FORMULAS = {
    "product": lambda x: x[:, :2] * x[:, 1:3],
    "quotient": lambda x: x[:, :2] / (1 + x[:, 2:].square()),
    "inverse": lambda x: 2.0 / (0.5 + x.abs()),
    "powers": lambda x: x**3 - x.pow(-1).clamp(-5, 5) + (x.abs() + 1).rsqrt(),
    "waves": lambda x: torch.sin(3 * x) + torch.cos(x) * x,
    "exponentials": lambda x: torch.exp(x) + torch.log(1 + x.abs()) + torch.erf(x),
    "choice": lambda x: torch.where(x > 0.25, x - 0.25, 3 * x - 0.75),
    "conditions": lambda x: ((x > 0) & ~(x > 1) | (x < -1)).float() + (x >= 0.5).float() + torch.sign(x),
    "inner softmax": lambda x: torch.softmax(x.reshape(-1, 2, 2), 1).flatten(1) + torch.log_softmax(x, 1),
    "normalized": lambda x: torch.nn.functional.layer_norm(x, (4,)),
    "gated": lambda x: (
        0.5 * x * (1 + torch.erf(x / 2**0.5)) + x * torch.sigmoid(x) + x * torch.tanh(torch.nn.functional.softplus(x))
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_products_comparisons_and_curves(name):
    """Values agree with the module, bounds hold samples, and `balanced` is the same function."""
    module = Formula(FORMULAS[name]).eval()
    network = relukit.load(module, input_shape=(4,))
    x = torch.randn(200, 4)
    np.testing.assert_allclose(network(x.numpy()), module(x).numpy(), atol=3e-5, rtol=3e-5)
    for radius in (0.01, 0.3, 2.0):
        box = relukit.Box(np.array([0.3, -0.2, 1.1, 0.7]) - radius, np.array([0.3, -0.2, 1.1, 0.7]) + radius)
        points = box.sample(2_000, 0)
        out, same = network(points), relukit.bounds.balanced(network, box)
        np.testing.assert_allclose(same(points), out, atol=1e-8, rtol=1e-8)
        for found in (
            relukit.bounds.interval(network, box),
            relukit.bounds.linear(network, box),
            relukit.bounds.linear(same, box),
        ):
            assert np.all(found.output[0] <= out.min(0)) and np.all(found.output[1] >= out.max(0))


def test_several_operators_that_make_one_function_are_that_function():
    names = {n.op.name for n in relukit.load(Formula(FORMULAS["gated"]).eval(), (4,)) if n.is_activation}
    assert {"gelu", "silu", "mish"} <= names and "square" not in names
    assert relukit.load(Formula(FORMULAS["choice"]).eval(), (4,)).is_piecewise_linear


def test_a_cast_that_jumps_is_refused():
    with pytest.raises(UnsupportedOperation, match="jumps"):
        relukit.load(Formula(lambda x: (3 * x).to(torch.int64).float()).eval(), (4,))


def test_checkpoints(tmp_path):
    module = make(2, nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    x = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    want = relukit.load(module)(x)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "more.pth")
    from safetensors.torch import save_file

    save_file(module.state_dict(), tmp_path / "w.safetensors")
    for name in ("weights.pt", "more.pth", "w.safetensors"):
        network = relukit.load(tmp_path / name)
        np.testing.assert_allclose(network(x), want, rtol=1e-12)
        assert "ReLU is assumed" in network.notes[0]
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3),)), tmp_path / "whole.pt2")
    np.testing.assert_allclose(relukit.load(tmp_path / "whole.pt2")(x), want, rtol=1e-12)


def test_pickles_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "object.pt")
    with pytest.raises(UnreadableFile, match="pickled Python objects"):
        relukit.load(tmp_path / "object.pt")


def test_dynamic_exported_programs_are_refused(tmp_path):
    program = torch.export.export(
        nn.Linear(2, 2), (torch.zeros(4, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, tmp_path / "dynamic.pt2")
    with pytest.raises(UnreadableFile, match="symbolic"):
        relukit.load(tmp_path / "dynamic.pt2")


@pytest.mark.slow
def test_resnet18_reads():
    network = relukit.load(make(0, ResNet(64, 1000)), (3, 64, 64))
    assert network.parameters > 11_000_000
    x = np.random.default_rng(0).standard_normal((1, network.inputs)).astype(np.float32)
    np.testing.assert_allclose(network(x), network.replay(x), rtol=1e-3, atol=1e-3)


def test_a_double_convolution_is_no_onnx_file(tmp_path):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).double()
    network = relukit.load(module, input_shape=(1, 8, 8))
    with pytest.raises(relukit.UnsupportedOperation, match="single precision"):
        relukit.save(network, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
    relukit.save(network.with_(dtype=np.dtype("float32")), tmp_path / "m.onnx")


def test_what_relu_cannot_stand_in_for_is_not_told_to_be_replaced_by_it():
    class Product(nn.Module):
        def forward(self, x):
            return x[:, :2] * x[:, 2:]

    product = relukit.load(Product().eval(), input_shape=(4,))
    smooth = relukit.load(nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 1)).eval())
    with pytest.raises(UnsupportedOperation, match=r"`relukit verify` do without\.$"):
        product.require_piecewise_linear("this")
    with pytest.raises(UnsupportedOperation, match="ReLU in its place"):
        smooth.require_piecewise_linear("this")


def test_a_row_replays_alike_alone_and_among_others():
    """torch rounds a product of one row otherwise than one of many: a witness found among many must hold alone."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)).eval()
    network = relukit.load(module)
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    together = module(torch.tensor(rows)).detach().numpy()
    alone = np.concatenate([module(torch.tensor(r[None])).detach().numpy() for r in rows])
    assert (together != alone).any()  # else this test shows nothing
    assert (network.replay(rows) == alone).all() and network.replay(rows[:0]).shape == (0, 2)
    built = network.with_(origin=relukit.load({"W0": np.eye(2), "b0": np.zeros(2)}).origin)  # NumPy's products round so, too
    assert built.origin.run is None and (built.replay(rows) == [built(r, built.dtype) for r in rows]).all()
    assert (built.replay(rows) != built(rows, built.dtype)).any()


def test_modes_are_left_as_they_were():
    """A frozen normalization within a module that trains: reading goes through torch.export, which needs evaluation."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

        def forward(self, x):
            return x + self.norm(torch.relu(self.inner(x)))

    module = Residual().train()
    module.norm.eval()
    relukit.load(module, input_shape=(3,))
    assert module.training and module.inner.training and not module.norm.training


def test_several_inputs_and_odd_shapes_are_told_what_to_do():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(UnsupportedOperation, match=r"several inputs: torch\.onnx\.export"):
        relukit.load(Two().eval(), input_shape=(3,))
    for shape in ((0,), (-3,)):  # of another type they are refused as well, which the tests' type checker does first
        with pytest.raises(InvalidInput, match="the sizes of one input"):
            relukit.load(nn.Sequential(nn.Linear(3, 2)).eval(), input_shape=shape)


@pytest.mark.parametrize(("kind", "dtype"), [(torch.float16, np.float16), (torch.bfloat16, np.float32)])
def test_modules_in_half_precision_are_replayed(kind, dtype):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).to(kind).eval()
    network = relukit.load(module)
    assert network.dtype == dtype
    x = np.random.default_rng(0).normal(size=(5, 3))
    want = np.stack([module(torch.tensor(r[None]).to(kind)).detach().float().numpy()[0] for r in x])
    assert (network.replay(x) == want).all()
    found = relukit.flip(network, x[0])
    asked = lambda row: module(torch.tensor(row[None]).to(kind)).argmax().item()
    assert found.witness is not None and asked(found.witness) != asked(x[0])


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_broken_weights_are_named_by_whatever_is_asked(broken):
    g = np.random.default_rng(0)
    module = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        module[2].weight[1, 2] = broken
    network, box = relukit.load(module), relukit.Box([-1, -1], [1, 1])
    for ask in (
        lambda: relukit.regions(network, box),
        lambda: relukit.explain(network, np.zeros(2)),
        lambda: relukit.flip(network, np.zeros(2)),
        lambda: relukit.optimize(network, maximize="y[0]", box=box),
        lambda: relukit.compress(network, box),
    ):
        with pytest.raises(InvalidInput, match="NaN or infinite; train it anew"):
            ask()
    skipped = relukit.open(network, g.normal(size=(9, 2)), out=None).content["skipped"]
    assert [part["section"] for part in skipped] == ["health", "regions", "flips", "compress"]
    assert len({part["reason"] for part in skipped}) == 1
