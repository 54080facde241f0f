"""How many pieces a network of layers, activations and sums has, in rational arithmetic: slow, and no code in common with relukit.

A network is a list of steps, each with the number of the value it reads (0: the input, k: what step k made): `("dense", source, W, b)`,
`("act", source, knots, slopes, height at the first knot)`, `("add", source, source)`. A cell is a list of corners with the walls they lie on.
"""

from fractions import Fraction
from itertools import product

import numpy as np


def value(row, x):
    return sum(a * b for a, b in zip(row, x)) + row[-1]


def exact(numbers):
    return [Fraction(float(v)) for v in numbers]


def below(cell, row, D, wall):
    """The corners of the part of a cell where a row is at most 0."""
    values, out = [value(row, p) for p, _ in cell], []
    for (p, walls), v in zip(cell, values):
        if v <= 0:
            out.append((p, walls | {wall} if v == 0 else walls))
    for i, (p, first) in enumerate(cell):
        for j, (q, second) in enumerate(cell):
            shared = first & second
            if not values[i] > 0 > values[j] or len(shared) < D - 1:
                continue
            if not any(shared <= third for k, (_, third) in enumerate(cell) if k not in (i, j)):
                t = values[i] / (values[i] - values[j])
                out.append((tuple(a + t * (b - a) for a, b in zip(p, q)), shared | {wall}))
    return out


def count(steps, lower, upper):
    """Number of cells in a box."""
    D, lower, upper = len(lower), exact(lower), exact(upper)
    rational = []
    for kind, source, *rest in steps:
        if kind == "dense":
            rational.append((kind, source, [exact(row) for row in rest[0]], exact(rest[1])))
        elif kind == "act":
            rational.append((kind, source, exact(rest[0]), exact(rest[1]), Fraction(float(rest[2]))))
        else:
            rational.append((kind, source, *rest))
    total = 0
    corner = lambda bits: tuple(upper[k] if bit else lower[k] for k, bit in enumerate(bits))
    start = [[Fraction(int(i == k)) for i in range(D)] + [Fraction(0)] for k in range(D)]
    waiting = [([(corner(bits), frozenset(enumerate(bits))) for bits in product((0, 1), repeat=D)], [start], [])]
    walls = 0
    while waiting:
        cell, forms, done = waiting.pop()  # `done`: rows of the activation that the cell is in
        if len(forms) > len(rational):
            total += 1
            continue
        kind, source, *rest = rational[len(forms) - 1]
        rows = forms[source]
        if kind == "dense":
            made = [
                [sum((a * r[c] for a, r in zip(w, rows)), b * (c == D)) for c in range(D + 1)] for w, b in zip(*rest)
            ]
            waiting.append((cell, [*forms, made], []))
        elif kind == "add":
            waiting.append((cell, [*forms, [[a + b for a, b in zip(p, q)] for p, q in zip(rows, forms[rest[0]])]], []))
        elif len(done) == len(rows):
            waiting.append((cell, [*forms, done], []))
        else:
            knots, slopes, height = rest
            z, parts, flat = rows[len(done)], [], None
            for j, slope in enumerate(slopes):
                if j:
                    height += slopes[j - 1] * (knots[j - 1] - knots[j - 2]) if j > 1 else 0
                at = knots[max(j - 1, 0)]
                row = [slope * a for a in z]
                row[D] += height - slope * at
                flat = row if j < len(knots) and z[D] == knots[j] else flat
                part = cell
                for sign, knot in [(-1, k) for k in knots[:j][-1:]] + [(1, k) for k in knots[j : j + 1]]:
                    side = [sign * a for a in z]
                    side[D] -= sign * knot
                    if part and max(value(side, p) for p, _ in part) > 0:
                        walls += 1
                        part = below(part, side, D, walls)
                    if part and min(value(side, p) for p, _ in part) >= 0:
                        part = []  # only its border is left
                if part:
                    parts.append((part, row))
            if not parts:  # constant, at a knot: the pieces on both of its sides have its value
                parts = [(cell, flat)]
            waiting += [(part, forms, [*done, row]) for part, row in parts]
    return total


def hard(seed, D):
    """A network with extreme scales, denormals, nearly parallel, repeated, negated, concurrent or quantized hinges, as steps."""
    g = np.random.default_rng(seed)
    steps, last, size, before = [], 0, D, None
    for width in (int(v) for v in g.integers(2, 6, int(g.integers(1, 4)))):
        W, b = g.standard_normal((width, size)), g.standard_normal(width) / 2
        kind, (i, j) = int(g.integers(9)), g.choice(width, 2, replace=False)
        if kind == 0:
            s = 2.0 ** g.integers(-500, 500, width)
            W, b = W * s[:, None], b * s
        elif kind == 1:
            s = 2.0 ** g.integers(-1074, -1000, width)
            W, b = W * s[:, None], b * s
        elif kind == 2:
            W[:] = W[0] * (1 + 2.0 ** -g.integers(20, 52, (width, 1)))
        elif kind == 3:
            s = g.choice([1, -1, 3])
            W[i], b[i] = s * W[j], s * b[j]
        elif kind == 4:
            W[i], b[i] = W[j] * (1 + 2.0**-30), b[j] + 2.0**-36
        elif kind == 5:
            W = np.round(W * 64) / 64
            b = -W @ (np.round(g.standard_normal(size) * 8) / 16)
        elif kind == 6:
            W, b = np.round(W * 4) / 4, np.round(b * 4) / 4
        elif kind == 7:
            b[:] = 0
        steps.append(("dense", last, W, b))
        act = int(g.integers(4))
        slope = float(g.choice([0.1, 0.25, 1 / 3]))
        steps.append(("act", len(steps), [-0.5, 0.6], [0, 1, 0], -0.5) if act == 3 else ("act", len(steps), [0], [slope if act == 2 else 0, 1], 0))  # fmt: skip
        last = len(steps)
        if before is not None and before[1] == width and g.random() < 0.6:
            steps.append(("add", last, before[0]))
        elif g.random() < 0.3:
            steps.append(("add", last, last - 1))
        last, before, size = len(steps), (len(steps), width), width
    steps.append(("dense", last, g.standard_normal((1, size)), np.zeros(1)))
    return steps
