"""The command line as a user meets it: start-up, answers, bad input, interruption."""

import gzip
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import relukit
from relukit.network import from_layers
from tests.strategies import RELU

ENV = os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def run(*arguments, cwd, **options):
    return subprocess.run(
        [sys.executable, "-m", "relukit", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENV,
        check=False,
        timeout=120,
        **options,
    )


@pytest.fixture
def folder(tmp_path):
    """A small digits-like classifier with rows, as ONNX and npz."""
    g = np.random.default_rng(2)
    weights = [g.standard_normal((8, 4)), g.standard_normal((6, 8)) / 2, g.standard_normal((3, 6))]
    network = from_layers(weights, [g.standard_normal(len(W)) / 4 for W in weights], [RELU, RELU], np.float32)
    relukit.save(network, tmp_path / "net.onnx")
    x = g.uniform(-1, 1, (40, 4))
    np.savez(tmp_path / "rows.npz", x=x, y=network.decide(x))
    return tmp_path


def test_help_is_quick_and_light(tmp_path):
    code = (
        "import sys, time\nfrom relukit.cli import app, run_app\nsys.argv=['relukit','--help']\nrun_app(app)\n"
        "heavy={'torch','numba','scipy','onnx','matplotlib','sklearn','keras'} & set(sys.modules)\nprint(sorted(heavy), time.process_time(), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV, check=True)
    heavy, seconds = found.stderr.rsplit(" ", 1)
    assert heavy.strip() == "[]"
    assert "summary" in found.stdout and float(seconds) > 0


def test_import_needs_numpy_alone_and_reading_needs_no_torch(folder):
    code = (
        "import sys, relukit\nlight = not {'torch','numba','scipy','onnx','typer','rich'} & set(sys.modules)\n"
        "net = relukit.load('net.onnx'); relukit.bounds.linear(net, relukit.Box([-1.0]*4, [1.0]*4)); relukit.health(net, [[0.0]*4])\n"
        "print(light, 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=ENV, check=True
    )
    assert found.stdout.split() == ["True", "False"]


def test_every_verb_is_callable_after_importing_everything():
    import importlib
    import pkgutil

    for module in pkgutil.walk_packages(relukit.__path__, "relukit."):
        if "gallery" not in module.name and "__main__" not in module.name:
            importlib.import_module(module.name)
    for name in ("load", "save", "open", "health", "regions", "flip", "compress", "fit"):
        assert callable(getattr(relukit, name)), name
        assert callable(getattr(relukit, name)), name


def test_the_commands_that_the_report_suggests(folder):
    np.savez(folder / "at.npz", x=np.array([[0.1, -0.2, 0.3, 0.4]]))
    for arguments, keys in [
        (("health", "net.onnx", "--data", "rows.npz"), {"layers", "rows"}),
        (
            ("regions", "net.onnx", "--plane", "rows.npz", "--plot", "p.svg", "--save", "p.npz"),
            {"regions", "vertices", "edges", "area_error", "cpu_seconds"},
        ),
        (
            ("flip", "net.onnx", "--at", "at.npz", "--timeout", "10", "--plot", "f.svg", "--image", "2x2"),
            {"status", "distance", "lower_bound", "upper_bound", "from", "to", "replay", "cpu_seconds"},
        ),
        (
            ("compress", "net.onnx", "--data", "at.npz", "-o", "small.onnx"),
            {"parameters_before", "parameters_after", "stable_units", "proven", "max_difference_float32"},
        ),
        (("supports",), {"vnnlib", "operators"}),
    ]:
        found = run(*arguments, "--json", cwd=folder)
        assert found.returncode == 0, found.stderr
        assert keys <= set(json.loads(found.stdout)), arguments
        assert run(*arguments, cwd=folder).returncode == 0
    assert all("<svg" in (folder / name).read_text() for name in ("p.svg", "f.svg"))
    with np.load(folder / "p.npz") as saved:
        assert len(saved["offsets"]) > 1
    # One row is a domain of one point: every gate is decided and the network is a constant there.
    small, network = relukit.load(folder / "small.onnx"), relukit.load(folder / "net.onnx")
    x = np.array([[0.1, -0.2, 0.3, 0.4]])
    np.testing.assert_allclose(small(x), network(x), rtol=1e-5, atol=1e-5)
    assert run("health", "net.onnx", "--data", "rows.npz", "--check", cwd=folder).returncode in (0, 10)


def test_verify_forms(folder):
    sides = "".join(f"(assert (>= X_{i} -0.5))(assert (<= X_{i} 0.5))" for i in range(4))
    (folder / "p.vnnlib").write_text(BOX + sides + "(assert (>= Y_0 1000))")
    (folder / "q.vnnlib").write_text(BOX + sides + "(assert (>= Y_0 -1000))")
    assert run("verify", "net.onnx", "p.vnnlib", "10", cwd=folder).stdout == "unsat\n"
    found = run("verify", "net.onnx", "q.vnnlib", "10", "result.txt", "--check", cwd=folder)
    assert found.returncode == 10 and (folder / "result.txt").read_text().startswith("sat\n((X_0 ")
    assert run("verify", "q.vnnlib", "--network", "N=net.onnx", "--json", cwd=folder).returncode == 0
    assert run("verify", "net.onnx", cwd=folder).returncode == 2
    for wrong, words in (
        (("net.onnx", "p.vnnlib", "soon"), "number of seconds"), (("net.onnx", "p.vnnlib", "nan"), "number of seconds"), (("p.vnnlib", "net.onnx"), "comes first"),
        (("--instances", "list.csv", "--certificate", "c.npz"), "one property"), (("net.onnx", "p.vnnlib", "--execution", "float16"), "float16"),
    ):  # fmt: skip
        found = run("verify", *wrong, cwd=folder)
        assert found.returncode == 2 and words in found.stderr, found.stderr
    (folder / "list.csv").write_text("net.onnx,p.vnnlib,5\nnet.onnx,q.vnnlib,5\nnet.onnx,missing.vnnlib,5\n")
    found = run("verify", "--instances", "list.csv", "--out", "out", "--json", cwd=folder)
    assert json.loads(found.stdout)["counts"] == {"unsat": 1, "sat": 1, "error": 1}
    assert run("verify", "--instances", "list.csv", "--out", "out", "--check", cwd=folder).returncode == 10


def test_summary_json(folder):
    found = run("summary", "net.onnx", "--json", cwd=folder)
    assert found.returncode == 0, found.stderr
    content = json.loads(found.stdout)
    assert (content["inputs"], content["outputs"], content["units"]) == (4, 3, 14)


def test_open_writes_both_files_and_all_keys(folder):
    found = run("open", "net.onnx", "--data", "rows.npz", "--json", "--time-limit", "10", cwd=folder)
    assert found.returncode == 0, found.stderr
    content = json.loads((folder / "report" / "report.json").read_text())
    assert content == json.loads(found.stdout)
    assert content["schema_version"] == 1
    assert {"units", "silent", "dead", "proven_dead", "always_on", "zero_share", "grad_norm"} <= set(
        content["health"]["layers"][0]
    )
    assert content["regions"]["count"] > 1 and content["regions"]["area_error"] < 1e-12
    assert {"from", "to", "norm", "distance", "lower", "upper", "status", "replayed"} <= set(content["flips"][0])
    found = [f for f in content["flips"] if f["distance"] is not None]
    assert len(found) >= 5
    assert all(f["replayed"] and f["lower"] <= f["distance"] and f["status"] in ("proven", "bounded") for f in found)
    assert {"parameters_before", "parameters_after", "max_difference", "proven"} <= set(content["compress"])
    page = (folder / "report" / "index.html").read_text()
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert "linear pieces" in page.lower()


def write(path, content):
    path.write_bytes(content)
    return path.name


def hostile_external(folder):
    tensor = TensorProto(name="W", data_type=1, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 2])],
        [helper.make_tensor_value_info("y", 1, None)],
        [tensor],
    )
    (folder / "external.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return "external.onnx"


def operator(folder, kind, name, shape=(1, 4)):
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], ["y"], name="the_node")],
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    onnx.save(helper.make_model(graph), folder / name)
    return name


def pickled(folder):
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.system, ("touch exploded",)

    (folder / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    return "bomb.pt"


# What arrives, and what the one sentence must say. Each gives exit code 2 and writes nothing.
BAD_MODELS = {
    "missing": (lambda f: "nowhere.onnx", "does not exist"),
    "folder": (lambda f: f, "is a folder"),
    "kind": (lambda f: write(f / "net.docx", b"x"), "unknown kind of file"),
    "table": (lambda f: write(f / "rows.csv", b"a,b\n1,2\n"), "relukit train makes one from it"),
    "joblib": (lambda f: write(f / "mlp.joblib", b"\x80\x04N."), "relukit.open in Python"),
    "empty": (lambda f: write(f / "empty.onnx", b""), "is empty"),
    "pointer": (
        lambda f: write(f / "lfs.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        "git lfs pull",
    ),
    "truncated": (lambda f: write(f / "cut.onnx", (f / "net.onnx").read_bytes()[:300]), "damaged or truncated"),
    "noise": (lambda f: write(f / "noise.onnx", bytes(range(256)) * 9), "damaged or truncated"),
    "bad gzip": (lambda f: write(f / "net.onnx.gz", b"\x1f\x8b" + b"0" * 50), "damaged .gz"),
    "cut gzip": (
        lambda f: write(f / "half.onnx.gz", gzip.compress((f / "net.onnx").read_bytes())[:200]),
        "damaged .gz",
    ),
    "bad npz": (lambda f: write(f / "bad.npz", b"PK\x03\x04 nothing"), "npz"),
    "external data": (hostile_external, "outside the model's folder"),
    "pickle": (pickled, "pickled Python objects"),
    "bad keras": (lambda f: write(f / "bad.keras", b"PK\x03\x04 nothing"), "no readable Keras model"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models(folder, name):
    make, words = BAD_MODELS[name]
    found = run("open", make(folder), cwd=folder)
    assert found.returncode == 2, found.stderr
    lines = [line for line in found.stderr.strip().splitlines() if line.startswith("relukit:")]
    assert len(lines) == 1 and words in lines[0], found.stderr
    assert "Traceback" not in found.stderr
    assert not (folder / "report").exists() and not (folder / "exploded").exists()


@pytest.mark.parametrize(
    ("kind", "shape", "words"), [("Tan", (1, 4), "Tan at node 'the_node'"), ("Relu", (1, "length"), "dynamic shape")]
)
def test_networks_that_cannot_be_read_are_reported_not_failed(folder, kind, shape, words):
    found = run("open", operator(folder, kind, "odd.onnx", shape), "--json", cwd=folder)
    assert found.returncode == 0, found.stderr
    reasons = {part["reason"] for part in json.loads(found.stdout)["skipped"]}
    assert len(reasons) == 1 and words in reasons.pop()  # told once
    assert run("summary", "odd.onnx", cwd=folder).returncode == 2


BAD_DATA = {
    "missing": (lambda f: "nowhere.npz", "does not exist"),
    "width": (lambda f: save(f, x=np.zeros((3, 5))), "rows of 5 values"),
    "nan": (lambda f: save(f, x=np.array([[0, 1, 2, np.nan]])), "row 0, column 3 is nan"),
    "text": (lambda f: save(f, x=np.array([["a"] * 4])), "must be numbers"),
    "no x": (lambda f: save(f, z=np.zeros((3, 4))), "no array 'x'"),
    "no row": (lambda f: save(f, x=np.zeros((0, 4))), "no row"),
    "labels": (lambda f: save(f, x=np.zeros((3, 4)), y=np.zeros(2)), "3 rows and 2 labels"),
    "objects": (lambda f: save(f, x=np.array([[None, 1, 2, 3]], dtype=object)), "damaged"),
    "kind": (lambda f: write(f / "rows.parquet", b"x"), "unknown kind"),
}


def save(folder, **arrays):
    np.savez(folder / "bad.npz", **arrays)
    return "bad.npz"


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(folder, name):
    make, words = BAD_DATA[name]
    found = run("open", "net.onnx", "--data", make(folder), cwd=folder)
    assert found.returncode == 2 and words in found.stderr, found.stderr
    assert not (folder / "report").exists()


def test_one_row_is_enough(folder):
    np.savez(folder / "one.npz", x=np.zeros((1, 4)))
    found = run("open", "net.onnx", "--data", "one.npz", "--json", "--time-limit", "5", cwd=folder)
    assert found.returncode == 0, found.stderr
    content = json.loads(found.stdout)
    assert any("three rows" in part["reason"] for part in content["skipped"])


BOX = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const X_2 Real)(declare-const X_3 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)(declare-const Y_2 Real)"
SIDES = "".join(f"(assert (>= X_{i} -0.5))(assert (<= X_{i} 0.5))" for i in range(4))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOX + SIDES.replace("(<= X_2 0.5)", "(<= X_2 -0.7)"), "empty input box"),
        (BOX + SIDES.replace("(assert (<= X_2 0.5))", ""), "X_2 has no upper bound"),
        (BOX + SIDES + "(assert (<= (* Y_0 Y_1) 0))", "is not linear"),
        (BOX + SIDES + "(assert (<= Y_0 Y_1)", "not closed"),
        ("hello", "no VNN-LIB"),
    ],
)
def test_bad_boxes(folder, text, words):
    (folder / "box.vnnlib").write_text(text)
    found = run("open", "net.onnx", "--box", "box.vnnlib", cwd=folder)
    assert found.returncode == 2 and words in found.stderr, found.stderr


def test_a_box_of_another_size(folder):
    (folder / "box.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))(assert (>= X_0 0))"
    )
    found = run("open", "net.onnx", "--box", "box.vnnlib", cwd=folder)
    assert found.returncode == 2 and "has 1 inputs where 4 are needed" in found.stderr


def test_no_permission_to_write(folder):
    (folder / "taken").write_text("")
    found = run("open", "net.onnx", "--data", "rows.npz", "-o", "taken/report", "--time-limit", "1", cwd=folder)
    assert found.returncode == 2 and "cannot write" in found.stderr
    assert (folder / "taken").read_text() == ""


def test_open_takes_ranges_and_refuses_what_is_no_shape(folder):
    found = run("open", "net.onnx", "--box=-1:1", "--time-limit", "1", cwd=folder)
    assert found.returncode == 0 and "network   4 -> 3, 14 units" in found.stdout, found.stderr
    content = json.loads((folder / "report" / "report.json").read_text())
    assert content["compress"]["domain"] == "the given box"
    found = run("open", "net.onnx", "--input-shape", "a,b", "-o", "other", cwd=folder)
    assert found.returncode == 2 and "--input-shape takes the sizes" in found.stderr
    found = run("open", "net.onnx", "--box", "1:-1", "-o", "other", cwd=folder)
    assert found.returncode == 2 and "lower > upper at input 0" in found.stderr and not (folder / "other").exists()


def test_usage_errors(folder):
    assert run("open", cwd=folder).returncode == 2
    assert run("nonsense", cwd=folder).returncode == 2
    assert run("--version", cwd=folder).stdout.startswith("relukit ")


def test_interrupt_leaves_nothing_half_written(folder):
    g = np.random.default_rng(0)
    weights = [g.standard_normal((60, 30)), g.standard_normal((60, 60)) / 4, g.standard_normal((5, 60))]
    relukit.save(
        from_layers(weights, [g.standard_normal(len(W)) for W in weights], [RELU, RELU], np.float32),
        folder / "big.onnx",
    )
    np.savez(folder / "wide.npz", x=g.uniform(-1, 1, (50, 30)))
    process = subprocess.Popen(
        [sys.executable, "-m", "relukit", "open", "big.onnx", "--data", "wide.npz", "--time-limit", "100"],
        cwd=folder,
        env=ENV,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in errors, errors
    assert not (folder / "report").exists() or not list((folder / "report").iterdir())


@pytest.mark.parametrize(
    ("module", "extra"),
    [("pandas", "gallery"), ("lightgbm.sklearn", "gallery"), ("keras", "keras"), ("dask", "cluster")],
)
def test_a_missing_optional_library_is_named_with_its_extra(module, extra, monkeypatch, capsys):
    from relukit.cli import run_app

    for name in (module, module.partition(".")[0]):
        monkeypatch.setitem(sys.modules, name, None)
    assert run_app(lambda: importlib.import_module(module)) == 2
    assert f"pip install 'relukit[{extra}]'" in capsys.readouterr().err


def test_a_missing_module_that_no_extra_brings_keeps_its_traceback():
    from relukit.cli import run_app

    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        run_app(lambda: importlib.import_module("relukit.nowhere"))
