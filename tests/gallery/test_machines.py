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
        ("strain of type M [Nm min]", ">"): 12000, ("strain of type H [Nm min]", ">"): 13000,
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
    net = _process.network(rules, X, np.eye(7))
    assert np.array_equal(net(X)[:, 0] > 0, y == 1)
    read = _process.thresholds(net, rules, X, np.eye(7))
    assert sorted(round(r["threshold"], 1) for r in read) == [-0.8, -0.5, 1.5]


def test_mill_ramps_and_votes_form_the_network():
    from relukit.gallery.maintenance import _mill

    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 5))
    curves, vote = _mill.ramps(X), np.array([1.0, 0, -1, 0, 0])
    said = _mill.network(curves, vote)(X * 1.5)[:, 0]
    s = _mill.shares(X * 1.5, curves)
    assert np.allclose(said, ((2 * s - 1) * vote).sum(1) / 2, atol=1e-12)


def test_mill_remembers_its_experiment_only_and_tells_when():
    from relukit.gallery.maintenance import _mill

    generator = np.random.default_rng(1)
    votes = {k: generator.normal(size=60) for k in (1, 2)} | {
        3: np.r_[np.full(20, -1.0), np.full(70, 1.0)],
        4: np.ones(9),
    }
    past = _mill.remembered(votes)
    for k, s in votes.items():
        by_hand = [s[max(0, i - _mill.MEMORY + 1) : i + 1].mean() for i in range(len(s))]
        assert np.allclose(past[k], by_hand, atol=1e-12)
    told = _mill.lead_times({k: past[k] for k in (3, 4)}, {3: True, 4: True})
    # experiment 3 turns at its 41st window (100 s later than its first), experiment 4 is told at its 8th
    assert told["worn_experiments_warned"] == 2
    assert told["seconds_until_warned_median"] == pytest.approx((5 + 2.5 * 40 + 5 + 2.5 * 7) / 2)
    assert told["lead_seconds_median"] == pytest.approx((2.5 * 49 + 2.5 * 1) / 2)


def test_engines_of_other_flights_are_refused_with_their_place():
    from relukit._errors import InvalidInput
    from relukit.gallery.maintenance import _engines

    rows = np.zeros((3, 26))
    rows[:, 0], rows[:, 1], rows[:, 4] = 7, [1, 2, 3], 100
    _engines.known_conditions(rows, "test.txt")
    rows[1, 2:5] = 42.0, 0.84, 100
    with pytest.raises(InvalidInput, match=r"engine 7 .* 42, 0\.84, 100 in cycle 2"):
        _engines.known_conditions(rows, "test.txt")


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
    from relukit.gallery.robot_arm._controller import network_law
    from relukit.network import from_layers

    pair = from_layers([np.array([[1.0], [-1.0]]), np.array([[3.0, -3.0]])], [np.zeros(2), np.zeros(1)], [get("relu")])
    assert network_law(pair).slope == pytest.approx(3) and network_law(pair).rest == 0
    off = from_layers(
        [np.array([[1.0], [-1.0]]), np.array([[3.0, -3.0]])], [np.zeros(2), np.full(1, 0.6)], [get("relu")]
    )
    found = network_law(off)
    assert found.rest == pytest.approx(-0.2) and found.law(0.1) == pytest.approx(0.3)
    lone = from_layers([np.eye(1), np.eye(1)], [np.zeros(1), np.zeros(1)], [get("relu")])
    with pytest.raises(UnsupportedOperation, match="only one way"):
        network_law(lone)


def test_a_controller_of_error_and_rate_is_measured_as_its_poles_say():
    pytest.importorskip("mujoco")
    from relukit.activations import get
    from relukit.gallery.robot_arm._controller import network_law
    from relukit.gallery.robot_arm._loop import Joint
    from relukit.gallery.robot_arm.study import closed_loop
    from relukit.network import from_layers

    joint = Joint(inertia=0.4, damping=0.7, gain=15.0)
    W = np.array([[1.0, 0.05], [-1.0, -0.05], [1.0, 0.0]])
    bends_later = from_layers(
        [W, np.array([[2.0, -2.0, -1.0]])], [np.array([0.0, 0.0, -0.004]), np.zeros(1)], [get("relu")]
    )
    own = network_law(bends_later, joint)
    assert (own.slope, own.rate_slope, own.rest) == pytest.approx((2.0, 0.1, 0.0), abs=1e-9)
    assert own.straight and own.room == pytest.approx(0.004)
    seen, _ = closed_loop(joint, own, step=0.9 * own.room)
    pole = np.roots([joint.inertia, joint.damping + joint.gain * 0.1, joint.gain * 2.0])[0]
    assert seen.frequency == pytest.approx(abs(pole), rel=0.01)
    assert seen.damping == pytest.approx(-pole.real / abs(pole), rel=0.01)


def test_two_slopes_swing_as_an_integrated_equation_does():
    pytest.importorskip("mujoco")
    from scipy.integrate import solve_ivp

    from relukit.activations import get
    from relukit.gallery.robot_arm._controller import network_law
    from relukit.gallery.robot_arm._loop import Joint, linearization
    from relukit.gallery.robot_arm.study import closed_loop
    from relukit.network import from_layers

    joint = Joint(inertia=0.5, damping=0.9, gain=20.0)
    net = from_layers([np.array([[1.0], [-1.0]]), np.array([[3.0, -0.8]])], [np.zeros(2), np.zeros(1)], [get("relu")])
    own = network_law(net)
    assert (own.slope, own.below, own.straight) == (3.0, pytest.approx(0.8), False)
    seen, exact = closed_loop(joint, own)
    torque = lambda e: joint.gain * (3.0 * e if e > 0 else 0.8 * e)
    run = solve_ivp(lambda t, x: [x[1], (torque(1 - x[0]) - joint.damping * x[1]) / joint.inertia], (0, 6), [0, 0], rtol=1e-10, atol=1e-12, events=lambda t, x: x[1])  # fmt: skip
    turns, heights = run.t_events[0][1:], 1 - run.y_events[0][1:, 0]  # extremes of the error
    period, shrink = turns[2] - turns[0], np.log(heights[0] / heights[2])
    assert exact.overshoot == pytest.approx(-heights[0], rel=1e-6)
    assert exact.frequency == pytest.approx(np.hypot(2 * np.pi, shrink) / period, rel=1e-6)
    assert exact.damping == pytest.approx(shrink / np.hypot(2 * np.pi, shrink), rel=1e-6)
    assert seen.frequency == pytest.approx(exact.frequency, rel=0.01)
    assert seen.damping == pytest.approx(exact.damping, rel=0.01)
    assert seen.overshoot == pytest.approx(exact.overshoot, rel=0.01)
    with pytest.raises(ValueError, match="unstable"):
        linearization(joint, 1.0, -0.1)


def test_large_swings_are_those_of_the_describing_function():
    pytest.importorskip("mujoco")
    from relukit.gallery.robot_arm._loop import LAWS, Joint, swing_frequency

    for name, law in LAWS.items():
        measured, said = swing_frequency(Joint(), law, 2.0)
        assert measured == pytest.approx(said, rel=0.01), name


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
    for log in [v for k, v in car[1].items() if k != "simulation"]:
        kept = log["segments_held_in_turn"]
        assert kept["residual"] < 0.8 * kept["understeer"]


@pytest.mark.slow
def test_car_rises_with_steering_and_is_inverted_exactly(car):
    from relukit.gallery.car import steering_for
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
    _, _, length, gradient, offset, cubic = notes["formula"]
    turned = (angle - offset) * (1 + cubic * (angle - offset) ** 2)
    row = np.clip(np.array([[12.0, 0, 0, 0, 0]]), *notes["box"])
    row[0, 4] = turned
    rate = 12.0 * turned / (length + gradient * 12.0**2) + nets[0](row)[0, 0]
    assert 12.0 / rate == pytest.approx(80.0, rel=1e-9)


def test_straightened_steering_is_bent_back():
    from relukit.gallery.car import _model

    for cubic in (0.0, 1e-16, 1e-3, 4.0, 300.0):
        formula = np.array([5.0, 0.9, 3.0, 1e-3, -0.01, cubic])
        for angle in (-0.4, -0.01, 0.0, 1e-9, 0.25):
            straight = (angle + 0.01) * (1 + cubic * (angle + 0.01) ** 2)
            assert _model.bent(formula, straight) == pytest.approx(angle, abs=1e-12)


def test_a_log_that_goes_on_from_the_training_log_has_its_lags_filled():
    import pandas as pd

    from relukit.gallery.car import _model
    from relukit.gallery.car.study import with_past

    rng = np.random.default_rng(0)
    times = np.r_[np.arange(400), np.arange(600, 800)] * 0.04
    whole = pd.DataFrame({c: rng.normal(size=600) for c in [*_model.INPUTS, _model.TARGET]}).assign(
        **{"time(s)": times}
    )
    formula = np.array([5.0, 0.9, 3.0, 1e-3, 0.0, 1.0])
    said = _model.yaw_rate(whole, formula)
    later = whole.iloc[250:].sample(frac=1, random_state=0)
    joined, place = with_past(later, whole.iloc[:250])
    assert np.array_equal(joined["time(s)"].to_numpy()[place], later["time(s)"].to_numpy())
    assert _model.TARGET not in joined
    # equal to a log without the cut, since both are filtered from further back than the lag remembers
    assert np.abs(_model.yaw_rate(joined, formula)[place] - said[later.index]).max() < 1e-9
    alone, there = with_past(whole.iloc[400:], whole.iloc[:250])
    assert len(alone) == 200 and np.array_equal(there, np.arange(200))


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


def _round_track(**changes):
    """A circle of radius 0.6 m, its line's middle known by hand."""
    from relukit.gallery.line_follower._tracks import Track

    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return Track(0.6 * np.column_stack([np.cos(t), np.sin(t)]), **changes)


def test_a_camera_sees_the_line_where_projection_puts_it():
    from relukit.gallery.line_follower._tracks import Camera, Floor, Light
    from relukit.gallery.line_follower._world import HEIGHT, WIDTH, Cameras, World

    still = {"floor": Floor(texture=0.0), "light": Light(noise=0.0, vignette=0.0)}
    for camera in (Camera(blur=0.0), Camera(height=0.15, pitch=60.0, field_of_view=60.0, blur=0.0)):
        world = World([_round_track(camera=camera, **still)])
        frame = Cameras(world, np.array([0])).frames(np.array([0.6]), np.array([0.0]), np.array([np.pi / 2]))[0]
        # by hand: the ground point (forward, right) under a pixel, and whether it lies on the ring of line
        half = np.tan(np.deg2rad(camera.field_of_view) / 2)
        for row in range(4, HEIGHT):
            for column in range(WIDTH):
                u, v = (column - 15.5) / 16 * half, (row - 11.5) / 16 * half
                p = np.deg2rad(camera.pitch)
                ray = np.array([np.cos(p) - v * np.sin(p), u, np.sin(p) + v * np.cos(p)])
                forward, right = camera.height * ray[:2] / ray[2]
                off = abs(np.hypot(0.6 + right, forward + camera.ahead) - 0.6)
                if off < 0.003:
                    assert frame[row, column] < 110, (row, column)
                elif off > 0.035:
                    assert frame[row, column] > 160, (row, column)


def test_robots_and_expert_keep_a_circle():
    from relukit.gallery.line_follower._robots import Robots, drive
    from relukit.gallery.line_follower._tracks import Robot
    from relukit.gallery.line_follower._world import World

    world = World(
        [_round_track(robot=Robot(speed=0.5, start_offset=0.02)), _round_track(robot=Robot(lag=0.0, latency=0))]
    )
    robots = Robots(world, np.array([0, 1]))
    assert robots.errors()[0] == pytest.approx([0.02, 0], abs=1e-4)
    for command in (np.full(2, 1 / 0.6),):
        for _ in range(30):
            robots.advance(command)
    # under the circle's own curvature a second robot stays on it: v t along the arc
    assert np.hypot(robots.x[1], robots.y[1]) == pytest.approx(0.6, abs=1e-3)
    assert robots.gone[1] == pytest.approx(0.5, abs=0.01)
    again = Robots(world, np.array([0, 1]))
    seen = []
    for _ in range(8):
        seen.append(again.frames())
        again.advance(np.full(2, 1 / 0.6))
    assert seen[0].shape == (2, 2, 24, 32) and np.array_equal(seen[0][:, 0], seen[0][:, 1])
    assert np.array_equal(seen[7][:, 1], seen[1][:, 0])  # six frames back
    run = drive(Robots(world, np.array([0, 1])), lambda _, r: r.expert())
    assert run.finished.all() and run.rms[1] < 0.05


def test_light_line_and_gap_are_what_the_track_says():
    from relukit.gallery.line_follower._tracks import Floor, Light
    from relukit.gallery.line_follower._world import CELL, floor_picture

    track = _round_track(floor=Floor(0.8, 0.2, 0.0), gaps=((0.5, 0.1),), light=Light(shadows=((0.0, 0.0, 0.2, 0.5),)))
    picture, origin = floor_picture(track, track.line())
    at = lambda x, y: picture[round((y - origin[1]) / CELL), round((x - origin[0]) / CELL)]
    angle = lambda s: (0.6 * np.cos(s / 0.6), 0.6 * np.sin(s / 0.6))
    assert at(*angle(0.3)) == pytest.approx(0.2, abs=0.01)
    assert at(*angle(0.55)) == pytest.approx(0.8, abs=0.01)
    assert at(0, 0) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"points": [[0, 0], [1, 0], [1, 1]]}, "at least 4"),
        ({"line_width": "wide"}, "line_width: expected a number"),
        ({"camera": {"heigth": 1}}, "unknown key 'heigth'"),
        ({"camera": 3}, "expected an object"),
        ({"gaps": [[1]]}, "rows of 2"),
        ({"floor": {"brightness": 0.1, "line": 0.5}}, "darker"),
        ({"points": [[0, 0], [100, 0], [100, 100], [0, 100]]}, "meters"),
        ({"light": {"brightness": float("nan")}}, "brightness"),
    ],
)
def test_track_files_are_refused_with_the_place(tmp_path, change, word):
    import json

    from relukit._errors import UnreadableFile
    from relukit.gallery.line_follower import _tracks

    row = {"points": [[0, 0], [1, 0], [1, 1], [0, 1]]} | change
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"format": _tracks.FORMAT, "tracks": [row]}))
    with pytest.raises(UnreadableFile, match=word) as error:
        _tracks.read(path)
    assert "track 0" in str(error.value)


def test_drawn_tracks_survive_their_file(tmp_path):
    from relukit.gallery.line_follower import _tracks
    from relukit.gallery.line_follower._draw import draw

    tracks = draw(3, 7)
    _tracks.write(tmp_path / "t.json", tracks)
    for a, b in zip(tracks, _tracks.read(tmp_path / "t.json")):
        assert np.allclose(a.points, b.points, atol=1e-5)
        assert (a.camera, a.robot, a.light, a.floor, a.gaps) == (b.camera, b.robot, b.light, b.floor, b.gaps)


def _untaught_follower():
    import relukit
    from relukit.gallery._life import seeded
    from relukit.gallery.line_follower import _model

    with seeded(3):
        module = _model.build().eval()
    frame = np.round(np.random.default_rng(0).random((2, 24, 32)) * 255) / 255
    net = relukit.load(module, input_shape=_model.SHAPE)
    return net, frame, -net(frame.reshape(1, -1))[0]


def test_light_and_shift_around_a_frame_are_those_by_hand():
    from relukit.gallery.line_follower import _certificate

    net, frame, _ = _untaught_follower()
    around = _certificate.family(net, frame, -1)
    a, b, t = 1.2, 0.03, 0.6  # brightness, then a shift by half a pixel to the left
    moved = np.concatenate([frame[:, :, 1:], frame[:, :, -1:]], axis=2)
    by_hand = np.clip(a * frame + b + t * (moved - frame), 0, 1)
    assert around(np.array([[a, b, t]]))[0, 0] == pytest.approx(net(by_hand.reshape(1, -1))[0, 0], abs=1e-9)


@pytest.mark.slow
def test_a_clear_sign_is_proven_and_one_at_the_edge_refuted():
    from relukit.gallery.line_follower import _certificate

    net, frame, back = _untaught_follower()
    assert _certificate.holds(net.append(np.eye(1), back + 5.0), frame) == "proven"
    assert _certificate.holds(net.append(np.eye(1), back + 1e-5), frame) == "refuted"


@pytest.mark.slow
def test_line_follower_taught_briefly_beats_the_baseline(tmp_path):
    from relukit.gallery import line_follower
    from relukit.gallery.line_follower import _tracks
    from relukit.gallery.line_follower._draw import draw

    line_follower.train(line_follower.fetch(), tmp_path, seeds=1, quick=True)
    _tracks.write(tmp_path / "exam.json", draw(10, 5))
    answer = line_follower.score(tmp_path, [], tracks=tmp_path / "exam.json", prove=2)
    assert answer["rows"] == 10
    assert answer["metrics"]["finished_share"] >= answer["baselines"]["centroid_pd"]["finished_share"]
    assert answer["metrics"]["milliseconds_per_frame"] > 0


def _made_compressor(path, days=36, leak=(33.0, 34.0)):
    """Rows of MetroPT-3's columns, made: a compressor that fills its tank in turns, and a leak that makes it run on."""
    import pandas as pd

    g = np.random.default_rng(0)
    n = days * 1440
    day = np.arange(n) / 1440
    leaking = np.clip((day - (leak[0] - 0.6)) * 2, 0, 1) * (day < leak[1])
    on = ((np.arange(n) % 10) < np.round(3 + 6 * leaking)).astype(float)
    warm = 55 + 8 * np.sin(2 * np.pi * day) + 15 * leaking
    columns = {
        "timestamp": pd.date_range("2020-02-01", periods=n, freq="min").strftime("%Y-%m-%d %H:%M:%S"),
        "TP2": 8 * on, "TP3": 9 - 1.5 * leaking, "H1": 9 * (1 - on), "DV_pressure": 0 * on, "Reservoirs": 9 - 1.5 * leaking,
        "Oil_temperature": warm, "Motor_current": 4 + 2 * on, "COMP": 1 - on, "DV_eletric": on, "Towers": np.arange(n) // 30 % 2,
        "MPG": 1 - on, "LPS": 0 * on, "Pressure_switch": 1 + 0 * on, "Oil_level": 1 + 0 * on, "Caudal_impulses": 1 + 0 * on,
    }  # fmt: skip
    for name in ("TP2", "TP3", "H1", "DV_pressure", "Reservoirs", "Oil_temperature", "Motor_current"):
        columns[name] = columns[name] + g.normal(0, 0.1, n)
    pd.DataFrame(columns).to_csv(path)
    return (str(pd.Timestamp("2020-02-01") + pd.Timedelta(days=leak[0])), str(pd.Timestamp("2020-02-01") + pd.Timedelta(days=leak[1])))  # fmt: skip


@pytest.mark.slow
def test_compressor_is_read_and_a_made_leak_warned_of(tmp_path):
    from relukit._errors import InvalidInput, UnreadableFile
    from relukit.gallery.maintenance import _compressor, _files

    path = tmp_path / "MetroPT3(AirCompressor).csv"
    failure = _made_compressor(path)
    assert _files.read_kind(path) == "compressor"
    metrics, baselines, rows = _compressor.score(path, (failure,))
    assert rows == 36 * 144
    assert metrics["failures"] == metrics["failures_warned_2h_ahead"] == 1
    assert 2 <= metrics["lead_hours"][0] <= 15
    assert metrics["false_alarms_per_month"] <= 2
    assert baselines["oil_temperature_limit"]["failures"] == 1
    lines = path.read_text().splitlines()
    short = tmp_path / "short.csv"
    short.write_text("\n".join(lines[:3000]))
    with pytest.raises(InvalidInput, match="days"):
        _compressor.score(short)
    short.write_text("\n".join([*lines[:5], "4,no date" + ",1" * 15]))
    with pytest.raises(UnreadableFile, match="row 6"):
        _compressor.read(short)


def test_single_track_formula_meets_its_steady_state_and_a_simulated_car():
    pytest.importorskip("vehiclemodels")
    import pandas as pd

    from relukit.gallery.car import _model, _simulation, _single_track

    p = np.array([2.8, 1e-3, 0.45, 2.0, 90.0, 0.05, 0.01])
    still = pd.DataFrame({c: np.zeros(400) for c in [*_model.INPUTS, _model.TARGET]})
    still["time(s)"], still["vx(m/s)"], still["delta(rad)"] = np.arange(400) * 0.04, 20.0, 0.04
    still.loc[:5, "delta(rad)"] = 0.0  # a step, long past at the end
    rate = _single_track.yaw_rate(still, p)
    assert rate[-1] == pytest.approx(20 * (0.04 - 0.01) / (2.8 + 1e-3 * 400), rel=1e-4)
    car = _simulation.simulate(5, 1)
    assert np.array_equal(car.columns, [*_model.INPUTS, _model.TARGET, "friction"])
    assert car["friction"].between(0.4, 1.0).all() and car["vx(m/s)"].between(3, 43).all()
    said = _single_track.yaw_rate(car, _single_track.fit(car))
    turning = np.abs(car[_model.TARGET]) > 0.02
    assert np.median(np.abs(said[turning] / car[_model.TARGET][turning] - 1)) < 0.03


def test_studies_may_share_a_folder(tmp_path):
    from relukit.gallery import output_folder

    assert output_folder("car", tmp_path) == tmp_path / "car" == output_folder("car", tmp_path / "car")
