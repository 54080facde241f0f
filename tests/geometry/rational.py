"""The pieces of a small ReLU network in rational arithmetic: slow and obvious, and no code in common with relukit.

A cell is a list of half-spaces and its exact vertices; each vertex is the meeting point of D sides, found by trying all.
"""

from fractions import Fraction
from itertools import combinations

import numpy as np


def solve(rows, right):
    """The one solution of a square rational system, or None."""
    n = len(rows)
    table = [list(row) + [value] for row, value in zip(rows, right)]
    for r in range(n):
        pivot = next((i for i in range(r, n) if table[i][r] != 0), None)
        if pivot is None:
            return None
        table[r], table[pivot] = table[pivot], table[r]
        table[r] = [v / table[r][r] for v in table[r]]
        for i in range(n):
            if i != r and table[i][r] != 0:
                table[i] = [a - table[i][r] * b for a, b in zip(table[i], table[r])]
    return tuple(row[n] for row in table)


def rank(vectors):
    vectors, found = [list(v) for v in vectors], 0
    for c in range(len(vectors[0]) if vectors else 0):
        pivot = next((i for i in range(found, len(vectors)) if vectors[i][c] != 0), None)
        if pivot is None:
            continue
        vectors[found], vectors[pivot] = vectors[pivot], vectors[found]
        for i in range(found + 1, len(vectors)):
            share = vectors[i][c] / vectors[found][c]
            vectors[i] = [a - share * b for a, b in zip(vectors[i], vectors[found])]
        found += 1
    return found


def value(row, x):
    return sum(a * b for a, b in zip(row, x)) + row[-1]


def vertices_of(sides, D):
    """Vertices of {x: every side's a . x + c <= 0}."""
    found = set()
    for chosen in combinations(sides, D):
        x = solve([row[:D] for row in chosen], [-row[D] for row in chosen])
        if x is not None and x not in found and all(value(row, x) <= 0 for row in sides):
            found.add(x)
    return found


def pieces(weights, biases, lower, upper):
    """`{pattern: vertices}` of all cells with interior; patterns are tuples of booleans over all hidden units."""
    D = len(lower)
    exact = lambda a: [[Fraction(float(v)) for v in row] for row in np.atleast_2d(a)]
    weights, biases = [exact(W) for W in weights], [exact(b)[0] for b in biases]
    sides = []
    for k in range(D):
        unit = [Fraction(int(i == k)) for i in range(D)]
        sides.append([-u for u in unit] + [Fraction(float(lower[k]))])
        sides.append(unit + [-Fraction(float(upper[k]))])
    result = {}

    def layer(l, rows, sides, corners, pattern):
        """`rows`: the layer's inputs as affine functions of x."""
        if l == len(weights) - 1:
            result[pattern] = corners
            return
        z = []
        for w, b in zip(weights[l], biases[l]):
            row = [sum(w[i] * rows[i][c] for i in range(len(rows))) for c in range(D + 1)]
            row[D] += b
            z.append(row)
        unit(l, 0, z, [], sides, corners, pattern)

    def unit(l, u, z, on, sides, corners, pattern):
        if u == len(z):
            layer(l + 1, on, sides, corners, pattern)
            return
        signs = [value(z[u], x) for x in corners]
        zero = [Fraction(0)] * (D + 1)
        if max(signs) > 0 and min(signs) < 0:
            for row, out, bit in ((z[u], zero, False), ([-v for v in z[u]], z[u], True)):
                inside = vertices_of([*sides, row], D)
                unit(l, u + 1, z, [*on, out], _needed([*sides, row], inside, D), inside, (*pattern, bit))
        else:
            bit = max(signs) > 0
            unit(l, u + 1, z, [*on, z[u] if bit else zero], sides, corners, (*pattern, bit))

    start = [[Fraction(int(i == k)) for i in range(D)] + [Fraction(0)] for k in range(D)]
    layer(0, start, sides, vertices_of(sides, D), ())
    return result


def _needed(sides, corners, D):
    """Sides that touch D affinely independent vertices: the others are redundant."""
    kept = []
    for row in sides:
        on = [x for x in corners if value(row, x) == 0]
        if on and rank([[a - b for a, b in zip(x, on[0])] for x in on[1:]]) == D - 1:
            kept.append(row)
    return kept
