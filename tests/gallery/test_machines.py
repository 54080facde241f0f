"""The machine studies, short versions on real data."""

import io
import os

import numpy as np
import pytest

needs_data = pytest.mark.skipif(not os.environ.get("RELUKIT_DATA"), reason="RELUKIT_DATA is not set")


@pytest.fixture(scope="module")
def maintenance(tmp_path_factory):
    if not os.environ.get("RELUKIT_DATA"):
        pytest.skip("RELUKIT_DATA is not set")
    from relukit.gallery import maintenance

    out = tmp_path_factory.mktemp("maintenance")
    return maintenance.fetch(), out, maintenance.train(maintenance.fetch(), out, seeds=1, quick=True)


@pytest.mark.slow
def test_rules_are_read_off_where_the_paper_puts_them(maintenance):
    _, _, summary = maintenance
    read = {(r["feature"], r["side"]): r["threshold"] for r in summary["process"]["rules"]}
    documented = {
        ("temperature difference [K]", "<"): 8.6, ("rotational speed [rpm]", "<"): 1380, ("power [W]", "<"): 3500,
        ("power [W]", ">"): 9000, ("strain of type L [Nm min]", ">"): 11000,
    }  # fmt: skip
    for key, value in documented.items():
        assert read[key] == pytest.approx(value, rel=0.02), key
    assert summary["process"]["f1_rows_held_in_turn"] > 0.85


@pytest.mark.slow
def test_engines_scored_beside_their_baselines(maintenance, tmp_path):
    from relukit.gallery.maintenance import _files, score

    data, out, _ = maintenance
    table = _files.numbers(data / _files.CMAPSS)
    cut, left = [], []
    for engine in range(1, 13):
        rows = table[table[:, 0] == engine]
        keep = len(rows) - 10 * engine
        cut.append(rows[:keep])
        left.append(len(rows) - keep)
    np.savetxt(tmp_path / "test.txt", np.concatenate(cut))
    np.savetxt(tmp_path / "rul.txt", left)
    answer = score(out, [tmp_path / "test.txt", tmp_path / "rul.txt"])
    assert answer["rows"] == 12
    assert answer["metrics"]["rmse"] < answer["baselines"]["mean"]["rmse"]


@pytest.mark.slow
def test_a_stream_names_its_reason(maintenance):
    from relukit.gallery.maintenance import _files, stream

    data, out, _ = maintenance
    told = list(stream.warnings(out, data / _files.AI4I))
    table = _files.frame(data / _files.AI4I, ["Machine failure"])
    assert np.mean([table["Machine failure"][t["row"] - 1] for t in told]) > 0.9
    assert all(t["reason"] for t in told)


def test_formats_are_told_apart():
    from relukit._errors import UnreadableFile
    from relukit.gallery.maintenance import _files

    assert _files.kind_of(" ".join(["1"] * 26)) == "engines"
    assert _files.kind_of("112 \n") == "remaining"
    with pytest.raises(UnreadableFile, match="C-MAPSS"):
        _files.kind_of("a,b,c")


def test_an_engine_remembers_its_past_only():
    from relukit.gallery.maintenance._engines import Engine

    x = np.random.default_rng(0).normal(size=(20, 14))
    one, two = Engine(), Engine()
    a = np.stack([one.push(r) for r in x])
    b = np.stack([two.push(r) for r in np.concatenate([x[:10], x[10:] + 5])])
    assert np.array_equal(a[:10], b[:10])
    assert np.allclose(a[4, 56:70], a[4, 14:28] - x[:5].mean(0))


def test_rule_networks_fire_exactly_inside_their_boxes():
    from relukit.gallery.maintenance import _process

    generator = np.random.default_rng(0)
    X = generator.normal(size=(4000, 7))
    y = ((X[:, 2] > 1.5) | ((X[:, 0] < -0.5) & (X[:, 1] < -0.8))).astype(int)
    rules = _process.learn(X, y)
    net = _process.network(rules, X)
    assert np.array_equal(net(X)[:, 0] > 0, y == 1)
    read = _process.thresholds(net, rules, X)
    assert sorted(round(r["threshold"], 1) for r in read) == [-0.8, -0.5, 1.5]


def test_mill_ramps_and_votes_form_the_network():
    from relukit.gallery.maintenance import _mill

    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 5))
    curves, vote = _mill.ramps(X), np.array([1.0, 0, -1, 0, 0])
    said = _mill.network(curves, vote)(X * 1.5)[:, 0]
    s = _mill.shares(X * 1.5, curves)
    assert np.allclose(said, ((2 * s - 1) * vote).sum(1) / 2, atol=1e-12)


def test_half_a_line_waits_for_its_other_half():
    from relukit.gallery.maintenance.stream import _lines

    assert list(_lines(io.StringIO("a\nb\n\nlast"), 0)) == ["a\n", "b\n", "last"]


def test_arm_measured_in_mujoco_meets_the_linearization():
    pytest.importorskip("mujoco")
    from relukit.gallery.robot_arm._loop import LAWS, SLOPES, Joint, linearization, measure, simulate

    joint = Joint(inertia=0.3, damping=1.0, gain=12.0)
    found = {}
    for name, law in LAWS.items():
        times, angles = simulate(joint, law, 0.01, joints=2)
        seen, exact = measure(times, angles[:, 0], 0.01), linearization(joint, SLOPES[name])
        assert seen.frequency == pytest.approx(exact.frequency, rel=0.01)
        assert seen.damping == pytest.approx(exact.damping, rel=0.01)
        assert seen.overshoot == pytest.approx(exact.overshoot, abs=0.005)
        found[name] = seen
    assert found["relu"].frequency / found["sigmoid"].frequency == pytest.approx(2, rel=0.01)


def test_a_lone_relu_is_refused_as_a_controller():
    from relukit._errors import UnsupportedOperation
    from relukit.activations import get
    from relukit.gallery.robot_arm._loop import network_law
    from relukit.network import from_layers

    pair = from_layers([np.array([[1.0], [-1.0]]), np.array([[3.0, -3.0]])], [np.zeros(2), np.zeros(1)], [get("relu")])
    assert network_law(pair)[1] == pytest.approx(3)
    lone = from_layers([np.eye(1), np.eye(1)], [np.zeros(1), np.zeros(1)], [get("relu")])
    with pytest.raises(UnsupportedOperation, match="only one way"):
        network_law(lone)


def test_growth_of_a_trained_controller_holds_on_samples():
    from relukit.gallery.robot_arm import study

    net = study.imitate(0, 3)
    proof = study.one_step_growth(net)
    A, B = study.discrete()
    T = study.lqr()[2]
    z = np.random.default_rng(1).uniform(-1, 1, (5000, 2))
    following = (A @ np.linalg.solve(T, z.T) - B @ net(z).T).T @ T.T
    assert np.abs(following).max() <= proof["proven_growth"] + 1e-12


@pytest.fixture(scope="module")
def car(tmp_path_factory):
    if not os.environ.get("RELUKIT_DATA"):
        pytest.skip("RELUKIT_DATA is not set")
    from relukit.gallery import car

    out = tmp_path_factory.mktemp("car")
    return out, car.train(car.fetch(), out, seeds=1, quick=True)


@pytest.mark.slow
def test_car_beats_the_understeer_formula_on_kept_segments(car):
    for log in car[1].values():
        kept = log["segments_held_in_turn"]
        assert kept["residual"] < 0.8 * kept["understeer"]


@pytest.mark.slow
def test_car_rises_with_steering_and_is_inverted_exactly(car):
    from relukit.gallery.car import _model, steering_for
    from relukit.gallery.car.study import load

    out, _ = car
    notes, nets = load(out, 1)
    generator = np.random.default_rng(0)
    X = generator.uniform(*notes["box"], (400, 5))
    Y = X.copy()
    Y[:, 4] = np.minimum(X[:, 4] + generator.uniform(0, 0.05, 400), notes["box"][1][4])
    assert np.all(nets[0](Y)[:, 0] >= nets[0](X)[:, 0] - 1e-12)
    assert np.abs(nets[0](X)).max() <= notes["residual_bound"]
    angle = steering_for(out, 80.0, 12.0, car=1)
    row = np.clip(np.array([[12.0, 0, 0, 0, 0]]), *notes["box"])
    row[0, 4] = angle
    rate = _model.understeer(notes["formula"], 12.0, angle) + nets[0](row)[0, 0]
    assert 12.0 / rate == pytest.approx(80.0, rel=1e-9)


@pytest.mark.slow
def test_car_never_reads_the_answer(car, tmp_path):
    from relukit.gallery.car import _model, fetch, score
    from relukit.gallery.car.study import LOGS, _predict, load

    out, _ = car
    table = _model.read(fetch() / LOGS[0]).iloc[:300]
    notes, nets = load(out, 0)
    blind = table.copy()
    hidden = [c for c in blind.columns if c not in _model.INPUTS]
    blind[hidden] = np.random.default_rng(0).normal(size=(300, len(hidden)))
    args = (notes["formula"], nets, notes["box"])
    assert np.array_equal(_predict(table, *args), _predict(blind, *args))
    table.to_csv(tmp_path / "log.csv", index=False)
    assert score(out, [tmp_path / "log.csv"])["rows"] == 300


def test_rising_layers_rise_and_residuals_add():
    import torch

    import relukit

    torch.manual_seed(0)
    layer = relukit.nn.Rising(3, 8)
    x = torch.randn(500, 3)
    further = x.clone()
    further[:, 2] += torch.rand(500)
    assert torch.all(layer(further) > layer(x))
    both = relukit.nn.Residual(lambda x: x[:, 2:] ** 2, layer, scale=0.5)
    assert torch.allclose(both(x) - x[:, 2:] ** 2, 0.5 * layer(x), atol=1e-6)
