"""Slow, obvious truth that shares no code with what it checks."""

import itertools
import re
from fractions import Fraction
from pathlib import Path

import numpy as np


def exact_forward(weights, biases, x, slope=0):
    """A dense network with (leaky) ReLUs in rational arithmetic; `slope` on the negative side. Returns all pre-activations and the output."""
    values = [Fraction(v) for v in x]
    before = []
    for k, (W, b) in enumerate(zip(weights, biases)):
        z = [sum((Fraction(float(w)) * v for w, v in zip(row, values)), Fraction(float(c))) for row, c in zip(W, b)]
        if k < len(weights) - 1:
            before.append(z)
            values = [v if v > 0 else Fraction(slope) * v for v in z]
        else:
            return before, z
    raise AssertionError("a network needs a layer")


def corners(lower, upper):
    """All corners of a box."""
    return np.array(list(itertools.product(*zip(lower, upper))))


def plain_forward(weights, biases, x):
    """ReLU layers by loops over units."""
    for k, (W, b) in enumerate(zip(weights, biases)):
        z = np.array([[float(np.dot(row, point)) + c for row, c in zip(W, b)] for point in x])
        x = np.where(z > 0, z, 0.0) if k < len(weights) - 1 else z
    return x


_BOUND = re.compile(r"\((<=|>=)\s+X_(\d+)\s+([-+0-9.eE]+)\s*\)")


def vnnlib_box(path: Path):
    """The widest box of a VNN-LIB 1.0 file's plain input bounds, by regular expression."""
    lower, upper = {}, {}
    for sign, index, number in _BOUND.findall(path.read_text()):
        side, value, i = (upper, float(number), int(index)) if sign == "<=" else (lower, float(number), int(index))
        side[i] = value if i not in side else (max if side is upper else min)(side[i], value)
    n = max(lower) + 1
    return np.array([lower[i] for i in range(n)]), np.array([upper[i] for i in range(n)])


def exact_minimum(weights, biases, row, lower, upper):
    """The exact minimum of `row . output` of a small ReLU network over a box: every pattern of gates by a linear program.

    Patterns come from all sign vectors, so this is for a handful of hidden units. Returns the minimum (float).
    """
    from scipy.optimize import linprog

    sizes = [len(b) for b in biases[:-1]]
    best = np.inf
    for signs in itertools.product([0, 1], repeat=sum(sizes)):
        A, c = np.eye(len(lower)), np.zeros(len(lower))
        rows, limits, at = [], [], 0
        for k, (W, b) in enumerate(zip(weights[:-1], biases[:-1])):
            z, d = W @ A, W @ c + b
            on = np.array(signs[at : at + sizes[k]], float)
            at += sizes[k]
            rows.append(np.where(on[:, None] > 0, -z, z))
            limits.append(np.where(on > 0, d, -d))
            A, c = on[:, None] * z, on * d
        goal, constant = row @ weights[-1] @ A, float(row @ (weights[-1] @ c + biases[-1]))
        found = linprog(
            goal, np.concatenate(rows), np.concatenate(limits), bounds=list(zip(lower, upper)), method="highs"
        )
        if found.status == 0:
            best = min(best, found.fun + constant)
    return best
