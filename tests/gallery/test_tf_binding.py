"""TF binding: shuffles against all rearrangements, the network against plain loops, odd files."""

import gzip
import json
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._life import codes

torch = pytest.importorskip("torch")
LETTERS = np.array(list("ACGT"))
DATA = Path(os.environ.get("RELUKIT_DATA", "/nonexistent")) / "dna_tfbinding"


def pairs(s):
    return sorted(zip(s[:-1], s[1:]))


@pytest.mark.parametrize("word", ["ACACAGAT", "AACGTACA", "CCGCTCGC"])
def test_shuffles_are_uniform_over_all_rearrangements(word):
    from scipy.stats import chisquare

    from relukit.gallery.tf_binding._data import shuffled

    every = {"".join(p) for p in permutations(word)}
    allowed = sorted(p for p in every if p[0] == word[0] and p[-1] == word[-1] and pairs(p) == pairs(word))
    drawn = ["".join(LETTERS[s]) for s in shuffled(np.repeat(codes([word]), 4000, 0), 3)]
    assert set(drawn) == set(allowed) and len(allowed) > 1
    assert chisquare([drawn.count(p) for p in allowed]).pvalue > 1e-3


def test_shuffles_depend_on_the_seed_alone():
    from relukit.gallery.tf_binding._data import shuffled

    sequences = np.random.default_rng(0).integers(0, 4, (30, 101)).astype(np.int8)
    assert np.array_equal(shuffled(sequences, 4), shuffled(sequences, 4))
    assert not np.array_equal(shuffled(sequences, 4), shuffled(sequences, 5))
    assert shuffled(sequences, 4).dtype == sequences.dtype


def test_network_is_the_sum_over_places_of_both_strands_written_out():
    from relukit.gallery._life import seeded
    from relukit.gallery.tf_binding import _model

    with seeded(2):
        module, other = _model.build().eval(), _model.build(explicit=True).eval()
        with torch.no_grad():
            module.filters.weight.mul_(4)
    other.load_state_dict(module.state_dict())
    sequence = np.random.default_rng(1).integers(0, 4, 101)
    forward = "".join(LETTERS[sequence])
    back = forward[::-1].translate(str.maketrans("ACGT", "TGCA"))
    get = {k: v.numpy().astype(float) for k, v in module.state_dict().items()}
    exps, powers, z = np.arange(-10, 16), np.arange(40), []
    for weight, bias in zip(get["filters.weight"], get["filters.bias"]):
        total = 0.0
        for strand in (forward, back):
            for start in range(-12, 101 + 12 - 24 + 1):
                t = bias + sum(weight["ACGT".index(strand[start + i]), i] for i in range(24) if 0 <= start + i < 101)
                total += np.interp(t, exps, np.exp(exps) - np.exp(-10))
        z.append(np.interp(total, np.expm1(powers), powers))
    z = np.array(z)
    hidden = np.maximum(get["hidden.weight"] @ z + get["hidden.bias"], 0)
    expected = (get["out.weight"] @ np.concatenate([z, hidden]) + get["out.bias"])[0]
    assert _model.predict([module], sequence[None])[0, 0] == pytest.approx(expected, abs=1e-4)
    assert _model.predict([other], sequence[None])[0, 0] == pytest.approx(expected, abs=1e-4)


def test_training_finds_a_planted_word_on_either_strand():
    from sklearn.metrics import roc_auc_score

    from relukit.gallery.tf_binding import _model
    from relukit.gallery.tf_binding._data import shuffled

    generator = np.random.default_rng(0)
    peaks = generator.integers(0, 4, (1000, 101)).astype(np.int8)
    word = codes(["TGACGTAAGC"])[0]
    for k, s in enumerate(peaks):
        at = int(generator.integers(0, 91))
        s[at : at + 10] = word if k % 2 else 3 - word[::-1]
    module = _model.fit(peaks[:800], 0, 2)
    unseen = np.concatenate([peaks[800:], shuffled(peaks[800:], 7)])
    assert roc_auc_score(np.repeat([1, 0], 200), _model.predict([module], unseen)[0]) > 0.9


def test_enriched_words_are_what_was_planted_and_unlike_each_other():
    from relukit.gallery.tf_binding._words import enriched_words

    generator = np.random.default_rng(1)
    peaks = generator.integers(0, 4, (600, 101)).astype(np.int8)
    for k, word in enumerate(("GATTACAG", "CCTGGAAT")):
        planted = codes([word])[0]
        for s in peaks[k::2]:
            s[30 + 40 * k : 38 + 40 * k] = planted if generator.random() < 0.5 else 3 - planted[::-1]
    found = ["".join(LETTERS[w]) for w in enriched_words(peaks, 6, 0)]
    strands = lambda w: {w, w[::-1].translate(str.maketrans("ACGT", "TGCA"))}
    parts = lambda w: {
        s[i : i + 7] for s in strands(w) for i in (0, 1)
    }  # a flanking base may be drawn in for one of the eight
    assert [sum(bool(parts(w) & parts(planted)) for w in found[:2]) for planted in ("GATTACAG", "CCTGGAAT")] == [1, 1]
    assert len(set(found)) == 6


def test_two_changes_are_found_where_one_does_not_do():
    """The largest drop over all pairs, evaluated plainly, decides; and a pair is named that flips when replayed."""
    from relukit.gallery._life import seeded
    from relukit.gallery.tf_binding import _model

    with seeded(3):
        module = _model.build(codes(["ACGTACGT", "TTTGCAAA"])).eval()
    sequence = np.random.default_rng(5).integers(0, 4, 101).astype(np.int8)
    logit = lambda s: float(_model.predict([module], s[None])[0, 0])
    singles = []
    for i in range(101):
        for b in range(4):
            trial = sequence.copy()
            trial[i] = b
            singles.append(logit(trial))
    own, far = logit(sequence), max(singles, key=lambda v: abs(v - logit(sequence)))
    with torch.no_grad():  # just out of reach of every single change
        module.out.bias -= far + 1e-3 * np.sign(far - own)
    answer = _model.smallest_substitution([module], sequence, 2)
    assert answer["changes"] == 2
    trial = sequence.copy()
    for change in answer["substitutions"]:
        assert "ACGT"[trial[change["place"]]] == change["from"]
        trial[change["place"]] = "ACGT".index(change["to"])
    assert logit(trial) == pytest.approx(answer["logit"], abs=1e-5) and logit(trial) * logit(sequence) < 0


def test_files_that_cannot_be_read_say_why(tmp_path):
    from relukit.gallery.tf_binding._data import read

    (tmp_path / "X_1.seq").write_text("FoldID\tseq\nA\tACGT\n")
    with pytest.raises(UnreadableFile, match="columns seq and Bound are needed"):
        read(tmp_path / "X_1.seq")
    (tmp_path / "X_2.seq").write_text("seq\tBound\nACGT\t1\n")
    with pytest.raises(InvalidInput, match="4 bases where 101 are needed"):
        read(tmp_path / "X_2.seq")
    (tmp_path / "X_3.seq").write_text("seq\tBound\n")
    with pytest.raises(UnreadableFile, match="holds no rows"):
        read(tmp_path / "X_3.seq")
    (tmp_path / "X_4.seq").write_text("seq\tBound\n" + "A" * 101 + "\tyes\n")
    with pytest.raises(UnreadableFile, match="must hold 0 or 1"):
        read(tmp_path / "X_4.seq")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="RELUKIT_DATA does not hold the peaks")
def test_study_in_short_beats_the_matrix_on_peaks_it_did_not_see(tmp_path):
    from relukit.gallery import tf_binding
    from relukit.gallery.tf_binding._data import MATRICES

    (source,) = DATA.glob("SP1_*")
    lines = gzip.decompress(source.read_bytes()).decode().splitlines()
    unseen, rest = lines[1:401:4], [line for k, line in enumerate(lines[1:]) if k >= 400 or k % 4]
    (tmp_path / "SP1_x_AC.seq.gz").write_bytes(gzip.compress("\n".join([lines[0], *rest[:1500]]).encode()))
    (tmp_path / "SP1_unseen.seq").write_text("\n".join([lines[0], *unseen]))
    (tmp_path / MATRICES).write_bytes((DATA / MATRICES).read_bytes())
    tf_binding.train(tmp_path, tmp_path, seeds=1, quick=True)
    answer = tf_binding.score(tmp_path, [tmp_path / "SP1_unseen.seq"])
    json.dumps(answer)
    assert answer["rows"] == 200 and "seed 1" in answer["negatives"]["SP1"]
    assert answer["metrics"]["auroc"] > answer["baselines"]["jaspar_matrix"]["auroc"] > 0.5
    assert answer == tf_binding.score(tmp_path, [tmp_path / "SP1_unseen.seq"])
    mixed = [lines[0], *unseen[:10], *(line[:-1] + "0" for line in unseen[10:30])]
    (tmp_path / "SP1_mixed.seq").write_text("\n".join(mixed))
    mixed = tf_binding.score(tmp_path, [tmp_path / "SP1_mixed.seq"])
    assert mixed["rows"] == 30 and mixed["negatives"]["SP1"] == "of the file"
