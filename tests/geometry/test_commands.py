"""`relukit regions` and `relukit explain` as a person runs them: keys of the JSON, kinds of files, sentences for bad input."""

import json
import xml.dom.minidom

import numpy as np
import pytest
from typer.testing import CliRunner

import relukit
from relukit.cli import app
from relukit.geometry import plane_of_inputs

RUN = CliRunner()


@pytest.fixture
def files(tmp_path):
    g = np.random.default_rng(0)
    for D in (1, 2, 3):
        layers = {
            "W0": g.standard_normal((8, D)),
            "b0": g.standard_normal(8),
            "W1": g.standard_normal((2, 8)),
            "b1": np.zeros(2),
        }
        np.savez(tmp_path / f"d{D}.npz", lo=-np.ones(D), hi=np.ones(D), **layers)
    np.savez(
        tmp_path / "wide.npz",
        W0=g.standard_normal((9, 6)),
        b0=g.standard_normal(9),
        W1=g.standard_normal((3, 9)),
        b1=np.zeros(3),
    )
    np.savetxt(tmp_path / "rows.csv", g.standard_normal((4, 6)), delimiter=",")
    return tmp_path


def answer(*arguments):
    found = RUN.invoke(app, [str(a) for a in (*arguments, "--json")])
    assert found.exit_code == 0, (found.output, found.exception)
    return json.loads(found.stdout)


@pytest.mark.parametrize("D", [1, 2, 3])
def test_counts_of_a_file(files, D):
    content = answer("regions", files / f"d{D}.npz", "--count")
    whole = relukit.regions(relukit.load(files / f"d{D}.npz"))
    assert (content["regions"], content["vertices"], content["edges"]) == (len(whole), len(whole.vertices), whole.edges)
    assert content["area_error"] < 1e-12 and content["cpu_seconds"] < 5 and content["timed_call"] == 2
    assert content["stopped_at"] is None and content["regions"] <= content["upper_bounds"]["serra_2018"]


def test_planes_slices_and_polygons(files):
    rows = np.loadtxt(files / "rows.csv", delimiter=",")
    network = relukit.load(files / "wide.npz")
    table = files / "rows.csv"
    number = lambda row: ",".join(map(repr, row.tolist()))
    expected = len(relukit.regions(network, plane=tuple(rows[:3])))
    assert answer("regions", files / "wide.npz", "--plane", table)["regions"] == expected
    assert (
        answer("regions", files / "wide.npz", "--plane", f"{table}:0", f"{table}:1", number(rows[2]))["regions"]
        == expected
    )
    assert (
        answer("regions", "--plane", f"{table}:0", f"{table}:1", f"{table}:2", files / "wide.npz")["regions"]
        == expected
    )
    cut = answer("regions", files / "wide.npz", "--slice", "1,4", "--at", f"{table}:3", "--box=-2,2")
    inside = relukit.regions(network, relukit.Box([-2, -2], [2, 2]), plane_of_inputs(rows[3], 1, 4))
    assert cut["regions"] == len(inside)
    part = answer("regions", files / "d2.npz", "--polygon", "0,0;1,0;0,1")
    assert abs(part["area"] - 0.5) < 1e-14 and part["area_error"] < 1e-12


def test_kinds_of_files(files):
    for D, kinds in {
        1: "npz json png",
        2: "npz json geojson graphml svg png ply obj",
        3: "npz json graphml png ply obj",
    }.items():
        found = relukit.regions(relukit.load(files / f"d{D}.npz"))
        for kind in kinds.split():
            path = found.save(files / f"p{D}.{kind}")
            assert path.stat().st_size > 100
        with np.load(files / f"p{D}.npz") as saved:
            assert len(saved["A"]) == len(found) and np.array_equal(saved["neighbors"], found.neighbors)
        assert json.loads((files / f"p{D}.json").read_text())["regions"] == len(found)
    shapes = json.loads((files / "p2.geojson").read_text())
    assert (
        shapes["type"] == "FeatureCollection"
        and shapes["features"][0]["geometry"]["coordinates"][0][0]
        == shapes["features"][0]["geometry"]["coordinates"][0][-1]
    )
    xml.dom.minidom.parse(str(files / "p2.svg"))
    lines = (files / "p3.obj").read_text().splitlines()
    assert sum(line.startswith("f ") for line in lines) == found.facet_count
    content = answer(
        "regions", files / "d2.npz", "--plot", files / "depth.png", "--color", "depth", "--save", files / "again.npz"
    )
    assert content["regions"] and (files / "depth.png").stat().st_size > 1000


def test_limit_says_where_it_stopped(files):
    found = RUN.invoke(app, ["regions", str(files / "d3.npz"), "--limit", "5", "--json"])
    content = json.loads(found.stdout)
    assert (
        found.exit_code == 0
        and content["stopped_at"] == 5
        and not content["complete"]
        and content["area_error"] is None
    )


def test_explain(files):
    content = answer("explain", files / "wide.npz", "--at", f"{files / 'rows.csv'}:1", "--plot", files / "why.png")
    network = relukit.load(files / "wide.npz")
    found = relukit.explain(network, np.loadtxt(files / "rows.csv", delimiter=",")[1])
    assert content["decision"] == found.decision and content["nearest_wall"]["unit"] == found.walls[0].unit
    np.testing.assert_allclose(content["map"]["A"], found.A)
    assert len(content["pattern"]["relu0"]) == 9 and (files / "why.png").stat().st_size > 1000
    assert RUN.invoke(app, ["explain", str(files / "wide.npz"), "--at", "1,2,3,4,5,6"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("regions", "wide.npz"), "give a box of the 6 input"),
        (("regions", "wide.npz", "--plane", "1,2,3,4,5,6", "1,2,3,4,5,6", "0,0,0,0,0,0"), "lie on a line"),
        (("regions", "wide.npz", "--plane", "1,2", "0,0", "1,1"), "has 2 numbers, the network takes 6"),
        (("regions", "wide.npz", "--plane", "rows.csv:9", "rows.csv:0", "rows.csv:1"), "rows 0 to 3"),
        (("regions", "wide.npz", "--slice", "1,1", "--box=-1,1"), "two different inputs"),
        (("regions", "wide.npz", "--slice", "0,1"), "brings no lo and hi"),
        (("regions", "d2.npz", "--box", "0,0,1"), "2 ranges LO:HI, or 4 numbers"),
        (("regions", "d2.npz", "--box=0,0,0,1"), "no area"),
        (("regions", "d2.npz", "--box=0,0,inf,1"), "finite"),
        (("regions", "d2.npz", "--polygon", "0,0;1,1;2,2"), "no area"),
        (("regions", "d2.npz", "--polygon", "0,0;2,0;0.1,0.1;0,2"), "not convex"),
        (("regions", "d2.npz", "--at", "0,0"), "belongs to --slice"),
        (("regions", "d2.npz", "--save", "p.txt"), "saved as"),
        (("regions", "d2.npz", "d3.npz"), "one network at a time"),
        (("regions", "d2.npz", "--cuont"), "no such option: --cuont"),
        (("explain", "wide.npz", "--at", "rows.csv"), "has 4 rows"),
        (("explain", "wide.npz", "--at", "nowhere.csv"), "none of these"),
        (("explain", "wide.npz", "--at", "nan,0,0,0,0,0"), "finite"),
    ],
)
def test_bad_input_is_one_sentence(files, monkeypatch, arguments, sentence):
    monkeypatch.chdir(files)
    found = RUN.invoke(app, list(arguments))
    assert isinstance(found.exception, relukit.RelukitError), found.output
    assert sentence in str(found.exception)
