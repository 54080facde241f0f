"""Networks trained on real data, superfluous units planted in them afterwards: all of these have to go, with a proof that the checker accepts."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import relukit
from relukit.compression._check import check

GONE = {"dead": 2, "copied": 2, "multiple": 2, "unread": 1}  # what is planted in each hidden layer, and goes
DEPENDENT, INDEPENDENT = (
    2,
    2,
)  # always-on units in layers without channels: those that combine the others go, the others stay


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.asarray(x, np.float32) / 16, np.asarray(y, np.int64)


def mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "images" / "mnist_train.npz") as file:
        return (file["x"].reshape(len(file["x"]), -1) / 255).astype(np.float32)[:6000], file["y"].astype(np.int64)[
            :6000
        ]


def maintenance(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The gallery's milling machines (AI4I 2020), each column between 0 and 1."""
    import pandas as pd

    from relukit.gallery.maintenance._process import TARGET, features

    table = pd.read_csv(folder / "predictive_maintenance" / "ai4i2020_dev.csv")
    x = np.asarray(features(table))
    x = (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0))
    return x.astype(np.float32), table[TARGET].to_numpy(np.int64)


class Residual:
    """Builds `last(relu(h + outer(relu(inner(h)))))`, h = relu(first(x)); the planted layer is `inner`."""

    @staticmethod
    def of(inputs: int, width: int, outputs: int) -> Any:
        import torch

        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.inner = torch.nn.Linear(inputs, width), torch.nn.Linear(width, width)
                self.outer, self.last = torch.nn.Linear(width, width), torch.nn.Linear(width, outputs)

            def forward(self, x):
                h = torch.relu(self.first(x))
                return self.last(torch.relu(h + self.outer(torch.relu(self.inner(h)))))

        return Module()


def dense(*sizes: int) -> Any:
    from torch import nn

    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutions(between: str, end: str) -> Any:
    """Two convolutions over the digits, something between them, and the mean over all places or all places behind them."""
    from torch import nn

    middle = {"nothing": nn.Identity(), "max pooling": nn.MaxPool2d(2), "mean pooling": nn.AvgPool2d(2)}[between]
    side = 8 if between == "nothing" else 4
    last = (
        [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)]
        if end == "mean"
        else [nn.Flatten(), nn.Linear(12 * side * side, 10)]
    )
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), middle, nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), *last
    )  # fmt: skip


def train(module: Any, x: np.ndarray, y: np.ndarray, epochs: int) -> float:
    """Adam on cross-entropy over the first four fifths; the accuracy on the rest."""
    import torch

    held = len(x) * 4 // 5
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(epochs):
        for part in torch.randperm(held).split(64):
            loss = torch.nn.functional.cross_entropy(module(rows[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    module.eval()
    with torch.no_grad():
        return float((module(rows[held:]).argmax(1) == labels[held:]).float().mean())


def pairs(module: Any) -> list[tuple[Any, Any]]:
    """Layers with units to plant, each with the layer that reads it."""
    from torch import nn

    if hasattr(module, "inner"):
        return [(module.inner, module.outer)]
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return list(zip(layers, layers[1:]))


def plant(module: Any, factor: float, seed: int = 0) -> int:
    """Widen each hidden layer by superfluous units, in place; copies share the weights of what reads them. Returns how many have to go.

    Always-on units get weights on a grid, so that sums of them are sums in float32, too, and a bias above what the layer's inputs can do.
    """
    import torch

    g, planted = torch.Generator().manual_seed(seed), 0
    for layer, reader in pairs(module):
        W, b = layer.weight.detach().clone(), layer.bias.detach().clone()
        units, flat = len(b), W.ndim == 2
        places = reader.weight.shape[1] // units if reader.weight.ndim == 2 and not flat else 1
        V = reader.weight.detach().clone()
        V = V.reshape(len(V), units, -1) if V.ndim == 2 else V.flatten(2)
        reach = float(_reach(module, layer))
        rows, biases, heads = [W], [b], [V]

        def add(w: Any, c: Any, v: Any, rows=rows, biases=biases, heads=heads) -> None:
            rows.append(w[None])
            biases.append(c.reshape(1))
            heads.append(v[:, None])

        draw = lambda like: torch.randn(like.shape, generator=g).to(like) * like.std()
        read = (W != 0).any(0)  # what was planted as unread in the layer before stays so
        for _ in range(GONE["dead"]):
            w = draw(W[0]) * read
            add(w, -reach * w.abs().sum() - 0.1, draw(V[:, 0]))
        pick = torch.randperm(units, generator=g).tolist()
        for i, times in [(pick.pop(), 1.0) for _ in range(GONE["copied"])] + [
            (pick.pop(), factor) for _ in range(GONE["multiple"])
        ]:
            half = 0.5 * V[:, i]
            V[:, i] -= half
            add(times * W[i], times * b[i], half / times)
        for _ in range(GONE["unread"]):
            add(draw(W[0]) * read, b[0], torch.zeros_like(V[:, 0]))
        planted += sum(GONE.values())
        if flat:
            one, two = torch.randint(-32, 33, (2, *W[0].shape), generator=g).to(W) * read / 256
            for w in (one, two, one + 0.5 * two, 0.25 * one - two)[: DEPENDENT + INDEPENDENT]:
                add(w, reach * w.abs().sum() + 0.1, 0.05 * draw(V[:, 0]))
            planted += DEPENDENT
        mix = torch.randperm(sum(len(r) for r in biases), generator=g)
        with torch.no_grad():
            layer.weight = torch.nn.Parameter(torch.cat(rows)[mix])
            layer.bias = torch.nn.Parameter(torch.cat(biases)[mix])
            heads_ = torch.cat(heads, 1)[:, mix]
            shape = (len(V), -1) if reader.weight.ndim == 2 else (len(V), len(mix), *reader.weight.shape[2:])
            reader.weight = torch.nn.Parameter(heads_.reshape(shape))
        assert places == 1 or reader.weight.shape[1] == places * len(mix)
    return planted


def _reach(module: Any, layer: Any) -> Any:
    """The most that an entry read by a layer can be, by the row sums of the layers before it (inputs lie between 0 and 1)."""
    from torch import nn

    most, bound = 1.0, 1.0
    for m in module.modules():
        if m is layer:
            return bound
        if isinstance(m, nn.Linear | nn.Conv2d):
            most = float((most * m.weight.detach().abs().flatten(1).sum(1) + m.bias.detach().abs()).max())
            bound = max(bound, most)
    return bound


def cases(folder: Path | None) -> dict[str, tuple[Callable[[], Any], Callable[[], tuple[np.ndarray, np.ndarray]], int]]:
    """Name: how the network, how its data are made, and for how many epochs it is trained."""
    found: dict[str, Any] = {
        "digits, dense": (lambda: dense(64, 32, 24, 10), digits, 20),
        "digits, residual": (lambda: Residual.of(64, 24, 10), digits, 20),
    }
    for between in ("nothing", "max pooling", "mean pooling"):
        for end in ("mean", "places"):
            found[f"digits, convolutions, {between} between, {end} behind"] = (
                lambda b=between, e=end: convolutions(b, e),
                digits,
                10,
            )
    if folder is not None:
        found["MNIST, dense"] = (lambda: dense(784, 64, 64, 10), lambda: mnist(folder), 3)
        found["AI4I 2020, dense"] = (lambda: dense(7, 48, 48, 2), lambda: maintenance(folder), 5)
    return found


def measured(name: str, folder: Path | None, single: bool = True, epochs: int | None = None) -> dict[str, Any]:
    """One network: trained, planted, saved, compressed from its file, proven, and compared on its data and at random points.

    Arguments:
        single: Saved in float32 (multiples are by 2, exact there), else in float64 (by 2.7).
    """
    import torch

    make, data, usual = cases(folder)[name]
    torch.manual_seed(0)
    module, (x, y) = make(), data()
    accuracy = train(module, x, y, usual if epochs is None else epochs)
    module = module if single else module.double()
    before = relukit.load(module, input_shape=(x.shape[1],))
    box = relukit.Box(np.zeros(x.shape[1]), np.ones(x.shape[1]))
    alone = relukit.compress(before, box, timeout=1.0)
    planted = plant(module, 2.0 if single else 2.7)
    with tempfile.TemporaryDirectory() as place:
        original, small, proof = (Path(place) / k for k in ("net.onnx", "small.onnx", "small.proof"))
        relukit.save(relukit.load(module, input_shape=(x.shape[1],)), original)
        network, start = relukit.load(original), time.process_time()
        found = relukit.compress(network, box, timeout=2.0, proof=True)
        relukit.save(found.network, small)
        bound = found.save_proof(proof, original, small)
        spent = time.process_time() - start
        accepted = check(str(proof), str(original), str(small))
        points = np.r_[x[-300:].astype(float), box.sample(300, 7)]
        apart = float(np.abs(relukit.load(small)(points) - network(points)).max())
    return {
        "net": name, "precision": "float32" if single else "float64", "accuracy": accuracy, "planted": planted,
        "parameters_without": alone.parameters_after, "parameters_before": found.parameters_before, "parameters_after": found.parameters_after, "form": found.form,
        "units_before": found.units, "units_without": alone.network.units, "units_after": found.network.units, "dead": found.dead, "always_on": found.always_on,
        "merged": found.merged, "file_error_bound": bound, "largest_difference": apart, "checked": accepted["error_bound"] <= bound, "cpu_seconds": spent,
    }  # fmt: skip
