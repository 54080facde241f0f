"""`verify` beyond piecewise-linear networks: smooth activations, and a last softmax or sigmoid that conditions reach through."""

import json
import math
import time

import numpy as np
import pytest

import relukit
from relukit import Box, UnsupportedOperation
from relukit.activations import get
from relukit.bounds import balanced
from relukit.network import curves, from_layers, products
from relukit.network.rewrite import Builder
from relukit.search import settled
from relukit.verification import instances
from relukit.verification._heads import before_head
from relukit.verification.vnnlib import Case, Property

FORMULAS = {
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "tanh": np.tanh,
    "gelu": lambda v: 0.5 * v * (1 + np.vectorize(math.erf)(v / math.sqrt(2))),
    "softplus": lambda v: np.log1p(np.exp(v)),
    "elu": lambda v: np.where(v > 0, v, np.expm1(np.minimum(v, 0))),
}


def layers(seed, widths=(2, 8, 8, 2)):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(b, a)) * 1.5 / math.sqrt(a) for a, b in zip(widths, widths[1:])]
    return weights, [rng.normal(size=b) * 0.3 for b in widths[1:]]


def on_grid(weights, biases, act, side=201):
    """Outputs on a grid of [-1, 1]^2, by the formula."""
    line = np.linspace(-1, 1, side)
    h = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for k, (W, b) in enumerate(zip(weights, biases)):
        h = h @ W.T + b
        h = act(h) if k < len(weights) - 1 else h
    return h


def asked(C, d, outputs=2, box=None):
    box = Box(-np.ones(2), np.ones(2)) if box is None else box
    C, d = np.atleast_2d(np.asarray(C, float)), np.atleast_1d(np.asarray(d, float))
    case = Case(box, np.zeros((0, 2)), np.zeros(0), C, np.zeros((len(C), 2)), d)
    return Property((case,), 2, outputs)


@pytest.mark.parametrize("kind", FORMULAS)
def test_cases_over_one_box_are_settled_together_as_a_grid_says(kind):
    """Half of the cases lie above all that a grid meets, half below the largest: none of these may be settled."""
    weights, biases = layers(5, (2, 8, 8, 6))
    network, out = from_layers(weights, biases, [get(kind)] * 2), on_grid(weights, biases, FORMULAS[kind])
    box, rows = Box(-np.ones(2), np.ones(2)), []
    for k in range(6):  # some output at least so large: -y[k] <= -level
        spread = float(np.ptp(out[:, k]))
        for level in (float(out[:, k].max()) + 20 * spread, float(out[:, k].max()) - 1e-3 * spread):
            rows.append((-np.eye(6)[k : k + 1], np.array([-level])))
    done = settled(network, [box] * len(rows), rows, 30)
    assert done[::2].all() and not done[1::2].any()
    cases = tuple(Case(box, np.zeros((0, 2)), np.zeros(0), A, np.zeros((1, 2)), b) for A, b in rows)
    assert relukit.verify(network, Property(cases[::2], 2, 6), timeout=30).status == "unsat"
    assert relukit.verify(network, Property(cases, 2, 6), timeout=30).status == "sat"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", FORMULAS)
def test_smooth_networks_are_proven_and_refuted_as_a_grid_says(kind, seed):
    weights, biases = layers(seed)
    network = from_layers(weights, biases, [get(kind)] * 2)
    out = on_grid(weights, biases, FORMULAS[kind])
    margin = out[:, 0] - out[:, 1]
    top, room = float(margin.max()), 0.02 * float(np.ptp(margin))
    assert relukit.verify(network, asked([[-1, 1]], [-(top + room)]), timeout=30).status == "unsat"
    found = relukit.verify(network, asked([[-1, 1]], [-(top - room)]), timeout=30)
    assert found.status == "sat" and found.outputs[0] - found.outputs[1] >= top - room


def test_a_smooth_network_that_time_does_not_suffice_for_stays_open():
    weights, biases = layers(3, (6, 60, 60, 2))
    network = from_layers(weights, biases, [get("tanh")] * 2)
    box, none = Box(-np.ones(6), np.ones(6)), np.zeros((0, 6))
    ask = lambda limit: Property(
        (Case(box, none, np.zeros(0), np.array([[-1.0, 1.0]]), np.zeros((1, 6)), np.array([-limit])),), 6, 2
    )
    top, verdict = 0.0, relukit.verify(network, ask(0.0))
    while verdict.status == "sat":  # just above what attacks reach
        top = float(verdict.outputs[0] - verdict.outputs[1])
        began = time.perf_counter()
        verdict = relukit.verify(network, ask(top + 0.02), timeout=0.5)
    assert verdict.status == "unknown" and time.perf_counter() - began < 3
    with pytest.raises(UnsupportedOperation):
        relukit.verify(network, ask(0.0), execution="float32")
    proven = relukit.verify(network, ask(9e3), certificate=True)
    assert proven.status == "unsat" and proven.certificate is None


HEADS = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True),
    "log_softmax": lambda z: z - np.log(np.exp(z).sum(axis=-1, keepdims=True)),
}
ROWS = {
    "sigmoid": [([1, 0, 0], 0.3), ([0, -2, 0], -1.4), ([0, 0, 1], 1.5), ([0, 0, -1], 0.0), ([0, 1, 0], -0.1), ([3, 0, 0], 1e-9)],
    "softmax": [([1, -1, 0], 0.0), ([-3, 0, 2], 0.0), ([0, 0.1, -0.7], 0.0)],
    "log_softmax": [([1, -1, 0], 0.4), ([2, -1, -1], -0.3)],
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_rows_before_a_head_say_the_same(head):
    z = np.random.default_rng(0).normal(size=(20_000, 3)) * 3
    y = HEADS[head](z)
    for row, limit in ROWS[head]:
        found = before_head(head, np.array([row], float), np.array([limit]))
        assert found is not None
        (A,), (b,) = found
        after, before = y @ np.array(row, float) - limit, z @ A - b
        clear = np.abs(after) > 1e-12
        assert np.array_equal(after[clear] <= 0, before[clear] <= 0)


def test_rows_that_no_head_passes_on_as_linear():
    assert before_head("softmax", np.array([[1.0, 0, 0]]), np.array([0.5])) is None
    assert before_head("softmax", np.array([[1.0, -1, 0]]), np.array([0.1])) is None
    assert before_head("log_softmax", np.array([[1.0, 0, 0]]), np.array([-1.0])) is None
    assert before_head("sigmoid", np.array([[1.0, -1, 0]]), np.array([0.0])) is None


@pytest.mark.parametrize("head", ["sigmoid", "softmax", "log_softmax"])
def test_conditions_reach_through_a_last_head(head):
    weights, biases = layers(5)
    network = from_layers(weights, biases, [get("relu")] * 2).with_(head=head)
    y = HEADS[head](on_grid(weights, biases, lambda v: np.maximum(v, 0)))
    if head == "sigmoid":
        top = float(y[:, 0].max())
        possible, never = asked([-1, 0], -(top - 0.002)), asked([-1, 0], -(top + 0.002))
    elif head == "softmax":  # a y_0 >= y_1 for the smallest such a, and not for a smaller one
        least = float((y[:, 1] / y[:, 0]).min())
        possible, never = asked([-1.05 * least, 1], 0.0), asked([-0.95 * least, 1], 0.0)
    else:
        top = float((y[:, 0] - y[:, 1]).max())
        possible, never = asked([-1, 1], -(top - 0.02)), asked([-1, 1], -(top + 0.02))
    assert relukit.verify(network, never, timeout=20).status == "unsat"
    found = relukit.verify(network, possible, timeout=20)
    assert found.status == "sat"
    C, _, d = possible.cases[0].rows
    assert np.all(C @ found.outputs <= d)  # y is what the head returns


@pytest.mark.parametrize(
    ("head", "row"), [("sigmoid", [-1, 1]), ("softmax", [-1, 0]), ("softmax", [0.5, -1]), ("log_softmax", [1, 0])]
)
def test_a_head_is_put_back_where_conditions_are_not_linear_before_it(head, row):
    weights, biases = layers(6)
    network = from_layers(weights, biases, [get("relu")] * 2).with_(head=head)
    y = HEADS[head](on_grid(weights, biases, lambda v: np.maximum(v, 0)))
    least = float((y @ np.array(row, float)).min())
    assert relukit.verify(network, asked(row, least - 0.02), timeout=20).status == "unsat"
    found = relukit.verify(network, asked(row, least + 0.02), timeout=20)
    assert found.status == "sat" and found.outputs @ np.array(row, float) <= least + 0.02


def products_of(seed):
    """Networks that multiply, divide, compare and wave, with their values in plain NumPy: `(builder steps, formula)`."""
    rng = np.random.default_rng(seed)
    W, V, c = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.normal(size=6)

    def gated(b):
        return b.reduce(
            products.multiply(b, b.activation(b.matmul(0, W.T), get("relu")), b.matmul(0, V.T, c)), [0], True, "sum"
        )

    def quotient(b):
        below = b.scale(b.activation(b.matmul(0, V[:1].T), curves.square()), 1.0, 0.5)
        return products.divide(b, b.matmul(0, W[:1].T), below)

    def attention(b):
        p = products.softmax(b, b.matmul(0, W[:3].T), 0)
        return products.matmul(b, b.reshape(p, (1, 3)), b.reshape(b.matmul(0, V[:3].T, c[:3]), (3, 1)))

    def sign(b):
        return b.matmul(b.activation(b.matmul(0, W.T, c), curves.sign()), V[:, :1])

    def wave(b):
        return b.reduce(b.activation(b.matmul(0, 2 * W[:2].T), curves.Wave()), [0], True, "sum")

    def soft(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return {
        "gated": (gated, lambda x: (np.maximum(x @ W.T, 0) * (x @ V.T + c)).sum(1)),
        "quotient": (quotient, lambda x: (x @ W[0]) / ((x @ V[0]) ** 2 + 0.5)),
        "attention": (attention, lambda x: (soft(x @ W[:3].T) * (x @ V[:3].T + c[:3])).sum(1)),
        "sign": (sign, lambda x: np.sign(x @ W.T + c) @ V[:, 0]),
        "wave": (wave, lambda x: np.sin(2 * x @ W[:2].T).sum(1)),
    }


@pytest.mark.parametrize("kind", ["gated", "quotient", "attention", "sign", "wave"])
def test_networks_with_products_and_curves_are_proven_and_refuted_as_a_grid_says(kind):
    make, formula = products_of(3)[kind]
    builder = Builder((2,))
    make(builder)
    network = builder.build(dtype=np.dtype(np.float64))
    line = np.linspace(-1, 1, 401)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    values = formula(grid)
    np.testing.assert_allclose(network(grid)[:, 0], values, atol=1e-9)
    top, room = float(values.max()), 0.02 * float(np.ptp(values))
    assert relukit.verify(network, asked([[-1]], [-(top + room)], 1), timeout=60).status == "unsat"
    found = relukit.verify(network, asked([[-1]], [-(top - room)], 1), timeout=60)
    assert found.status == "sat" and found.outputs[0] >= top - room


def test_factors_that_do_not_move_leave_a_piecewise_linear_network():
    """Hidden values times a mask that the property fixes, over the number of entries that it keeps: the form of cardinality estimators."""
    rng = np.random.default_rng(0)
    W, v = rng.normal(size=(3, 4)), rng.normal(size=4)
    builder = Builder((9,))  # three rows of two features, then three entries of the mask
    rows = builder.gather(0, np.arange(6), (3, 2))
    hidden = builder.activation(builder.matmul(rows, W[:2]), get("relu"))
    mask = builder.gather(0, np.arange(6, 9), (3, 1))
    total = builder.reduce(products.multiply(builder, hidden, mask), [0], False, "sum")
    mean = products.divide(builder, total, builder.reduce(mask, [0, 1], False, "sum"))
    builder.matmul(builder.reshape(mean, (1, 4)), v[:, None])
    network = builder.build(dtype=np.dtype(np.float64))
    low, high = np.r_[-np.ones(6), 1.0, 0.0, 1.0], np.r_[np.ones(6), 1.0, 0.0, 1.0]
    assert not network.is_piecewise_linear and balanced(network, Box(low, high)).is_piecewise_linear
    x = Box(low, high).sample(20_000, 0)
    kept = np.maximum(x[:, :6].reshape(-1, 3, 2) @ W[:2], 0)[:, [0, 2]].mean(axis=1) @ v
    np.testing.assert_allclose(network(x)[:, 0], kept, atol=1e-9)
    case = lambda d: Property((Case(Box(low, high), np.zeros((0, 9)), np.zeros(0), np.array([[-1.0]]), np.zeros((1, 9)), np.array([-d])),), 9, 1)  # fmt: skip
    top = relukit.optimize(balanced(network, Box(low, high)), "y[0]", box=Box(low, high)).value
    assert top >= kept.max()
    assert relukit.verify(network, case(top + 1e-4), timeout=30).status == "unsat"
    assert relukit.verify(network, case(top - 1e-4), timeout=30).status == "sat"


def test_a_defect_in_one_instance_leaves_the_others(tmp_path, monkeypatch):
    listed = tmp_path / "list.csv"
    network = from_layers([np.eye(2)], [np.zeros(2)], [])
    relukit.save(network, tmp_path / "net.onnx")
    declared = "".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1"))
    text = declared + "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2)) + "(assert (>= Y_0 2))"
    for name in ("a", "b"):
        (tmp_path / f"{name}.vnnlib").write_text(text)
    listed.write_text("net.onnx,a.vnnlib,5\nnet.onnx,b.vnnlib,5\n")
    real = instances.verify

    def broken(network, question, **options):
        if question.name == "a.vnnlib":
            raise ZeroDivisionError("inner")
        return real(network, question, **options)

    monkeypatch.setattr(instances, "verify", broken)
    assert instances.run_instances(listed, tmp_path / "out") == {"error": 1, "unsat": 1}
    first = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert "ZeroDivisionError: inner" in first["reason"]
