"""The plane through three rows, with every exact piece, colored by decision."""

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array, IntArray
from relukit.geometry import Regions
from relukit.network import Network
from relukit.report._page import Section, legend
from relukit.report._sections import Context
from relukit.report._svg import color, image, polygons

_UNITS = 20_000  # a plane through a larger network has more pieces than a page can show


def regions_section(c: Context) -> Section:
    n = c.require()
    n.require_piecewise_linear("the picture of its pieces")
    if n.inputs == 1:
        from relukit.report._line import line_section

        return line_section(c)
    if n.units > _UNITS:
        raise UnsupportedOperation(
            f"{n.units:,} units: the plane would hold more pieces than a page can show; take a smaller plane with relukit regions --plane ROWS.npz --box"
        )
    from relukit.geometry import regions

    if n.inputs == 2 and c.box is not None:
        found, marks, where = regions(n, c.box), [], "its whole box"
    else:
        data = c.rows()
        corners = list(data.x[three_rows(n, data.x)])
        origin, u, v = corners[0], corners[1] - corners[0], corners[2] - corners[0]
        found = regions(n, plane=tuple(corners))
        marks = [
            (
                found.plane.coordinates(x) if hasattr(found.plane, "coordinates") else _coordinates(x, origin, u, v),
                _label(n, x),
            )
            for x in corners
        ]
        where = "the plane through three rows"
    vertices, offsets, indices = np.asarray(found.vertices), np.asarray(found.offsets), np.asarray(found.indices)
    A, b = (np.asarray(m) for m in found.maps)
    corners_all, offsets_all, indices_all, decision = split_by_decision(vertices, offsets, indices, A, b, n.outputs)
    names = [_name(n, k) for k in range(max(n.outputs, 2))]
    picture = polygons(corners_all, offsets_all, indices_all, decision, names, marks) + _thumbnails(
        c, corners if n.inputs > 2 or c.box is None else []
    )
    shown = [(color(int(k)), names[int(k)]) for k in np.unique(decision)]
    words = (
        f"<p>On {where} the network is made of <b>{len(found):,} linear piece{'' if len(found) == 1 else 's'}</b> ({'every cut decided exactly' if found.exact else 'cut in float64'}). Every line is a place where one unit switches; "
        f"colors are decisions, and where a color changes inside a piece the decision boundary is a straight line. The pieces' areas add up to the whole{'' if found.area_error == 0 else f' with an error of {found.area_error:.1e}'}.</p>"
    )
    data_out = {
        "count": len(found),
        "area": float(found.area),
        "area_error": float(found.area_error),
        "vertices": len(vertices),
        "where": where,
    }
    return Section(
        "regions",
        "Its linear pieces",
        words + picture + legend(shown),
        facts=[("linear pieces on the plane", f"{len(found):,}")],
        data=data_out,
    )


def draw_regions(n: Network, found: Regions) -> str:
    """The pieces as a stand-alone SVG, colored by decision."""
    A, b = found.maps
    corners, offsets, indices, decision = split_by_decision(
        found.vertices, found.offsets, found.indices, A, b, n.outputs
    )
    names = [_name(n, k) for k in range(max(n.outputs, 2))]
    picture = polygons(corners, offsets, indices, decision, names, [])
    return picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" stroke="#fff" stroke-opacity="0.75" ', 1)


def _thumbnails(c: Context, corners: list[Array]) -> str:
    """The three rows as pictures, where they are images."""
    shape = c.image_shape
    if shape is None or not corners or c.data is None or c.network is None:
        return ""
    low, high = float(c.data.x.min()), float(c.data.x.max())
    see = lambda v: np.squeeze(((v.reshape(shape) - low) / max(high - low, 1e-12)).transpose(1, 2, 0))
    figures = "".join(
        f"<figure>{image(see(x), f'row decided {_label(c.network, x)}', 72)}<figcaption>{_label(c.network, x)}</figcaption></figure>"
        for x in corners
    )
    return f'<div class="row">{figures}</div>'


def _name(n: Network, k: int) -> str:
    return f"decision {k}" if n.outputs > 1 else ("output > 0" if k else "output <= 0")


def _label(n: Network, x: Array) -> str:
    return f"{int(n.decide(x))}" if n.outputs > 1 else f"{float(n(x)[0]):.3g}"


def _coordinates(x: Array, origin: Array, u: Array, v: Array) -> Array:
    return np.linalg.lstsq(np.stack([u, v], axis=1), x - origin, rcond=None)[0]


def three_rows(n: Network, x: Array) -> list[int]:
    """Numbers of three rows of different decisions where there are such, that span a plane; the first row is one of them.

    Raises:
        UnsupportedOperation: No three rows span a plane.
    """
    decisions = n.decide(x[:2000])
    _, first = np.unique(decisions, return_index=True)
    chosen: list[int] = []
    for i in [*sorted(first)[:3], *range(min(len(x), 2000))]:
        steps = x[[*chosen[1:], i]] - x[chosen[0]] if chosen else x[:0]
        if np.linalg.matrix_rank(steps) == len(chosen):
            chosen.append(int(i))
        if len(chosen) == 3:
            return chosen
    raise UnsupportedOperation("the data hold no three rows that span a plane")


def split_by_decision(
    vertices: Array, offsets: IntArray, indices: IntArray, A: Array, b: Array, outputs: int
) -> tuple[Array, IntArray, IntArray, IntArray]:
    """Cut every piece along its decision boundaries; returns polygons as before and one decision each.

    Arguments:
        A, b: The affine map of each piece in plane coordinates, shapes `(R, m, 2)` and `(R, m)`.
    """
    points: list[Array] = []
    sizes, decision = [], []
    for k in range(len(offsets) - 1):
        ring = vertices[indices[offsets[k] : offsets[k + 1]]]
        values = ring @ A[k].T + b[k]
        if outputs == 1:
            values = np.concatenate([np.zeros_like(values), values], axis=1)
        winners = values.argmax(axis=1)
        if (winners == winners[0]).all():
            points.append(ring)
            sizes.append(len(ring))
            decision.append(int(winners[0]))
            continue
        beaten = np.array([np.any(np.all(values > values[:, [i]], axis=0)) for i in range(values.shape[1])])
        for i in np.flatnonzero(~beaten):  # classes that no other one beats at every corner
            part = ring
            for j in range(values.shape[1]):
                if j != i and len(part):
                    part = _clip(part, _margin(A[k], b[k], int(i), int(j), outputs))
            if len(part) >= 3:
                points.append(part)
                sizes.append(len(part))
                decision.append(int(i))
    corners = np.concatenate(points)
    return corners, np.concatenate([[0], np.cumsum(sizes)]), np.arange(len(corners)), np.array(decision)


def _margin(A: Array, b: Array, i: int, j: int, outputs: int) -> tuple[Array, float]:
    if outputs == 1:
        return (A[0], float(b[0])) if i == 1 else (-A[0], -float(b[0]))
    return A[i] - A[j], float(b[i] - b[j])


def _clip(ring: Array, half: tuple[Array, float]) -> Array:
    """The part of a convex polygon where g . p + c >= 0 (Sutherland and Hodgman, 1974)."""
    g, c = half
    side = ring @ g + c
    out = []
    for p, q, s, t in zip(ring, np.roll(ring, -1, axis=0), side, np.roll(side, -1)):
        if s >= 0:
            out.append(p)
        if (s > 0 > t) or (s < 0 < t):
            out.append(p + (q - p) * (s / (s - t)))
    return np.array(out).reshape(-1, 2)
