"""Never a wrong answer: thousands of small networks against an exact search, and networks made to fool floating point.

The oracle cuts the box of two inputs into closed polygons along every gate's line, in fractions, and clips each by the
rows: a counterexample exists exactly where something is left.
"""

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest

import relukit
from relukit import Box
from relukit.bounds import linear
from relukit.network import from_layers
from relukit.verification import checker
from relukit.verification.vnnlib import Case, Property
from tests.strategies import RELU
from tests.verification.test_certificates import onnx_file


def clip(polygon, a, b, c):
    """The part of a closed polygon with a x + b y + c <= 0; corners are fractions."""
    out = []
    for k, p in enumerate(polygon):
        q = polygon[(k + 1) % len(polygon)]
        f, g = a * p[0] + b * p[1] + c, a * q[0] + b * q[1] + c
        if f <= 0:
            out.append(p)
        if (f < 0 < g) or (g < 0 < f):
            t = f / (f - g)
            out.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return out


def exact(array):
    return [[Fraction(float(v)) for v in row] for row in np.atleast_2d(array)]


def reachable(weights, biases, lower, upper, C, d, shift=Fraction(0)):
    """Whether C y(x) <= d + shift for some x in the box, exactly."""
    l, u = exact(lower)[0], exact(upper)[0]
    corners = [(l[0], l[1]), (u[0], l[1]), (u[0], u[1]), (l[0], u[1])]
    layers = [(exact(W), exact(b)[0]) for W, b in zip(weights, biases)]
    rows, limits = exact(C), exact(d)[0]

    def visit(polygon, k, forms):
        """Layer k onwards on one closed cell; `forms` are the values before it as affine functions (a, b, c)."""
        W, b = layers[k]
        z = [
            tuple(sum(w * f[i] for w, f in zip(row, forms)) + (shift_ if i == 2 else 0) for i in range(3))
            for row, shift_ in zip(W, b)
        ]
        if k == len(layers) - 1:
            for row, limit in zip(rows, limits):
                form = [sum(w * f[i] for w, f in zip(row, z)) for i in range(3)]
                polygon = clip(polygon, form[0], form[1], form[2] - limit - shift)
                if not polygon:
                    return False
            return True

        def gates(polygon, j, done):
            if not polygon:
                return False
            if j == len(z):
                return visit(polygon, k + 1, done)
            a, b_, c = z[j]
            on, off = clip(polygon, -a, -b_, -c), clip(polygon, a, b_, c)
            return gates(on, j + 1, [*done, z[j]]) or (len(off) > 0 and gates(off, j + 1, [*done, (Fraction(0),) * 3]))

        return gates(polygon, 0, [])

    one, zero = Fraction(1), Fraction(0)
    return visit(corners, 0, [(one, zero, zero), (zero, one, zero)])


def asked(box, C, d):
    n, m = box.size, np.shape(C)[1]
    case = Case(box, np.zeros((0, n)), np.zeros(0), np.asarray(C, float), np.zeros((len(d), n)), np.asarray(d, float))
    return Property((case,), n, m, "fuzz")


def dyadic(g, shape, scale=8):
    return g.integers(-2 * scale, 2 * scale + 1, shape) / scale


def random_question(g):
    sizes = [2, *g.integers(1, 5, g.integers(1, 4)), int(g.integers(1, 4))]
    weights = [dyadic(g, (b, a)) for a, b in zip(sizes, sizes[1:])]
    biases = [dyadic(g, b) for b in sizes[1:]]
    if g.random() < 0.15:  # dead or repeated units, zero rows
        weights[0][0] = 0 if g.random() < 0.5 else weights[0][-1]
    lower = dyadic(g, 2)
    box = Box(lower, lower + np.abs(dyadic(g, 2)) * (g.random(2) > 0.1))
    C = dyadic(g, (int(g.integers(1, 4)), sizes[-1]), 2)
    return weights, biases, box, C, dyadic(g, len(C)) * 2 - 1


def judge(weights, biases, box, C, d, verdict, path, counts):
    """Compare one verdict with the exact answer and replay a witness in onnxruntime."""
    small = Fraction(1, 10**5)
    counts[verdict.status] = counts.get(verdict.status, 0) + 1
    if verdict.status == "unsat":
        assert not reachable(weights, biases, box.lower, box.upper, C, d), (weights, biases, box, C, d)
    elif verdict.status == "sat":
        x = verdict.witness
        assert bool(box.contains(x)) and (x.astype(np.float32) == x).all()
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {"x": x[None].astype(np.float32)})
        assert (C @ y[0].astype(float) <= d + 1e-12 * (1 + np.abs(d))).all()
        assert reachable(weights, biases, box.lower, box.upper, C, d, small), (weights, biases, box, C, d)
    else:  # only where the boundary is touched within rounding
        assert reachable(weights, biases, box.lower, box.upper, C, d, small) and not reachable(
            weights, biases, box.lower, box.upper, C, d, -small
        ), (weights, biases, box, C, d, verdict)


def fuzz(count, seed, tmp_path, certificates=0.2):
    g, counts, checked = np.random.default_rng(seed), {}, 0
    for k in range(count):
        weights, biases, box, C, d = random_question(g)
        path = onnx_file(tmp_path / "n.onnx", weights, biases)
        wanted = bool(g.random() < certificates)
        verdict = relukit.verify(path, asked(box, C, d), timeout=20, seed=k, certificate=wanted)
        judge(weights, biases, box, C, d, verdict, path, counts)
        if verdict.status == "unsat" and verdict.certificate is not None:
            verdict.certificate.save(tmp_path / "c.npz")
            checker.check_claims(tmp_path / "c.npz", path, exact=k % 2 == 0)
            checked += 1
    return counts, checked


def test_small_networks_against_an_exact_search(tmp_path):
    counts, checked = fuzz(60, 0, tmp_path)
    assert counts["sat"] > 15 and counts["unsat"] > 15 and checked > 3


@pytest.mark.slow
def test_thousands_of_small_networks(tmp_path):
    counts, checked = fuzz(3000, 1, tmp_path)
    assert counts["sat"] > 700 and counts["unsat"] > 700 and checked > 100


def wild(g):
    """Weights over twenty orders of magnitude, sums that cancel."""
    sizes = [2, *g.integers(1, 5, g.integers(1, 3)), 1]
    scale = lambda shape: (
        g.choice([-1.0, 1.0], shape) * 2.0 ** g.integers(-33, 34, shape) * (1 + g.integers(0, 4, shape) / 4)
    )
    weights = [scale((b, a)).astype(np.float32) for a, b in zip(sizes, sizes[1:])]
    biases = [scale(b).astype(np.float32) for b in sizes[1:]]
    if g.random() < 0.5 and len(biases[0]) > 1:  # a huge number goes in and out again
        weights[0][1], biases[0][1] = weights[0][0], np.nextafter(biases[0][0], np.float32(np.inf))
        weights[1][:, 1] = -weights[1][:, 0]
    return weights, biases


def test_networks_made_to_fool_floating_point(tmp_path):
    g, counts = np.random.default_rng(5), {}
    for _ in range(60):
        weights, biases = wild(g)
        box = Box([-1.0, -1.0], [1.0, 1.0])
        net = from_layers(weights, biases, [RELU] * (len(weights) - 1), np.float32)
        values = net(box.sample(200))[:, 0]
        level = float(
            np.float32(values.max() + g.choice([0.0, 1e-7, -1e-7, 1e-2, -1e-2]) * max(np.abs(values).max(), 1e-30))
        )
        C, d = np.array([[-1.0]]), np.array([-level])
        verdict = relukit.verify(onnx_file(tmp_path / "n.onnx", weights, biases), asked(box, C, d), timeout=5)
        counts[verdict.status] = counts.get(verdict.status, 0) + 1
        if verdict.status == "unsat":
            assert not reachable(weights, biases, box.lower, box.upper, C, d)
        elif verdict.status == "sat":
            assert -net(verdict.witness.astype(np.float32), np.float32)[0] <= d[0] + 1e-5 * abs(d[0])
    assert counts["unsat"] > 10


@pytest.mark.parametrize("ask", ["verify", "flip"])
def test_weights_that_overflow_warn_of_nothing(ask, tmp_path):
    """Weights near the largest float32, as a damaged file has them: an answer, and no warning (which would be an error here)."""
    g, box = np.random.default_rng(0), Box([-1.0, -1.0], [1.0, 1.0])
    weights = [3e38 * g.uniform(-1, 1, shape) for shape in ((6, 2), (6, 6), (3, 6))]
    path = onnx_file(tmp_path / "n.onnx", weights, [np.zeros(6), np.zeros(6), np.zeros(3)])
    if ask == "flip":
        found = relukit.flip(relukit.load(path), np.array([0.3, 0.1]), within=box, timeout=3)
        assert found.witness is None or found.replayed
        return
    for row in ([1.0, 0.0, 0.0], [-1.0, 1.0, 0.0]):
        verdict = relukit.verify(path, asked(box, [row], [-1.0]), timeout=3)
        assert verdict.status != "sat" or np.isfinite(verdict.outputs).all()


@pytest.mark.parametrize("power", [3, 8, 13, 20])
def test_a_hidden_spike_is_never_denied(power, tmp_path):
    """max |y| is 0 except on a spike of width 2^-power around 1/3, where y reaches 1: no proof that y stays below 1/2."""
    k, at = 2.0**power, 1 / 3
    weights = [np.array([[k, 0.0]] * 3), np.array([[1.0, -2.0, 1.0]])]
    biases = [np.array([-k * at + 1, -k * at, -k * at - 1]), np.zeros(1)]
    path = onnx_file(tmp_path / "n.onnx", weights, biases)
    verdict = relukit.verify(path, asked(Box([0.0, 0.0], [1.0, 1.0]), [[-1.0]], [-0.5]), timeout=10)
    assert verdict.status != "unsat"
    if power <= 13:
        assert verdict.status == "sat"


def test_cancellation_that_float32_does_not_see(tmp_path):
    """y = relu(x + 2^30) - relu(2^30) is x; float32 rounds it to multiples of 64. Real arithmetic counts for proofs, the file for witnesses."""
    weights, biases = (
        [np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, -1.0]])],
        [np.array([2.0**30, 2.0**30]), np.zeros(1)],
    )
    path = onnx_file(tmp_path / "n.onnx", weights, biases)
    box = Box([0.0, 0.0], [10.0, 1.0])
    assert relukit.verify(path, asked(box, [[-1.0]], [-10.5]), timeout=5).status == "unsat"
    below = relukit.verify(path, asked(box, [[-1.0]], [-9.0]), timeout=5)
    assert below.status != "unsat"  # x = 9.5 is a counterexample in real arithmetic
    assert below.status == "unknown"  # which the file's float32 does not show
    executed = relukit.verify(path, asked(box, [[-1.0]], [-10.5]), timeout=5, execution="float32")
    assert executed.status != "unsat"  # float32 may round to 64 in other orders of summation


def test_float_execution_is_bounded(tmp_path):
    """What a float32 run differs by stays within the bound, and proofs about it leave that room."""
    from relukit.verification._execution import execution_error

    g = np.random.default_rng(0)
    for _ in range(5):
        weights = [g.standard_normal(s).astype(np.float32) for s in ((20, 3), (20, 20), (2, 20))]
        biases = [g.standard_normal(len(W)).astype(np.float32) for W in weights]
        path = onnx_file(tmp_path / "n.onnx", weights, biases)
        net, box = relukit.load(path), Box([-1.0] * 3, [1.0] * 3)
        error = execution_error(net, box, "float32")
        x = box.sample(500).astype(np.float32).astype(float)
        assert (np.abs(net.replay(x) - net(x)) <= error).all()
        assert (error < 1e-2).all()
        top = linear(net, box).output[1][0]
        C, d = np.array([[-1.0, 0.0]]), np.array([-(top + 0.05)])
        verdict = relukit.verify(path, asked(box, C, d), timeout=10, execution="float32")
        assert verdict.status == "unsat" and "float32" in verdict.note
        closer = relukit.verify(path, asked(box, C, np.array([-top - 0.5 * error[0]])), timeout=2, execution="float32")
        assert closer.status != "sat"
    memory = from_layers(weights, biases, [RELU, RELU], np.float32)
    with pytest.raises(relukit.UnsupportedOperation, match="needs the file"):
        relukit.verify(memory, asked(box, C, d), execution="float32")
