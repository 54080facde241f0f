"""`relukit compress` on domains of every kind and on bad input: one line that says what to do, exit code 2."""

import json
import sys

import numpy as np
import pytest

import relukit


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    from relukit.cli import app
    from relukit.cli._frame import run_app

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["relukit", "compress", *map(str, arguments)])
        code = run_app(app)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def arrays(seed=0, **more):
    g = np.random.default_rng(seed)
    return {
        "W0": g.standard_normal((8, 2)),
        "b0": g.standard_normal(8) + 1,
        "W1": g.standard_normal((2, 8)),
        "b1": np.zeros(2),
        **more,
    }


def conditions(*rows):
    declared = "".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1"))
    return declared + "".join(f"(assert {r})" for r in rows)


SQUARE = ("(<= X_0 1)", "(>= X_0 -1)", "(<= X_1 1)", "(>= X_1 -1)", "(>= Y_0 0)")


def test_domains(run, tmp_path):
    np.savez("net.npz", **arrays())
    np.savez("box.npz", lo=[-1, -1], hi=[1, 1])
    (tmp_path / "box.vnnlib").write_text(conditions(*SQUARE))
    (tmp_path / "strip.vnnlib").write_text(conditions(*SQUARE, "(<= (+ X_0 X_1) 0.1)", "(>= (+ X_0 X_1) -0.1)"))
    np.savez("rows.npz", x=np.random.default_rng(0).uniform(-1, 1, (30, 2)))
    found = {}
    for name, options in {
        "ranges": ["--box=-1:1"], "each": ["--box=-1:1,-1:1"], "arrays": ["--box", "box.npz"], "vnnlib": ["--box", "box.vnnlib"],
        "strip": ["--box", "strip.vnnlib"], "rows": ["--data", "rows.npz", "--margin", "0.01"],
    }.items():  # fmt: skip
        code, out, err = run("net.npz", *options, "-o", "small.onnx", "--proof", "p", "--json")
        assert code == 0, err
        found[name] = json.loads(out)
        assert found[name]["error_bound_file"] < 1e-9 and found[name]["max_difference_float32"] <= max(
            found[name]["float32_bound"], 1e-9
        )
        code, out, _ = run("net.npz", "-o", "small.onnx", "--check", "p", "--json")
        assert code == 0 and json.loads(out)["status"] == "accepted"
    same = [found[k]["stable_units"] for k in ("ranges", "each", "arrays", "vnnlib")]
    assert (
        len(set(same)) == 1 and found["strip"]["stable_units"] >= same[0] and found["rows"]["stable_units"] >= same[0]
    )


def test_a_proof_of_other_files_is_rejected(run):
    np.savez("net.npz", **arrays(lo=[-1, -1], hi=[1, 1]))
    np.savez("other.npz", **arrays(1, lo=[-1, -1], hi=[1, 1]))
    assert run("net.npz", "-o", "a.onnx", "--proof", "a")[0] == 0
    assert run("other.npz", "-o", "b.onnx", "--proof", "b")[0] == 0
    for network, small, proof in (("net", "a", "b"), ("net", "b", "a"), ("other", "a", "a"), ("other", "b", "a")):
        code, out, _ = run(f"{network}.npz", "-o", f"{small}.onnx", "--check", proof, "--json")
        assert code == 10 and json.loads(out)["status"] == "rejected" and json.loads(out)["reason"]


def test_already_minimal(run):
    np.savez("one.npz", W0=np.ones((1, 1)), b0=[0.0], W1=np.ones((1, 1)), b1=[0.0], lo=[-1], hi=[1])
    code, out, _ = run("one.npz", "-o", "s.onnx", "--proof", "p", "--json")
    content = json.loads(out)
    assert code == 0 and content["form"] == "unchanged" and "nothing can be removed" in content["reason"]
    assert run("one.npz", "-o", "s.onnx", "--check", "p")[0] == 0
    np.savez("line.npz", W0=np.ones((1, 1)), b0=[0.0], lo=[-1], hi=[1])
    code, out, _ = run("line.npz", "--json")
    assert code == 0 and "no hidden units" in json.loads(out)["reason"]


def test_bad_input(run, tmp_path):
    torch = pytest.importorskip("torch")
    np.savez("net.npz", **arrays())
    np.savez("wide.npz", **arrays(lo=[-np.inf, 0], hi=[1, 1]))
    np.savez("upside.npz", **arrays(lo=[2, 0], hi=[1, 1]))
    np.savez("nan.npz", **(arrays(lo=[-1, -1], hi=[1, 1]) | {"b0": np.full(8, np.nan)}))
    (tmp_path / "half.vnnlib").write_text(conditions("(<= X_0 1)", "(>= X_0 0)", "(<= X_1 1)", "(>= Y_0 0)"))
    (tmp_path / "none.vnnlib").write_text(conditions(*SQUARE, "(>= X_0 2)"))
    (tmp_path / "cut.vnnlib").write_text(conditions(*SQUARE, "(<= (+ X_0 X_1) -5)"))
    np.savez("three.npz", x=np.zeros((4, 3)))
    smooth = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).eval()
    relukit.save(relukit.load(smooth, input_shape=(2,)), "tanh.onnx")
    for arguments, words in [
        (["net.npz"], "needs a domain"), (["wide.npz"], "finite"), (["upside.npz"], "lower > upper"), (["nan.npz"], "NaN"),
        (["net.npz", "--box", "half.vnnlib"], "no lower bound"), (["net.npz", "--box", "none.vnnlib"], "empty"),
        (["net.npz", "--box", "cut.vnnlib"], "no point"), (["net.npz", "--box=0:1,0:1,0:1"], "takes 2 ranges"), (["net.npz", "--box=a:b"], "LO:HI"),
        (["net.npz", "--box=-inf:1"], "finite"), (["net.npz", "--box", "three.npz"], "arrays lo and hi"), (["net.npz", "--data", "three.npz"], "2 inputs"),
        (["net.npz", "--box=-1:1", "--data", "three.npz"], "one of them"), (["net.npz", "--box=-1:1", "--tolerance", "-1"], "not negative"),
        (["net.npz", "--box=-1:1", "--proof", "p"], "two files"), (["net.npz", "--check", "p"], "two files"),
        (["net.npz", "--check", "p", "-o", "net.npz"], "does not exist"), (["tanh.onnx", "--box=-1:1"], "What still can be done"),
        (["missing.npz"], "does not exist"), (["net.npz", "--box=-1:1", "-o", "small.txt"], ".onnx or .npz"),
        (["net.npz", "--box=-1:1", "--timeout", "-1"], "seconds"), (["net.npz", "--margin", "0.1", "--box=-1:1"], "--data ROWS"),
    ]:  # fmt: skip
        code, out, err = run(*arguments)
        assert code == 2 and words in err and err.count("\n") == 1 and not out, (arguments, err)
