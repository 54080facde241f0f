"""Folders of images."""

import json

import numpy as np
import pytest
from PIL import Image

from relukit import InvalidInput, UnreadableFile
from relukit.training.images import read_images


@pytest.fixture
def folder(tmp_path):
    """scikit-learn's digits 0 and 1, 60 of them, as files."""
    from sklearn.datasets import load_digits

    x, y = load_digits(n_class=2, return_X_y=True)
    for k in range(60):
        path = tmp_path / "digits" / ("zero" if y[k] == 0 else "one") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[k].reshape(8, 8) * 15).astype(np.uint8)).save(path)
    return tmp_path / "digits"


def test_pixels_and_names_come_back(folder):
    from sklearn.datasets import load_digits

    x, names = read_images(folder)
    truth, y = load_digits(n_class=2, return_X_y=True)
    assert x.shape == (60, 1, 8, 8) and x.dtype == np.float32
    order = sorted(range(60), key=lambda k: (("zero" if y[k] == 0 else "one"), f"{k}.png"))
    assert np.allclose(x.reshape(60, 64), truth[order] * 15 / 255, atol=1e-6)
    assert names.tolist() == ["zero" if y[k] == 0 else "one" for k in order]
    assert read_images(folder, (5, 6))[0].shape == (60, 1, 5, 6)


def test_bad_folders(folder, tmp_path):
    with pytest.raises(InvalidInput, match="one subfolder"):
        read_images(tmp_path / "nothing")
    Image.new("RGB", (9, 7)).save(folder / "one" / "large.png")
    with pytest.raises(InvalidInput, match="differ in size"):
        read_images(folder)
    assert read_images(folder, (8, 8))[0].shape == (61, 3, 8, 8)  # one of them in color: all are
    (folder / "zero" / "bad.png").write_bytes(b"no image")
    with pytest.raises(UnreadableFile, match=r"bad\.png"):
        read_images(folder, (8, 8))


def test_the_command_trains_a_cnn_on_a_folder(folder, tmp_path, capsys, monkeypatch):
    from relukit.cli import main

    arguments = [
        "relukit",
        "train",
        str(folder),
        "-o",
        str(tmp_path / "out"),
        "--epochs",
        "6",
        "--hidden",
        "16",
        "--json",
    ]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["classes"] == ["one", "zero"] and answer["score"] > 0.9
    assert (tmp_path / "out" / "model.onnx").is_file()
