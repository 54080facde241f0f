"""Ordinary healthy trainings of kinds that no other set has, part two: sequences, games, generators, physics."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks._sick_faults import run_of, standard
from benchmarks._sick_healthy_plain import PLAIN, digits_of
from benchmarks._sick_third import scheduled
from benchmarks.sick import Run, mlp


def bandit(seed: int) -> Run:
    """REINFORCE: the loss is noise around 0, its gradient is not. The score is the share of best arms."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(2000, 6))
    best = (x @ g.normal(size=(6, 4))).argmax(1)
    reward = np.eye(4)[best] + g.normal(0, 0.3, (2000, 4))
    chance = torch.Generator().manual_seed(seed)

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logs = torch.log_softmax(out, 1)
        arm = torch.multinomial(logs.exp().detach(), 1, generator=chance)
        got = y.gather(1, arm)
        return -(logs.gather(1, arm) * (got - got.mean())).mean() + 0.01 * (logs.exp() * logs).sum(1).mean()

    run = run_of(mlp([6, 32, 4], nn.Tanh), x, reward, loss, "numbers", seed, "Adam", 5e-3, 500, 128)
    run.score = lambda run: float((run.model(run.held[0]).argmax(1) == run.held[1].argmax(1)).float().mean())
    return run


def q_values(seed: int) -> Run:
    """Q learning in a corridor of eleven places, a goal at its end: the loss starts near 0 and grows with the values."""
    g = np.random.default_rng(seed)
    place, arm = g.integers(0, 10, 3000), g.integers(0, 2, 3000)
    after = np.clip(place + 2 * arm - 1, 0, 10)
    here = lambda p: np.exp(-0.5 * (p[:, None] - np.arange(11)) ** 2)
    y = np.concatenate([arm[:, None], (after == 10)[:, None], here(after)], 1)
    model = mlp([11, 32, 2])
    frozen, calls = copy.deepcopy(model), [0]

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if calls[0] % 25 == 0:
            frozen.load_state_dict(model.state_dict())
        calls[0] += 1
        with torch.no_grad():
            goal = y[:, 1] + 0.9 * (1 - y[:, 1]) * frozen(y[:, 2:]).amax(1)
        return F.smooth_l1_loss(out.gather(1, y[:, :1].long())[:, 0], goal)

    run = run_of(model, here(place), y, loss, "numbers", seed, "Adam", 3e-3, 600, 64)
    run.score = lambda run: float((run.model(run.held[0]).argmax(1) == 1).float().mean())
    return run


class Adversary:
    """A discriminator with its own optimizer, trained within the generator's loss."""

    def __init__(self, real: torch.Tensor, seed: int) -> None:
        self.real, self.model = real, mlp([2, 48, 48, 1], lambda: nn.LeakyReLU(0.2))
        self.optimizer = torch.optim.Adam(self.model.parameters(), 2e-3, betas=(0.5, 0.99))
        self.chance = torch.Generator().manual_seed(seed)

    def __call__(self, made: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        real = self.real[torch.randint(len(self.real), (len(made),), generator=self.chance)]
        own = F.softplus(-self.model(real)).mean() + F.softplus(self.model(made.detach())).mean()
        self.optimizer.zero_grad()
        own.backward()
        self.optimizer.step()
        return F.softplus(-self.model(made)).mean()


def generator(seed: int) -> Run:
    """A GAN's generator on a ring: its loss hovers near log 2 for ever. The score is the share that lands on the ring."""
    g = np.random.default_rng(seed)
    angle = g.uniform(0, 2 * np.pi, 2000)
    real = np.stack([np.cos(angle), np.sin(angle)], 1) * g.normal(1.5, 0.05, (2000, 1))
    loss = Adversary(torch.as_tensor(real, dtype=torch.float32), seed)
    noise = g.normal(size=(4000, 4))
    run = run_of(
        mlp([4, 48, 48, 2]), noise, real[g.integers(0, 2000, 4000)], loss, "numbers", seed, "Adam", 1e-3, 800, 128
    )
    run.optimizer = torch.optim.Adam(run.model.parameters(), 1e-3, betas=(0.5, 0.99))
    run.score = lambda run: float(((run.model(run.held[0]).norm(dim=1) - 1.5).abs() < 0.5).float().mean())
    return run


def contrasted(seed: int) -> Run:
    """SimCLR: two noisy views of each digit must find each other."""
    x, y = digits_of()
    chance = torch.Generator().manual_seed(seed)
    body = mlp([64, 96, 32])

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            two = torch.cat([x, x]) + 0.15 * torch.randn(2 * len(x), 64, generator=chance)
            return F.normalize(self.body(two), dim=1)

    def loss(out: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        n = len(out) // 2
        alike = (out @ out.T / 0.3).masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
        return F.cross_entropy(alike, torch.arange(2 * n).roll(n))

    run = run_of(Views(), x, y, loss, "classes", seed, "Adam", 2e-3, 300, 64)

    def score(run: Run) -> float:
        known, asked = body(run.x), body(run.held[0])
        return float((run.y[torch.cdist(asked, known).argmin(1)] == run.held[1]).float().mean())

    run.score = score
    return run


class Letters(nn.Module):
    """Reads a text letter by letter and guesses the next ones."""

    def __init__(self, count: int, attend: bool) -> None:
        super().__init__()
        self.embed, self.attend = nn.Embedding(count, 32), attend
        self.place = nn.Parameter(0.1 * torch.randn(24, 32))
        self.body = (
            nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True, norm_first=True)
            if attend
            else nn.GRU(32, 48, batch_first=True)
        )
        self.out = nn.Linear(32 if attend else 48, count)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        if self.attend:
            mask = torch.triu(torch.full((x.shape[1], x.shape[1]), -torch.inf), 1)
            return self.out(self.body(h + self.place, src_mask=mask))
        return self.out(self.body(h)[0])


def _text() -> tuple[np.ndarray, int]:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

    text = "".join(f()["DESCR"].lower() for f in (load_breast_cancer, load_diabetes, load_wine))
    letters = sorted(set(text))
    return np.array([letters.index(c) for c in text]), len(letters)


def _language(attend: bool, seed: int, rate: float, steps: int) -> Run:
    letters, count = _text()
    windows = np.lib.stride_tricks.sliding_window_view(letters, 25)[::7]
    loss = lambda out, y: F.cross_entropy(out.reshape(-1, count), y.reshape(-1))
    run = run_of(
        Letters(count, attend), windows[:, :24], windows[:, 1:], loss, "classes", seed, "AdamW", rate, steps, 32
    )
    run.score = lambda run: float((run.model(run.held[0]).argmax(2) == run.held[1]).float().mean())
    return run


def letters_gru(seed: int) -> Run:
    return _language(False, seed, 5e-3, 250)


def letters_transformer(seed: int) -> Run:
    run = _language(True, seed, 3e-3, 250)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: min(1.0, (k + 1) / 60)))


def skip_gram(seed: int) -> Run:
    """A letter from its neighbour, by an embedding and a linear layer: the loss falls by a fifth at most."""
    letters, count = _text()
    model = nn.Sequential(nn.Embedding(count, 16), nn.Linear(16, count))
    x, y = letters[:-1], letters[1:]
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-2, 400, 64)


class Reverse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encode, self.decode = (
            nn.Embedding(12, 24),
            nn.GRU(24, 64, batch_first=True),
            nn.GRU(24, 64, batch_first=True),
        )
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.encode(self.embed(x))[1]
        given = torch.cat([torch.full((len(x), 1), 11), x.flip(1)[:, :-1]], 1)
        return self.out(self.decode(self.embed(given), state)[0])


def reversed_tokens(seed: int) -> Run:
    """Six tokens backwards, the ones before given."""
    x = np.random.default_rng(seed).integers(0, 10, (3000, 6))
    loss = lambda out, y: F.cross_entropy(out.transpose(1, 2), y)
    run = run_of(Reverse(), x, x[:, ::-1].copy(), loss, "classes", seed, "Adam", 5e-3, 500, 64)
    run.score = lambda run: float((run.model(run.held[0]).argmax(2) == run.held[1]).float().mean())
    return run


def aligned(seed: int) -> Run:
    """CTC: which two of five strokes occur, and in which order, no place told. The score is the share of first strokes found."""
    g = np.random.default_rng(seed)
    kinds, starts = g.integers(1, 6, (1200, 2)), np.stack([g.integers(0, 5, 1200), g.integers(8, 12, 1200)], 1)
    x = g.normal(0, 0.2, (1200, 16, 5))
    for j in range(2):
        for k in range(3):
            x[np.arange(1200), starts[:, j] + k, kinds[:, j] - 1] += 1.0

    class Listen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.GRU(5, 24, batch_first=True, bidirectional=True), nn.Linear(48, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log_softmax(self.out(self.cell(x)[0]), 2)

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        n = len(out)
        return F.ctc_loss(out.transpose(0, 1), y, torch.full((n,), 16), torch.full((n,), 2))

    run = run_of(Listen(), x, kinds, loss, "classes", seed, "Adam", 1e-2, 300, 32)

    def score(run: Run) -> float:
        best = run.model(run.held[0]).argmax(2)
        first = torch.stack([row[row > 0][0] if (row > 0).any() else row[0] for row in best])
        return float((first == run.held[1][:, 0]).float().mean())

    run.score = score
    return run


def graph(seed: int) -> Run:
    """Two rounds over a graph of 300 nodes in four groups, dropout and decay as usual there."""
    g = np.random.default_rng(seed)
    group = g.integers(0, 4, 300)
    edges = g.random((300, 300)) < np.where(group[:, None] == group, 0.06, 0.006)
    edges = (edges | edges.T | np.eye(300, dtype=bool)).astype(np.float32)
    spread = torch.as_tensor(edges / np.sqrt(edges.sum(0) * edges.sum(1)[:, None]))
    features = torch.as_tensor(
        np.eye(4)[group] @ g.normal(0, 0.4, (4, 16)) + g.normal(0, 1, (300, 16)), dtype=torch.float32
    )

    class Rounds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.drop = nn.Linear(16, 16), nn.Linear(16, 4), nn.Dropout(0.5)

        def forward(self, nodes: torch.Tensor) -> torch.Tensor:
            h = self.drop(torch.relu(spread @ self.a(self.drop(features))))
            return (spread @ self.b(h))[nodes]

    run = run_of(Rounds(), np.arange(300), group, nn.CrossEntropyLoss(), "classes", seed, "Adam", 0.01, 200, 240)
    run.optimizer = torch.optim.Adam(run.model.parameters(), 0.01, weight_decay=5e-4)
    return run


def diffusion(seed: int) -> Run:
    """Which noise was added to points of two moons: half of it can never be told."""
    from sklearn.datasets import make_moons

    clean, _ = make_moons(3000, noise=0.05, random_state=seed)
    g = np.random.default_rng(seed)
    t, noise = g.uniform(0, 1, (3000, 1)), g.normal(size=(3000, 2))
    kept = np.cos(0.5 * np.pi * t)
    x = np.concatenate([kept * standard(clean) + np.sqrt(1 - kept**2) * noise, 2 * t - 1], 1)
    return run_of(mlp([3, 64, 64, 2], nn.SiLU), x, noise, nn.MSELoss(), "numbers", seed, "Adam", 2e-3, 500, 128)


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([mlp([1, 32, 2], nn.Tanh) for _ in range(6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right, log = x[:, :1], x[:, 1:], torch.zeros(len(x))
        for net in self.nets:
            scale, shift = net(left).chunk(2, 1)
            scale = torch.tanh(scale)
            left, right, log = right * scale.exp() + shift, left, log + scale[:, 0]
        return torch.cat([left, right, log[:, None]], 1)


def flow(seed: int) -> Run:
    """Two moons through six couplings: the loss is a negative log-likelihood."""
    from sklearn.datasets import make_moons

    x, _ = make_moons(2000, noise=0.06, random_state=seed)
    loss = lambda out, _: (0.5 * out[:, :2].square().sum(1) + np.log(2 * np.pi) - out[:, 2]).mean()
    run = run_of(Coupled(), standard(x), x, loss, "numbers", seed, "Adam", 5e-3, 400, 128)
    run.score = lambda run: 3.0 - float(loss(run.model(run.held[0]), None))
    return run


class Residue(nn.Module):
    """What is left of y'' + 4 y = 0, y(0) = 1, y'(0) = 0 at given times: the network's own derivatives."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([1, 32, 32, 1], nn.Tanh)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            t = t.requires_grad_()
            y = 1 + t**2 * self.body(t)
            dy = torch.autograd.grad(y.sum(), t, create_graph=True)[0]
            return torch.autograd.grad(dy.sum(), t, create_graph=True)[0] + 4 * y


def pendulum(seed: int) -> Run:
    t = np.random.default_rng(seed).uniform(0, 2, (1000, 1))
    run = run_of(Residue(), t, 0 * t[:, 0], nn.MSELoss(), "numbers", seed, "Adam", 5e-3, 600, 128)

    def score(run: Run) -> float:
        t = run.held[0].detach()
        return 1 - float((1 + t**2 * run.model.body(t) - torch.cos(2 * t)).abs().max())

    run.score = score
    return run


class Sine(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(6 * x)


def siren(seed: int) -> Run:
    """Sines for activations, on a curve with many turns."""
    x = np.random.default_rng(seed).uniform(-1, 1, (800, 1))
    y = np.sin(12 * x[:, 0]) * np.exp(-x[:, 0])
    return run_of(mlp([1, 64, 64, 1], Sine), x, standard(y), nn.MSELoss(), "numbers", seed, "Adam", 1e-3, 400, 64)


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.first = nn.Conv2d(1, 32, 2, 2), nn.Parameter(torch.zeros(1, 1, 32))
        self.place = nn.Parameter(0.02 * torch.randn(1, 17, 32))
        layer = lambda: nn.TransformerEncoderLayer(32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True)
        self.body, self.norm, self.out = nn.Sequential(layer(), layer()), nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.first.expand(len(x), -1, -1), h], 1) + self.place
        return self.out(self.norm(self.body(h)[:, 0]))


def vision_transformer(seed: int) -> Run:
    """A long warm-up, then a cosine."""
    x, y = digits_of()
    run = run_of(Patches(), x.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 2e-3, 300, 64)
    course = lambda k: (k + 1) / 60 if k < 60 else 0.5 + 0.5 * np.cos(np.pi * min(1.0, (k - 60) / 600))
    return scheduled(run, lambda o: torch.optim.lr_scheduler.LambdaLR(o, course))


class Mixer(nn.Module):
    def __init__(self, tokens: int = 8, d: int = 32) -> None:
        super().__init__()
        self.embed, self.across, self.along = (
            nn.Linear(8, d),
            mlp([tokens, 32, tokens], nn.GELU),
            mlp([d, 64, d], nn.GELU),
        )
        self.one, self.two, self.out = nn.LayerNorm(d), nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        h = h + self.across(self.one(h).transpose(1, 2)).transpose(1, 2)
        return self.out((h + self.along(self.two(h))).mean(1))


def mixer(seed: int) -> Run:
    x, y = digits_of()
    return run_of(Mixer(), x.reshape(-1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 3e-3, 250)


def half_precision(seed: int) -> Run:
    """bfloat16 within the model, as mixed precision has it."""
    x, y = digits_of()
    inner = mlp([64, 96, 48, 10])

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.inner(x).float()

    return run_of(Mixed(), x, y, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 2e-3, 250)


OTHER: dict[str, Callable[[int], Run]] = {
    f.__name__: f
    for f in (
        bandit, q_values, generator, contrasted, letters_gru, letters_transformer, skip_gram, reversed_tokens, aligned, graph, diffusion, flow, pendulum,
        siren, vision_transformer, mixer, half_precision,
    )
}  # fmt: skip
BASES = {**PLAIN, **OTHER}
CASES: list[Any] = []
