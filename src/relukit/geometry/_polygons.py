"""Linear pieces of a network on its two inputs or on a plane, as exact polygons."""

from dataclasses import replace
from typing import Any

import numpy as np

from relukit._errors import EmptySet, InvalidInput
from relukit._types import Array
from relukit.geometry._enumerate import Progress, planar, stopped, stopped_by
from relukit.geometry._form import Form, form_of, gates_at
from relukit.geometry._regions import Plane, Regions
from relukit.network import Network
from relukit.sets import Box, Polytope

_SIDE = np.array(
    [3, 1, 0, 2]
)  # label -1 - s of the walk (x low, x high, y low, y high) -> side: below, right, above, left


def polygons(
    network: Network, domain: Any, plane: Any, limit: int, partial: bool, on_progress: Progress | None, threads: int = 1
) -> Regions:
    """The pieces on a plane, or of two inputs; arguments as for `regions`."""
    where, domain = _where(network, domain, plane)
    box = domain.within if isinstance(domain, Polytope) else domain
    lower, upper = np.asarray(box.lower, float), np.asarray(box.upper, float)
    if np.any(upper <= lower):
        raise InvalidInput(f"the box has no area: from {lower.tolist()} to {upper.tolist()}")
    columns = None if plane is None else np.stack([where.u, where.v, where.origin], axis=1)
    rows = (domain.A, domain.b) if isinstance(domain, Polytope) and len(domain.b) else None
    form = form_of(network, columns, rows, (lower, upper))
    lower, upper = form.inward(lower), form.inward(upper)
    found, walk, complete = planar(form, lower, upper, limit, on_progress, threads)
    if not complete and not partial:
        raise stopped(found, walk, limit)
    result = _result(form, where, found, walk, lower, upper, complete, rows)
    return result if complete else replace(result, stopped_by=stopped_by(walk, limit))


def _where(network: Network, domain: Any, plane: Any) -> tuple[Plane, Box | Polytope]:
    """The plane and the domain in its coordinates, with what is left out filled in."""
    if plane is None:
        domain = network.box if domain is None else domain
        if network.inputs != 2 or domain is None:
            raise InvalidInput(
                "the network brings no box (lo, hi): give one, Box(lower, upper) or --box"
                if network.inputs == 2
                else f"the network takes {network.inputs} inputs: give a plane (three points), or a box of {network.inputs} inputs"
            )
        where = Plane(np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    elif isinstance(plane, Plane):
        where = plane
    else:
        a, b, c = (np.asarray(p, float).ravel() for p in plane)
        where = Plane(a, b - a, c - a)
    if not isinstance(domain, Box | Polytope) and domain is not None:
        raise InvalidInput(
            f"a domain is a Box or a Polytope, got {type(domain).__name__}: write relukit.Box(lower, upper)"
        )
    if plane is not None:
        sizes = {len(np.ravel(v)) for v in (where.origin, where.u, where.v)}
        if sizes != {network.inputs}:
            raise InvalidInput(f"the plane's points have {sorted(sizes)} entries, the network takes {network.inputs}")
        if not np.all(np.isfinite([where.origin, where.u, where.v])):
            raise InvalidInput("the plane's points must be finite")
        if np.linalg.matrix_rank(np.stack([where.u, where.v])) < 2:
            raise InvalidInput("the three points lie on a line: they span no plane")
    domain = Box([-0.25, -0.25], [1.25, 1.25]) if domain is None else domain
    if domain.size != 2 or domain.batch:
        raise InvalidInput(f"the domain lies in the plane's two coordinates, got one of size {domain.size}")
    return where, domain


def _result(
    form: Form, where: Plane, found: Any, walk: Any, lower: Array, upper: Array, complete: bool, rows: Any
) -> Regions:
    from relukit.geometry._walk import CELLS, EXACT, INDICES, INNER, RANGE, VERTICES

    cells, entries, vertices = (int(walk.counts[k]) for k in (CELLS, INDICES, VERTICES))
    cuts = 0 if rows is None else len(rows[1])
    gates = form.hinges - cuts
    labels, words = found.labels[:entries], found.patterns[:cells]
    indices, offsets, patterns = found.indices[:entries], found.offsets[: cells + 1], words.view(np.uint8)
    points = found.place[:vertices]

    def lines() -> Any:
        names = np.arange(-cuts, gates + 4)  # of hinges; a label -1 - s counts from the end
        names[:cuts] += gates + 4 + cuts  # half-spaces of the polytope
        names[-1:-5:-1] = gates + _SIDE
        return names.take(labels, mode="wrap")

    def maps() -> tuple[Array, Array]:
        from relukit.geometry._measures import all_maps

        A = all_maps(form.plain, 2, words.view(np.uint64), cells).reshape(cells, 3, form.outputs)
        return A[:, :2].transpose(0, 2, 1), A[:, 2]

    if cuts and not cells and complete:
        raise EmptySet("the polytope holds no polygon of positive area")
    if cuts or not complete:  # vertices cut away, or not reached
        used, indices = np.unique(indices, return_inverse=True)
        points, vertices = points[used], len(used)
    if cuts:  # the half-spaces' bits
        bits = np.unpackbits(patterns, axis=1, bitorder="little")[:, cuts : form.hinges]
        patterns = np.packbits(bits, axis=1, bitorder="little")
    area, whole = 0.5 * float(found.area.sum()), float(np.prod(upper - lower))
    sides = labels < cuts if cuts else labels[:0]
    if cuts:
        outline = np.stack([points[indices], points[indices[_next(offsets)]]])[:, sides]
        base = outline.mean(axis=(0, 1)) if complete else 0
        a, b = outline - base
        whole = 0.5 * float(np.sum(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]))
    inner = int(walk.counts[INNER]) if not cuts else int(np.count_nonzero(~sides))
    edges = (inner + 2 * (entries - inner)) // 2  # every inner edge has a piece on both of its sides
    total = area if form.columns is None else float(np.ldexp(area, int(form.columns.sum())))
    return Regions(
        form.outward(points), offsets, indices, where, total, abs(area - whole) / whole if complete else float("nan"),
        walk.counts[RANGE] == 0, maps, lines,
        patterns[:, : max(1, -(-gates // 8))], gates, (lambda p: gates_at(form, p)[:, cuts:]), complete,
        edges if complete else None, int(walk.counts[EXACT]), form.owners[cuts:],
    )  # fmt: skip


def _next(offsets: Any) -> Any:
    after = np.arange(1, offsets[-1] + 1)
    after[offsets[1:] - 1] = offsets[:-1]
    return after
