"""The pieces of convolutions, sums, leaky units and maxima on a plane, in rational arithmetic: a polygon is cut by one unit after the other.

Slow, and no code in common with relukit. A network is a list of steps, each with the number of the value it reads (0: the plane's
coordinates, k: what step k made): `("affine", source, W, b)`, `("leaky", source, slope)`, `("max", source, groups of units)`,
`("add", source, source)`. A value is a list of rows (p, q, constant). A signature holds for each unit of each step which of its rows is the largest.
"""

from fractions import Fraction


def at(row, point):
    return row[0] * point[0] + row[1] * point[1] + row[2]


def minus(one, two):
    return [a - b for a, b in zip(one, two)]


def half(ring, row):
    """The part of a convex polygon where a row is at least 0."""
    out = []
    for p, q in zip(ring, ring[1:] + ring[:1]):
        a, b = at(row, p), at(row, q)
        if a >= 0:
            out.append(p)
        if a * b < 0:
            t = a / (a - b)
            out.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return out


def area(ring):
    return sum(p[0] * q[1] - p[1] * q[0] for p, q in zip(ring, ring[1:] + ring[:1])) / 2 if ring else 0


def matrix_of_convolution(kernel, size):
    """A convolution without padding, stride 1, as a list of sparse rows `{input: weight}`; channels first."""
    outputs, inputs, k, _ = kernel.shape
    n = size - k + 1
    return [
        {
            i * size * size + (y + dy) * size + x + dx: Fraction(float(kernel[o, i, dy, dx]))
            for i in range(inputs)
            for dy in range(k)
            for dx in range(k)
        }
        for o in range(outputs)
        for y in range(n)
        for x in range(n)
    ]


def dense(W):
    return [{j: Fraction(float(w)) for j, w in enumerate(row)} for row in W]


def options(step, rows):
    """For each unit of a step the rows of which it is the largest."""
    kind, _, rest = step
    if kind == "max":
        return [[rows[j] for j in group] for group in rest]
    return [[row, [Fraction(float(rest)) * v for v in row]] for row in rows]


def linear(step, made):
    """What an affine step or a sum makes."""
    kind, source, *rest = step
    if kind == "add":
        return [[a + b for a, b in zip(p, q)] for p, q in zip(made[source], made[rest[0]])]
    W, b = rest
    return [
        [sum((w * made[source][j][c] for j, w in row.items()), Fraction(float(bias)) * (c == 2)) for c in range(3)]
        for row, bias in zip(W, b)
    ]


def pieces(steps, ring):
    """Of each piece with area the signature, its polygon, and the rows of the last step."""
    start = [[Fraction(1), Fraction(0), Fraction(0)], [Fraction(0), Fraction(1), Fraction(0)]]
    waiting, found = [(ring, [start], ())], {}
    while waiting:
        ring, made, signature = waiting.pop()
        if len(made) > len(steps):
            found[signature] = ring, made[-1]
            continue
        step = steps[len(made) - 1]
        if step[0] in ("affine", "add"):
            waiting.append((ring, [*made, linear(step, made)], signature))
            continue
        parts = [(ring, [], signature)]
        for rows in options(step, made[step[1]]):
            after = []
            for piece, done, known in parts:
                for i, row in enumerate(rows):
                    part = piece if row not in rows[:i] else []
                    for other in rows:
                        part = half(part, minus(row, other))
                    if area(part) > 0:
                        after.append((part, [*done, row], (*known, i)))
            parts = after
        waiting += [(part, [*made, rows], known) for part, rows, known in parts]
    return found


def signature(steps, point):
    """Of a point inside a piece."""
    made, known = [[[Fraction(0)] * 2 + [v] for v in point]], []
    for step in steps:
        if step[0] in ("affine", "add"):
            made.append(linear(step, made))
            continue
        chosen = []
        for rows in options(step, made[step[1]]):
            values = [row[2] for row in rows]
            known.append(values.index(max(values)))
            chosen.append(rows[known[-1]])
        made.append(chosen)
    return tuple(known)
