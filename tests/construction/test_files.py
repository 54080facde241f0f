"""Functions in files, points without a grid, the way back by command."""

import json
import sys

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator

import relukit
from relukit import InvalidInput, UnreadableFile, build
from relukit.cli import app
from relukit.cli._frame import run_app
from relukit.construction import Difference, Grid, MaxMin, Table, Triangulation, max_affine
from relukit.construction._files import read_function, write_function

G = np.random.default_rng(0)
FUNCTIONS = [
    Table([0.0, 0.1, 0.7, 2.0], [1.0, -1.0, 1 / 3, 0.0]),
    Grid((np.array([0.0, 0.4, 1.0]), np.array([-1.0, 0.3, 2.0, 3.0])), G.uniform(-1, 1, (3, 4))),
    Triangulation([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0, 1, 2]], [0.0, 1.0, 2.0]),
    MaxMin(np.array([[1.0, 2.0], [0.0, -1.0], [0.5, 0.5]]), np.array([0.0, 1.0, 0.25]), ((0, 1), (2,))),
    Difference(max_affine(np.eye(2), np.zeros(2)), max_affine(-np.eye(2), np.ones(2))),
]


@pytest.fixture
def run(capsys, monkeypatch):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["relukit", *map(str, arguments)])
        code = run_app(app)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("kind", [".json", ".npz", ".csv"])
def test_a_function_comes_back_from_its_file(function, kind, tmp_path):
    if (kind == ".npz" and isinstance(function, MaxMin | Difference)) or (
        kind == ".csv" and not isinstance(function, Table | Grid)
    ):
        with pytest.raises(InvalidInput, match=r"is written as \.json"):
            write_function(function, tmp_path / f"f{kind}")
        return
    again = read_function(write_function(function, tmp_path / f"f{kind}"))
    assert type(again) is type(function) and json.dumps(again.to_dict()) == json.dumps(function.to_dict())
    assert build(function.to_dict()).hidden_units == build(tmp_path / f"f{kind}").hidden_units


@pytest.mark.parametrize("kind", [".obj", ".ply"])
def test_a_surface_of_pieces_is_built_again(kind, tmp_path):
    weights = {"W0": np.array([[1.0, 0.5], [-0.25, 1.0], [1.0, 1.0]]), "b0": np.array([0.25, 0.0, -0.5]), "W1": np.array([[1.0, -2.0, 0.5]]), "b1": np.zeros(1)}  # fmt: skip
    network, box = relukit.load(weights), relukit.Box([-1, -1], [1, 1])
    built = build(relukit.regions(network, box).save(tmp_path / f"surface{kind}"), dtype="float64")
    x = box.sample(500, 0)
    assert np.abs(built.network(x) - network(x)).max() < 1e-12


def test_points_without_a_grid_are_triangulated(tmp_path, run):
    points = np.r_[[[0, 0], [1, 0], [0, 1], [1, 1]], G.uniform(0.1, 0.9, (12, 2))]
    rows = np.c_[points, np.sin(3 * points[:, 0]) + points[:, 1]]
    np.savetxt(tmp_path / "points.csv", rows, delimiter=",", fmt="%.17g")
    code, _, said = run("build", tmp_path / "points.csv")
    assert code == 2 and "--triangulate" in said
    code, said, _ = run("build", tmp_path / "points.csv", "--triangulate", "-o", tmp_path / "net.onnx", "--json")
    content = json.loads(said)
    assert code == 0 and content["form"] in ("mesh", "centered mesh") and content["max_error_float64"] < 1e-13
    x = G.uniform(0.05, 0.95, (300, 2))
    want = LinearNDInterpolator(points, rows[:, 2])(x)
    assert np.abs(relukit.load(tmp_path / "net.onnx")(x)[:, 0] - want).max() < 1e-4
    with pytest.raises(InvalidInput, match="is repeated"):
        build(rows[[0, 1, 2, 3, 3]], triangulate=True)
    with pytest.raises(InvalidInput, match="span no volume"):
        build(np.c_[np.arange(4.0), np.arange(4.0), np.ones(4)], triangulate=True)


def test_there_and_back_by_command(tmp_path, run):
    (tmp_path / "t.csv").write_text("x,y\n0,0\n1,2\n2,-1\n4,3.25\n8,1.25\n")
    net, back = tmp_path / "net.onnx", tmp_path / "back.csv"
    assert run("build", tmp_path / "t.csv", "-o", net)[0] == 0
    code, _, said = run("build", net, "-o", back)
    assert code == 2 and "--box" in said
    code, said, _ = run("build", net, "-o", back, "--box", "0,8", "--json")
    assert code == 0 and json.loads(said) == {"form": "table", "pieces": 4, "exact": True, "file": str(back)}
    assert read_function(back).to_dict() == {"x": [0, 1, 2, 4, 8], "y": [0, 2, -1, 3.25, 1.25]}
    code, said, _ = run("build", net, "--form", "breakpoints", "--box", "0,8", "--json")
    assert json.loads(said)["breakpoints"] == [1, 2, 4]
    code, said, _ = run("build", net, "--form", "max-min", "--box", "0,8", "-o", tmp_path / "f.json", "--json")
    assert code == 0 and json.loads(said)["exact"]
    form = build(tmp_path / "f.json").function
    assert isinstance(form, MaxMin) and np.array_equal(
        form(np.array([[0.5], [2.0], [3.0], [6.0]])), [1, -1, 1.125, 2.25]
    )
    third = relukit.load({"W0": np.array([[3.0]]), "b0": np.array([-1.0]), "W1": np.ones((1, 1)), "b1": np.zeros(1)})
    relukit.save(third, net)
    code, said, _ = run("build", net, "--box", "0,1", "-o", tmp_path / "third.json", "--json")
    content = json.loads(said)
    assert not content["exact"] and content["fractions"] == [["0", "1/3", "1"], ["0", "0", "2"]]


def test_errors_relative_to_the_values(tmp_path, run):
    (tmp_path / "t.csv").write_text("0,1\n1,50.3\n2,1000\n3,-2\n")
    content = json.loads(run("build", tmp_path / "t.csv", "--json")[1])
    assert content["largest_value"] == 1000 and content["max_error_float32"] > 1e-6
    for kind in ("float32", "float64"):
        assert content[f"relative_error_{kind}"] == content[f"max_error_{kind}"] / 1000
    assert content["relative_error_float32"] < 1e-6 and content["relative_error_float64"] < 1e-15
    content = json.loads(run("build", tmp_path / "t.csv", "--json", "--dtype", "float64")[1])
    assert content["max_error_float32"] is None and content["relative_error_float32"] is None


@pytest.mark.parametrize(
    ("y", "dtype", "message"),
    [
        ([0, 1e300, 0], "float32", r"values reach 1e\+300.*dtype='float64'"),
        ([0, 1e308, -1e308], "float64", "values reach .* Scale the values"),
        ([0, 1e-300, 0], "float32", r"no value is larger than 1e-300.*dtype='float64'"),
    ],
)
def test_values_that_a_precision_does_not_hold(y, dtype, message):
    with pytest.raises(InvalidInput, match=message):
        build(([0, 1, 2], y), dtype=dtype)


def test_bad_files_and_callables(tmp_path):
    for name, text in (("a.json", "{"), ("b.ply", "ply\nformat binary_little_endian 1.0\n"), ("c.npz", "no archive")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UnreadableFile, match="is no readable function"):
            build(tmp_path / name)
    (tmp_path / "d.json").write_text('{"z": 1}')
    with pytest.raises(InvalidInput, match="holds z: expected the keys"):
        build(tmp_path / "d.json")
    with pytest.raises(InvalidInput, match="f takes neither rows of 1 input"):
        build(lambda p: p[:, 0] + p[:, 1], (-1, 1), 0.1, lipschitz=2.0)
