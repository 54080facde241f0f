"""Exact pieces: known counts, areas, and maps that match the network inside."""

import _thread
import json
import threading

import numpy as np
import pytest

import relukit
from relukit import Box, InvalidInput, UnsupportedOperation
from relukit.activations import get
from relukit.construction import exact_pieces
from relukit.geometry import _enumerate
from relukit.geometry._form import form_of
from relukit.network import from_layers
from relukit.network.affine import Conv, Dense
from relukit.network.rewrite import RELU, Builder
from relukit.piecewise import PiecewiseLinear
from tests.geometry import rational_nodes


def relu_network(weights, biases):
    return from_layers(weights, biases, [get("relu")] * (len(weights) - 1))


@pytest.mark.parametrize(
    "name", ["d2_20x1_rand", "d2_32x2_rand", "d2_32x2_spiral", "d2_64x3_rand", "deg_dup", "deg_grid", "deg_zero_bias"]
)
def test_known_counts(data_folder, name):
    folder = data_folder / "bench" / "regions"
    expected = json.loads((folder / "expected.json").read_text())[name]
    network = relukit.load(folder / f"{name}.npz")
    found = relukit.regions(network)
    assert len(found) == expected["regions"]
    assert found.area_error < 1e-12
    assert len(found.vertices) == expected.get("vertices", len(found.vertices))
    assert found.edges == expected.get("edges", found.edges)
    A, c = found.maps
    for k in range(0, len(found), max(1, len(found) // 50)):
        center = found.polygon(k).mean(axis=0)
        np.testing.assert_allclose(A[k] @ center + c[k], network(center), atol=1e-9)
        for m in range(network.outputs):
            np.testing.assert_allclose(A[k][m], network.gradient(center, np.eye(network.outputs)[m]), atol=1e-9)


def test_sawtooth_has_two_to_the_depth_pieces():
    """Telgarsky's triangle map, composed (Benefits of depth in neural networks, 2016), along one of two inputs."""
    depth = 5
    weights, biases = [np.array([[1.0, 0.0], [1.0, 0.0]])], [np.array([0.0, -0.5])]
    for _ in range(depth - 1):
        weights.append(np.array([[2.0, -4.0], [2.0, -4.0]]))
        biases.append(np.array([0.0, -0.5]))
    weights.append(np.array([[2.0, -4.0]]))
    biases.append(np.zeros(1))
    network = from_layers(weights, biases, [get("relu")] * depth)
    assert len(relukit.regions(network, Box([0.0, 0.0], [1.0, 1.0]))) == 2**depth


def test_zaslavsky_for_one_layer():
    g = np.random.default_rng(1)
    n = 9
    network = from_layers(
        [g.standard_normal((n, 2)), np.ones((1, n))], [g.standard_normal(n), np.zeros(1)], [get("relu")]
    )
    assert len(relukit.regions(network, Box([-1e3, -1e3], [1e3, 1e3]))) == 1 + n + n * (n - 1) // 2


def test_every_kind_of_network_on_a_plane():
    g = np.random.default_rng(3)
    b = Builder((1, 5, 5))
    conv = b.convolve(0, Conv(g.standard_normal((2, 1, 3, 3)), (1, 5, 5)), g.standard_normal(2))
    a = b.activation(conv, get("leaky_relu", negative_slope=0.1))
    both = b.add((a, b.activation(a, get("clip", low=-0.3, high=0.6))))
    pooled = b.reshape(b.max_pool(both, (2, 2), (1, 1), (0, 0, 0, 0), (1, 1), False), (8,))
    network = b.build(
        b.affine(
            b.activation(b.affine(pooled, Dense(g.standard_normal((6, 8)))), RELU), Dense(g.standard_normal((3, 6)))
        )
    )
    points = g.standard_normal((3, 25))
    found = relukit.regions(network, plane=tuple(points))
    assert len(found) > 10 and found.area_error < 1e-12
    np.testing.assert_allclose(found.plane.points(found.plane.coordinates(points[1])), points[1], atol=1e-9)
    A, c = found.maps
    for k in range(len(found)):
        center = found.polygon(k).mean(axis=0)
        np.testing.assert_allclose(A[k] @ center + c[k], network(found.plane.points(center)), atol=1e-9)


def test_what_is_refused():
    network = from_layers([np.eye(3), np.eye(3)], [np.zeros(3)] * 2, [get("relu")])
    line = tuple(np.outer([0, 1, 2], np.ones(3)))
    with pytest.raises(InvalidInput, match="on a line"):
        relukit.regions(network, plane=line)
    with pytest.raises(InvalidInput, match="or a plane"):
        relukit.regions(network)
    with pytest.raises(UnsupportedOperation, match="gelu"):
        relukit.regions(from_layers([np.eye(2)] * 2, [np.zeros(2)] * 2, [get("gelu")]), Box([0.0, 0.0], [1.0, 1.0]))


def test_planes_of_one_network_do_not_mix():
    g = np.random.default_rng(2)
    network = from_layers(
        [g.standard_normal((12, 5)), g.standard_normal((2, 12))], [g.standard_normal(12), np.zeros(2)], [get("relu")]
    )
    planes = [tuple(g.standard_normal((3, 5))) for _ in range(2)]
    first, second, again = (relukit.regions(network, plane=planes[k]) for k in (0, 1, 0))
    assert {b.tobytes() for b in first.patterns} == {b.tobytes() for b in again.patterns}
    assert len({b.tobytes() for b in first.patterns} - {b.tobytes() for b in second.patterns}) > 0
    for found in (first, second):
        A, c = found.maps
        center = found.polygon(0).mean(axis=0)
        np.testing.assert_allclose(A[0] @ center + c[0], network(found.plane.points(center)), atol=1e-10)


@pytest.mark.parametrize("inputs", [2, 3])
def test_what_is_found_is_kept_where_memory_ends(inputs, monkeypatch):
    g = np.random.default_rng(0)
    weights = [g.standard_normal((40, inputs)), g.standard_normal((40, 40)), g.standard_normal((1, 40))]
    network = relu_network(weights, [g.standard_normal(40), g.standard_normal(40), np.zeros(1)])
    box = relukit.Box(-np.ones(inputs), np.ones(inputs))
    monkeypatch.setattr(_enumerate, "memory_left", lambda: 1e5 if inputs == 2 else 4e6)
    found = relukit.regions(network, box, partial=True)
    assert len(found) > 0 and not found.complete and found.stopped_by == "memory"
    with pytest.raises(relukit.UnsupportedOperation, match="too many pieces for memory"):
        relukit.regions(network, box)
    monkeypatch.undo()
    whole = relukit.regions(network, box)
    assert len(whole) > len(found) and {p.tobytes() for p in found.patterns} < {p.tobytes() for p in whole.patterns}


def test_files_hold_what_the_pieces_are(tmp_path):
    g = np.random.default_rng(5)
    for inputs in (2, 3):
        network = relu_network(
            [g.standard_normal((7, inputs)), g.standard_normal((2, 7))], [g.standard_normal(7), np.zeros(2)]
        )
        found = relukit.regions(network, relukit.Box(-np.ones(inputs), np.ones(inputs)))
        with np.load(found.save(tmp_path / "a.npz")) as file:
            arrays = dict(file)
        told = json.loads(found.save(tmp_path / "a.json").read_text())
        assert arrays["owners"].tolist() == told["owners"] == found.owners.tolist() and told["gates"] == 7
        sizes = arrays["areas" if inputs == 2 else "volumes"]
        assert sizes.sum() == pytest.approx(2.0**inputs, rel=1e-12) and len(sizes) == len(found)
        if inputs == 2:
            assert told["lines"] == [found.lines[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:])]
            ends = arrays["boundary"].reshape(-1, 2)
            assert len(ends) and np.abs(np.diff(network(ends), axis=1)).max() < 1e-12
            shapes = json.loads(found.save(tmp_path / "a.geojson").read_text())["features"]
            assert [s["properties"]["area"] for s in shapes] == sizes.tolist()
            middle = np.array([np.mean(s["geometry"]["coordinates"][0][:-1], axis=0) for s in shapes])
            assert [s["properties"]["decision"] for s in shapes] == network.decide(middle).tolist()
        else:
            at, rows = arrays["facet_offsets"], arrays["half_spaces_A"]
            for k in range(len(found)):
                gap = arrays["half_spaces_b"][at[k] : at[k + 1], None] - rows[at[k] : at[k + 1]] @ found.cell(k).T
                assert gap.min() > -1e-12 and np.sort(gap, axis=1)[:, inputs - 1].max() < 1e-12  # n corners on each
                depth = arrays["half_spaces_b"][at[k] : at[k + 1]] - rows[at[k] : at[k + 1]] @ arrays["centers"][k]
                assert depth.min() == pytest.approx(arrays["radii"][k], abs=1e-12)
            assert told["half_spaces"][0]["A"] == rows[: at[1]].tolist()


@pytest.mark.parametrize("act", ["leaky_relu", "hardtanh", "prelu"])
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_products_of_quantized_maps_are_exact(act, inputs):
    """Residual networks with few bits: their maps multiply out without rounding. With thirds they do not, and signs come from rational arithmetic."""
    box = Box(-2 * np.ones(inputs), 2 * np.ones(inputs))
    for seed in range(8):
        network = residual(seed, inputs, act)
        found, expected = relukit.regions(network, box), list(exact_pieces(network, box))
        assert found.exact and len(found) == len(expected)
        assert len(found.vertices) == len({p for piece in expected for p in piece.points})
    network = residual(0, inputs, act, 1 / 3)
    found = relukit.regions(network, box)
    assert found.exact and len(found) == len(list(exact_pieces(network, box)))


def residual(seed, inputs, act, extra=0.0):
    g = np.random.default_rng(seed)
    quarter = lambda *shape: g.integers(-6, 7, shape) / 4
    builder = Builder((inputs,))
    h = builder.activation(
        builder.affine(0, Dense(quarter(4, inputs)), quarter(4)),
        get(act, **({"negative_slope": 0.5} if act == "leaky_relu" else {})),
    )
    z = builder.activation(builder.affine(h, Dense(quarter(4, 4)), quarter(4) + extra), RELU)
    h = builder.activation(builder.add((h, builder.affine(z, Dense(quarter(4, 4)), np.zeros(4)))), RELU)
    return builder.build(builder.affine(h, Dense(quarter(2, 4)), np.full(2, 1 / 3)))  # outputs cut nothing


def of_steps(steps):
    """The same network in relukit."""
    builder, places = Builder((steps[0][2].shape[1],)), [0]
    for kind, source, *rest in steps:
        if kind == "dense":
            places.append(builder.affine(places[source], Dense(rest[0]), rest[1]))
        elif kind == "add":
            places.append(builder.add((places[source], places[rest[0]])))
        else:
            knots, slopes, height = rest
            places.append(builder.activation(places[source], PiecewiseLinear(knots, slopes, height)))
    return builder.build(places[-1])


@pytest.mark.parametrize("inputs, nets", [(1, 40), (2, 40), (3, 8)])
def test_hard_networks_have_as_many_pieces_as_in_rational_arithmetic(inputs, nets):
    """Scales from 2^-1074 to 2^500, residual and leaky, nearly parallel, repeated and concurrent hinges."""
    box = Box(-np.ones(inputs), 1.5 * np.ones(inputs))
    for seed in range(nets):
        steps = rational_nodes.hard(seed, inputs)
        found = relukit.regions(of_steps(steps), box)
        assert len(found) == rational_nodes.count(steps, box.lower, box.upper), seed
        assert found.exact and found.area_error < 1e-9 and np.all(np.isfinite(found.vertices))


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**400])
def test_boxes_of_any_scale(scale):
    """One coordinate counts in units of its own: the pieces are the same."""
    g = np.random.default_rng(1)
    for inputs in (2, 3):
        W, b = g.standard_normal((9, inputs)), g.standard_normal(9) / 2
        V, c = g.standard_normal((4, 9)), g.standard_normal(4) / 2
        units = np.r_[scale, np.ones(inputs - 1)]
        plain = relukit.regions(
            relu_network([W, V, np.ones((1, 4))], [b, c, np.zeros(1)]), Box(-np.ones(inputs), np.ones(inputs))
        )
        found = relukit.regions(relu_network([W / units, V, np.ones((1, 4))], [b, c, np.zeros(1)]), Box(-units, units))
        assert len(found) == len(plain) and found.exact and found.area_error < 1e-12
        assert {p.tobytes() for p in found.patterns} == {p.tobytes() for p in plain.patterns}
        np.testing.assert_allclose(np.sort(found.vertices / units, axis=0), np.sort(plain.vertices, axis=0), atol=1e-12)
        np.testing.assert_allclose(np.sort((found.maps[0] * units).ravel()), np.sort(plain.maps[0].ravel()), atol=1e-10)


@pytest.mark.parametrize("inputs, threads", [(2, 1), (2, 2), (3, 1)])
def test_interrupted_answers_are_right_all_the_same(inputs, threads):
    """Every sign is asked in whole numbers; Ctrl-C comes in the middle of an answer."""
    g, builder, last, size = np.random.default_rng(0), Builder((inputs,)), 0, inputs
    for _ in range(4):
        W, b = np.round(g.standard_normal((20, size)) * 2) / 2, np.round(g.standard_normal(20) * 2) / 2
        last = builder.activation(builder.affine(last, Dense(W), b), get("leaky_relu", negative_slope=0.1))
        size = 20
    network = builder.build(builder.affine(last, Dense(np.ones((1, size)))))
    box = Box(-4 * np.ones(inputs), 4 * np.ones(inputs))
    whole = relukit.regions(network, box, limit=20_000, partial=True)
    form = form_of(network, box=(box.lower, box.upper))
    form.net.slope_error[:] = 1e3
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    found = relukit.regions(network, box, partial=True, threads=threads)
    timer.join()
    assert not found.complete and found.stopped_by == "Ctrl-C" and found.exact and found.exact_tests > 100
    known = {p.tobytes() for p in whole.patterns}
    if whole.complete:
        assert {p.tobytes() for p in found.patterns} < known
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, _thread.interrupt_main).start()
        relukit.regions(network, box, threads=threads)


def test_breakpoints_of_any_network_are_exact():
    """Along segments, with the start and the direction as a first layer of the reference."""
    g = np.random.default_rng(0)
    for seed in range(25):
        steps, (a, b) = rational_nodes.hard(seed, 3), np.round(g.standard_normal((2, 3)) * 64) / 64
        found = relukit.geometry.breakpoints(of_steps(steps), a, b)
        moved = [(k, s + 1, *((rest[0] + 1,) if k == "add" else rest)) for k, s, *rest in steps]
        assert found.exact and len(found) == rational_nodes.count(
            [("dense", 0, (b - a)[:, None], a), *moved], np.zeros(1), np.ones(1)
        )
