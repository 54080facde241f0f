"""Tables as people have them: with and without a header, with the answer in a column, as `relukit train` noted them."""

import gzip
import json

import numpy as np
import pytest

import relukit
from relukit import InvalidInput, UnreadableFile
from relukit.report import read_data, read_rows


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
