"""Functions in files, points without a grid, the way back by command."""

import json
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator

import relukit
from relukit import InvalidInput, UnreadableFile, build
from relukit.cli import app
from relukit.cli._frame import run_app
from relukit.construction import Difference, Grid, MaxMin, Table, Triangulation, max_affine
from relukit.construction._files import read_function, write_function
from tests.oracles import exact_forward

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
    code, said, _ = run("build", net, "--form", "max-min", "--box", "0,8", "--check", "--json")
    assert code == 0 and json.loads(said)["same_function"] is True and json.loads(said)["largest_difference"] == 0
    code, said, _ = run("build", net, "--box", "0,8", "--check")
    assert code == 0 and "the same function" in said
    third = relukit.load({"W0": np.array([[3.0]]), "b0": np.array([-1.0]), "W1": np.ones((1, 1)), "b1": np.zeros(1)})
    relukit.save(third, net)
    code, said, _ = run("build", net, "--box", "0,1", "-o", tmp_path / "third.json", "--json")
    content = json.loads(said)
    assert not content["exact"] and content["fractions"] == [["0", "1/3", "1"], ["0", "0", "2"]]
    code, said, _ = run("build", net, "--box", "0,1", "--check", "--json")
    content = json.loads(said)
    assert content["same_function"] is False and 0 < content["largest_difference"] < 1e-15
    code, _, said = run("build", net, "--box", "0,1", "--form", "breakpoints", "--check")
    assert code == 2 and "are no function" in said


def test_plane_functions_come_back_by_command(tmp_path, run):
    """Two outputs; the second one as a max-min form, exactly, and as a triangulation, in which every number was rounded once."""
    g = np.random.default_rng(4)
    weights = {"W0": g.integers(-8, 9, (4, 2)) / 4, "b0": g.integers(-4, 5, 4) / 4, "W1": g.integers(-8, 9, (2, 4)) / 4, "b1": np.zeros(2)}  # fmt: skip
    np.savez(tmp_path / "net.npz", lo=-np.ones(2), hi=np.ones(2), **weights)
    for form, most in (("max-min", 0.0), ("triangulation", 1e-13)):
        out = tmp_path / f"{form}.json"
        code, said, _ = run(
            "build", tmp_path / "net.npz", "--form", form, "--output", 1, "--check", "-o", out, "--json"
        )
        assert code == 0 and json.loads(said)["largest_difference"] <= most
        code, said, _ = run("build", out, "-o", tmp_path / "again.onnx", "--dtype", "float64", "--json")
        assert code == 0
        x = g.uniform(-1, 1, (300, 2))
        want = np.maximum(x @ weights["W0"].T + weights["b0"], 0) @ weights["W1"][1]
        assert np.abs(relukit.load(tmp_path / "again.onnx")(x)[:, 0] - want).max() < 1e-12


@pytest.mark.parametrize("form", ["max-min", "difference"])
def test_max_min_forms_by_command_in_onnxruntime(form, tmp_path, run):
    import onnxruntime

    A, b = G.standard_normal((6, 3)), G.standard_normal(6)
    first = {"A": A.tolist(), "b": b.tolist(), "groups": [[0, 1, 2], [3, 4], [5]]}
    second = {"A": A[:2].tolist(), "b": b[:2].tolist(), "groups": [[0], [1]]}
    (tmp_path / "f.json").write_text(json.dumps(first if form == "max-min" else {"first": first, "second": second}))
    code, said, _ = run("build", tmp_path / "f.json", "-o", tmp_path / "net.onnx", "--json")
    content = json.loads(said)
    assert code == 0 and content["max_error_float32"] <= content["error_bound_float32"] < 1e-4
    x = G.uniform(-1, 1, (500, 3)).astype(np.float32)
    z = x.astype(float) @ A.T + b
    want = np.maximum(np.maximum(z[:, :3].min(axis=1), z[:, 3:5].min(axis=1)), z[:, 5])
    want = want if form == "max-min" else want - z[:, :2].max(axis=1)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: x})[0][:, 0]
    assert np.abs(got - want).max() <= content["error_bound_float32"] + 1e-12


def ply_by_its_text(path):
    """Elements of an ASCII PLY file as its text says (Turk, The PLY polygon file format, 1994): typed numbers, lists begin with how many."""
    ranges = {"char": (-128, 127), "uchar": (0, 255), "short": (-32768, 32767), "ushort": (0, 65535), "int": (-(2**31), 2**31 - 1), "uint": (0, 2**32 - 1)}  # fmt: skip
    lines = iter(path.read_text(encoding="ascii").split("\n"))
    assert next(lines) == "ply" and next(lines) == "format ascii 1.0"
    elements = []
    for line in lines:
        words = line.split(" ")
        if words == ["end_header"]:
            break
        if words[0] == "element":
            elements.append((words[1], int(words[2]), []))
        elif words[0] == "property":
            elements[-1][2].append(words[1:])
        else:
            assert words[0] in ("comment", "obj_info")

    def number(kind, word):
        if kind in ("float", "double"):
            return float(word)
        low, high = ranges[kind]
        assert low <= int(word) <= high, (kind, word)
        return int(word)

    content = {}
    for name, count, properties in elements:
        content[name] = []
        for _ in range(count):
            words, row = iter(next(lines).split(" ")), {}
            for kind, *rest in properties:
                if kind == "list":
                    row[rest[2]] = [number(rest[1], next(words)) for _ in range(number(rest[0], next(words)))]
                else:
                    row[rest[0]] = number(kind, next(words))
            assert next(words, None) is None
            content[name].append(row)
    assert list(lines) == [""]
    return content


def test_surfaces_in_files_are_the_network(tmp_path):
    """The mesh of output 0 covers the box once, and its corners lie on the graph in rational arithmetic."""
    weights = [np.array([[1.0, 0.5], [-0.25, 1.0], [1.0, 1.0]]), np.array([[1.0, -2.0, 0.5]])]
    biases = [np.array([0.25, 0.0, -0.5]), np.zeros(1)]
    network = relukit.load({"W0": weights[0], "b0": biases[0], "W1": weights[1], "b1": biases[1]})
    found = relukit.regions(network, relukit.Box([-1, -1], [1, 1]))
    content = ply_by_its_text(found.save(tmp_path / "surface.ply"))
    points = [(p["x"], p["y"], p["z"]) for p in content["vertex"]]
    for x, y, z in points:
        assert abs(exact_forward(weights, biases, (x, y))[1][0] - Fraction(z)) < 1e-15
    total = Fraction(0)
    for face in content["face"]:
        ring = [tuple(map(Fraction, points[i][:2])) for i in face["vertex_indices"]]
        total += sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(ring, ring[1:] + ring[:1])) / 2
    assert abs(total - 4) < 1e-14 and len(content["face"]) == len(found) == 6


def test_a_face_with_many_corners_counts_beyond_a_byte(tmp_path):
    """300 half-planes leave a disc with 300 corners."""
    turn = 2 * np.pi * np.arange(300) / 300
    rows = np.c_[np.cos(turn), np.sin(turn)]
    network = relukit.load({"W0": rows, "b0": -np.ones(300), "W1": np.ones((1, 300)), "b1": np.zeros(1)})
    found = relukit.regions(network, relukit.Box([-1.001, -1.001], [1.001, 1.001]))
    content = ply_by_its_text(found.save(tmp_path / "disc.ply"))
    assert max(len(face["vertex_indices"]) for face in content["face"]) >= 300


def test_surfaces_of_other_programs(tmp_path, run):
    """Elements and properties in another order, comments, further properties; corners counted backwards."""
    (tmp_path / "a.ply").write_text(
        "ply\ncomment made elsewhere\nformat ascii 1.0\nelement face 2\nproperty uchar flag\nproperty list uchar int vertex_index\n"
        "element vertex 4\nproperty float z\nproperty float x\nproperty float y\nproperty uchar red\nend_header\n"
        "7 3 0 1 2\n7 3 0 2 3\n0 0 0 255\n1 1 0 255\n3 1 1 255\n2 0 1 255\n"
    )
    (tmp_path / "b.obj").write_text("v 0 0 0\nv 1 0 1\nv 1 1 3\nv 0 1 2\nf -4 -3 -2\nf -4/1/1 3/1/1 4//2\n")
    x = G.uniform(0, 1, (200, 2))
    for name in ("a.ply", "b.obj"):
        code, said, _ = run("build", tmp_path / name, "-o", tmp_path / "net.onnx", "--json")
        assert code == 0 and json.loads(said)["max_error_float64"] < 1e-15
        assert np.abs(relukit.load(tmp_path / "net.onnx")(x)[:, 0] - (x[:, 0] + 2 * x[:, 1])).max() < 1e-5
    (tmp_path / "c.ply").write_text((tmp_path / "a.ply").read_text().replace("vertex 4", "vertex 9"))
    code, _, said = run("build", tmp_path / "c.ply")
    assert code == 2 and "4 rows of vertex, the header says 9" in said


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
