"""Compiled: the smallest value that the largest of a few planes takes over a box, by a bounded simplex method.

Its weights are what is wanted: any nonnegative weights of the planes give a valid bound, so nothing depends on whether
the method ended well. `joint` recomputes the bound from the weights, rounding included.
"""

import numpy as np

from relukit._numba import njit


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def weigh(R, n, planes, errors, xl, xu, D, value, basic, beside, upper, weights, point):
    """Weights `(R,)` of the planes `planes[r, :n] . x + planes[r, n]`, and the point, of `min_x max_r`.

    A dictionary of the linear program `min t, t >= plane_r(x)` with x scaled to [0, 1]: row 0 is t, the others basic
    slacks or inputs; `D[row, k]` is the change of a basic variable by the k-th one beside the basis. Variables are
    numbered: inputs 0..n-1, slacks n..n+R-1, t n+R.
    """
    largest, top = -np.inf, 0
    for r in range(R):
        low = planes[r, n] - errors[r]
        for i in range(n):
            low += planes[r, i] * (xl[i] if planes[r, i] >= 0.0 else xu[i])
        if low > largest:
            largest, top = low, r
    for r in range(R):
        weights[r] = 0.0
    weights[top] = 1.0
    for i in range(n):
        upper[i] = planes[top, i] < 0.0
        point[i] = xu[i] if upper[i] else xl[i]
    if R == 1:
        return
    # The corner of the plane with the best bound; t rests on the plane that is highest there.
    highest, rest = -np.inf, 0
    for r in range(R):
        v = planes[r, n] - errors[r]
        for i in range(n):
            v += planes[r, i] * point[i]
        D[r, n + 1] = v
        if v > highest:
            highest, rest = v, r
    scale = 0.0
    for i in range(n):
        beside[i] = i
        width = xu[i] - xl[i]
        D[0, i] = planes[rest, i] * width
        scale = max(scale, abs(D[0, i]))
    beside[n], D[0, n], value[0], basic[0], upper[n] = n + rest, 1.0, highest, n + R, False
    row = 1
    for r in range(R):
        if r == rest:
            continue
        basic[row], value[row] = n + r, highest - D[r, n + 1]
        row += 1
    row = 1
    for r in range(R):
        if r == rest:
            continue
        for i in range(n):
            v = planes[r, i] * (xu[i] - xl[i])
            scale = max(scale, abs(v))
            D[row, i] = D[0, i] - v
        D[row, n] = 1.0
        row += 1
    small = 1e-11 * scale
    for _ in range(30 + 4 * (R + n)):
        enter, steepest, direction = -1, small, 1.0
        for k in range(n + 1):
            g = D[0, k] if not upper[k] else -D[0, k]
            if beside[k] >= n:
                g *= scale  # slacks are measured in units of the planes
            if g < -steepest:
                enter, steepest, direction = k, -g, 1.0 if not upper[k] else -1.0
        if enter < 0:
            break
        leave, limit, pivot = -1, 1.0 if beside[enter] < n else np.inf, 0.0
        for b in range(1, R):
            rate = D[b, enter] * direction
            slack = basic[b] >= n
            if abs(rate) < (1e-11 * scale if slack else 1e-11):
                continue
            if rate < 0.0:
                reach = max(value[b], 0.0) / -rate
            elif slack:
                continue
            else:
                reach = max(1.0 - value[b], 0.0) / rate
            if reach < limit or (reach == limit and abs(rate) > abs(pivot)):
                leave, limit, pivot = b, reach, rate
        if limit == np.inf:
            break
        move = limit * direction
        for b in range(R):
            value[b] += D[b, enter] * move
        if leave < 0:
            upper[enter] = not upper[enter]
            continue
        entering = beside[enter]
        at = (1.0 if upper[enter] else 0.0) + move
        p = 1.0 / D[leave, enter]
        for k in range(n + 1):
            D[leave, k] *= -p
        D[leave, enter] = p
        for b in range(R):
            f = D[b, enter]
            if b == leave or f == 0.0:
                continue
            D[b, enter] = 0.0
            for k in range(n + 1):
                D[b, k] += f * D[leave, k]
        beside[enter], upper[enter] = basic[leave], basic[leave] < n and pivot > 0.0
        basic[leave], value[leave] = entering, at
    total = 0.0
    for r in range(R):
        weights[r] = 0.0
    for k in range(n + 1):
        if beside[k] < n:
            point[beside[k]] = xu[beside[k]] if upper[k] else xl[beside[k]]
        else:
            w = max(D[0, k], 0.0)
            weights[beside[k] - n] = w
            total += w
    for b in range(1, R):
        i = basic[b]
        if i < n:
            point[i] = min(max(xl[i] + value[b] * (xu[i] - xl[i]), xl[i]), xu[i])
    if total > 0.0:
        for r in range(R):
            weights[r] /= total
    else:
        weights[top] = 1.0


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def joint(R, n, planes, errors, weights, xl, xu, gamma, plane):
    """The weighted plane, its constant lowered by all errors, so that it stays below the rows everywhere on the box; and its
    least value there."""
    for i in range(n + 1):
        plane[i] = 0.0
    error, size = 0.0, 0.0
    for r in range(R):
        w = weights[r]
        if w > 0.0:
            error += w * errors[r]
            p = planes[r]
            for i in range(n + 1):
                plane[i] += w * p[i]
            part = abs(p[n])
            for i in range(n):
                part += abs(p[i]) * max(abs(xl[i]), abs(xu[i]))
            size += w * part
    plane[n] -= 1.01 * error + 2.0 * gamma * size
    low = plane[n]
    for i in range(n):
        low += plane[i] * (xl[i] if plane[i] >= 0.0 else xu[i])
    return low - gamma * size
