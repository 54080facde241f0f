"""One input explained, the same walls as the cells' facets; forces along a path; bounds of the literature."""

import numpy as np
import pytest

import relukit
from relukit import Box, InvalidInput, ShapeMismatch, UnsupportedOperation
from relukit.activations import get
from relukit.geometry import limits
from relukit.network import from_layers
from relukit.network.affine import Conv, Dense
from relukit.network.rewrite import RELU, Builder

from .test_cells import random_network, relu_network


@pytest.mark.parametrize("seed", range(4))
def test_walls_are_the_facets_of_the_cell(seed):
    D = 3
    network = random_network(seed, [D, 10, 6, 3])
    box = Box(-np.ones(D), np.ones(D))
    cells = relukit.regions(network, box)
    g = np.random.default_rng(seed)
    for x in g.uniform(-1, 1, (5, D)):
        k = int(cells.locate(x)[0])
        found = relukit.explain(network, x, box)
        rows, walls = cells.half_spaces(k), cells.walls(k)
        name = lambda w: (
            (network.nodes[cells.owners[w, 0]].name, int(cells.owners[w, 1]))
            if w < cells.gates
            else ("box", int(w - cells.gates) // 2)
        )
        slack = dict(zip([(name(w), w) for w in walls], rows.b - rows.A @ x))
        assert sorted(w for w, _ in slack) == sorted((w.node, w.unit) for w in found.walls)
        np.testing.assert_allclose(sorted(w.to_plane for w in found.walls), sorted(slack.values()), atol=1e-9)
        assert np.array_equal(np.concatenate([p == 1 for p in found.pattern.values()]), cells.pattern(k))
        np.testing.assert_allclose(found.A, cells.maps[0][k], atol=1e-9)
        np.testing.assert_allclose(found.c, cells.maps[1][k], atol=1e-9)
        for wall in found.walls:  # distance to the facet itself, by what characterizes a projection
            i = next(
                i
                for i, w in enumerate(walls)
                if name(w) == (wall.node, wall.unit) and abs(rows.b[i] - rows.A[i] @ x - wall.to_plane) < 1e-8
            )
            assert abs(rows.A[i] @ wall.nearest - rows.b[i]) < 1e-8 and np.all(rows.A @ wall.nearest <= rows.b + 1e-7)
            corners = cells.vertices[
                cells.facet_vertices(k)[i]
            ]  # no corner of the facet lies nearer: the projection's condition
            assert np.max((corners - wall.nearest) @ (x - wall.nearest)) < 1e-7


def test_nearest_decision_boundary_within_the_cell():
    network = relu_network([np.eye(2), np.array([[1.0, 0.0], [0.0, 1.0]])], [np.zeros(2), np.zeros(2)])
    found = relukit.explain(network, [2.0, 1.0])
    assert (found.decision, found.boundary.other) == (0, 1)
    np.testing.assert_allclose(found.boundary.distance, np.sqrt(0.5))
    np.testing.assert_allclose(found.boundary.point, [1.5, 1.5])
    assert [(w.node, w.unit, w.distance) for w in found.walls] == [("relu0", 1, 1.0), ("relu0", 0, 2.0)]
    apart = relukit.explain(network, [2.0, -1.0])  # the boundary y = x lies in another cell: here it is 0 >= x, never
    assert apart.boundary is None or apart.boundary.distance >= 2.0 - 1e-9


def test_repeated_units_are_one_wall_and_a_kink_is_named():
    W = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    network = relu_network([W, np.ones((1, 3))], [np.zeros(3), np.zeros(1)])
    found = relukit.explain(network, [1.0, 3.0])
    assert [w.unit for w in found.walls] == [0, 2] and found.walls[0].same == (("relu0", 1),)
    assert relukit.explain(network, [0.0, 3.0]).at_kink == [("relu0", 0), ("relu0", 1)]


def test_images_with_convolution_and_residual(tmp_path):
    g = np.random.default_rng(0)
    b = Builder((1, 6, 6))
    conv = b.convolve(0, Conv(g.standard_normal((2, 1, 3, 3)), (1, 6, 6)), g.standard_normal(2))
    both = b.add((conv, b.activation(conv, get("leaky_relu", negative_slope=0.1))))
    network = b.build(b.affine(b.activation(both, RELU), Dense(g.standard_normal((3, 32)))))
    x = g.standard_normal(36)
    found = relukit.explain(network, x)
    np.testing.assert_allclose(found.A @ x + found.c, network(x), atol=1e-10)
    np.testing.assert_allclose(found.A[1], network.gradient(x, np.eye(3)[1]), atol=1e-12)
    steps = g.standard_normal((200, 36))
    near = x + 0.999 * found.walls[0].distance * steps / np.linalg.norm(steps, axis=1)[:, None]
    np.testing.assert_allclose(network(near), near @ found.A.T + found.c, atol=1e-9)
    beyond = x + 1.01 * (found.walls[0].nearest - x)
    assert np.max(np.abs(network(beyond) - found.A @ beyond - found.c)) > 1e-9
    axes = found.plot()
    assert len(axes) == 3 and len(axes[1].images) == 1


def test_what_is_refused():
    network = random_network(0, [2, 4, 1])
    with pytest.raises(ShapeMismatch):
        relukit.explain(network, [1.0, 2.0, 3.0])
    with pytest.raises(InvalidInput, match="NaN"):
        relukit.explain(network, [np.nan, 0.0])
    with pytest.raises(InvalidInput, match="outside"):
        relukit.explain(network, [3.0, 0.0], Box([-1.0, -1.0], [1.0, 1.0]))
    with pytest.raises(UnsupportedOperation, match="tanh"):
        relukit.explain(from_layers([np.eye(2)] * 2, [np.zeros(2)] * 2, [get("tanh")]), [0.0, 0.0])


def test_forces_jump_where_units_switch():
    """V(x, y) = |x| + 2 |y - 1|, as hinges: forces are minus the signs."""
    W = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    network = relu_network([W, np.array([[1.0, 1.0, 2.0, 2.0]])], [np.array([0.0, 0.0, -1.0, 1.0]), np.zeros(1)])
    found = relukit.forces(network, [[-1.0, 0.0], [1.0, 0.0], [1.0, 4.0]])
    np.testing.assert_allclose(found.forces, [[1.0, 2.0], [-1.0, 2.0], [-1.0, -2.0]])
    np.testing.assert_allclose(found.jumps, [[-2.0, 0.0], [0.0, -4.0]])
    np.testing.assert_allclose(found.at, [0.5, 1.25])
    np.testing.assert_allclose(found.where, [[0.0, 0.0], [1.0, 1.0]])
    assert [sorted(u for _, u in units) for units in found.units] == [[0, 1], [2, 3]] and found.exact


def test_forces_of_a_leaky_network_match_its_gradient():
    g = np.random.default_rng(2)
    network = from_layers(
        [g.standard_normal((8, 3)), g.standard_normal((1, 8))],
        [g.standard_normal(8), np.zeros(1)],
        [get("leaky_relu", negative_slope=0.3)],
    )
    path = g.standard_normal((3, 3)) * 3
    found = relukit.forces(network, path)
    assert len(found.at) > 2 and found.exact and all(len(units) == 1 for units in found.units)
    z = found.where @ network.nodes[1].op.maps[0].matrix().T + network.nodes[1].op.bias
    for k, ((node, unit),) in enumerate(found.units):
        assert node == 2 and abs(z[k, unit]) < 1e-12
    places = np.concatenate([[0], found.at, [2]])
    for k, t in enumerate(0.5 * (places[:-1] + places[1:])):
        leg = min(int(t), 1)
        x = path[leg] + (t - leg) * (path[leg + 1] - path[leg])
        np.testing.assert_allclose(found.forces[k], -network.gradient(x, np.ones(1)), atol=1e-12)


def test_breakpoints_with_exact_ties():
    """Two hinges at 1/3: one breakpoint where the numbers are one, two where they differ in the last place."""
    one = relu_network([np.array([[3.0], [6.0]]), np.ones((1, 2))], [np.array([-1.0, -2.0]), np.zeros(1)])
    assert len(relukit.breakpoints(one, [0.0], [1.0])) == 2
    apart = relu_network([np.array([[3.0], [1.0]]), np.ones((1, 2))], [np.array([-1.0, -1 / 3]), np.zeros(1)])
    found = relukit.breakpoints(apart, [0.0], [1.0])
    assert len(found) == 3 and found.exact
    np.testing.assert_allclose(found.slopes[:, 0], [0.0, 1.0, 4.0])  # 1/3 in float64 lies below 1/3


def test_bounds_hold_and_order():
    network = random_network(0, [2, 6, 5, 1])
    found = limits(network)
    count = len(relukit.regions(network, Box(-np.full(2, 50.0), np.full(2, 50.0))))
    assert count <= found["serra_2018"] <= found["montufar_2017"] <= found["montufar_2014"] == 2**11
    assert limits(random_network(0, [3, 7, 1]))["zaslavsky"] == 1 + 7 + 21 + 35
    # the example of Serra et al., section 5: a bottleneck makes the bound smaller
    narrow = limits(random_network(0, [4, 8, 2, 8, 1]))
    assert narrow["serra_2018"] < narrow["montufar_2017"]


def test_flat_images_are_drawn_as_images():
    g = np.random.default_rng(0)
    for inputs, image, shape in (
        (784, None, (28, 28)),
        (16, (4, 4), (4, 4)),
        (3072, None, (32, 32, 3)),
        (16, None, None),
    ):
        network = relukit.load(
            {"W0": g.normal(size=(5, inputs)), "b0": g.normal(size=5), "W1": g.normal(size=(3, 5)), "b1": np.zeros(3)}
        )
        found = relukit.explain(network, g.random(inputs))
        shown = found.plot(image=image)[1].get_images()
        assert [a.get_array().shape for a in shown] == ([] if shape is None else [shape])
        if shape is not None and len(shape) == 2:
            np.testing.assert_array_equal(shown[0].get_array(), found.x.reshape(shape))
    with pytest.raises(InvalidInput, match="of 16 numbers in all"):
        found.plot(image=(3, 5))


def test_lines_on_slopes_stand_out():
    """Light ones where the pieces beside them are dark, dark ones on light pieces; each edge once."""
    g = np.random.default_rng(0)
    network = relukit.load(
        {"W0": g.normal(size=(9, 2)), "b0": g.normal(size=9) / 2, "W1": g.normal(size=(1, 9)), "b1": np.zeros(1)}
    )
    found = relukit.regions(network, relukit.Box([-1, -1], [1, 1]))
    ax = found.plot(color="slope")
    steep = np.linalg.norm(found.maps[0][:, 0], axis=1)
    share = (steep - steep.min()) / (steep.max() - steep.min())
    drawn = 0
    for patch in ax.patches:
        light = patch.get_edgecolor()[0] > 0.5
        for middle in patch.get_path().vertices.reshape(-1, 2, 2).mean(axis=1):
            near = found.locate(middle + 1e-6 * np.array([[1, 0.3], [-1, -0.3], [0.3, -1], [-0.3, 1]]))
            beside = share[near[near >= 0]]
            assert beside.min() <= 0.5 + 1e-9 if light else beside.max() >= 0.5 - 1e-9
            drawn += 1
    assert drawn == np.count_nonzero(found.neighbors > found.owner)
    assert ax.get_xlabel() == "input 0"
