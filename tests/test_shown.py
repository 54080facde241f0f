"""Results in a notebook: their short text, and single values in a table, with nothing taken for markup."""

import numpy as np
import pytest
import torch

import relukit
from relukit import Box, InvalidInput
from relukit._shown import Shown
from relukit.network import from_layers
from tests.strategies import RELU


class Made(Shown):
    def __init__(self, content):
        self.content = content

    def to_dict(self):
        return self.content

    def __repr__(self):
        return "Made(<b>)"


def test_single_values_are_told_and_long_ones_counted():
    text = Made({"a": 0.123456789, "<i>": "x<y", "none": None, "right": True, "row": [1, 2.5], "many": list(range(40)),
                 "matrix": np.zeros((3, 4)), "inner": {"p": 1.5, "q": "w"}, "odd": object()})._repr_html_()  # fmt: skip
    for part in (
        "0.123457",
        "&lt;i&gt;",
        "x&lt;y",
        "None",
        "True",
        "1, 2.5",
        "40 values",
        "3 x 4",
        "p 1.5",
        "Made(&lt;b&gt;)",
    ):
        assert part in text
    assert "<b>" not in text and "odd" not in text


def test_results_show_what_to_dict_says():
    g = np.random.default_rng(0)
    network = from_layers(
        [g.standard_normal((6, 2)), g.standard_normal((2, 6))], [g.standard_normal(6), np.zeros(2)], [RELU]
    )
    box = Box([-1, -1], [1, 1])
    x, y = network.variables()
    for found in (
        relukit.verify(network, x.within(box), y[0] <= 100), relukit.flip(network, [0.1, 0.2], timeout=5), relukit.regions(network, box),
        relukit.explain(network, [0.1, 0.2]), relukit.compress(network, box), relukit.optimize(network, maximize=1, box=box),
        relukit.breakpoints(network, [0, 0], [1, 1]), relukit.build([[0, 0], [1, 1], [2, 0]]),
    ):  # fmt: skip
        text = found._repr_html_()
        assert text.count("<tr>") >= 3 and type(found).__name__ in text


def test_a_goal_that_is_a_number_names_an_output():
    network = relukit.load({"W0": np.eye(2), "b0": np.zeros(2), "W1": np.array([[1.0, 1], [3, 0]]), "b1": np.zeros(2)})
    box = Box([0, 0], [1, 1])
    assert relukit.optimize(network, maximize=1, box=box).value == pytest.approx(3)
    assert relukit.optimize(network, minimize=np.int64(0), box=box).value == pytest.approx(0, abs=1e-9)
    for bad in (2, -1, 0.5, True, float("nan")):
        with pytest.raises(InvalidInput, match="names an output, 0 to 1"):
            relukit.optimize(network, maximize=bad, box=box)


def test_flips_segments_and_optima_are_drawn(tmp_path):
    g = np.random.default_rng(0)
    network = from_layers(
        [g.standard_normal((6, 25)), g.standard_normal((2, 6))], [g.standard_normal(6), np.zeros(2)], [RELU]
    )
    x, box = g.uniform(0, 1, 25), Box(np.zeros(25), np.ones(25))
    found = relukit.flip(network, x, timeout=5, within=Box(x - 9, x + 9))
    assert found.witness is not None and len(found.plot().patches) == min(
        np.count_nonzero(abs(found.witness - x) > 1e-6), 20
    )
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(25, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    image = relukit.load(module.eval(), input_shape=(1, 5, 5))
    found = relukit.flip(image, x, timeout=5, within=Box(x - 9, x + 9))
    assert found.witness is not None
    before, after, change = found.plot()
    moved = (found.witness - found.x).reshape(5, 5)
    np.testing.assert_allclose(change.images[0].get_array(), moved)
    np.testing.assert_allclose(
        np.ptp(after.images[0].get_array() - before.images[0].get_array()) * np.ptp([found.x, found.witness]),
        np.ptp(moved),
    )
    line = relukit.breakpoints(network, x, 1 - x)
    assert len(line.plot().lines) == 2 + 1
    best = relukit.optimize(network, maximize="y[0]", box=box)
    assert best.plot().lines[0].get_ydata()[-1] == pytest.approx(best.history[-1][2])
    nothing = relukit.flip(network, x, timeout=2, within=Box(x, x + 1e-9))
    with pytest.raises(InvalidInput, match="no flip to draw"):
        nothing.plot()
