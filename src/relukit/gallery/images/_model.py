"""The three networks of the study and how they are trained; inputs are flat and lie in [0, 1]."""

from collections.abc import Callable
from typing import Any

import numpy as np

# Of stable training: the box, the weight of its term in the loss, and of each hidden layer in it.
RADIUS, STABLE, LAYERS = 0.06, 0.015, (0.4, 2.0)


def build(kind: str) -> Any:
    """`mlp` and `plain` (784-256-256-10, with and without stable training), `cnn` (digits), `pets` (32 x 32 x 3)."""
    from torch import nn

    if kind in ("mlp", "plain"):
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    if kind == "cnn":
        return nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, 96), nn.ReLU(), nn.Linear(96, 10),
        )  # fmt: skip
    block = lambda a, b, s: [nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(
        nn.Unflatten(1, (3, 32, 32)),
        *block(3, 24, 1), *block(24, 48, 2), *block(48, 48, 1), *block(48, 96, 2), *block(96, 96, 1), *block(96, 96, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(96, 2),
    )  # fmt: skip


def flat(images: np.ndarray) -> np.ndarray:
    """Bytes (n, h, w) or (n, h, w, 3) as float32 rows in [0, 1], channels first."""
    x = images.astype(np.float32) / 255
    return (x.transpose(0, 3, 1, 2) if x.ndim == 4 else x).reshape(len(x), -1)


def fit(
    kind: str,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    epochs: int,
    on_epoch: Callable[[int], None] | None = None,
) -> Any:
    """Cross-entropy on shifted images (and mirrored pets), with labels smoothed by 0.05; `mlp`: no smoothing, and see `looseness`.

    Kernels lie with channels last while they are trained: a fifth of the time of convolutions is saved, nothing else changes.
    """
    import torch
    from torch.nn import functional as F

    from relukit.gallery._life import seeded, train_module

    side, pet = images.shape[1], kind == "pets"
    reach = {"pets": 4, "mlp": 1}.get(kind, 2)
    X = torch.from_numpy(flat(images).reshape(len(images), -1, side, side))
    X, Y = F.pad(X, [reach] * 4), torch.from_numpy(labels.astype(np.int64))
    with seeded(seed):
        module = build(kind).to(memory_format=torch.channels_last)
        batch_size = {"pets": 64, "mlp": 256}.get(kind, 128)
        steps, step = epochs * max(1, len(X) // batch_size), 0

        def loss(rows: Any) -> Any:
            nonlocal step
            i, j = (int(v) for v in torch.randint(0, 2 * reach + 1, (2,)))
            batch = X[rows, :, i : i + side, j : j + side]
            if pet and torch.rand(()) < 0.5:
                batch = batch.flip(3)
            if kind == "mlp":
                step += 1
                ramp = min(1.0, max(0.0, (step / steps - 0.1) / 0.5))
                x = batch.flatten(1)
                half = x[: len(x) // 2]  # enough to see which units are loose, and cheaper
                loose = looseness(module, half, RADIUS * max(ramp, 0.05))
                return F.cross_entropy(module(x), Y[rows]) + ramp * STABLE * loose
            return F.cross_entropy(module(batch.flatten(1)), Y[rows], label_smoothing=0.05)

        rate = {"pets": 4e-3, "mlp": 3e-3}.get(kind, 2e-3)
        train_module(
            module, loss, len(X), epochs=epochs, learning_rate=rate, weight_decay=0.01 if kind == "mlp" else 0.05, batch=batch_size,
            seed=seed, on_epoch=on_epoch,
        )  # fmt: skip
        return module.to(memory_format=torch.contiguous_format)


def looseness(module: Any, x: Any, radius: float) -> Any:
    """How undecided hidden units are on boxes around x: the smaller part of each unit's interval, as a share of it, summed.

    A unit that keeps its sign on the box counts 0, one whose interval is cut in its middle 1/2. Where few units are undecided a
    network is nearly linear, so that branch and bound has little to split. The idea is that of Xiao, Tjeng, Shafiullah and Madry
    (Training for Faster Adversarial Robustness Verification via Inducing ReLU Stability, 2019), who use -tanh(1 + l u): a share
    does not change with the scale of the weights.
    """
    from torch.nn import functional as F

    l, u, total = (x - radius).clamp(0, 1), (x + radius).clamp(0, 1), 0.0
    for k, weight in zip((0, 2), LAYERS):
        W, b = module[k].weight, module[k].bias
        middle, reach = F.linear((l + u) / 2, W, b), F.linear((u - l) / 2, W.abs())
        l, u = middle - reach, middle + reach
        total = total + weight * (F.relu((-l).minimum(u)) / (u - l + 1e-6)).sum(1).mean()
        l, u = F.relu(l), F.relu(u)
    return total


def decide(module: Any, x: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return np.concatenate(
            [module(torch.from_numpy(p)).argmax(1).numpy() for p in np.array_split(x, max(1, len(x) // 500))]
        )


def attack(module: Any, x: np.ndarray, radii: np.ndarray, steps: int = 30) -> float:
    """The smallest of the radii at which projected gradient ascent (Madry et al., 2018) turns the decision; inf if none."""
    import torch

    start = torch.from_numpy(x[None])
    with torch.no_grad():
        label = module(start).argmax(1)
    for radius in map(float, radii):
        z = start.clone()
        for _ in range(steps):
            z.requires_grad_(True)
            out = module(z)
            if int(out.argmax()) != int(label):
                return float((z.detach() - start).abs().max())
            (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(out, label), z)
            with torch.no_grad():
                z = (z + 0.2 * radius * slope.sign()).clamp(start - radius, start + radius).clamp(0, 1)
    return float("inf")


def foolbox_attacks(module: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Distances at which foolbox's minimal l-inf attacks turn each decision (inf: they do not); empty without foolbox."""
    import importlib.util

    if importlib.util.find_spec("foolbox") is None:
        return {}
    import warnings

    import torch

    with warnings.catch_warnings():  # its dependencies warn on import
        warnings.simplefilter("ignore")
        import foolbox

        model = foolbox.PyTorchModel(module.eval(), bounds=(0, 1), device="cpu")
        images = torch.from_numpy(x)
        with torch.no_grad():
            labels = module(images).argmax(1)
        kinds = {
            "deepfool": foolbox.attacks.LinfDeepFoolAttack(),
            "fast_minimum_norm": foolbox.attacks.LInfFMNAttack(steps=200),
        }
        found = {}
        for name, kind in kinds.items():
            _, turned, done = kind(model, images, labels, epsilons=None)
            distance = (turned - images).abs().flatten(1).max(1).values
            found[name] = np.where(done.numpy().astype(bool), distance.detach().numpy(), np.inf)
    return found
