"""Tables that others bring, and the commands that read them."""

import gzip
import json

import numpy as np
import pytest

import relukit
from relukit.gallery import STUDIES, _tables


def test_a_packed_table_is_read_by_its_bytes_and_a_broken_one_refused(tmp_path):
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"a,b\n1,x\n"))
    assert _tables.read_csv(tmp_path / "packed.csv", ["b"]).b.tolist() == ["x"]
    for name, content, says in [
        ("empty.csv", b"", "not a CSV"), ("binary.csv", b"\xff\xfe\x00\x01", "not a CSV"), ("head.csv", b"a,b\n", "no rows"),
        ("cut.csv", gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:30], "not a CSV"), ("other.csv", b"a,c\n1,2\n", "lacks the columns b; it has a, c"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(relukit.UnreadableFile, match=says):
            _tables.read_csv(tmp_path / name, ["b"])


def test_text_among_numbers_is_named_with_its_row_and_gaps_are_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3,\n,4\n5,inf\n6,7\n")
    table, left_out = _tables.complete(_tables.with_numbers(_tables.read_csv(path), ["a", "b"], path), ["a", "b"], path)
    assert table.a.tolist() == [1, 6] and left_out == 3
    path.write_text("a,b\n1,2\n3,few\n")
    with pytest.raises(relukit.UnreadableFile, match="row 2 has 'few' in column b"):
        _tables.with_numbers(_tables.read_csv(path), ["a", "b"], path)
    path.write_text("a,b\n1,\n,2\n")
    with pytest.raises(relukit.UnreadableFile, match="each of its 2 rows"):
        _tables.complete(_tables.with_numbers(_tables.read_csv(path), ["a", "b"], path), ["a", "b"], path)


def test_an_answer_without_a_value_is_null_and_not_nan():
    answer = _tables.told({"a": float("nan"), "b": [np.float64("inf"), 1.5, np.float32(2)], "c": ("x", None, 3, True)})
    assert answer == {"a": None, "b": [None, 1.5, 2.0], "c": ["x", None, 3, True]}
    json.dumps(answer, allow_nan=False)


class Pretend:
    """A study with one required option, that says what it was called with."""

    NEEDS_TRAINING = False

    @staticmethod
    def use(out, sequence, top=3):
        return f"{sequence} {top}"

    @staticmethod
    def score(out, files, seed=1):
        return {
            "study": "pretend",
            "metrics": {"rmse": float("nan"), "seed": seed},
            "baselines": {},
            "rows": len(files),
        }


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    from relukit.gallery import _study

    monkeypatch.setattr(_study.Study, "load", lambda self: Pretend)
    (tmp_path / "crispr").mkdir()
    (tmp_path / "crispr" / "done.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--sequence", "F"], "F 3"),
        (["F"], "F 3"),
        (["--sequence", "F", "--top", "9"], "F 9"),
        (["F", "--top=9"], "F 9"),
    ],
)
def test_use_takes_what_a_study_needs_as_an_option_or_in_its_place(pretend, capsys, words, answer):
    from relukit.cli import app
    from relukit.cli._frame import run_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["relukit", "gallery", "use", "crispr", *words, "--out", str(pretend)])
        assert run_app(app) == 0
    assert capsys.readouterr().out == answer


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "needs --sequence"),
        (["--fasta", "F"], "no option --fasta; it takes --sequence, --top"),
        (["A", "2", "B"], "at most 2 files"),
    ],
)
def test_use_says_what_is_missing_and_what_is_unknown(pretend, capsys, words, says):
    from relukit.cli import app
    from relukit.cli._frame import run_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["relukit", "gallery", "use", "crispr", *words, "--out", str(pretend)])
        assert run_app(app) == 2
    assert says in capsys.readouterr().err


def test_options_of_a_study_of_many_files_do_not_depend_on_how_many_are_given(pretend, capsys, monkeypatch):
    from relukit.cli import app
    from relukit.cli._frame import run_app

    use = staticmethod(lambda out, *files, store="none", chart="none": f"{len(files)} {store} {chart}")
    monkeypatch.setattr(Pretend, "use", use)
    for files in ([], ["A"], ["A", "B", "C", "D"]):
        words = [*files, "--store", "S", "--out", str(pretend)]
        monkeypatch.setattr("sys.argv", ["relukit", "gallery", "use", "crispr", *words])
        assert run_app(app) == 0
        assert capsys.readouterr().out == f"{len(files)} S none"


def test_score_prints_null_for_what_is_not_defined(pretend, capsys, monkeypatch):
    from relukit.cli import app
    from relukit.cli._frame import run_app

    monkeypatch.setattr(
        "sys.argv", ["relukit", "gallery", "score", "crispr", "--json", "--seed", "4", "--out", str(pretend)]
    )
    assert run_app(app) == 0
    answer = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert answer["metrics"] == {"rmse": None, "seed": 4} and set(answer) == {"study", "metrics", "baselines", "rows"}


def test_a_saved_study_that_lacks_a_file_is_to_be_run_again(pretend, capsys, monkeypatch):
    from relukit.cli import app
    from relukit.cli._frame import run_app

    monkeypatch.setattr(Pretend, "score", staticmethod(lambda out, files: (out / "net0.onnx").read_bytes()))
    monkeypatch.setattr("sys.argv", ["relukit", "gallery", "score", "crispr", "--json", "--out", str(pretend)])
    assert run_app(app) == 2
    assert "lacks net0.onnx; run `relukit gallery run crispr` again" in capsys.readouterr().err


def test_every_named_option_of_the_issue_is_taken_by_its_study():
    import inspect

    named = {
        "robot-arm": {"controller"}, "line-follower": {"tracks", "seed"}, "interatomic": {"train"}, "images": {"flips"},
        "crispr": {"sequence"}, "protein-network": {"knockout", "expression"},
    }  # fmt: skip
    for name, options in named.items():
        module = STUDIES[name].load()
        face = module.use if name in ("crispr", "protein-network") else module.score
        assert options <= set(inspect.signature(face).parameters), name
