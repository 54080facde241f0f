"""Three networks in a row, each fed by those before it, against a linear program on every joint pattern."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import linprog

import relukit
from relukit import Box
from relukit.network import save
from relukit.optimization import to_program
from tests.optimization.test_questions import layers, network

LINKS = ["b.x[0] == a.x[0]", "b.x[1] == 0.5*a.y[0] - 0.2", "c.x[0] == b.y[0]", "c.x[1] == b.y[1] + 0.1*a.x[1]"]


def through(W, b, bits, M, v):
    """A network on one pattern, its input being `M x + v`: the same for its output, and rows `P x <= p` of the pattern."""
    P, p = [], []
    for A, c, s in zip(W[:-1], b[:-1], bits):
        M, v = A @ M, A @ v + c
        P.append(np.where(s[:, None], -M, M))
        p.append(np.where(s, v, -v))
        M, v = M * s[:, None], v * s
    return W[-1] @ M, W[-1] @ v + b[-1], np.vstack(P), np.concatenate(p)


def largest(a, b, c, level):
    """Largest c.y[0] - 0.3 a.x[0] over a.x in [-1, 1]^2 and c.x[2] in [0, 1] with b.x[1], c.x[0], c.x[1] in [-2, 2] and b.y[0] <= level."""
    best, eye = -np.inf, np.eye(3)  # columns: a.x[0], a.x[1], c.x[2]
    three = [np.array(s) for s in itertools.product([0, 1], repeat=3)]
    for sa, sb, sc in itertools.product(three, repeat=3):
        M, v, P, p = through(*a, [sa], eye[:2], np.zeros(2))
        Ma, rows, right = M[0], [P], [p]
        Mb = np.vstack([eye[0], 0.5 * Ma])
        vb = np.array([0.0, 0.5 * v[0] - 0.2])
        rows += [Mb[1:], -Mb[1:]]
        right += [2.0 - vb[1:], 2.0 + vb[1:]]
        Mo, vo, P, p = through(*b, [sb], Mb, vb)
        rows += [P, Mo[:1]]
        right += [p, level - vo[:1]]
        Mc, vc = np.vstack([Mo[0], Mo[1] + 0.1 * eye[1], eye[2]]), np.r_[vo, 0.0]
        rows += [Mc[:2], -Mc[:2]]
        right += [2.0 - vc[:2], 2.0 + vc[:2]]
        M, v, P, p = through(*c, [sc], Mc, vc)
        goal = M[0] - 0.3 * eye[0]
        found = linprog(-goal, np.vstack([*rows, P]), np.concatenate([*right, p]), bounds=[(-1, 1), (-1, 1), (0, 1)])
        if found.status == 0:
            best = max(best, -found.fun + v[0])
    return best


@pytest.mark.parametrize("seed", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_chain_of_three(seed, tmp_path):
    parts = [layers(10 * seed + k, sizes) for k, sizes in enumerate([(2, 3, 1), (2, 3, 2), (3, 3, 1)])]
    a, b, c = (network(*p) for p in parts)
    boxes = {
        "a": Box([-1.0] * 2, [1.0] * 2),
        "b": Box([-2.0] * 2, [2.0] * 2),
        "c": Box([-2.0, -2.0, 0.0], [2.0, 2.0, 1.0]),
    }
    level = float(np.median(b(boxes["b"].sample(300, 0))[:, 0]))
    truth = largest(*parts, level)
    assert np.isfinite(truth)
    more = {"box": boxes, "links": LINKS, "constraints": [f"b.y[0] <= {level!r}"]}
    found = relukit.optimize({"a": a, "b": b, "c": c}, "c.y[0] - 0.3*a.x[0]", tolerance=1e-5, **more)
    assert found.status == "optimal" and found.value == pytest.approx(truth, abs=3e-5 * max(1, abs(truth)))
    assert found.bound >= truth - 1e-7
    x, z, w = (found.inputs[k] for k in "abc")
    ya, yb = a(x), b(z)
    assert z == pytest.approx([x[0], 0.5 * ya[0] - 0.2], abs=1e-9) and w[:2] == pytest.approx(
        [yb[0], yb[1] + 0.1 * x[1]], abs=1e-9
    )
    assert c(w)[0] - 0.3 * x[0] == pytest.approx(found.value, abs=1e-6) and yb[0] <= level + 1e-6
    if seed > 1:
        return
    status, _, bound = to_program({"a": a, "b": b, "c": c}, "c.y[0] - 0.3*a.x[0]", **more).solve()
    assert status == "optimal" and bound == pytest.approx(truth, abs=2e-4 * max(1, abs(truth)))
    for name, net in (("a", a), ("b", b), ("c", c)):
        save(net.with_(box=boxes[name]), tmp_path / f"{name}.npz")
    typed = [sys.executable, "-m", "relukit", "optimize", "a=a.npz", "--also", "b=b.npz", "--also", "c=c.npz", "--maximize", "c.y[0] - 0.3*a.x[0]", "--constraint", f"b.y[0] <= {level!r}", "--json"]  # fmt: skip
    typed += [word for link in LINKS for word in ("--link", link)]
    run = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["value"] == pytest.approx(truth, abs=2e-4 * max(1, abs(truth)))
