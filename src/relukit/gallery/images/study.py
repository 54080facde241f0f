"""Train on digits and pets, judge unseen images, and measure how far each digit is from another decision."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, load_states, save_states, t_interval
from relukit.gallery.images import _model

NAME, DIGITS, TEST, PETS = "images", "mnist_train.npz", "mnist_test_dev5000.npz", "cifar_catdog_dev.npz"
EPOCHS = {"mlp": 20, "cnn": 10, "pets": 60}
TIMEOUT = 10.0  # seconds for each flip


def fetch() -> Path:
    """Folder with the digits and the cats and dogs."""
    return data_folder(NAME, DIGITS, TEST, PETS)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train `seeds` networks of each kind; a fifth of the pets is kept to judge the first pet network, then all train."""
    digits, pets = np.load(data / DIGITS), np.load(data / PETS)
    epochs = {k: max(1, v // 10) for k, v in EPOCHS.items()} if quick else EPOCHS
    total, done = seeds * sum(epochs.values()) + epochs["pets"], 0

    def tick(_: int) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    sources = {"mlp": digits, "cnn": digits, "pets": pets}
    for kind, source in sources.items():
        modules = [_model.fit(kind, source["x"], source["y"], seed, epochs[kind], tick) for seed in range(seeds)]
        save_states(out / f"{kind}.pt", [m.state_dict() for m in modules])
        _logistic(out / f"logistic_{'pets' if kind == 'pets' else 'digits'}.npz", source)
    test, held = np.load(data / TEST), np.arange(len(pets["y"])) % 5 == 0
    judge = _model.fit("pets", pets["x"][~held], pets["y"][~held], 0, epochs["pets"], tick)
    summary: dict[str, Any] = {
        k: t_interval(_accuracies(out, k, _model.flat(test["x"]), test["y"])) for k in ("mlp", "cnn")
    }
    summary["pets_on_a_held_fifth"] = _share(_model.decide(judge, _model.flat(pets["x"][held])), pets["y"][held])
    write_json(out / "training.json", summary)
    return summary


def _share(a: np.ndarray, b: np.ndarray) -> float:
    return float((a == b).mean())


def _logistic(path: Path, source: Any, rows: int = 5000) -> None:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.01, max_iter=300).fit(_model.flat(source["x"][:rows]), source["y"][:rows])
    W, b = model.coef_, model.intercept_
    if len(W) == 1:
        W, b = np.stack([-W[0], W[0]]) / 2, np.array([-b[0], b[0]]) / 2
    np.savez(path, W=W, b=b)


def restore(out: Path, kind: str) -> list[Any]:
    """The trained torch modules of one kind, ready for `relukit.load`."""
    modules = []
    for state in load_states(out / f"{kind}.pt", NAME)["states"]:
        module = _model.build(kind)
        module.load_state_dict(state)
        modules.append(module.eval())
    return modules


def _accuracies(out: Path, kind: str, x: np.ndarray, y: np.ndarray) -> list[float]:
    return [_share(_model.decide(m, x), y) for m in restore(out, kind)]


def score(out: Path, files: Sequence[Path], flips: int = 0) -> dict[str, Any]:
    """Accuracy on one file of digits or pets; with `flips`, exact distances of that many digits (784-256-256-10)."""
    if len(files) != 1:
        raise UnreadableFile("expected one .npz file with images x and labels y")
    source = np.load(files[0])
    x, y = _model.flat(source["x"]), source["y"]
    pet = source["x"].ndim == 4
    each = _accuracies(out, "pets" if pet else "cnn", x, y)
    line = np.load(out / f"logistic_{'pets' if pet else 'digits'}.npz")
    answer: dict[str, Any] = {
        "study": NAME,
        "metrics": {"accuracy": float(np.mean(each)), "accuracy_of_seeds": t_interval(each)},
        "baselines": {"logistic": {"accuracy": _share((x @ line["W"].T + line["b"]).argmax(1), y)}},
        "rows": len(y),
    }
    if not pet:
        answer["metrics"]["accuracy_mlp"] = t_interval(_accuracies(out, "mlp", x, y))
        if int(flips) > 0:
            exact, attacked = measure(restore(out, "mlp")[0], x[: int(flips)])
            answer["metrics"].update(exact)
            answer["baselines"]["projected_gradient"] = attacked
    return answer


def measure(module: Any, x: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Proven distances of the rows, and how far above them an attack stops."""
    import time

    import relukit

    network = relukit.load(module)
    box = relukit.Box(np.zeros(x.shape[1]), np.ones(x.shape[1]))
    clock, found = time.process_time(), []
    for row in x:
        found.append(relukit.flip(network, row.astype(float), within=box, timeout=TIMEOUT))
    seconds = (time.process_time() - clock) / len(x)
    proven = np.array([f.status == "proven" for f in found])
    upper = np.array([f.upper for f in found])
    radii = np.geomspace(0.004, 0.4, 24)
    attacked = np.array([_model.attack(module, row, radii) for row in x])
    gap = attacked[proven] / upper[proven] - 1
    return (
        {
            "proven_share": float(proven.mean()),
            "median_distance": float(np.median(upper)),
            "cpu_seconds_each": float(seconds),
        },
        {
            "median_distance": float(np.median(attacked)),
            "median_gap": float(np.median(gap)) if len(gap) else None,
        },
    )


def figures(out: Path, data: Path) -> list[Path]:
    """`flips.png`: digits, the proven smallest nudge, and what it turns them into."""
    from matplotlib.figure import Figure

    import relukit

    test = np.load(data / TEST)
    x = _model.flat(test["x"][:4]).astype(float)
    network, box = relukit.load(restore(out, "mlp")[0]), relukit.Box(np.zeros(784), np.ones(784))
    figure = Figure(figsize=(6, 6.6), layout="constrained")
    for row, axes in zip(x, figure.subplots(4, 3)):
        found = relukit.flip(network, row, within=box, timeout=30)
        for ax in axes:
            ax.set(xticks=[], yticks=[])
        axes[0].imshow(row.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
        axes[0].set_title(f"reads {found.from_}", fontsize=9)
        if found.witness is None:
            continue
        push = found.witness - row
        axes[1].imshow(push.reshape(28, 28), cmap="RdBu", vmin=-found.upper, vmax=found.upper)
        axes[1].set_title(f"nudge, {found.status}: {found.upper:.4f}", fontsize=9)
        axes[2].imshow(found.witness.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
        axes[2].set_title(f"reads {found.to}", fontsize=9)
    path = out / "flips.png"
    figure.savefig(path, dpi=130)
    return [path]
