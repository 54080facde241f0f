"""Optimization over a small ReLU network by brute force: a linear program (SciPy) on every activation pattern, and every whole
number and category enumerated. Slow, obvious, and without a line of relukit."""

import itertools

import numpy as np
from scipy.optimize import linprog


def affine_on(weights, biases, bits):
    """The network on one pattern: M, v with y = M x + v, and rows P x <= p under which the pattern holds."""
    n = weights[0].shape[1]
    M, v, P, p, at = np.eye(n), np.zeros(n), [], [], 0
    for W, b in zip(weights[:-1], biases[:-1]):
        M, v = W @ M, W @ v + b
        s = np.array(bits[at : at + len(b)])
        at += len(b)
        P += list(np.where(s[:, None] == 1, -M, M))
        p += list(np.where(s == 1, v, -v))
        M, v = M * s[:, None], v * s
    return weights[-1] @ M, weights[-1] @ v + biases[-1], np.array(P).reshape(-1, n), np.array(p)


def choices(lower, upper, integers, groups):
    """Ends of the box with whole-number inputs at each of their values and one input of each group on."""
    settings = [range(int(np.ceil(lower[j])), int(np.floor(upper[j])) + 1) for j in integers]
    settings += [range(len(g)) for g in groups]
    for choice in itertools.product(*settings):
        low, high = np.array(lower, float), np.array(upper, float)
        for j, value in zip(integers, choice):
            low[j] = high[j] = value
        for g, k in zip(groups, choice[len(integers) :]):
            for m, j in enumerate(g):
                low[j] = high[j] = upper[j] if m == k else lower[j]
        yield low, high


def minimum(weights, biases, lower, upper, c, q, rows=(), integers=(), groups=(), near=None, norm="l1"):
    """Smallest `c.x + q.y` (or distance from `near`), rows `(a, b, r, equal)` meaning `a.x + b.y <= r`; (value, x), or (inf, None)."""
    n, best, at = len(lower), np.inf, None
    for low, high in choices(lower, upper, integers, groups):
        for bits in itertools.product([0, 1], repeat=sum(len(b) for b in biases[:-1])):
            M, v, P, p = affine_on(weights, biases, bits)
            A_ub, b_ub, A_eq, b_eq = list(P), list(p), [], []
            for a, b, r, equal in rows:
                (A_eq if equal else A_ub).append(a + b @ M)
                (b_eq if equal else b_ub).append(r - b @ v)
            cost, constant, ends = c + q @ M, float(q @ v), list(zip(low, high))
            if near is not None:  # distances are further columns
                k = n if norm == "l1" else 1
                step = np.eye(n) if norm == "l1" else np.ones((n, 1))
                A_ub = (
                    [np.r_[row, np.zeros(k)] for row in A_ub]
                    + list(np.c_[np.eye(n), -step])
                    + list(np.c_[-np.eye(n), -step])
                )
                b_ub = b_ub + list(near) + list(-near)
                A_eq = [np.r_[row, np.zeros(k)] for row in A_eq]
                cost, constant, ends = np.r_[np.zeros(n), np.ones(k)], 0.0, ends + [(0, None)] * k
            found = linprog(
                cost,
                np.array(A_ub) if A_ub else None,
                b_ub or None,
                np.array(A_eq) if A_eq else None,
                b_eq or None,
                bounds=ends,
            )
            if found.status == 0 and found.fun + constant < best:
                best, at = float(found.fun + constant), found.x[:n]
    return best, at
