"""The studies of life on real data, trained shortly; and their parts against plain truth."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from relukit._errors import InvalidInput
from relukit.gallery import _motifs
from relukit.gallery._life import codes, one_hot, reverse_complement

DATA = Path(os.environ.get("RELUKIT_DATA", "/nonexistent"))
real = pytest.mark.skipif(not (DATA / "crispr").exists(), reason="RELUKIT_DATA does not hold the studies' data")
LETTERS = np.array(list("ACGT"))


def test_reverse_complement_is_flipping_both_axes_of_the_one_hot():
    numbers = codes(["ACGTTN", "GGGATC"])
    assert "".join(LETTERS[reverse_complement(numbers)[1]]) == "GATCCC"
    assert np.array_equal(one_hot(reverse_complement(numbers)), one_hot(numbers)[:, ::-1, ::-1])


def test_shuffle_keeps_dinucleotides_ends_and_changes_the_order():
    from relukit.gallery.tf_binding._data import shuffled

    sequences = np.random.default_rng(0).integers(0, 4, (20, 101)).astype(np.int8)
    sequences[0] = 0  # one letter only
    for before, after in zip(sequences, shuffled(sequences, 1)):
        pairs = lambda s: sorted(zip(s[:-1].tolist(), s[1:].tolist()))
        assert pairs(before) == pairs(after)
    assert np.mean(sequences[1:] != shuffled(sequences, 1)[1:]) > 0.4


def test_a_planted_motif_is_significant_and_random_ones_are_not():
    generator = np.random.default_rng(0)
    target = _motifs.consensus("TGACGTCATG")
    noise = [generator.dirichlet([0.5] * 4, 12).T for _ in range(20)]
    planted = np.concatenate([noise[0][:, :1], target[::-1, ::-1], noise[0][:, :1]], 1)  # on the other strand
    _, p = _motifs.significance([planted, *noise], target)
    q = _motifs.q_values(p)
    assert q[0] < 0.01 and np.all(q[1:] > 0.05)


def test_crispr_guides_are_found_on_both_strands():
    from relukit.gallery.crispr.guides import sites

    generator = np.random.default_rng(3)
    letters = "".join(LETTERS[generator.integers(0, 4, 400)])
    found = sites("x", letters)
    other = letters[::-1].translate(str.maketrans("ACGT", "TGCA"))
    expected = sum(s[i + 25 : i + 27] == "GG" for s in (letters, other) for i in range(len(s) - 29))
    assert len(found) == expected > 10
    for g in found:
        here = letters[g.start : g.end]
        assert g.guide == (here if g.strand == "+" else here[::-1].translate(str.maketrans("ACGT", "TGCA")))


def test_decreasing_factor_is_positive_decreasing_and_equals_its_network():
    torch = pytest.importorskip("torch")
    from relukit.training.hybrid import decreasing_factor

    factor = decreasing_factor(4, scale=3.0)
    with torch.no_grad():
        for p in factor.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype))
    u = np.linspace(0, 30, 500)
    values = factor(torch.tensor(u)).detach().numpy()
    assert values[0] == 1 and np.all(values > 0) and np.all(np.diff(values) <= 1e-12)
    assert np.allclose(factor.network()(u[:, None])[:, 0], values, atol=1e-12)
    x, y = factor.hinges().T
    assert np.allclose(np.interp(u, x, y), values, atol=1e-12)


def test_hybrid_finds_the_constants_of_a_known_law():
    from scipy.integrate import solve_ivp

    from relukit.training.hybrid import Curve, hybrid

    times = np.linspace(0, 50, 12)
    curves = []
    for start in (20.0, 60.0):
        exact = solve_ivp(lambda t, s: -1.5 * s / (12 + s), (0, 50), [start], t_eval=times, rtol=1e-10, atol=1e-10).y.T
        curves.append(Curve(times, exact))
    law = lambda t, S, p, g, given: -p["kcat"] * S / (p["KM"] + S)
    model = hybrid(law, curves, {"kcat": 0.7, "KM": 30.0}, noise=0.1, step=2.0)
    assert model.parameters["kcat"] == pytest.approx(1.5, rel=1e-3)
    assert model.parameters["KM"] == pytest.approx(12, rel=1e-3)
    assert model.error(curves) < 1e-3


def test_kinetics_start_from_the_first_reading_there_is(tmp_path):
    from relukit._errors import UnreadableFile
    from relukit.gallery.enzyme._data import read, replicate_spread

    rows = "measurement,time,rep0,rep1,init_p0\na,0,,9,0.5\na,60,8,7,0.5\na,120,6,5,0.5\na,120,6,5,0.5\nb,0,3,,0.5\nb,60,2,,0.5\n"
    (tmp_path / "x.csv").write_text(rows)
    curves = read(tmp_path / "x.csv")
    assert [c.times.tolist() for c in curves] == [[0, 60], [0, 60, 120], [0, 60]]
    assert [c.given["start"] for c in curves] == [8, 9, 3] and [c.group for c in curves] == ["a", "a", "b"]
    # a minute after its own start one replicate of a reads 6 and the other 7; of b there is one
    assert replicate_spread(curves) == pytest.approx(0.5**0.5) and np.isnan(replicate_spread(curves[2:]))
    (tmp_path / "y.csv").write_text("measurement,time\na,0\n")
    with pytest.raises(UnreadableFile, match="rep0, init_p0"):
        read(tmp_path / "y.csv")


def test_replicates_share_their_start_in_training_alone():
    from relukit.gallery.enzyme._data import pooled
    from relukit.training.hybrid import Curve

    curve = lambda group, first: Curve(np.array([0.0, 60]), np.array([[first], [5.0]]), {"enzyme": 1.0, "start": first}, group)  # fmt: skip
    curves = [curve("a", 10.0), curve("b", 30.0), curve("a", 12.0)]
    told = pooled(curves)
    assert [c.values[0, 0] for c in told] == [11, 30, 11] and [c.given["start"] for c in told] == [11, 30, 11]
    assert [c.values[1, 0] for c in told] == [5, 5, 5] and [c.group for c in told] == ["a", "b", "a"]
    assert [c.values[0, 0] for c in curves] == [10, 30, 12]  # what is judged starts from its own reading


def test_the_page_on_hybrids_brings_a_law_that_is_found_again():
    text = (Path(__file__).parents[2] / "src" / "relukit" / "gallery" / "enzyme" / "README.md").read_text()
    names: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    model = names["model"]
    low, high = model.intervals["k"]
    assert low <= 0.4 <= high * 1.01 and high - low < 0.02
    t, g = model.unknown.hinges().T
    np.testing.assert_allclose(g, np.exp(-t / 3), atol=0.03)  # the factor that the curves were made with
    assert np.allclose(model.unknown.network()(t[:, None])[:, 0], g)


@real
def test_crispr_study_runs_scores_and_is_used(tmp_path):
    pytest.importorskip("lightgbm")
    import pandas as pd

    from relukit.gallery import crispr

    for name in ("fc_plus_res_dev.csv", "Aguirre2016_activity.csv"):
        frame = pd.read_csv(DATA / "crispr" / name)
        gene = next(c for c in frame if c.startswith("Target ") and c.lower().endswith(("gene", "symbol")))
        unseen = frame[gene] == "CD5"
        frame[~unseen].iloc[::6].to_csv(tmp_path / name, index=False)
        if unseen.any():
            frame[unseen].to_csv(tmp_path / "unseen.csv", index=False)
    crispr.train(tmp_path, tmp_path, seeds=1, quick=True)
    answer = crispr.score(tmp_path, [tmp_path / "unseen.csv"])
    json.dumps(answer)
    assert answer["rows"] == 239 and set(answer["baselines"]) == {"ridge", "lightgbm", "lightgbm_both"}
    assert (
        answer["metrics"]["spearman"] > 0.15
    )  # two passes over a sixth of the rows; 239 guides: chance reaches 0.13 once in 40
    elsewhere = crispr.score(
        tmp_path, [tmp_path / "unseen.csv"], train=str(tmp_path / "Aguirre2016_activity.csv"), seeds=1
    )
    assert elsewhere["rows"] + elsewhere["rows_left_out_as_trained_on"] == 239
    assert elsewhere["metrics"]["spearman"] > 0.15 and set(elsewhere["baselines"]) == {"ridge", "lightgbm"}
    with pytest.raises(InvalidInput, match="different scales"):
        crispr.score(tmp_path, [tmp_path / "unseen.csv", tmp_path / "Aguirre2016_activity.csv"])
    with pytest.raises(InvalidInput, match="nothing is left"):
        crispr.score(tmp_path, [tmp_path / "unseen.csv"], train=str(tmp_path / "unseen.csv"))
    (tmp_path / "x.fasta").write_text(">x\n" + "".join(LETTERS[np.random.default_rng(0).integers(0, 4, 300)]) + "\n")
    guides = crispr.use(tmp_path, tmp_path / "x.fasta")
    assert all(g.low <= g.score <= g.high for g in guides) and crispr.to_csv(guides).startswith("rank,record")


@real
@pytest.mark.slow
def test_enzyme_study_beats_the_law_alone_on_what_it_fits(tmp_path):
    from relukit.gallery import enzyme

    enzyme.train(DATA / "hybrid_ode", tmp_path, quick=True)
    answer = enzyme.score(tmp_path, [DATA / "hybrid_ode" / "abts_laccase_dev.csv"])
    json.dumps(answer)
    assert answer["rows"] == 21 * 20
    assert answer["metrics"]["rmse"] < 0.9 * answer["baselines"]["michaelis_menten"]["rmse"]


@real
@pytest.mark.slow
def test_protein_network_study_in_short(tmp_path):
    pytest.importorskip("lightgbm")
    from relukit.gallery import protein_network

    protein_network.train(DATA / "ppi_network", tmp_path, seeds=1, quick=True)
    answer = protein_network.score(tmp_path, [DATA / "ppi_network" / "labels_dev.csv"])
    json.dumps(answer)
    assert answer["rows"] == 1321 and answer["genes_not_in_the_network"] == 916
    assert answer["metrics"]["auprc"] > 0.6


@real
@pytest.mark.slow
def test_promoter_study_in_short(tmp_path):
    pytest.importorskip("lightgbm")
    from relukit.gallery import promoter

    promoter.train(DATA / "dna_promoter", tmp_path, seeds=1, quick=True)
    answer = promoter.score(tmp_path, [DATA / "dna_promoter" / "ecoli_tss_train.csv.gz"])
    json.dumps(answer)
    assert answer["metrics"]["auprc"] > 0.25 and answer["rows"] == 13029  # 0.152 by chance


def test_smallest_substitution_agrees_with_trying_each_one():
    torch = pytest.importorskip("torch")
    from relukit.gallery._life import seeded
    from relukit.gallery.tf_binding import _model

    with seeded(0):
        module = _model.build(codes(["ACGTACGT", "TTTGCAAA"])).eval()
    sequence = np.random.default_rng(1).integers(0, 4, 101).astype(np.int8)
    logits = []
    for i in range(101):
        for b in range(4):
            trial = sequence.copy()
            trial[i] = b
            with torch.no_grad():
                logits.append(float(module(torch.from_numpy(one_hot(trial[None])))[0]))
    with torch.no_grad():  # put the threshold so that some single changes cross it and the sequence itself does not
        own = float(module(torch.from_numpy(one_hot(sequence[None])))[0])
        module.out.bias -= (own + max(logits)) / 2
    answer = _model.smallest_substitution([module], sequence, 1)
    assert answer["changes"] == 1 and answer["logit"] == pytest.approx(max(logits) - (own + max(logits)) / 2, abs=1e-5)
    with torch.no_grad():
        module.out.bias -= 1.0
    assert _model.smallest_substitution([module], sequence, 1)["more_than"] == 1
