"""The promoter study: its piecewise-linear thermodynamics against plain loops, and odd files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from relukit._errors import InvalidInput, UnreadableFile

torch = pytest.importorskip("torch")
DATA = Path(os.environ.get("RELUKIT_DATA", "/nonexistent"))
real = pytest.mark.skipif(
    not (DATA / "dna_promoter").exists(), reason="RELUKIT_DATA does not hold the promoter library"
)
LETTERS = np.array(list("ACGT"))


def random_sequences(count, seed=0):
    return ["".join(row) for row in LETTERS[np.random.default_rng(seed).integers(0, 4, (count, 150))]]


def trained_shape(seed=0, **options):
    """A module with every parameter away from where it starts."""
    from relukit.gallery._life import seeded
    from relukit.gallery.promoter import _model

    with seeded(seed):
        module = _model.build(**options).eval()
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return module


def test_interpolants_pass_through_exp_and_log_at_their_knots_and_are_the_relus_they_claim():
    from relukit.gallery._boltzmann import exponential, logarithm

    exps, powers = np.arange(-10.0, 16), np.arange(0.0, 40)
    exact = lambda f, v, **o: f(torch.tensor(v, dtype=torch.float64), **o).numpy()
    assert np.allclose(exact(exponential, exps) + np.exp(-10), np.exp(exps), rtol=1e-12)
    assert np.all(exact(exponential, [-1e9, -50.0, -10.0]) == 0)
    t = np.linspace(-12, 15, 4001)
    assert np.allclose(exact(exponential, t), np.interp(t, exps, np.exp(exps) - np.exp(-10)), rtol=1e-9, atol=1e-12)
    beyond = np.exp(15) * (1 + (np.e - 1) * 2.5) - np.exp(-10)
    assert exact(exponential, [17.5])[0] == pytest.approx(beyond, rel=1e-12)
    u = np.logspace(-4, 9, 3001)
    assert np.allclose(exact(logarithm, u), np.interp(u, np.expm1(powers), powers), atol=1e-9)
    assert np.allclose(exact(logarithm, u), exact(logarithm, u, explicit=True), atol=1e-5)
    assert np.allclose(exact(exponential, t), exact(exponential, t, explicit=True), rtol=1e-9, atol=1e-9)


def test_network_is_the_sum_over_sites_and_distances_written_out():
    """One sequence, loops over kinds, distances and places in plain Python."""
    module = trained_shape()
    (sequence,) = random_sequences(1)
    onehot = np.concatenate([np.zeros((4, 14)), LETTERS[:, None] == np.array(list(sequence)), np.zeros((4, 10))], 1)
    get = lambda name: module.state_dict()[name].numpy().astype(float)
    with torch.no_grad():
        place = torch.nn.functional.interpolate(module.place[None], size=155, mode="linear")[0].numpy().astype(float)
    exps, powers = np.arange(-10, 16), np.arange(0, 40)
    occupied = []
    for k in range(8):
        total = 0.0
        for n, gap in enumerate((15, 16, 17, 18, 19, 20)):
            for i in range(
                155 - 12 - gap
            ):  # where the -35 reader starts; its box is 12 further, the -10 box 6 into its own
                j = i + 12 + gap
                t = (get("before.weight")[k] * onehot[:, i : i + 20]).sum()
                t += (get("after.weight")[k] * onehot[:, j : j + 20]).sum()
                t += get("gap")[k, n] + place[k, j] + get("bias")[k]
                assert t < 15
                total += np.interp(t, exps, np.exp(exps) - np.exp(-10))
        occupied.append(np.interp(total, np.expm1(powers), powers))
    z = np.array(occupied)
    h = np.maximum(get("hidden.weight") @ z + get("hidden.bias"), 0)
    expected = get("out.weight") @ np.concatenate([z, h]) + get("out.bias")
    from relukit.gallery.promoter._model import predict

    assert np.allclose(predict([module], [sequence])[0, 0], expected, rtol=1e-4, atol=1e-4)


def test_explicit_relus_are_the_same_function():
    from relukit.gallery.promoter._model import build, predict

    module, sequences = trained_shape(1), random_sequences(50)
    other = build(explicit=True).eval()
    other.load_state_dict(module.state_dict())
    assert np.allclose(predict([module], sequences), predict([other], sequences), rtol=1e-4, atol=1e-3)


def test_attribution_is_the_exact_affine_map_of_the_piece():
    """Within a piece, moving along any direction changes the logit by slope times move, exactly."""
    from relukit.gallery.promoter import _model

    module, sequences = trained_shape(2).double(), random_sequences(6, 3)
    x = _model.encode(sequences).double().requires_grad_()
    (slope,) = torch.autograd.grad(module(x)[:, 0].sum(), x)
    move = 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        there = module(x + move)[:, 0] - module(x)[:, 0]
    assert torch.allclose(there, (slope * move).sum((1, 2)), rtol=1e-4, atol=1e-12)


def test_training_learns_the_direction_of_a_site():
    """Both boxes 17 apart on one strand are strong, the same on the other strand are weak."""
    from sklearn.metrics import roc_auc_score

    from relukit.gallery.promoter import _model

    generator = np.random.default_rng(0)
    sequences, strong = random_sequences(700, 5), generator.random(700) < 0.5
    for k, s in enumerate(sequences):
        at = int(generator.integers(40, 80))
        first, second = ("TTGACA", "TATAAT") if strong[k] else ("ATTATA", "TGTCAA")
        sequences[k] = s[:at] + first + s[at + 6 : at + 23] + second + s[at + 29 :]
    module = _model.fit(sequences[:500], np.where(strong[:500], 5.0, 0.0), 0, 3)
    scores = _model.predict([module], sequences[500:])[0, :, 0]
    assert roc_auc_score(strong[500:], scores) > 0.95


def test_files_that_cannot_be_scored_say_why(tmp_path):
    from relukit.gallery.promoter.study import _metrics, read

    (tmp_path / "a.csv").write_text("sequence,level\nACGT,1\n")
    with pytest.raises(UnreadableFile, match="sequence and expression are needed"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("sequence,expression\nACGT,high\n")
    with pytest.raises(UnreadableFile, match="must hold numbers"):
        read(tmp_path / "b.csv")
    with pytest.raises(InvalidInput, match="0 of 3 rows are active"):
        _metrics(np.zeros(3), np.zeros(3), np.zeros(3))


@real
@pytest.mark.slow
def test_study_in_short_beats_both_baselines_on_rows_it_did_not_see(tmp_path):
    pytest.importorskip("lightgbm")
    import pandas as pd

    from relukit.gallery import promoter
    from relukit.gallery.promoter.study import FILE

    frame = pd.read_csv(DATA / "dna_promoter" / FILE)
    unseen = frame["start"] > 3_500_000
    frame[~unseen].to_csv(tmp_path / FILE, index=False)
    frame[unseen].to_csv(tmp_path / "unseen.csv", index=False)
    promoter.train(tmp_path, tmp_path, seeds=1, quick=True)
    answer = promoter.score(tmp_path, [tmp_path / "unseen.csv"])
    json.dumps(answer)
    assert answer["rows"] == int(unseen.sum()) and set(answer["baselines"]) == {"matrices", "kmer_boosting"}
    assert answer["metrics"]["auprc"] > 0.5 > max(b["auprc"] for b in answer["baselines"].values())
