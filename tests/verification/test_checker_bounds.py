"""The checker's bounds of boxes together: valid against exact values, as tight as rows substituted box by box, rounding allowed for."""

from fractions import Fraction

import numpy as np
import pytest

from relukit.verification import checker


def random_layers(g, sizes, spread=0.0):
    """Layers whose weights differ by powers of ten up to `spread`."""
    scale = lambda *size: 10.0 ** (spread * (g.random(size) - 0.5)) / np.sqrt(size[-1])
    return [
        (g.normal(size=(b, a)) * scale(b, a), g.normal(size=b) * 0.3, np.full(b, k < len(sizes) - 2))
        for k, (a, b) in enumerate(zip(sizes, sizes[1:]))
    ]


def together(net, lo, hi, bounds, phased=()):
    """Bounds of all layers over boxes, made by the checker for all of them together, and planes below its outputs."""
    boxes, last, n = len(lo), len(net.layers) - 1, net.inputs
    size = net.sizes([(L.min(axis=0), H.max(axis=0)) for L, H in bounds], lo.min(axis=0), hi.max(axis=0))
    m = net.outputs
    top = tuple(net.number(v) for v in (np.eye(m), np.zeros((m, n)), np.zeros(m)))
    reach = np.maximum(abs(lo), abs(hi)).max(axis=0)
    folded = net.fold(last, top, bounds[:last], reach, size, {s[1:3] for s in phased})
    lines = net.refresh(
        folded, bounds[:last], lo, hi, net.number(np.zeros((boxes, n + 1))), np.ones(boxes, bool), phased
    )
    S = np.array([folded[1][last]] * boxes)
    return folded, net.substitute(folded, last, S, lines)


def plain_bounds(layers, lo, hi, start):
    """Bounds of the gates over one box, those undecided at the start by backward substitution, row by row, without any care for rounding."""
    found = []
    for k in range(len(layers) - 1):
        sides = []
        for sign in (1, -1):
            side = []
            for row, b in zip(sign * layers[k][0], sign * layers[k][1]):
                c, d = row, b
                for i in range(k - 1, -1, -1):
                    L, H = found[i]
                    new = np.zeros(len(c))
                    for j, v in enumerate(c):
                        if L[j] >= 0:
                            new[j] = v
                        elif H[j] > 0 and v < 0:
                            new[j] = v * H[j] / (H[j] - L[j])
                            d = d - new[j] * L[j]
                        elif H[j] > 0 and H[j] > -L[j]:
                            new[j] = v
                    c, d = new @ layers[i][0], d + new @ layers[i][1]
                side.append(d + np.where(c > 0, c * lo, c * hi).sum())
            sides.append(sign * np.array(side))
        (L, H) = start[k]
        wide = (L < 0) & (H > 0)
        found.append((np.where(wide, np.maximum(sides[0], L), L), np.where(wide, np.minimum(sides[1], H), H)))
    return found


def interval(net, lo, hi):
    each = [net.interval(a, b) for a, b in zip(lo, hi)]
    return [tuple(np.array([e[k][s] for e in each]) for s in (0, 1)) for k in range(len(net.layers))]


@pytest.mark.parametrize("width", [0.02, 0.15, 0.6, 2.0])
def test_boxes_together_are_bounded_as_each_alone(width):
    """Small boxes leave most units decided, which are multiplied out; of large ones all are kept."""
    g, kept, tight, ended = np.random.default_rng(int(100 * width)), 0, 0, 0
    for _ in range(6):
        layers = random_layers(g, (3, 9, 8, 7, 2))
        net = checker.Bounder(layers)
        middle = g.normal(size=3)
        lo = middle + width * g.normal(size=(5, 3))
        hi = lo + width * g.random((5, 3))
        bounds = interval(net, lo, hi)
        start = [(L.copy(), H.copy()) for L, H in bounds]
        folded, (coef, const) = together(net, lo, hi, bounds)
        kept += sum(map(len, folded[0]))
        ended += (
            folded[1][3].shape[1] == len(folded[0][2]) + 2
        )  # rows end at the layer before: nothing was multiplied out
        for p in range(5):
            x = lo[p] + (hi[p] - lo[p]) * g.random((200, 3))
            h = x
            for (W, b, _), (L, H) in zip(layers, bounds):
                z = h @ W.T + b
                assert np.all(z >= L[p] - 1e-12) and np.all(z <= H[p] + 1e-12)
                h = np.maximum(z, 0)
            assert np.all(x @ coef[p].T + const[p] <= z + 1e-12)
            mine = [(L[p], H[p]) for L, H in start]
            for (L, H), (l, h), (low, high) in zip(bounds, plain_bounds(layers, lo[p], hi[p], mine), mine):
                asked = (low < 0) & (high > 0)  # others may be bounded along with them
                np.testing.assert_allclose(L[p][asked], l[asked], atol=1e-11)
                np.testing.assert_allclose(H[p][asked], h[asked], atol=1e-11)
                assert np.all(L[p] >= l - 1e-11) and np.all(H[p] <= h + 1e-11)
                tight += np.sum((l > low + 1e-3) | (h < high - 1e-3))
    assert tight > 10 and (kept < 20 and not ended if width < 0.1 else kept > 20)
    assert width < 0.5 or ended


def cancelling(g):
    """Pairs of large equal units, one against the other: what is left of them are their roundings."""
    W, b = g.normal(size=(4, 3)) * 1e8, np.full(4, 1e10)
    V = g.normal(size=(5, 4))
    small, on = g.normal(size=(8, 3)), np.full(8, True)
    return [
        (np.repeat(W, 2, axis=0) + small, np.repeat(b, 2), on),
        (np.repeat(V, 2, axis=1) * np.tile([1, -1], 4), np.full(5, 50.0), on[:5]),
        (g.normal(size=(2, 5)), g.normal(size=2), ~on[:2]),
    ]


@pytest.mark.parametrize("kind", ["spread", "cancelling"])
def test_rounding_of_what_is_multiplied_out_is_allowed_for(kind):
    """Where every unit is decided a plane is the network itself: never above its exact value, and hardly below."""
    g, off = np.random.default_rng(3), 0
    for _ in range(40):
        layers = random_layers(g, (4, 8, 8, 8, 3), spread=8.0) if kind == "spread" else cancelling(g)
        net = checker.Bounder(layers)
        x = np.repeat(g.normal(size=(1, net.inputs)), 3, axis=0)
        _, (coef, const) = together(net, x, x, interval(net, x, x))
        exact, large = [Fraction(float(v)) for v in x[0]], 1.0
        for W, b, relu in layers:
            z = [sum((Fraction(float(w)) * h for w, h in zip(row, exact)), Fraction(float(c))) for row, c in zip(W, b)]
            exact = [max(v, Fraction(0)) if r else v for v, r in zip(z, relu)]
            large *= 1 + np.abs(W).sum(axis=1).max() + np.abs(b).max()
        for row, c, value in zip(coef[0], const[0], exact):
            plane = sum((Fraction(float(v)) * Fraction(float(a)) for v, a in zip(row, x[0])), Fraction(float(c)))
            assert plane <= value
            assert float(value - plane) < 1e-11 * large
            off += plane < value
    assert off > 60


def test_fractions_stay_fractions():
    """What is bounded exactly is not rounded on the way, and what is handed down is rounded outward."""
    g = np.random.default_rng(8)
    layers = random_layers(g, (2, 5, 4, 2))
    net = checker.Bounder(layers, exact=True)
    lo, hi = net.number([[-0.3, 0.1], [0.2, -0.7]]), net.number([[0.4, 0.6], [0.3, 0.1]])
    bounds = interval(net, lo, hi)
    _, (coef, const) = together(net, lo, hi, bounds)
    for array in (coef, const, *(side for pair in bounds for side in pair)):
        assert all(isinstance(v, (Fraction, int)) for v in np.ravel(array))
    rough = checker.Bounder(layers)
    near = interval(rough, lo.astype(float), hi.astype(float))
    _, (c, d) = together(rough, lo.astype(float), hi.astype(float), near)
    np.testing.assert_allclose(coef.astype(float), c, atol=1e-9)
    np.testing.assert_allclose(const.astype(float), d, atol=1e-9)
