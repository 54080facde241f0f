"""Atoms and images on real data: forces against differences, jumps against one-sided limits, files that are wrong."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

import relukit
from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery.interatomic import _fit, jumps, study
from relukit.gallery.interatomic._descriptors import Moments, neighbors
from relukit.gallery.interatomic._frames import read
from relukit.gallery.interatomic._model import Recipe, products

DATA = Path(os.environ.get("RELUKIT_DATA", "absent"))
ATOMS, IMAGES = DATA / "interatomic_potential", DATA / "images"
pytestmark = pytest.mark.skipif(not ATOMS.exists(), reason="RELUKIT_DATA/interatomic_potential is absent")
SMALL = Recipe(two=8, three=3, four=1, components=40, products=8, hidden=40)


@pytest.fixture(scope="module")
def ethanol():
    return read(ATOMS / "rmd17_ethanol_train_01.npz")


@pytest.fixture(scope="module")
def problem(ethanol):
    return _fit.prepare(SMALL, ethanol[:100])


@pytest.fixture(scope="module")
def potential(problem):
    return _fit.fit(problem, 0, "relu")[0]


def derivative(f, x: np.ndarray, direction: np.ndarray, h: float = 1e-3) -> float:
    """Central differences of order six."""
    step = lambda k: f(x + k * h * direction) - f(x - k * h * direction)
    return (step(1) * 45 - step(2) * 9 + step(3)) / (60 * h)


def test_pairs_are_those_of_ase_in_crystals_and_molecules(ethanol):
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    silicon = read(ATOMS / "mlearn_Si_training.json.gz")
    for frame in (silicon[0], silicon[100], silicon[-1], ethanol[0]):
        periodic = frame.cell is not None
        atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=periodic)
        i, j, vector = neighbor_list("ijD", atoms, 4.0)
        ours = neighbors(frame.positions, 4.0, frame.cell)
        rows = lambda i, j, v: np.array(sorted(np.column_stack([i, j, np.round(v, 5)]).tolist()))
        np.testing.assert_allclose(rows(ours.center, ours.to, ours.vector), rows(i, j, vector), atol=2e-5)


def test_descriptors_do_not_see_rotations_or_exchanges_and_their_slopes_are_right(ethanol):
    frame = ethanol[3]
    moments = Moments((1, 6, 8), 5.0, two=5, three=3, four=2)
    values = lambda x, z=frame.numbers: moments(z, neighbors(x, 5.0)).values
    base = values(frame.positions)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(values(frame.positions @ turn.T + 1.5), base, atol=1e-10)
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(values(frame.positions[order], frame.numbers[order]), base[order], atol=1e-10)
    told = moments(frame.numbers, neighbors(frame.positions, 5.0))
    slope = np.zeros((9, base.shape[1]))  # of every atom's descriptors as atom 2 moves along y
    np.add.at(slope, told.pairs.center[told.pairs.to == 2], told.slopes[told.pairs.to == 2, 1])
    np.add.at(slope, told.pairs.center[told.pairs.center == 2], -told.slopes[told.pairs.center == 2, 1])
    along = np.zeros((9, 3))
    along[2, 1] = 1
    np.testing.assert_allclose(slope, derivative(values, frame.positions, along), atol=1e-8 * np.abs(slope).max())


def test_forces_are_minus_the_gradient_between_jumps(potential, ethanol):
    rng = np.random.default_rng(2)
    for frame in ethanol[200:203]:
        v = rng.normal(size=(9, 3)) * 0.01
        assert not jumps.find(jumps.Path(potential, frame.numbers, frame.positions - 0.004 * v, 0.008 * v), 4)
        slope = derivative(lambda x, f=frame: potential(f.numbers, x)[0], frame.positions, v, 1e-3)
        assert -slope == pytest.approx((potential(frame.numbers, frame.positions)[1] * v).sum(), abs=1e-8)


def test_the_list_of_jumps_is_complete_and_each_equals_the_one_sided_limits(potential, ethanol):
    frame = ethanol[150]
    path = jumps.Path(potential, frame.numbers, frame.positions, np.random.default_rng(0).normal(size=(9, 3)) * 0.03)
    found = jumps.find(path, 10)
    assert len(found) > 5
    for jump in found:
        np.testing.assert_allclose(jumps.by_difference(path, jump.t), jump.force, atol=1e-8)
    # gates seen on a much finer grid turn as often as the list says, at the same places
    on = path.preactivations(np.linspace(0, 1, 201))[0] > 0
    at, atom, unit = np.nonzero(on[1:] != on[:-1])
    order = np.lexsort((unit, atom, at))
    assert [(j.atom, j.unit) for j in sorted(found, key=lambda j: (int(j.t * 200), j.atom, j.unit))] == list(
        zip(atom[order].tolist(), unit[order].tolist())
    )
    # and their sum explains the change of the force's work rate that is not smooth: energy has a kink of that size
    jump = max(found, key=lambda j: abs((j.force * path.v).sum()))
    energy = lambda t: potential(path.numbers, path.at(t))[0]
    h = 1e-5
    right = (-3 * energy(jump.t) + 4 * energy(jump.t + h) - energy(jump.t + 2 * h)) / (2 * h)
    left = (3 * energy(jump.t) - 4 * energy(jump.t - h) + energy(jump.t - 2 * h)) / (2 * h)
    assert right - left == pytest.approx(-(jump.force * path.v).sum(), abs=1e-6)


def test_a_smooth_potential_has_no_jumps_and_says_so(problem, ethanol):
    smooth = _fit.fit(problem, 0, "silu", 1e-4)[0]
    frame = ethanol[0]
    with pytest.raises(InvalidInput, match="smooth"):
        jumps.find(jumps.Path(smooth, frame.numbers, frame.positions, np.ones((9, 3))))
    v = np.random.default_rng(3).normal(size=(9, 3)) * 0.01
    slope = derivative(lambda x: smooth(frame.numbers, x)[0], frame.positions, v)
    assert -slope == pytest.approx((smooth(frame.numbers, frame.positions)[1] * v).sum(), abs=1e-8)


def test_energy_is_the_sum_of_loaded_networks_and_slopes_are_their_pieces(potential, ethanol):
    frame = ethanol[7]
    atoms = potential.describe([(frame.numbers, frame.positions, None)])
    total = 0.0
    for element, part in potential.elements.items():
        network = relukit.load(potential.module(element), input_shape=(len(part.skip),))
        total += network(products(part, atoms.z[atoms.numbers == element])).sum()
        total += potential.offset[element] * (frame.numbers == element).sum()
    assert total == pytest.approx(potential(frame.numbers, frame.positions)[0], abs=1e-7)


def test_a_hundred_frames_beat_the_mean_by_far(potential, ethanol):
    ours, mean = study.errors(potential, ethanol[500:560]), study._mean_errors(ethanol[:100], ethanol[500:560])
    assert ours["energy_mae_mev"] < 0.4 * mean["energy_mae_mev"]
    assert ours["force_mae_mev_per_angstrom"] < 0.25 * mean["force_mae_mev_per_angstrom"]


def test_calculator_forces_stress_and_energy_drift():
    from ase import Atoms

    from relukit.gallery.interatomic.calculator import ReLUCalculator, drift

    frames = read(ATOMS / "mlearn_Si_training.json.gz")
    small = [f for f in frames if len(f.numbers) < 40]
    recipe = Recipe(cutoff=4.0, inner=2.0, two=6, three=3, four=1, components=20, products=6, hidden=20)
    fitted = _fit.fit(_fit.prepare(recipe, small), 0, "silu")[0]
    frame = small[0]
    atoms = Atoms(
        frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True, calculator=ReLUCalculator(fitted)
    )
    stress = atoms.get_stress(voigt=False)

    def energy(strain: np.ndarray) -> float:
        bent = atoms.copy()
        bent.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        bent.calc = ReLUCalculator(fitted)
        return bent.get_potential_energy()

    shear = np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 0.5
    for way in (np.diag([1.0, 0, 0]), shear):
        slope = derivative(energy, np.zeros((3, 3)), way, 1e-3) / atoms.get_volume()
        assert slope == pytest.approx((stress * way).sum(), abs=1e-6)
    with pytest.raises(InvalidInput, match="periodic in all"):
        atoms.pbc = [True, False, False]
        atoms.get_potential_energy()
    total = drift(fitted, frame.numbers, frame.positions, kelvin=1.0, steps=3, step_fs=0.1)
    assert total.shape == (4,)
    assert np.ptp(total) < 1e-3


def test_saved_potentials_come_back(potential, ethanol, tmp_path):
    study.save(tmp_path / "C2H6O.npz", [potential])
    again = study.restore(tmp_path, study.name_of(ethanol))[0]
    frame = ethanol[9]
    assert again(frame.numbers, frame.positions)[0] == potential(frame.numbers, frame.positions)[0]
    with pytest.raises(UnreadableFile, match="C2H6O"):
        study.restore(tmp_path, "Si")
    from ase import Atoms
    from ase.io import write

    from relukit.gallery import interatomic

    write(tmp_path / "one.xyz", Atoms(frame.numbers, positions=frame.positions))
    rows = interatomic.use(tmp_path, tmp_path / "one.xyz")
    np.testing.assert_allclose([r[4:] for r in rows], potential(frame.numbers, frame.positions)[1], atol=1e-5)
    assert len(interatomic.to_csv(rows).splitlines()) == 10


def test_files_that_are_wrong_say_why(tmp_path, potential, ethanol):
    np.savez(tmp_path / "half.npz", coords=np.zeros((2, 3, 3)))
    with pytest.raises(UnreadableFile, match="nuclear_charges"):
        read(tmp_path / "half.npz")
    z, x = np.array([6, 1]), np.zeros((1, 3, 3))
    np.savez(tmp_path / "odd.npz", nuclear_charges=z, coords=x, energies=np.zeros(1), forces=x)
    with pytest.raises(UnreadableFile, match="2 atoms"):
        read(tmp_path / "odd.npz")
    with gzip.open(tmp_path / "empty.json.gz", "wt") as file:
        json.dump([], file)
    with pytest.raises(UnreadableFile, match="no frames"):
        read(tmp_path / "empty.json.gz")
    with pytest.raises(InvalidInput, match="elements \\[14\\]"):
        potential(np.array([14, 1]), np.array([[0.0, 0, 0], [0, 0, 1.5]]))
    with pytest.raises(UnreadableFile, match="one file"):
        study.score(tmp_path, [])
    for content in (b"", b"no archive"):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(UnreadableFile, match=r"broken.npz: .* no .npz at all"):
            read(tmp_path / "broken.npz")
    for seeds in (0, "x"):
        with pytest.raises(InvalidInput, match="--seeds expects"):
            study.score(tmp_path, [tmp_path / "odd.npz"], seeds=seeds)


def test_score_trains_anew_on_another_split(ethanol, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "MOLECULE", SMALL)
    table = np.load(ATOMS / "rmd17_ethanol_train_01.npz")
    for name, rows in (("a", slice(0, 80)), ("b", slice(500, 530))):
        np.savez(tmp_path / f"{name}.npz", **{k: table[k][rows] for k in ("coords", "energies", "forces")},
                 nuclear_charges=table["nuclear_charges"])  # fmt: skip
    answer = study.score(tmp_path, [tmp_path / "b.npz"], train=str(tmp_path / "a.npz"), seeds=2)
    assert answer["rows"] == 30
    assert set(answer["baselines"]) >= {"silu", "no_hidden_layer", "mean", "raw_distances_relu", "raw_distances_silu"}
    ours, mean = answer["metrics"], answer["baselines"]["mean"]
    for key in ("energy_mae_mev", "force_mae_mev_per_angstrom"):
        assert 0 < ours[key] < mean[key]
        assert ours[f"{key}_over_silu"] < 1.5
    assert isinstance(study._own_training(ethanol), Path)


def test_looseness_is_the_undecided_share_of_each_unit():
    import torch

    from relukit.gallery.images import _model

    # by hand: x in [0.4, 0.6], z1 = x - 0.45 in [-0.05, 0.15]: a quarter below 0; z2 = 1 - x decided.
    # h = ([0, 0.15], [0.4, 0.6]); z = h1 - h2 + 0.5 in [-0.1, 0.25]: 0.1 / 0.35.
    module = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1), torch.nn.ReLU(), torch.nn.Linear(1, 2))  # fmt: skip
    with torch.no_grad():
        for k, (W, b) in {0: ([[1.0], [-1.0]], [-0.45, 1.0]), 2: ([[1.0, -1.0]], [0.5])}.items():
            module[k].weight.copy_(torch.tensor(W))
            module[k].bias.copy_(torch.tensor(b))
    first, second = _model.LAYERS
    told = _model.looseness(module, torch.tensor([[0.5]]), 0.1).item()
    assert told == pytest.approx(first * 0.25 + second * 0.1 / 0.35, rel=1e-4)
    # where it is 0, no unit changes its sign anywhere in the box
    torch.manual_seed(0)
    module = _model.build("mlp")
    x = torch.rand(4, 784)
    with torch.no_grad():
        assert float(_model.looseness(module, x, 0.06)) > float(_model.looseness(module, x, 1e-3)) > 0
        module[0].bias.add_(100.0)
        module[2].bias.sub_(1e5)
        assert float(_model.looseness(module, x, 0.06)) == 0
        signs = [module[:3](x + r * torch.randn_like(x).sign()) > 0 for r in (0.0, 0.03, 0.06)]
        assert torch.equal(signs[0], signs[1]) and torch.equal(signs[0], signs[2])


def test_a_stopped_run_of_the_images_goes_on_and_a_whole_one_begins_anew(tmp_path, monkeypatch):
    import torch

    from relukit.gallery.images import _model, study

    rng, data, out = np.random.default_rng(0), tmp_path / "data", tmp_path / "out"
    data.mkdir()
    out.mkdir()
    for name, shape in ((study.DIGITS, (80, 28, 28)), (study.TEST, (20, 28, 28)), (study.PETS, (20, 32, 32, 3))):
        classes = 10 if len(shape) == 3 else 2
        np.savez(data / name, x=rng.integers(0, 256, shape, np.uint8), y=np.arange(shape[0]) % classes)
    trained, fit = [], _model.fit

    def counted(kind, images, labels, seed, *rest):
        trained.append((kind, seed))
        return fit(kind, images, labels, seed, *rest)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(_model, "fit", counted)
    monkeypatch.setattr(study, "EPOCHS", dict.fromkeys(study.EPOCHS, 1))
    with pytest.raises(KeyboardInterrupt):
        study.train(data, out, seeds=2, on_progress=stop)
    first = study.restore(out, "mlp")
    assert len(first) == 2 and len(study.restore(out, "plain")) == 1
    trained.clear()
    summary = study.train(data, out, seeds=2)
    assert trained == [("plain", 1), ("cnn", 0), ("cnn", 1), ("pets", 0), ("pets", 1), ("pets", 0)]
    assert len(summary["mlp"]["values"]) == len(summary["cnn"]["values"]) == 2
    assert torch.equal(study.restore(out, "mlp")[0][0].weight, first[0][0].weight)
    trained.clear()
    study.train(data, out, seeds=3)
    assert [t for t in trained if t[0] == "mlp"] == [("mlp", 2)]
    trained.clear()
    study.train(data, out, seeds=1)
    assert ("mlp", 0) in trained and len(study.restore(out, "mlp")) == 1


@pytest.mark.slow
@pytest.mark.skipif(not IMAGES.exists(), reason="RELUKIT_DATA/images is absent")
def test_digits_of_stable_training_are_proven_and_attacks_stay_above_and_the_facet_is_the_boundary():
    from relukit.gallery.images import _model
    from relukit.gallery.images.figures import facet
    from relukit.gallery.images.study import measure

    source, test = np.load(IMAGES / "mnist_train.npz"), np.load(IMAGES / "mnist_test_dev5000.npz")
    module = _model.fit("mlp", source["x"][:4000], source["y"][:4000], 0, 4)
    x = _model.flat(test["x"][:2])
    assert (_model.decide(module, _model.flat(test["x"][:500])) == test["y"][:500]).mean() > 0.8
    exact, attacks = measure(module, x)
    assert exact["median_lower"] <= exact["median_distance"]
    assert {"deepfool", "fast_minimum_norm"} <= attacks.keys()  # foolbox comes with the gallery's packages
    for found in attacks.values():
        assert found["median_distance"] is None or found["median_distance"] >= exact["median_lower"]
    network = relukit.load(module)
    flip = relukit.flip(network, x[0].astype(float), within=relukit.Box(np.zeros(784), np.ones(784)), timeout=10)
    normal, _ = facet(network, x[0].astype(float), flip.witness, int(flip.from_), int(flip.to))
    margin = lambda z: float(network(z)[..., int(flip.to)] - network(z)[..., int(flip.from_)])
    along = np.random.default_rng(0).normal(size=784)
    slope = derivative(margin, flip.witness, along, 1e-9)
    assert slope == pytest.approx(normal @ along, rel=1e-3, abs=1e-3 * np.linalg.norm(normal))


def test_what_ase_cannot_read_is_refused_by_name(tmp_path):
    from relukit import UnreadableFile
    from relukit.gallery.interatomic import _frames

    for name, content in (("table.csv", "a,b\n1,2\n"), ("empty.xyz", ""), ("words.xyz", "no atoms here\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(UnreadableFile, match=name):
            _frames.read(tmp_path / name)


def test_distances_are_bracketed_by_proofs_below_and_flips_above():
    from relukit.gallery.images import study

    # decided by the larger of relu(a) and relu(b): from (0.8, 0.2) both move by 0.3; the others change nothing
    network = relukit.load({"W0": np.eye(3), "b0": np.zeros(3), "W1": np.eye(3)[:2], "b1": np.zeros(2)})
    low, high = study._proven(network, np.array([0.8, 0.2, 0.5]), 0.0, 0.5)
    assert 0.25 < low < 0.3 <= high < 0.5
    assert study._proven(network, np.array([0.8, 0.2, 0.5]), 0.0, np.inf)[1] < 0.6


def test_images_are_read_as_bytes_or_shares_of_one_and_anything_else_refused(tmp_path):
    from relukit.gallery.images.study import read, score

    x = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    x[0, 0, 0] = 255
    for name, pictures in (("bytes", x), ("shares", x.astype(np.float32) / 255), ("floats", x.astype(float))):
        np.savez(tmp_path / f"{name}.npz", x=pictures, y=np.arange(3))
        told, labels = read(tmp_path / f"{name}.npz")
        assert told.dtype == np.uint8 and (told == x).all() and labels.tolist() == [0, 1, 2]
    pets = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    for pictures, own, classes in (
        (pets, [0, 1, 0], None),
        (pets.transpose(0, 3, 1, 2), [3, 5, 3], None),
        (pets, ["cat", "dog", "cat"], None),
        (pets, [1, 0, 1], ["dog", "cat"]),
    ):
        np.savez(
            tmp_path / "pets.npz", x=pictures, y=np.array(own), **({} if classes is None else {"classes": classes})
        )
        told, labels = read(tmp_path / "pets.npz")
        assert (told == pets).all() and labels.tolist() == [0, 1, 0]
    for pictures in (x.reshape(3, 784), x[..., None], x[:, None]):
        np.savez(tmp_path / "laid.npz", x=pictures, y=np.array(["7", "0", "9"]))
        told, labels = read(tmp_path / "laid.npz")
        assert (told == x).all() and labels.tolist() == [7, 0, 9]
    wrong = {
        "cut": ({"x": x[:, 1:], "y": np.arange(3)}, "expected x of shape"),
        "eleven": ({"x": x, "y": np.array([0, 9, 10])}, "label '10' is none of the digits"),
        "cow": ({"x": np.zeros((1, 32, 32, 3), np.uint8), "y": np.array(["cow"])}, "label 'cow' is none of cat, dog"),
        "short": ({"x": x, "y": np.arange(2)}, "expected x of shape"),
        "none": ({"x": x[:0], "y": np.arange(0)}, "expected x of shape"),
        "nan": ({"x": np.full((1, 28, 28), np.nan), "y": np.zeros(1)}, "must lie in"),
        "negative": ({"x": -x.astype(float), "y": np.arange(3)}, "must lie in"),
        "unlabeled": ({"x": x}, "images x and labels y"),
    }
    for name, (arrays, says) in wrong.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(relukit.UnreadableFile, match=says):
            read(tmp_path / f"{name}.npz")
    (tmp_path / "table.csv").write_text("x,y\n1,2\n")
    with pytest.raises(relukit.UnreadableFile, match="this is none"):
        read(tmp_path / "table.csv")
    for flips in (-1, "some"):
        with pytest.raises(relukit.InvalidInput, match="--flips expects"):
            score(tmp_path, [tmp_path / "bytes.npz"], flips=flips)
