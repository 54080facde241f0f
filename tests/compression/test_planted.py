"""Units and channels that were planted to be superfluous: all of them go, and nothing else changes."""

import numpy as np
import pytest

import relukit
from relukit.compression._copies import SINGLE, multiples

torch = pytest.importorskip("torch")
nn = torch.nn


def _on(module, network, radius: float, seed: int = 0):
    """Largest difference of a network from the module at points and corners of a box, in float64."""
    g = np.random.default_rng(seed)
    x = g.uniform(-radius, radius, (300, network.inputs))
    x = np.r_[x, radius * g.choice([-1.0, 1.0], (300, network.inputs))]
    with torch.no_grad():
        want = module(torch.from_numpy(x).reshape(len(x), *network.input_shape)).reshape(len(x), -1).numpy()
    return float(np.abs(network(x) - want).max())


def _convolutions(between, activation, plant):
    """Two convolutions, something between them, two dense layers; `plant` changes the first convolution and the one that reads it."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), activation(), between, nn.Conv2d(6, 4, 3), activation(), nn.Flatten(), nn.LazyLinear(3)
    )  # fmt: skip
    module(torch.zeros(1, 1, 6, 6))
    module = module.double().eval()
    with torch.no_grad():
        plant(module[0], module[3])
    return module


def _dead(conv, reader):
    conv.bias[1] = conv.bias[4] = -50


def _copied(conv, reader):
    conv.weight[1], conv.bias[1] = conv.weight[0], conv.bias[0]
    conv.weight[4], conv.bias[4] = 2.5 * conv.weight[3], 2.5 * conv.bias[3]


def _unread(conv, reader):
    reader.weight[:, 1] = reader.weight[:, 4] = 0


def _constant(conv, reader):  # what reads them has no padding: they go into its biases
    conv.weight[1] = conv.weight[4] = 0
    conv.bias[1], conv.bias[4] = 0.5, 2.0


BETWEEN = {
    "nothing": nn.Identity,
    "maximum": lambda: nn.MaxPool2d(2),
    "mean": lambda: nn.AvgPool2d(2),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
}


ACTIVATIONS = {"relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.125)}
STAY = {  # leaky units that are never on are lines; depthwise kernels differ from channel to channel, and their padding makes edges
    *((_dead, between, "leaky") for between in BETWEEN),
    *((plant, "depthwise", name) for plant in (_copied, _constant) for name in ACTIVATIONS),
}  # fmt: skip


@pytest.mark.parametrize("plant", [_dead, _copied, _unread, _constant])
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_channels_go_through_whatever_keeps_channels_apart(plant, between, name):
    module = _convolutions(BETWEEN[between](), ACTIVATIONS[name], plant)
    network = relukit.load(module, input_shape=(1, 6, 6))
    box = relukit.Box(-np.ones(36), np.ones(36))
    found = relukit.compress(network, box, timeout=0.2)
    left = 6 if (plant, between, name) in STAY else 4
    assert found.network.nodes[1].shape == (left, 6, 6), f"{found}"
    assert _on(module, found.network, 1.0) <= 1e-12 + found.error_bound <= 1e-9


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_copies_go_through_depthwise_convolutions_that_treat_them_alike(name):
    between = nn.Conv2d(6, 6, 3, padding=1, groups=6)

    def plant(conv, reader):
        _copied(conv, reader)
        between.weight[1], between.bias[1] = between.weight[0], between.bias[0]
        between.weight[4], between.bias[4] = between.weight[3], 2.5 * between.bias[3]

    module = _convolutions(between, ACTIVATIONS[name], plant)
    found = relukit.compress(
        relukit.load(module, input_shape=(1, 6, 6)), relukit.Box(-np.ones(36), np.ones(36)), timeout=0.2
    )
    assert (
        found.network.nodes[1].shape == (4, 6, 6)
        and _on(module, found.network, 1.0) <= 1e-12 + found.error_bound <= 1e-9
    )


MEANS = {
    "mean": lambda x: x.mean((2, 3)),
    "kept axes": lambda x: x.mean((2, 3), keepdim=True).flatten(1),
    "pooling": lambda x: nn.functional.adaptive_avg_pool2d(x, 1).flatten(1),
    "sum": lambda x: x.sum((2, 3)),
    "one after another": lambda x: x.flatten(2).mean(-1),
    "maximum": lambda x: x.amax((2, 3)),
    "rows turned": lambda x: x.transpose(2, 3).mean(2).amax(2),
    "channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "beside others": lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1),
    "halves": lambda x: torch.cat(list(reversed(x.mean((2, 3)).chunk(2, 1))), 1),
}


@pytest.mark.parametrize("how", MEANS)
def test_copied_dead_and_unread_channels_go_before_means_over_places(how):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.how = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 8, 3), MEANS[how]
            self.c, self.d = nn.LazyLinear(5), nn.Linear(5, 3)
            self(torch.zeros(1, 1, 6, 6))
            self.double()
            with torch.no_grad():
                self.b.weight[1], self.b.bias[1] = self.b.weight[0], self.b.bias[0]
                self.b.weight[4], self.b.bias[4] = 2.5 * self.b.weight[3], 2.5 * self.b.bias[3]
                self.b.bias[2] = -50
                self.c.weight[:, 7::8] = 0
                if how == "halves":  # channel 7 is input 3 of what reads it
                    self.c.weight[:, 3] = 0

        def forward(self, x):
            return self.d(torch.relu(self.c(self.how(torch.relu(self.b(torch.relu(self.a(x))))))))

    module = Net().eval()
    found = relukit.compress(
        relukit.load(module, input_shape=(1, 6, 6)), relukit.Box(-np.ones(36), np.ones(36)), timeout=0.2
    )
    kernels = [m.kernel.shape[0] for n in found.network for m in getattr(n.op, "maps", ()) if hasattr(m, "kernel")]
    assert kernels[:2] == [5, 4], kernels
    assert _on(module, found.network, 1.0) <= 1e-12 + found.error_bound <= 1e-9


def test_copies_go_in_one_part_of_a_concatenation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b, self.c, self.d = (
                nn.Conv2d(2, 5, 1),
                nn.Conv2d(2, 6, 3, padding=1),
                nn.Conv2d(11, 4, 3),
                nn.Linear(36, 2),
            )
            self.double()
            with torch.no_grad():
                self.a.weight[2], self.a.bias[2] = 3 * self.a.weight[4], 3 * self.a.bias[4]
                self.b.weight[0], self.b.bias[0] = self.b.weight[5], self.b.bias[5]

        def forward(self, x):
            x = torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x))], 1)
            return self.d(torch.relu(self.c(x)).flatten(1))

    module = Net().double()
    found = relukit.compress(
        relukit.load(module, input_shape=(2, 5, 5)), relukit.Box(-np.ones(50), np.ones(50)), timeout=0.2
    )
    kernels = sorted(
        m.kernel.shape[:2] for n in found.network for m in getattr(n.op, "maps", ()) if hasattr(m, "kernel")
    )
    assert kernels == [(4, 2), (4, 9), (5, 2)] and _on(module, found.network, 1.0) <= 1e-12 + found.error_bound <= 1e-9


def test_exact_copies_go_before_a_skip_connection():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.a, self.b, self.c = nn.Linear(4, 10), nn.Linear(10, 10), nn.Linear(10, 2)
            with torch.no_grad():
                self.a.weight[7], self.a.bias[7] = self.a.weight[1], self.a.bias[1]

        def forward(self, x):
            h = torch.relu(self.a(x))
            return self.c(torch.relu(h + self.b(h)))

    module = Net().double()
    found = relukit.compress(
        relukit.load(module, input_shape=(4,)), relukit.Box(-3 * np.ones(4), 3 * np.ones(4)), timeout=0.2
    )
    assert found.network.nodes[1].size == 9 and _on(module, found.network, 3.0) <= 1e-12 + found.error_bound <= 1e-9


def test_a_layer_of_constants_alone_is_folded_once():
    """Every channel of the second convolution is clipped on the whole domain: one has to stay, and its share must not count twice."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Hardtanh(), nn.Conv2d(5, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).double()  # fmt: skip
    with torch.no_grad():
        module[2].bias[:] = torch.tensor([90.0, -90.0, 90.0, 90.0, -90.0])
        module[0].bias[1] = -50.0
    found = relukit.compress(
        relukit.load(module, input_shape=(1, 6, 6)), relukit.Box(-np.ones(36), np.ones(36)), timeout=0.2
    )
    assert (
        found.parameters_after < found.parameters_before
        and _on(module, found.network, 1.0) <= 1e-12 + found.error_bound <= 1e-9
    )


@pytest.mark.parametrize("pooled", [False, True])
def test_matrices_do_not_read_places_that_are_off(pooled, tmp_path):
    """The upper half of the image is so dark that its places are off, in channels that are on below it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.MaxPool2d(2) if pooled else nn.Identity(), nn.Flatten(), nn.Linear(16 if pooled else 64, 30), nn.ReLU(), nn.Linear(30, 2))  # fmt: skip
    with torch.no_grad():
        module[0].bias[:] = -0.6
        module[0].weight[:, 0] = torch.tensor([1.0, 0.9, 0.8, -1.0])[:, None, None]  # the last is off everywhere
    lower, upper = np.zeros((4, 4)), np.full((4, 4), 0.5)
    upper[2:] = 1.0
    box = relukit.Box(lower.ravel(), upper.ravel())
    relukit.save(relukit.load(module, input_shape=(1, 4, 4)), tmp_path / "net.onnx")
    network = relukit.load(tmp_path / "net.onnx")
    found = relukit.compress(network, box, timeout=0.2, proof=True)
    assert found.parameters_before - found.parameters_after >= 30 * (10 if pooled else 40)
    relukit.save(found.network, tmp_path / "small.onnx")
    bound = found.save_proof(tmp_path / "p", tmp_path / "net.onnx", tmp_path / "small.onnx")
    x = box.sample(300, 0).astype(np.float32)
    with torch.no_grad():
        want = module.double()(torch.from_numpy(x).double().reshape(-1, 1, 4, 4)).numpy()
    assert np.abs(relukit.load(tmp_path / "small.onnx")(x) - want).max() <= bound + 1e-12 <= 1e-6


def test_inputs_that_do_not_move_cost_no_column():
    g = np.random.default_rng(0)
    arrays = {
        "W0": g.standard_normal((20, 30)),
        "b0": g.standard_normal(20),
        "W1": g.standard_normal((2, 20)),
        "b1": np.zeros(2),
    }
    lower, upper = -np.ones(30), np.ones(30)
    lower[5:25] = upper[5:25] = 0.25
    found = relukit.compress(relukit.load(arrays), relukit.Box(lower, upper), timeout=0.2)
    assert found.parameters_after <= 20 * 10 + 20 + 40
    x = g.uniform(lower, upper, (300, 30))
    want = np.maximum(x @ arrays["W0"].T + arrays["b0"], 0) @ arrays["W1"].T
    assert np.abs(found.network(x) - want).max() <= found.error_bound + 1e-13


DENSE, RESIDUAL = "digits, dense", "digits, residual"


@pytest.mark.parametrize(
    ("name", "single", "epochs"),
    [
        (DENSE, True, 4),
        (DENSE, False, 4),
        (RESIDUAL, True, 4),
        pytest.param("digits, convolutions, max pooling between, mean behind", True, 1, marks=pytest.mark.slow),
    ],
)
def test_what_is_planted_in_networks_trained_on_digits_goes_and_is_proven(name, single, epochs):
    from benchmarks._planted_trained import INDEPENDENT, measured

    row = measured(name, None, single, epochs)
    stay = INDEPENDENT * {DENSE: 2, RESIDUAL: 1}.get(name, 0)  # always-on units that are no combination of others
    assert row["units_after"] <= row["units_without"] + stay and row["checked"]
    assert row["largest_difference"] <= row["file_error_bound"] <= 1e-5


def test_residual_blocks_lose_planted_units():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c, self.d = nn.Linear(6, 12), nn.Linear(12, 20), nn.Linear(20, 12), nn.Linear(12, 3)
            with torch.no_grad():
                self.b.bias[:4] = -99  # four dead, one multiple, one constant, one that nothing reads
                self.b.weight[5], self.b.bias[5] = 2 * self.b.weight[6], 2 * self.b.bias[6]
                self.b.weight[8], self.b.bias[8] = 0, 0.3
                self.c.weight[:, 10] = 0

        def forward(self, x):
            h = torch.relu(self.a(x))
            return self.d(torch.relu(h + self.c(torch.relu(self.b(h)))))

    module = Block().double()
    network = relukit.load(module, input_shape=(6,))
    found = relukit.compress(network, relukit.Box(-2 * np.ones(6), 2 * np.ones(6)), timeout=0.2)
    assert 20 - found.network.nodes[network.activations[1]].size >= 7
    assert _on(module, found.network, 2.0) <= 1e-12


@pytest.mark.parametrize("sizes", [(3, 20, 2), (4, 20, 20, 3), (5, 15, 15, 15, 2)])
def test_constant_units_go_into_the_biases_that_read_them(sizes):
    g = np.random.default_rng(len(sizes))
    arrays = {}
    for k, (n, m) in enumerate(zip(sizes, sizes[1:])):
        arrays |= {f"W{k}": g.standard_normal((m, n)) / np.sqrt(n), f"b{k}": g.standard_normal(m)}
    for k in range(len(sizes) - 2):
        arrays[f"W{k}"][:3], arrays[f"b{k}"][:3] = 0, [0.5, 1.5, -1.0]
    network, wide = relukit.load(arrays), 5 * np.ones(sizes[0])
    found = relukit.compress(network, relukit.Box(-wide, wide), timeout=0.2)
    assert found.network.units <= network.units - 3 * (len(sizes) - 2)
    x = g.uniform(-5, 5, (500, sizes[0]))
    assert np.abs(found.network(x) - network(x)).max() <= found.error_bound + 1e-12 <= 1e-10


def test_multiples_stored_in_float32_are_merged_within_that_rounding_and_only_there():
    g = np.random.default_rng(0)
    W, b, H = g.standard_normal((20, 6)), g.standard_normal(20), g.standard_normal((3, 26))
    W, b = np.r_[W, 3.7 * W[:6]], np.r_[b, 3.7 * b[:6]]
    single = [v.astype(np.float32) for v in (W, b, H)]
    box = relukit.Box(-9 * np.ones(6), 9 * np.ones(6))
    network = relukit.load({"W0": single[0], "b0": single[1], "W1": single[2], "b1": np.zeros(3, np.float32)})
    found = relukit.compress(network, box)
    assert found.network.units == 20 and "float32" in found.reason
    x = box.sample(2000, 1)
    difference = np.abs(found.network(x) - network(x)).max()
    assert 0 < difference <= found.error_bound <= found.float32_bound
    as_double = relukit.load(
        {"W0": single[0].astype(float), "b0": single[1].astype(float), "W1": single[2].astype(float), "b1": np.zeros(3)}
    )
    assert relukit.compress(as_double, box).network.units > 20  # numbers of float64 differ there
    single[0][20:] *= np.float32(1.001)  # weights alone: no multiple with the bias any more
    apart = relukit.load({"W0": single[0], "b0": single[1], "W1": single[2], "b1": np.zeros(3, np.float32)})
    assert relukit.compress(apart, box).network.units == 26


def test_what_was_compressed_once_is_minimal():
    g = np.random.default_rng(1)
    arrays = {"W0": g.standard_normal((30, 5)), "b0": g.standard_normal(30), "W1": g.standard_normal((20, 30)), "b1": g.standard_normal(20), "W2": g.standard_normal((2, 20)), "b2": np.zeros(2)}  # fmt: skip
    box = relukit.Box(-0.5 * np.ones(5), 0.5 * np.ones(5))
    once = relukit.compress(relukit.load(arrays), box)
    twice = relukit.compress(once.network, box)
    assert once.parameters_after < once.parameters_before and twice.form == "unchanged" and twice.dead == 0


@pytest.mark.parametrize("within", [1e-12, SINGLE])
def test_multiples_are_those_that_comparing_all_pairs_finds(within):
    g = np.random.default_rng(2)
    rows = g.standard_normal((60, 7))
    for i in range(30, 60):
        rows[i] = (
            g.choice([1.0, 0.5, 3.3, 17.0, -2.0])
            * rows[g.integers(30)]
            * (1 + g.choice([0.0, 0.3, 30.0]) * within * g.uniform(-1, 1, 7))
        )
    rows[5] = 0
    found = {(i, j) for i, j, _ in multiples(rows, within)}
    first: list[int] = []
    for i in range(60):
        fits = []
        for j in first:
            factors = rows[i] / np.where(rows[j] == 0, 1, rows[j])
            if factors[0] > 0 and np.ptp(factors) <= within * factors.max():
                fits.append(j)
        if fits:
            assert (i, fits[0]) in found, (i, fits)
        elif (
            pair := next(((a, b) for a, b in found if a == i), None)
        ) is not None:  # the slack of a factor that was fitted
            assert np.ptp(rows[i] / rows[pair[1]]) <= 4 * within * np.abs(rows[i] / rows[pair[1]]).max()
        elif rows[i].any():
            first.append(i)


def test_a_large_network_is_answered_within_its_time_and_loses_what_was_planted(monkeypatch):
    """The way of large networks, on a small one: the limit from which on it is taken is set to 0."""
    from relukit.compression import _large

    monkeypatch.setattr(_large, "_MUCH", 0.0)
    for plant, left in ((_dead, 4), (_copied, 4), (_unread, 4), (lambda conv, reader: None, 6)):
        module = _convolutions(nn.MaxPool2d(2), nn.ReLU, plant)
        network = relukit.load(module, input_shape=(1, 6, 6))
        found = relukit.compress(network, relukit.Box(-np.ones(36), np.ones(36)), timeout=1.0)
        assert found.network.nodes[1].shape[0] == left and found.proven
        assert _on(module, found.network, 1.0) <= 1e-12
    assert (
        found.form == "unchanged" and found.open_units + found.stable_units + found.undecided_by_samples == found.units
    )


def test_multiples_of_float32_stay_where_their_rounding_could_grow():
    """Five layers multiply what float32 lost: exact doubles are merged in each, multiples by 2.5 are not."""
    g = np.random.default_rng(5)
    widths = [4, *[24] * 5, 3]
    arrays = {}
    for k, (a, b) in enumerate(zip(widths[:-1], widths[1:])):
        W, bias = g.standard_normal((b, a)) * np.sqrt(2 / a), g.standard_normal(b) / 10
        if k < 5:
            W[5], bias[5], W[7], bias[7] = 2.5 * W[2], 2.5 * bias[2], 2 * W[3], 2 * bias[3]
        arrays |= {f"W{k}": W.astype(np.float32), f"b{k}": bias.astype(np.float32)}
    network = relukit.load(arrays)
    found = relukit.compress(network, relukit.Box(-np.ones(4), np.ones(4)))
    x = g.uniform(-1, 1, (500, 4))
    assert found.merged == 5 and found.error_bound < 1e-10
    assert np.abs(found.network(x) - network(x)).max() <= found.error_bound
