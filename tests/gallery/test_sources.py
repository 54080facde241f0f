"""Data that are fetched: what is cut from the originals is, bit by bit, what the figures were measured with."""

import dataclasses
import gzip
import hashlib
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relukit._errors import UnreadableFile
from relukit.gallery import _sources
from relukit.gallery._life import data_folder

DATA = os.environ.get("RELUKIT_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="RELUKIT_DATA is not set")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder behind http://127.0.0.1, an empty cache, and no RELUKIT_DATA."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("RELUKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def _row(monkeypatch, **changes):
    source = dataclasses.replace(_sources.Source((), "", "", ""), **changes)
    monkeypatch.setitem(_sources.SOURCES, "made", {"table.csv": source})


def test_a_file_is_fetched_once_and_checked(served, monkeypatch):
    folder, address = served
    (folder / "original.csv").write_text("a,b\n1,2\n3,4\n")
    text = b"a,b\n3,4\n"
    cut = lambda files: pd.read_csv(files[0]).query("a > 1")
    _row(monkeypatch, urls=(address + "original.csv",), sha256=hashlib.sha256(text).hexdigest(), cut=cut)
    got = data_folder("made", "table.csv")
    assert (got / "table.csv").read_bytes() == text
    (folder / "original.csv").unlink()
    assert data_folder("made", "table.csv") == got


@pytest.mark.parametrize("cut", [None, lambda files: pd.read_csv(files[0])])
def test_another_file_in_its_place_is_refused(served, monkeypatch, cut):
    folder, address = served
    (folder / "original.csv").write_text("a,b\n1,2\n")
    _row(monkeypatch, urls=(address + "original.csv",), sha256="0" * 64, cut=cut)
    with pytest.raises(UnreadableFile, match="RELUKIT_DATA"):
        data_folder("made", "table.csv")
    assert not (_sources.cache() / "made" / "table.csv").exists()


def test_what_cannot_be_fetched_is_said_with_its_place(served, monkeypatch):
    _, address = served
    _row(monkeypatch, urls=(address + "nothing.csv",), sha256="0" * 64)
    with pytest.raises(UnreadableFile, match=r"nothing\.csv cannot be fetched"):
        data_folder("made", "table.csv")
    with pytest.raises(UnreadableFile, match=r"other\.csv"):
        data_folder("made", "other.csv")


def _text(path):
    raw = Path(path).read_bytes()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def _agrees(folder, name, table=None):
    source = _sources.SOURCES[folder][name]
    text = _text(f"{DATA}/{folder}/{name}") if table is None else table.to_csv(index=False).encode()
    return hashlib.sha256(text).hexdigest() == source.sha256


@needs_data
def test_check_sums_are_those_of_the_files_at_hand():
    for folder, rows in _sources.SOURCES.items():
        for name, source in rows.items():
            assert _agrees(folder, name), name
            assert source.license and source.cite and all(u.startswith("https://") for u in source.urls)


@needs_data
def test_rows_are_cut_as_they_were(tmp_path):
    """Originals made of the file at hand and of rows in the place of those that are kept back."""
    dev = pd.read_csv(f"{DATA}/predictive_maintenance/ai4i2020_dev.csv")
    other = sorted(set(range(1, 10_001)) - set(dev["UDI"]))
    filler = dev.iloc[np.arange(len(other)) % len(dev)].assign(UDI=other)
    pd.concat([dev, filler]).sort_values("UDI").to_csv(tmp_path / "a.csv", index=False)
    assert _agrees("predictive_maintenance", "ai4i2020_dev.csv", _sources.process([tmp_path / "a.csv"]))


@needs_data
@pytest.mark.parametrize("name", list(_sources.SOURCES["vehicle_dynamics"]))
def test_segments_are_cut_as_they_were(tmp_path, name):
    dev = pd.read_csv(f"{DATA}/vehicle_dynamics/{name}")
    sizes = dev.groupby("segment").size()
    total = next(n for n in range(len(dev), 2 * len(dev)) if all(len(range(-(-n * s // 10), -(-n * (s + 1) // 10))) == k for s, k in sizes.items()))  # fmt: skip
    parts, slow = [], dev.iloc[:7].assign(**{"vx(m/s)": 1.0})
    for s in range(10):
        count = -(-total * (s + 1) // 10) - -(-total * s // 10)
        parts += [dev[dev["segment"] == s] if s in sizes else dev.iloc[:count], slow]
    pd.concat(parts).drop(columns="segment").to_csv(tmp_path / "log.csv", index=False)
    assert _agrees("vehicle_dynamics", name, _sources.race([tmp_path / "log.csv"]))


@needs_data
def test_experiments_are_joined_as_they_were(tmp_path):
    dev = pd.read_csv(f"{DATA}/predictive_maintenance/cnc_mill_dev.csv.gz")
    files = []
    for number in _sources.SETUPS:
        part = dev[dev["experiment"] == number]
        part = part.drop(columns=["tool_condition", "experiment", "feedrate", "clamp_pressure"])
        part.insert(0, "X1_ActualPosition", 1.0)
        part.insert(3, "S1_CommandAcceleration", 1.0)
        files.append(tmp_path / f"experiment_{number:02d}.csv")
        part.assign(M1_CURRENT_PROGRAM_NUMBER=1).to_csv(files[-1], index=False)
    assert _agrees("predictive_maintenance", "cnc_mill_dev.csv.gz", _sources.mill(files))
