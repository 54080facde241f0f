"""Tables as people have them: with and without a header, with the answer in a column, as `relukit train` noted them."""

import gzip
import json

import numpy as np
import pytest

import relukit
from relukit import InvalidInput, UnreadableFile
from relukit.report import read_data, read_rows, three_rows
from relukit.report._svg import ticks


@pytest.fixture
def network(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"W0": rng.normal(size=(5, 3)), "b0": rng.normal(size=5), "W1": rng.normal(size=(2, 5)), "b1": np.zeros(2)}
    relukit.save(relukit.load(arrays), tmp_path / "model.onnx")
    return relukit.load(tmp_path / "model.onnx")


def written(path, text):
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_numbers_without_a_header(network, tmp_path, separator, name):
    path = written(tmp_path / name, separator.join("123") + "\n" + separator.join("456") + "\n")
    assert read_rows(network, path).x.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_column_named_y_is_the_answer(network, tmp_path):
    path = written(tmp_path / "rows.csv", "\ufeffa,Label,b,c\n1,0,2,3\n4,1,5,6\n")
    data = read_rows(network, path)
    assert data.x.tolist() == [[1, 2, 3], [4, 5, 6]] and data.labels.tolist() == [0, 1]


def test_the_columns_that_training_noted_are_taken(network, tmp_path):
    noted = {"inputs": ["c", "a", "b"], "target": "kind", "classes": ["no", "yes"]}
    (tmp_path / "train.json").write_text(json.dumps(noted))
    path = written(tmp_path / "rows.csv", "id,kind,a,b,c\nx1,yes,1,2,3\nx2,no,4,5,6\n")
    data = read_rows(network, path)
    assert data.x.tolist() == [[3, 1, 2], [6, 4, 5]] and data.labels.tolist() == [1, 0]
    report = relukit.open(str(tmp_path / "model.onnx"), str(path), out=None, time_limit=2)
    assert report.content["health"]["rows"] == 2


def test_text_is_named_and_ragged_lines_are_told(network, tmp_path):
    with pytest.raises(InvalidInput, match=r"kind \('red'\)"):
        read_rows(network, written(tmp_path / "text.csv", "a,b,kind\n1,2,red\n"))
    with pytest.raises(UnreadableFile, match="line 3: 2 fields"):
        read_data(written(tmp_path / "ragged.csv", "a,b,c\n1,2,3\n4,5\n"))
    with pytest.raises(InvalidInput, match="no row"):
        read_data(written(tmp_path / "empty.csv", "a,b,c\n"))
    with pytest.raises(relukit.ShapeMismatch, match="takes 3 inputs"):
        read_rows(network, written(tmp_path / "wide.csv", "1,2,3,4\n"))


def test_what_to_do_next_can_be_typed(network, tmp_path):
    """Commands name a file that is there; a network in memory is told how to become one."""
    path = tmp_path / "model.onnx"
    assert (
        "relukit flip model.onnx"
        in relukit.open(str(path), out=None, time_limit=1, box=relukit.Box([-1] * 3, [1] * 3)).html
    )
    text = relukit.open(network, out=None, time_limit=1, box=relukit.Box([-1] * 3, [1] * 3)).html
    assert "relukit.save(relukit.load(model)" in text and "relukit flip Network" not in text
    relukit.save(relukit.load(network), tmp_path / "again.onnx")
    assert relukit.load(tmp_path / "again.onnx").inputs == 3


def test_a_place_that_cannot_be_written_is_told_at_once(network, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(relukit.UnwritablePath, match="-o"):
        relukit.open(network, out=tmp_path / "file" / "report", box=relukit.Box([-1] * 3, [1] * 3))


def test_a_column_that_training_used_is_missed_by_name(network, tmp_path):
    """The target must not slip into the place of an input."""
    (tmp_path / "train.json").write_text(json.dumps({"inputs": ["a", "b", "c"], "target": "price"}))
    path = written(tmp_path / "rows.csv", "a,b,price\n1,2,3\n4,5,6\n")
    with pytest.raises(InvalidInput, match=r"has no column c, .* It has a, b, price"):
        read_rows(network, path)
    other = written(tmp_path / "other.csv", "u,v,w\n1,2,3\n")  # other names throughout: taken by place
    assert read_rows(network, other).x.tolist() == [[1, 2, 3]]


def test_what_is_wrong_with_a_file_names_the_file(network, tmp_path):
    holes = written(tmp_path / "holes.csv", "a,b,c\n1,2,nan\n1,2,3\n")
    with pytest.raises(InvalidInput, match=r"holes.csv: row 0, column 2 is nan; 1 row holds"):
        relukit.open(network, holes, out=None)
    with pytest.raises(InvalidInput, match="c \\(an empty field\\)"):
        relukit.open(network, written(tmp_path / "empty.csv", "a,b,c\n1,2,\n"), out=None)
    with pytest.raises(UnreadableFile, match="is a folder"):
        relukit.open(network, tmp_path, out=None)
    for wrong in ({"seed": -1}, {"time_limit": -1.0}, {"time_limit": float("nan")}):
        with pytest.raises(InvalidInput, match="0 or more"):
            relukit.open(network, out=None, **wrong)


def test_without_inputs_one_reason_is_told_once(network):
    skipped = relukit.open(network, out=None).content["skipped"]
    assert {part["section"] for part in skipped} == {"health", "regions", "flips", "compress"}
    assert len({part["reason"] for part in skipped}) == 1 and "--box LO:HI" in skipped[0]["reason"]


def test_a_network_of_one_input_is_drawn_with_its_breakpoints():
    """y = relu(x) - 2 relu(x - 1/2) + 3 relu(x - 7): two bends within the box, the third one outside."""
    arrays = {"W0": np.ones((3, 1)), "b0": np.array([0, -0.5, -7]), "W1": np.array([[1.0, -2, 3]]), "b1": np.zeros(1)}
    report = relukit.open(relukit.load(arrays), box=relukit.Box([-1], [2]), out=None, time_limit=1)
    regions = report.content["regions"]
    assert regions["count"] == 3 and regions["breakpoints"] == [0, 0.5]
    assert report.html.count("<circle") == 2 and "<polyline" in report.html
    points = report.html.split('<polyline points="')[1].split('"')[0].split()
    x, y = np.array([p.split(",") for p in points], float).T
    assert np.allclose((x - x[0]) / (x[-1] - x[0]), [0, 1 / 3, 0.5, 1], atol=1e-3)
    assert np.allclose((y - y[0]) / (y[2] - y[0]), [0, 0, 1, -2], atol=1e-3)  # of 0, 0, 1/2, -1
    assert "relukit optimize" in report.html and "relukit flip" not in report.html  # a regression has no decision


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 2.2, [-2, 0, 2]), (0, 2.11, [0, 0.5, 1, 1.5, 2]), (1e-9, 3e-9, None), (5, 5, [5])],
)  # fmt: skip
def test_ticks_are_round_numbers_inside(low, high, want):
    found = ticks(low, high)
    assert want is None or found == pytest.approx(want)
    assert 1 <= len(found) <= 6 and np.all(found >= low - 1e-12) and np.all(found <= high + 1e-12)


def test_time_to_compile_is_not_taken_from_the_flips(monkeypatch):
    """The first search of a machine compiles for longer than the limit: it is asked again, and others follow."""
    import relukit._clock as clock
    import relukit.verification as verification

    real, calls = verification.flip, []

    def slow(*arguments, timeout, **options):
        calls.append(timeout)
        if len(calls) == 1:
            monkeypatch.setattr(clock, "_spent", clock._spent + 100)
            return real(*arguments, timeout=1e-6, **options)
        return real(*arguments, timeout=timeout, **options)

    g = np.random.default_rng(0)
    network = relukit.load(
        {"W0": g.normal(size=(5, 3)), "b0": g.normal(size=5), "W1": g.normal(size=(2, 5)), "b1": g.normal(size=2)}
    )
    x = g.normal(size=(12, 3))
    monkeypatch.setattr(verification, "flip", slow)
    flips = relukit.open(network, x, out=None, time_limit=30).content["flips"]
    assert len(flips) == 12 and len(calls) == 13 and flips[0]["status"] == "proven"


def test_rows_come_as_people_have_them(network):
    """A tensor with a gradient, a list, a single row."""
    import torch

    row = [0.1, 0.2, 0.3]
    for data, count in ((torch.tensor([row, row], requires_grad=True), 2), ([row] * 3, 3), (np.array(row), 1)):
        assert relukit.open(network, data, out=None, time_limit=0).content["health"]["rows"] == count


def test_three_rows_show_different_decisions_and_span_a_plane():
    """The network decides by the sign of x0; the second row is a multiple of the first one."""
    network = relukit.load({"W0": np.array([[1.0, 0, 0], [-1, 0, 0]]), "b0": np.zeros(2)})
    x = np.array([[1.0, 1, 0], [2, 2, 0], [3, 3, 0], [1, 0, 1], [-1, 0, 0]])
    assert three_rows(network, x) == [0, 4, 1]
    with pytest.raises(relukit.UnsupportedOperation, match="no three rows"):
        three_rows(network, x[:3])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_made_for_several_rows_at_once_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    torch.onnx.export(model, (torch.zeros(5, 3),), str(tmp_path / "five.onnx"), dynamo=False)
    path = written(tmp_path / "rows.csv", "1,2,3\n4,5,6\n")
    with pytest.raises(relukit.ShapeMismatch, match="may take 5 rows at once"):
        read_rows(relukit.load(tmp_path / "five.onnx"), path)
    with pytest.raises(relukit.ShapeMismatch, match=r"15 inputs \(shape \(5, 3\)\)$"):
        read_rows(relukit.load(tmp_path / "five.onnx"), written(path, "1,2\n4,5\n"))
