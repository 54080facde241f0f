"""Cells in any small dimension: known counts, volumes, Euler's relation, neighbors, half-spaces, maps, degenerate networks."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import relukit
from relukit import Box, EmptySet, InvalidInput, Polytope, UnsupportedOperation
from relukit.activations import get
from relukit.geometry import _enumerate, _neighbors, stream
from relukit.network import from_layers
from relukit.network.affine import Dense
from relukit.network.rewrite import RELU, Builder

from .degenerate import degenerate
from .rational import pieces


def relu_network(weights, biases):
    return from_layers(weights, biases, [get("relu")] * (len(weights) - 1))


def random_network(seed, sizes):
    g = np.random.default_rng(seed)
    return relu_network(
        [g.standard_normal((b, a)) for a, b in zip(sizes[:-1], sizes[1:])], [g.standard_normal(b) for b in sizes[1:]]
    )


def faces(found):
    """All faces of all cells as sets of vertices: closed under meeting, from the facets' vertex sets."""
    total = set()
    for k in range(len(found)):
        corners = found.indices[found.offsets[k] : found.offsets[k + 1]]
        facets = [frozenset(f.tolist()) for f in found.facet_vertices(k)]
        own, waiting = set(), {frozenset(corners.tolist())}
        while waiting:
            face = waiting.pop()
            own.add(face)
            waiting |= {face & f for f in facets if face & f} - own
        total |= own
    return total


def dimension(points):
    return int(np.linalg.matrix_rank(points[1:] - points[0], tol=1e-9)) if len(points) > 1 else 0


@pytest.mark.parametrize("name", ["d1_64x4_rand", "d3_12x1_rand", "d3_32x2_rand", "d4_16x2_rand", "full784_256x2_rand"])
def test_known_counts(data_folder, name):
    folder = data_folder / "bench" / "regions"
    known = json.loads((folder / "expected.json").read_text())
    expected = known.get(name) or known["slice784_256x2_rand"]
    found = relukit.regions(relukit.load(folder / f"{name}.npz"))
    assert len(found) == expected["regions"] and found.exact and found.complete
    assert len(found.vertices) == expected.get("vertices", len(found.vertices))
    assert found.edges == expected.get("edges", found.edges)
    assert found.area_error < 1e-12
    assert getattr(found, "unmatched", 0) == 0


@pytest.mark.slow
def test_five_inputs(data_folder):
    found = relukit.regions(relukit.load(data_folder / "bench" / "regions" / "d5_20x2_rand.npz"))
    assert (len(found), len(found.vertices), found.edges, found.unmatched) == (103989, 169146, 768418, 0)
    assert found.area_error < 1e-12


def check_degenerate(seed):
    D = (1, 2, 2, 3, 3)[seed % 5]
    weights, biases = degenerate(seed, D, (6, 4) if D < 3 else (5, 3))
    lower, upper = np.full(D, -2.0), np.full(D, 2.0)
    expected = pieces(weights, biases, lower, upper)
    found = relukit.regions(relu_network(weights, biases), Box(lower, upper))
    assert {tuple(found.pattern(k).tolist()) for k in range(len(found))} == set(expected), seed
    assert len(found) == len(expected) and found.exact
    assert len(found.vertices) == len(set().union(*expected.values())), seed
    assert found.area_error < 1e-12
    by_pattern = {tuple(found.pattern(k).tolist()): k for k in range(len(found))}
    corner_sets = found.polygons
    for pattern, corners in expected.items():
        ours = np.sort(found.vertices[corner_sets[by_pattern[pattern]]], axis=0)
        theirs = np.sort(np.array([[float(v) for v in x] for x in corners]), axis=0)
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    if D != 2:
        assert found.unmatched == 0


@pytest.mark.parametrize("seed", [*range(20), 116])  # 116: hinges that cross at a tiny angle
def test_degenerate_networks_equal_rational_arithmetic(seed):
    check_degenerate(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(20, 220, 20))
def test_many_degenerate_networks_equal_rational_arithmetic(start):
    for seed in range(start, start + 20):
        check_degenerate(seed)


def test_pieces_smaller_than_a_float_tolerance():
    """Three lines through nearly one point leave a triangle of area 2^-81, below any sensible tolerance."""
    W = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = relukit.regions(
        relu_network([W, np.ones((1, 3))], [np.array([0.0, 0.0, -(2.0**-40)]), np.zeros(1)]),
        Box([-1.0, -1.0], [1.0, 1.0]),
    )
    assert len(found) == 7
    ring = min((found.polygon(k) for k in range(7)), key=np.ptp)
    assert np.ptp(ring[:, 0]) == 2.0**-40


@pytest.mark.parametrize(("D", "sizes"), [(1, (9, 5)), (3, (8, 4)), (4, (6, 4)), (5, (6, 2))])
def test_faces_neighbors_volumes_and_maps(D, sizes):
    network = random_network(D, [D, *sizes, 2])
    found = relukit.regions(network, Box(-np.ones(D), np.ones(D)))
    assert found.complete and found.exact and found.unmatched == 0
    assert found.area_error < 1e-12
    count = [0] * (D + 1)
    for face in faces(found):
        count[dimension(found.vertices[sorted(face)])] += 1
    assert sum((-1) ** k * n for k, n in enumerate(count)) == 1  # Euler's relation for a subdivided box
    assert (count[0], count[D - 1], count[D]) == (
        len(found.vertices),
        found.facet_count if D > 1 else count[0],
        len(found),
    )
    assert D == 1 or count[1] == found.edges
    A, c = found.maps
    x, radius = found.centers
    assert np.all(radius > 0)
    module = torch.nn.Sequential(
        torch.nn.Linear(D, sizes[0]),
        torch.nn.ReLU(),
        torch.nn.Linear(sizes[0], sizes[1]),
        torch.nn.ReLU(),
        torch.nn.Linear(sizes[1], 2),
    ).double()
    chain = network.dense_chain()
    with torch.no_grad():
        for layer, W, b in zip([module[0], module[2], module[4]], chain.weights, chain.biases):
            layer.weight.copy_(torch.tensor(W))
            layer.bias.copy_(torch.tensor(b))
    np.testing.assert_array_equal(found.locate(x), np.arange(len(found)))
    for k in range(0, len(found), max(1, len(found) // 40)):
        at = torch.tensor(x[k])
        np.testing.assert_allclose(A[k], torch.autograd.functional.jacobian(module, at).numpy(), atol=1e-9)
        np.testing.assert_allclose(A[k] @ x[k] + c[k], module(at).detach().numpy(), atol=1e-9)
        rows = found.half_spaces(k)
        corners = found.cell(k)
        assert np.max(corners @ rows.A.T - rows.b) < 1e-9
        norm = [[*row, 1.0] for row in rows.A]
        best = linprog([0.0] * D + [-1.0], norm, rows.b, bounds=[(None, None)] * D + [(0, None)]).x[-1]
        assert abs(best - radius[k]) < 1e-9 * (1 + best)
        for i in range(len(rows.b)):  # none is redundant: without it the cell grows
            others = np.arange(len(rows.b)) != i
            far = linprog(-rows.A[i], rows.A[others], rows.b[others], bounds=[(-9, 9)] * D)
            assert -far.fun > rows.b[i] + 1e-12
    owner = np.repeat(np.arange(len(found)), np.diff(found.facet_offsets))
    for f in np.flatnonzero(found.neighbors >= 0):
        across = found.neighbors[f]
        assert owner[f] in found.neighbors[found.facet_offsets[across] : found.facet_offsets[across + 1]]
        flipped = found.pattern(owner[f]) != found.pattern(across)
        assert flipped[found.facets[f]]
    assert found.graph().number_of_edges() == np.count_nonzero(found.neighbors >= 0) // 2


def test_zaslavsky_in_four_dimensions():
    g = np.random.default_rng(0)
    network = relu_network([g.standard_normal((9, 4)), np.ones((1, 9))], [g.standard_normal(9), np.zeros(1)])
    found = relukit.regions(network, Box(-np.full(4, 1e4), np.full(4, 1e4)))
    assert len(found) == 1 + 9 + 36 + 84 + 126


@pytest.mark.parametrize("D", [1, 2, 3])
def test_permuting_units_and_rescaling_relus_changes_nothing(D):
    g = np.random.default_rng(D)
    weights, biases = degenerate(7 + D, D, (6, 4))
    first = relukit.regions(relu_network(weights, biases), Box(-np.ones(D), np.ones(D)))
    for l in range(2):
        order, scale = g.permutation(len(biases[l])), 2.0 ** g.integers(-8, 9, len(biases[l]))
        weights[l], biases[l] = (scale[:, None] * weights[l])[order], (scale * biases[l])[order]
        weights[l + 1] = (weights[l + 1] / scale)[:, order]
    second = relukit.regions(relu_network(weights, biases), Box(-np.ones(D), np.ones(D)))
    assert (len(first), len(first.vertices), first.edges) == (len(second), len(second.vertices), second.edges)


def test_residual_leaky_and_clipped_units_in_three_inputs():
    g = np.random.default_rng(5)
    b = Builder((3,))
    z = b.affine(0, Dense(g.standard_normal((4, 3))), g.standard_normal(4))
    a = b.activation(z, get("leaky_relu", negative_slope=0.2))
    both = b.add((a, b.activation(z, get("hardtanh"))))
    network = b.build(
        b.affine(b.activation(b.affine(both, Dense(g.standard_normal((4, 4)))), RELU), Dense(g.standard_normal((2, 4))))
    )
    found = relukit.regions(network, Box(-np.ones(3), np.ones(3)))
    assert len(found) > 20 and found.unmatched == 0 and found.area_error < 1e-12
    A, c = found.maps
    x, _ = found.centers
    np.testing.assert_allclose(np.einsum("kmd,kd->km", A, x) + c, network(x), atol=1e-9)


def test_polytope_domain():
    network = random_network(3, [3, 8, 4, 1])
    domain = Polytope([[1.0, 1.0, 1.0], [-1.0, 2.0, 0.0]], [0.5, 0.75], Box(-np.ones(3), np.ones(3)))
    found = relukit.regions(network, domain)
    assert found.area_error < 1e-12 and found.unmatched == 0
    assert np.all(domain.contains(found.centers[0]))
    inside = domain.sample(300)
    assert np.all(found.locate(inside) >= 0)
    with pytest.raises(EmptySet):
        relukit.regions(network, Polytope([[1.0, 0.0, 0.0]], [-5.0], Box(-np.ones(3), np.ones(3))))


def test_limit_stream_and_interrupt(monkeypatch):
    network = random_network(1, [3, 12, 8, 1])
    box = Box(-np.ones(3), np.ones(3))
    whole = relukit.regions(network, box)
    with pytest.raises(UnsupportedOperation, match="more than 10 pieces"):
        relukit.regions(network, box, limit=10)
    part = relukit.regions(network, box, limit=10, partial=True)
    assert len(part) == 10 and not part.complete and np.isnan(part.area_error)
    patterns = {bits.tobytes() for bits in whole.patterns}
    assert {bits.tobytes() for bits in part.patterns} <= patterns
    blocks = list(stream(network, box, step=100))
    assert [len(b) for b in blocks[:-1]] == [100] * (len(blocks) - 1) and blocks[-1].complete
    assert len({bits.tobytes() for b in blocks for bits in b.patterns}) == len(whole)

    def stop(_):
        raise KeyboardInterrupt

    kept = relukit.regions(network, box, partial=True, on_progress=stop)
    assert len(kept) and not kept.complete
    with pytest.raises(KeyboardInterrupt):
        relukit.regions(network, box, on_progress=stop)


def test_cells_with_more_than_64_facets():
    """Planes around a sphere: the cell in the middle lies on all of them."""
    g = np.random.default_rng(0)
    W = g.standard_normal((72, 3))
    W /= np.linalg.norm(W, axis=1)[:, None]
    network = relu_network([W, np.ones((1, 72))], [-np.ones(72), np.zeros(1)])
    found = relukit.regions(network, Box(-np.full(3, 1.15), np.full(3, 1.15)))
    middle = int(found.locate(np.zeros(3))[0])
    assert len(found.walls(middle)) > 64 and len(found.masks) == 2
    assert found.area_error < 1e-12 and found.unmatched == 0
    rows = found.half_spaces(middle)
    np.testing.assert_allclose(rows.b[found.walls(middle) < 72], 1.0, atol=1e-12)
    blocks = stream(network, Box(-np.full(3, 1.15), np.full(3, 1.15)), step=200)
    assert len({bits.tobytes() for block in blocks for bits in block.patterns}) == len(found)


def test_memory_that_is_not_there(monkeypatch):
    network, box = random_network(1, [3, 24, 16, 1]), Box(-np.ones(3), np.ones(3))
    real = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: 100 if name == "SC_PHYS_PAGES" else real(name))
    with pytest.raises(UnsupportedOperation, match="too many pieces for memory"):
        relukit.regions(network, box)
    part = relukit.regions(network, box, partial=True)
    assert len(part) > 0 and not part.complete


@pytest.mark.parametrize("D", [1, 3, 4])
def test_edges_are_counted_in_shares_where_memory_is_short(D, monkeypatch):
    network, box = random_network(D, [D, 12, 8, 1]), Box(-np.ones(D), np.ones(D))
    whole, again = relukit.regions(network, box), relukit.regions(network, box)
    monkeypatch.setattr(_neighbors, "_LEAST", 4096)
    monkeypatch.setattr(_enumerate, "memory_left", lambda: 0.0)
    assert again.edges == whole.edges >= len(whole.vertices) - 1


def test_a_limited_process_keeps_what_it_found(tmp_path):
    """A limit of address space, as `ulimit -v` sets it: the walk stops, and what was found is described and counted."""
    network = random_network(0, [3, 80, 80, 1])
    relukit.save(network, tmp_path / "net.npz")
    script = """
import json, resource, sys
import numpy as np
import relukit
from relukit.geometry._enumerate import memory_left
network = relukit.load(sys.argv[1])
relukit.regions(network, relukit.Box(np.zeros(3), np.full(3, 0.05))).edges  # compiled code is loaded
with open("/proc/self/statm") as pages:
    used = int(pages.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)
found = relukit.regions(network, relukit.Box(-np.ones(3), np.ones(3)), partial=True)
print(json.dumps(found.to_dict() | {"stopped_by": found.stopped_by}))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "net.npz")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert content["stopped_by"] == "memory" and not content["complete"]
    assert content["edges"] > content["vertices"] > content["regions"] > 1000


def test_what_is_refused():
    network = random_network(0, [3, 4, 1])
    with pytest.raises(InvalidInput, match="flat in input"):
        relukit.regions(network, Box([0.0, 0.0, 1.0], [1.0, 1.0, 1.0]))
    with pytest.raises(InvalidInput, match="2 coordinates, the network takes 3"):
        relukit.regions(network, Box([0.0, 0.0], [1.0, 1.0]))
    with pytest.raises(UnsupportedOperation, match="this network has 30"):
        relukit.regions(random_network(0, [30, 4, 1]), Box(np.zeros(30), np.ones(30)))
    with pytest.raises(UnsupportedOperation, match="gelu"):
        relukit.regions(from_layers([np.eye(3)] * 2, [np.zeros(3)] * 2, [get("gelu")]), Box(np.zeros(3), np.ones(3)))


def test_more_units_than_one_word_of_signs():
    """Candidates are taken 64 at a time: Zaslavsky's count for 70 planes, and a second layer of 70."""
    g = np.random.default_rng(4)
    one = relu_network([g.standard_normal((70, 3)), np.ones((1, 70))], [g.standard_normal(70), np.zeros(1)])
    found = relukit.regions(one, Box(-np.full(3, 1e7), np.full(3, 1e7)))
    assert len(found) == 1 + 70 + 70 * 69 // 2 + 70 * 69 * 68 // 6 and found.unmatched == 0
    two = random_network(4, [3, 4, 70, 1])
    cells = relukit.regions(two, Box(-np.ones(3), np.ones(3)))
    assert cells.unmatched == 0 and cells.area_error < 1e-12
    assert np.array_equal(cells.locate(cells.centers[0]), np.arange(len(cells)))


def test_a_summary_leaves_out_volumes_that_would_take_minutes():
    rng = np.random.default_rng(0)
    for inputs, known in ((4, True), (9, False)):
        chain = {
            "W0": rng.normal(size=(6, inputs)),
            "b0": rng.normal(size=6) / 3,
            "W1": np.ones((1, 6)),
            "b1": np.zeros(1),
        }
        cells = relukit.regions(relukit.load(chain), Box(-np.ones(inputs), np.ones(inputs)), limit=30, partial=True)
        found = cells.to_dict()
        assert (found["area"] is not None) == known and found["regions"] == len(cells) > 10
        assert found["edges"] > found["regions"]
