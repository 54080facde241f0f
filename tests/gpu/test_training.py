"""Watching, training, lean blocks, cures and starts on a GPU: as on the CPU, and nothing of the user's is changed."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from tests.monitoring.test_watch import _data, _mlp
from tests.training.test_lean import CASES, _step

pytestmark = pytest.mark.gpu


def train(model, place, steps=60, watched=True, amp=False, cure=False):
    x, y = (t.to(place) for t in _data())
    model = model.to(place)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    g = torch.Generator().manual_seed(3)
    h = relukit.watch(model, optimizer=optimizer)
    if watched:
        h.__enter__()
    for k in range(steps):
        rows = torch.randint(len(x), (64,), generator=g)
        with torch.autocast(torch.device(place).type, torch.bfloat16, enabled=amp):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        if watched:
            h.step(loss)
        optimizer.step()
        if cure and k == 30 and h.findings:
            h.fix()
    if watched:
        h.__exit__()
    return h, [p.detach().cpu() for p in model.parameters()]


def random_state(place):
    return torch.cuda.get_rng_state(place) if torch.device(place).type == "cuda" else torch.get_rng_state()


@pytest.mark.parametrize("amp", [False, True])
def test_watching_changes_nothing(place, amp):
    torch.manual_seed(5)
    before = random_state(place)
    watched = train(_mlp(), place, amp=amp)[1]
    torch.manual_seed(5)
    assert torch.equal(before, random_state(place))
    plain = train(_mlp(), place, watched=False, amp=amp)[1]
    assert all(torch.equal(a, b) for a, b in zip(watched, plain))


@pytest.mark.parametrize("sick", ["dying", "deep", "healthy"])
def test_findings_are_those_of_the_cpu(place, sick):
    def model():
        made = _mlp(nn.ReLU, (8, *[16] * 30, 2)) if sick == "deep" else _mlp()
        if sick == "dying":
            with torch.no_grad():
                made[0].bias.fill_(-6.0)
                made[2].bias.fill_(-6.0)
        return made

    here, there = train(model(), "cpu")[0], train(model(), place)[0]
    name = lambda h: [(f.symptom, f.cause) for f in h.findings][:1]
    assert name(here) == name(there) and bool(name(there)) == (sick != "healthy")
    assert len(here.record.samples) > 3 and len(there.record.samples) > 3
    assert np.allclose(here.record.samples[0].grad, there.record.samples[0].grad, rtol=1e-3, equal_nan=True)


def test_a_cure_on_the_device_leaves_its_random_numbers(place):
    model = _mlp()
    with torch.no_grad():
        model[0].bias.fill_(-6.0)
        model[2].bias.fill_(-6.0)
    torch.manual_seed(7)
    before = random_state(place)
    h, parameters = train(model, place, steps=120, cure=True)
    assert h.fixes and h.fixes[0]["applied"] and all(torch.isfinite(p).all() for p in parameters)
    assert all(p.device.type == torch.device(place).type for p in model.parameters())
    if torch.device(place).type == "cuda":
        assert torch.equal(before, random_state(place))


@pytest.mark.parametrize("cure", ["reinitialize", "revive_dead_units", "reset_biases", "standardize_input", "leaky_activation", "widen", "clip_gradients"])  # fmt: skip
def test_every_cure_works_on_the_device(place, cure):
    from relukit.monitoring._cures import CURES

    model = _mlp(widths=(8, 32, 32, 2) if cure != "widen" else (8, 4, 4, 2)).to(place)
    with torch.no_grad():
        model[0].bias[:3] = -50.0
    x, y = (t.to(place) for t in _data())
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with relukit.watch(model, optimizer=optimizer) as h:
        for k in range(12):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            h.step(loss)
            optimizer.step()
            if k == 8:
                from relukit.monitoring._finding import Finding

                finding = h.findings[0] if h.findings else None
                CURES[cure](h, finding if isinstance(finding, Finding) else None)
    assert torch.isfinite(model(x)).all()


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_fit(place, architecture, tmp_path):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8) if architecture == "cnn" else x
    found = relukit.fit(x, y, epochs=8, architecture=architecture, device=place, checkpoint=tmp_path / "state.pt")
    beside = relukit.fit(x, y, epochs=8, architecture=architecture)
    assert found.score > 0.9 and abs(found.score - beside.score) < 0.04
    assert next(found.module.parameters()).device.type == torch.device(place).type
    assert np.allclose(found.network(x.reshape(len(x), -1)[:50]).argmax(1), found.predict(x.reshape(len(x), -1)[:50]))


def test_a_run_started_on_the_device_goes_on_on_the_cpu(place, tmp_path):
    x = np.random.default_rng(0).standard_normal((200, 5))
    y = x[:, 0] * x[:, 1]

    class Stop(Exception):
        pass

    def stop(done, *_):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        relukit.fit(x, y, epochs=6, device=place, checkpoint=tmp_path / "s.pt", on_progress=stop)
    found = relukit.fit(x, y, epochs=6, checkpoint=tmp_path / "s.pt")
    assert found.resumed in (2, 3) and len(found.history) == 6


@pytest.mark.parametrize("name", CASES)
def test_lean_blocks_compute_the_same(place, name):
    make, shape = CASES[name]
    torch.manual_seed(0)
    plain = make().to(place)
    slim = relukit.nn.lean(copy.deepcopy(plain))
    x = torch.randn(*shape, device=place)
    for one, two in zip(_step(plain, x), _step(slim, x), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def test_lean_blocks_need_less_memory(place):
    if torch.device(place).type != "cuda":
        pytest.skip("torch counts the memory of GPUs only")
    from benchmarks._gpu_training import LEAN, _peak

    for name, (make, shape) in LEAN.items():
        torch.manual_seed(0)
        plain, x = make(2).to(place), torch.randn(*shape(2), device=place)
        slim = relukit.nn.lean(copy.deepcopy(plain))
        before, after = (_peak(m, x, torch.device(place)) for m in (plain, slim))
        assert after < 0.85 * before, (name, before, after)


def test_starts_health_and_speed_take_a_model_on_the_device(place):
    model = _mlp(nn.ReLU, (8, *[24] * 12, 2)).to(place)
    groups = relukit.init.deep_(model, seed=0)
    twin = _mlp(nn.ReLU, (8, *[24] * 12, 2))
    relukit.init.deep_(twin, seed=0)
    assert len(groups) == 2 and all(torch.equal(a.cpu(), b) for a, b in zip(model.parameters(), twin.parameters()))
    x = _data()[0].numpy()
    one, two = relukit.health(model, x), relukit.health(twin, x)
    assert one.to_dict() == two.to_dict()
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).to(place)
    assert len(relukit.health(block, np.random.default_rng(0).standard_normal((6, 3, 8))).layers) > 3
    fast = relukit.speed(model.eval(), x, (1,), budget=0.02)
    with torch.no_grad():
        want = model(torch.as_tensor(x, device=place)).cpu()
    found = fast(torch.as_tensor(x, device=place))
    assert found.device.type == "cpu" and torch.allclose(found, want, atol=1e-4)
    assert "cpu" in str(next(iter(relukit.load(model).on("cpu").parameters())).device)
