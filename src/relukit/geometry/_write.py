"""Files of pieces: arrays (.npz), JSON, GeoJSON, graphs (.graphml), pictures (.svg, .png, .pdf), meshes (.ply, .obj)."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._numerics import atomic_path, write_bytes, write_json

PICTURES = (".svg", ".png", ".pdf")
FILES = (".npz", ".json", ".geojson", ".graphml", *PICTURES, ".ply", ".obj")


def write_regions(found: Any, path: Path) -> Path:
    """Polygons; a mesh is the surface of output 0 over them."""
    A, c = found.maps
    kind = path.suffix.lower()
    if kind == ".npz":
        more = (
            {} if found.patterns is None else {"patterns": found.patterns, "lines": found.lines, "owners": found.owners}
        )
        more["areas"], more["boundary"] = found.areas, found.boundary()
        plane = {"origin": found.plane.origin, "u": found.plane.u, "v": found.plane.v}
        return _arrays(
            path, vertices=found.vertices, offsets=found.offsets, indices=found.indices, A=A, c=c, neighbors=found.neighbors, complete=found.complete, **more, **plane
        )  # fmt: skip
    if kind == ".geojson":
        return write_json(path, found.geojson())
    if kind == ".json":
        return write_json(path, found.to_dict() | {
            "vertices_xy": found.vertices, "polygons": [p.tolist() for p in found.polygons], "A": A, "c": c,
            "neighbors": np.split(found.neighbors, found.offsets[1:-1]), "patterns_packed": found.patterns, "gates": found.gates,
            "lines": np.split(found.lines, found.offsets[1:-1]), "owners": found.owners, "areas": found.areas, "decision_boundary": found.boundary(),
            "plane": {"origin": found.plane.origin, "u": found.plane.u, "v": found.plane.v},
        })  # fmt: skip
    if kind in (".ply", ".obj"):
        heights = np.einsum("ed,ed->e", A[found.owner, 0], found.vertices[found.indices]) + c[found.owner, 0]
        points = np.concatenate([found.vertices, np.zeros((len(found.vertices), 1))], axis=1)
        points[found.indices, 2] = heights
        return _mesh(path, points, found.polygons)
    return _common(found, path, found.plot)


def write_cells(found: Any, path: Path) -> Path:
    """Cells; a mesh is the set of all facets in three inputs."""
    A, c = found.maps
    kind = path.suffix.lower()
    if kind in (".npz", ".json"):
        rows = found.half_spaces(slice(None))
        centers, radii = found.centers
        sizes = {} if found.volumes_are_dear else {"volumes": found.volumes}
        more = {"gates": found.gates, "owners": found.owners, "centers": centers, "radii": radii} | sizes
    if kind == ".npz":
        return _arrays(
            path, vertices=found.vertices, offsets=found.offsets, indices=found.indices, masks=found.masks, facet_offsets=found.facet_offsets,
            facets=found.facets, neighbors=found.neighbors, patterns=found.patterns, A=A, c=c, complete=found.complete,
            half_spaces_A=rows.A, half_spaces_b=rows.b, **more,
        )  # fmt: skip
    if kind == ".json":
        split = lambda values: np.split(values, found.facet_offsets[1:-1])
        return write_json(path, found.to_dict() | more | {
            "corners": found.vertices, "cells": [p.tolist() for p in found.polygons], "A": A, "c": c, "walls": split(found.facets),
            "half_spaces": [{"A": a, "b": b} for a, b in zip(split(rows.A), split(rows.b))],
            "neighbors": split(found.neighbors), "patterns_packed": found.patterns,
        })  # fmt: skip
    if kind in (".ply", ".obj"):
        if found.dimension != 3:
            raise UnsupportedOperation(
                f"a mesh needs three inputs, these cells have {found.dimension}; save them as .npz or .json"
            )
        from relukit.geometry._draw import facet_rings

        return _mesh(path, found.vertices, facet_rings(found)[0])
    if kind == ".geojson":
        raise UnsupportedOperation("GeoJSON holds polygons; save cells as .npz or .json")
    return _common(found, path, found.plot)


def _common(found: Any, path: Path, plot: Any) -> Path:
    kind = path.suffix.lower()
    if kind == ".graphml":
        import networkx

        with atomic_path(path) as temporary:
            networkx.write_graphml(found.graph(), temporary)
        return path
    if kind in PICTURES:
        return save_picture(plot(), path)
    raise InvalidInput(f"pieces are saved as {', '.join(FILES)}; got '{path.name}'")


def save_picture(ax: Any, path: Path) -> Path:
    """Write the figure of some axes; sharp enough for thin lines."""
    if path.suffix.lower() not in PICTURES:
        raise InvalidInput(f"pictures are saved as {', '.join(PICTURES)}; got '{path.name}'")
    with atomic_path(path) as temporary:
        ax.figure.savefig(temporary, dpi=250)
    return path


def _arrays(path: Path, **arrays: Any) -> Path:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    return path


def _mesh(path: Path, points: Any, rings: Any) -> Path:
    """Polygons of a mesh as PLY (ASCII) or Wavefront OBJ."""
    corners = [" ".join(f"{x:.17g}" for x in p) for p in points]
    if path.suffix.lower() == ".obj":
        lines = [f"v {c}" for c in corners] + ["f " + " ".join(str(i + 1) for i in ring) for ring in rings]
    else:
        head = ["ply", "format ascii 1.0", f"element vertex {len(points)}"] + [f"property double {x}" for x in "xyz"]
        many = "uchar" if max(map(len, rings), default=0) < 256 else "int"
        head += [f"element face {len(rings)}", f"property list {many} int vertex_indices", "end_header"]
        lines = head + corners + [" ".join(str(i) for i in (len(ring), *ring)) for ring in rings]
    return write_bytes(path, ("\n".join(lines) + "\n").encode())
