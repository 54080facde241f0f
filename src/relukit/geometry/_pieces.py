"""From a network and a domain to its pieces: polygons on a plane, cells in a box."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from relukit._errors import EmptySet, InvalidInput
from relukit._types import Array
from relukit.geometry._along import Raw, cells_along
from relukit.geometry._cells import Cells
from relukit.geometry._enumerate import Progress, stopped, stopped_by
from relukit.geometry._form import Form, form_of, gates_at
from relukit.geometry._polygons import polygons
from relukit.geometry._regions import Plane, Regions
from relukit.network import Network, load
from relukit.sets import Box, Polytope


def regions(
    network: Any,
    domain: Box | Polytope | None = None,
    plane: Plane | tuple[Array, Array, Array] | None = None,
    limit: int = 5_000_000,
    *,
    partial: bool = False,
    on_progress: Progress | None = None,
    threads: int = 1,
) -> Regions | Cells:
    """The linear pieces of a network: `Regions` (polygons) of two inputs or on a plane, `Cells` of one, three or more inputs.

    Arguments:
        network: Piecewise linear; anything that `load` takes.
        domain: Box or polytope of the inputs, or of the plane's coordinates; by default the network's own box.
        plane: A `Plane`, or three points A, B, C; coordinates (0, 0), (1, 0), (0, 1) are A, B, C. By default a square
            around the triangle with a margin of a quarter.
        limit: Most pieces before giving up.
        partial: Return what was found, marked `complete=False`, at the limit and on Ctrl-C, instead of raising.
        on_progress: Called with the number of pieces so far.
        threads: How many threads share the walk, for boxes of two or more coordinates: the same pieces in the same order, vertices numbered otherwise.

    Raises:
        UnsupportedOperation: An activation is smooth, more than `limit` pieces, or too many inputs.
        InvalidInput: The three points lie on a line, or a domain is missing, unbounded or without volume.
        EmptySet: The polytope holds no piece.

    Example:
        >>> found = relukit.regions("net.npz", relukit.Box([-1, -1], [1, 1]))
        >>> len(found), found.exact
    """
    network = load(network)
    network.require_piecewise_linear("an exact list of pieces")
    if plane is None and network.inputs != 2:
        plane = _own_plane(network) if domain is None or domain.size != network.inputs else None
        if plane is not None and domain is None:
            domain = Box(network.extras["lo"], network.extras["hi"]) if "lo" in network.extras else None
    if plane is not None or network.inputs == 2:
        return polygons(network, domain, plane, limit, partial, on_progress, threads)
    from relukit.geometry._enumerate_cells import solids

    form, lower, upper, rows = _domain(network, domain)
    if form.dimension == 1 and rows is None and form.columns is None:
        line = cells_along(form, lower[0], upper[0], limit)
        if line is not None:
            return line
    found, walk, complete, joined = solids(form, form.inward(lower), form.inward(upper), limit, on_progress, threads)
    from relukit.geometry._walk import CELLS, FULL

    if not complete and not partial:
        raise stopped(found, walk, limit)
    if complete and not walk.counts[CELLS]:
        raise EmptySet("the polytope holds no piece of positive volume")
    try:
        result = cells_of(form, lower, upper, rows, found, walk, complete, joined)
    except MemoryError:
        walk.counts[FULL] = 1
        raise stopped(found, walk, None) from None
    return result if complete else replace(result, stopped_by=stopped_by(walk, limit))


def stream(
    network: Network, domain: Box | Polytope | None = None, step: int = 20_000, limit: int | None = None
) -> Iterator[Cells]:
    """The pieces of a network of any small number of inputs, `step` at a time; nothing but the vertices is kept here.

    Blocks share the numbering of `vertices`. A neighbor in another block shows as -2. The last block has `complete`, or
    the walk stopped at `limit`.

    Arguments:
        network: Piecewise linear.
        domain: Box or polytope of the inputs; by default the network's own box.
        step: Cells of one block.
        limit: Most cells in all.

    Raises:
        As `regions`.
    """
    network.require_piecewise_linear("an exact list of pieces")
    from relukit.geometry._enumerate_cells import slices

    form, lower, upper, rows = _domain(network, domain)
    total = 0
    for found, walk, complete in slices(form, form.inward(lower), form.inward(upper), None, step, forget=True):
        block = cells_of(form, lower, upper, rows, found, walk, complete, block=True)
        total += len(block)
        yield block
        if limit is not None and total >= limit:
            return


def _own_plane(network: Network) -> Plane | None:
    """The plane x0 + B p that came with the network's file."""
    x0, B = network.extras.get("x0"), network.extras.get("B")
    if x0 is None or B is None or np.shape(B) != (network.inputs, 2):
        return None
    return Plane(np.asarray(x0, float).ravel(), np.asarray(B, float)[:, 0], np.asarray(B, float)[:, 1])


def _domain(network: Network, domain: Any) -> tuple[Form, Array, Array, Any]:
    domain = network.box if domain is None else domain
    if domain is None:
        raise InvalidInput(
            f"give a box of the {network.inputs} input(s), or a plane (three points): the file brings none"
        )
    if not isinstance(domain, Box | Polytope):
        raise InvalidInput(
            f"a domain is a Box or a Polytope, got {type(domain).__name__}: write relukit.Box(lower, upper)"
        )
    if domain.size != network.inputs or domain.batch:
        raise InvalidInput(f"the domain has {domain.size} coordinates, the network takes {network.inputs}")
    box = domain.within if isinstance(domain, Polytope) else domain
    lower, upper = np.asarray(box.lower, float), np.asarray(box.upper, float)
    if np.any(upper <= lower):
        flat = np.flatnonzero(upper <= lower)[:4].tolist()
        raise InvalidInput(
            f"the box is flat in input(s) {flat}: it has no volume; widen it, or fix these inputs by a plane"
        )
    rows = domain.rows() if isinstance(domain, Polytope) and len(domain.b) else None
    return form_of(network, None, rows, (lower, upper)), lower, upper, rows


def cells_of(
    form: Form, lower: Array, upper: Array, rows: Any, found: Any, walk: Any, complete: bool, joined: tuple[Array, int] | None = None,
    block: bool = False,
) -> Cells:  # fmt: skip
    """The finished arrays of a walk as `Cells`; with neighbors, and how many are missing, unless they are known (`joined`)."""
    from relukit.geometry._neighbors import search_neighbors
    from relukit.geometry._walk import CELLS, EXACT, FACETS, INDICES, RANGE, VERTICES

    R, entries, facets, vertices = (int(walk.counts[k]) for k in (CELLS, INDICES, FACETS, VERTICES))
    D, cuts = form.dimension, 0 if rows is None else len(rows[1])
    gates = form.hinges - cuts
    offsets, facet_offsets = found.offsets[: R + 1], found.facet_offsets[: R + 1]
    indices, masks, label = found.indices[:entries], found.masks[:, :entries], found.facets[:facets]
    neighbors, unmatched = joined or search_neighbors(form, offsets, indices, masks, facet_offsets, label, cuts, vertices)  # fmt: skip
    walls = np.where(label < 0, gates - 1 - label, label)
    if cuts:
        walls = np.where(label < 0, walls, np.where(label < cuts, gates + 2 * D + label, label - cuts))
    patterns, points = found.patterns[:R].view(np.uint8), found.vx[:vertices]
    if (cuts or not complete) and not block:  # vertices cut away, or not reached
        used, indices = np.unique(indices, return_inverse=True)
        points = points[used]
    if cuts:
        bits = np.unpackbits(patterns, axis=1, bitorder="little")[:, cuts : form.hinges]
        patterns = np.packbits(bits, axis=1, bitorder="little")
    return Cells(
        form.outward(points), offsets, indices, masks, facet_offsets, walls, neighbors, patterns[:, : max(1, -(-gates // 8))], gates,
        form.owners[cuts:], complete, unmatched, walk.counts[RANGE] == 0, int(walk.counts[EXACT]),
        lower, upper, rows, form, Raw(found.patterns, found.facets), (lambda p: gates_at(form, p)[:, cuts:]),
    )  # fmt: skip
