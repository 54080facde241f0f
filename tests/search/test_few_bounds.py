"""Compiled bounds of gates over a box and a half-space: against rows substituted one by one with linear programs, and against exact values."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

N, S0 = 3, 8


def gates_in_groups(seed, groups):
    """`z_k = a_k . x + b_k + sum of M_kj relu(z_j)` over gates j of earlier groups, as the engine keeps it."""
    g = np.random.default_rng(seed)
    K = sum(groups)
    M, first = np.zeros((K, S0 + (K + 7) // 8 * 8)), np.zeros(K, np.int64)
    start = 0
    for size in groups:
        for k in range(start, start + size):
            first[k] = start
            M[k, : N + 1] = g.standard_normal(N + 1)
            M[k, S0 : S0 + start] = g.standard_normal(start) / np.sqrt(max(start, 1))
        start += size
    return M, first


def compiled(M, first, xl, xu, plane, slopes, loose=0.0, gamma=1e-15):
    """Bounds by the compiled loops, from very wide ones; `slopes[j, r]` are those below gate j for row r."""
    from relukit.search._few_bounds import half_space, tighten

    K = len(M)
    stride, zeros = slopes.shape[1], np.zeros
    q = zeros((2, N + 1))
    if plane is not None:
        half_space(N, plane, q)
    L, U, lines, below = np.full(K, -1e3), np.full(K, 1e3), zeros((5, K + 8)), zeros(K * stride + 8)
    T, met, P, height, corner = (
        zeros(8 * M.shape[1]),
        zeros(8 * (K + 1)),
        zeros((K, N)),
        zeros((K + 1, S0)),
        zeros(8 * N),
    )
    left = tighten(
        K, N, S0, M, np.full(K, loose), first, L, U, xl, xu, gamma, plane is not None, q, T, met, lines, P,
        np.r_[slopes.ravel(), zeros(8)], below, stride, height, corner, 1,
    )  # fmt: skip
    assert left
    return L, U


def one_by_one(M, first, xl, xu, plane, slopes):
    """The same bounds, row by row: gates replaced from the last to the first, the plane that is left minimized by a linear program."""
    K = len(M)
    L, U = np.full(K, -1e3), np.full(K, 1e3)
    for k in range(K):
        for side in range(2):
            row = (1 - 2 * side) * M[k].copy()
            for j in range(first[k] - 1, -1, -1):
                v, row[S0 + j] = row[S0 + j], 0.0
                if U[j] <= 0 or v == 0:
                    continue
                if L[j] >= 0:
                    row += v * M[j]
                elif v < 0:
                    row += v * U[j] / (U[j] - L[j]) * M[j]
                    row[N] -= v * U[j] * L[j] / (U[j] - L[j])
                else:
                    steepest, least = min(1.0, -2 * U[j] / L[j]), max(0.0, 1 + 2 * L[j] / U[j])
                    row += v * min(max(slopes[j, 2 * k + side], least), steepest) * M[j]
            below = None if plane is None else plane[None, :N]
            at_most = None if plane is None else [-plane[N]]
            found = linprog(row[:N], below, at_most, bounds=[*zip(xl, xu)])
            value = found.fun + row[N]
            if side == 0:
                L[k] = max(L[k], value)
            else:
                U[k] = min(U[k], -value)
    return L, U


@pytest.mark.parametrize("groups", [(1,), (5,), (30,), (4, 4), (3, 9, 5), (11, 2, 6, 7)])
@pytest.mark.parametrize("cut", [False, True])
def test_bounds_of_gates_are_those_of_rows_substituted_one_by_one(groups, cut):
    for seed in range(3):
        M, first = gates_in_groups(seed, groups)
        g = np.random.default_rng(100 + seed)
        xl = g.uniform(-1, 0.5, N)
        xu = xl + g.random(N)
        middle = g.standard_normal(N)
        plane = np.r_[middle, -middle @ (0.7 * xl + 0.3 * xu)] if cut else None
        slopes = g.random((len(M), (2 * len(M) + 7) // 8 * 8))
        L, U = compiled(M, first, xl, xu, plane, slopes)
        want_L, want_U = one_by_one(M, first, xl, xu, plane, slopes)
        assert np.allclose(L, want_L, rtol=1e-8, atol=1e-9)
        assert np.allclose(U, want_U, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_exactly_where_sums_cancel(seed):
    """On a box that is nearly a point, rounding is all that there is: values in fractions at its corners lie within the bounds."""
    from relukit._numerics import gamma

    M, first = gates_in_groups(seed, (6, 7, 6))
    g = np.random.default_rng(seed)
    xl = g.standard_normal(N) * 1e6
    xu = np.nextafter(xl, np.inf)
    M[:, N] = -(M[:, :N] @ xl)  # every gate is 0 up to rounding
    few = gamma(len(M) + N + 20)
    loose = few * (np.abs(M[:, :N]) @ np.maximum(np.abs(xl), np.abs(xu)) + np.abs(M[:, N])) + 1e-12
    slopes = g.random((len(M), (2 * len(M) + 7) // 8 * 8))
    L, U = compiled(M, first, xl, xu, None, slopes, loose, few)
    assert np.all(U - L < 1e-4)
    undecided = 0
    for corner in range(8):
        x = np.where([corner >> i & 1 for i in range(N)], xu, xl)
        for k, z in enumerate(exact_values(M, first, x)):
            assert Fraction(float(L[k])) <= z <= Fraction(float(U[k]))
            undecided += z != 0
    assert undecided > 4 * len(M)


def exact_values(M, first, x):
    """All gates at a point, in fractions."""
    F, values = Fraction, []
    for k, row in enumerate(M):
        z = F(float(row[N])) + sum(F(float(a)) * F(float(v)) for a, v in zip(row[:N], x))
        z += sum(F(float(row[S0 + j])) * max(values[j], F(0)) for j in range(first[k]))
        values.append(z)
    return values


def test_bounds_that_cross_leave_no_point():
    from relukit.search._few_bounds import half_space, tighten

    M, first = gates_in_groups(0, (4,))
    M[:, :N], M[:, N] = 1.0, 0.0
    q = np.zeros((2, N + 1))
    half_space(N, np.r_[np.ones(N), 1.0], q)  # the sum is at most -1, on a box where it is at least -0.3
    zeros = np.zeros
    left = tighten(
        4, N, S0, M, zeros(4), first, np.full(4, -0.2), np.full(4, 1.0), np.full(N, -0.1), np.full(N, 0.1), 1e-15, True, q,
        zeros(8 * M.shape[1]), zeros(40), zeros((5, 12)), zeros((4, N)), zeros(72), zeros(72), 8, zeros((5, S0)), zeros(8 * N), 1,
    )  # fmt: skip
    assert not left
