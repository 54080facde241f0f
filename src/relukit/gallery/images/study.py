"""Train on digits and pets, judge unseen images, and measure how far each digit is from another decision."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, load_states, save_states, t_interval
from relukit.gallery.images import _model

NAME, DIGITS, TEST, PETS = "images", "mnist_train.npz", "mnist_test_dev5000.npz", "cifar_catdog_dev.npz"
EPOCHS = {"mlp": 24, "plain": 8, "cnn": 8, "pets": 24}
TIMEOUT = 10.0  # seconds for each flip
QUESTIONS = 6  # radii at which a convolutional network is asked for a proof
LEAST = 1e-3  # where nothing is proven yet, a proof is sought down to this share of the least radius without one
CNN_ROWS = 10  # digits whose distance is bracketed for the convolutional network
RADII = np.geomspace(0.004, 0.4, 24)


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
    """Train `seeds` networks of each kind; a fifth of the pets is kept to judge the first pet network, then all train.

    Each network is saved once it is trained; a run that was stopped, or is asked for more seeds, goes on behind the last one of them.
    """
    if (out / "training.json").exists() and len(
        restore(out, "pets")
    ) >= seeds:  # a run that came to its end is begun anew
        for kind in EPOCHS:
            (out / f"{kind}.pt").unlink(missing_ok=True)
    (out / "training.json").unlink(missing_ok=True)
    digits, pets = np.load(data / DIGITS), np.load(data / PETS)
    epochs = {k: max(1, v // 10) for k, v in EPOCHS.items()} if quick else EPOCHS
    total, done = seeds * sum(epochs.values()) + epochs["pets"], 0

    def tick(_: int) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    sources = {"mlp": digits, "plain": digits, "cnn": digits, "pets": pets}
    for kind, source in sources.items():
        states = _saved(out / f"{kind}.pt", epochs[kind])[:seeds]
        done += len(states) * epochs[kind]
        for seed in range(len(states), seeds):
            states.append(_model.fit(kind, source["x"], source["y"], seed, epochs[kind], tick).state_dict())
            save_states(out / f"{kind}.pt", states, epochs=epochs[kind])
        _logistic(out / f"logistic_{'pets' if kind == 'pets' else 'digits'}.npz", source)
    test, held = np.load(data / TEST), np.arange(len(pets["y"])) % 5 == 0
    judge = _model.fit("pets", pets["x"][~held], pets["y"][~held], 0, epochs["pets"], tick)
    summary: dict[str, Any] = {
        k: t_interval(_accuracies(out, k, _model.flat(test["x"]), test["y"])) for k in ("mlp", "plain", "cnn")
    }
    summary["pets_on_a_held_fifth"] = _share(_model.decide(judge, _model.flat(pets["x"][held])), pets["y"][held])
    write_json(out / "training.json", summary)
    return summary


def _saved(path: Path, epochs: int) -> list[Any]:
    """States that a run, stopped since, trained for that many epochs; none if it was another number."""
    if not path.exists():
        return []
    found = load_states(path, NAME)
    return list(found["states"]) if found.get("epochs") == epochs else []


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


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images as bytes, digits (n, 28, 28) or pets (n, 32, 32, 3), and their labels 0 to 9, or 0 (cat) and 1 (dog).

    Floats in [0, 1] become bytes, flat digits and channels that come first are laid out again. Labels may be names (`cat`, `7`), CIFAR-10's
    numbers (3 and 5), or places in `classes`, where the file has such a list.

    Raises:
        UnreadableFile: The file holds something else.
    """
    import zipfile

    if not zipfile.is_zipfile(path):
        raise UnreadableFile(f"{path}: expected an .npz file with images x and labels y, this is none")
    try:
        with np.load(path) as source:
            x, y, classes = _laid_out(source["x"]), source["y"], source.get("classes")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UnreadableFile(f"{path}: expected an .npz file with images x and labels y ({error})") from error
    if x.shape[1:] not in ((28, 28), (32, 32, 3)) or y.shape != x.shape[:1] or not len(x):
        raise UnreadableFile(
            f"{path}: expected x of shape (n, 28, 28) or (n, 32, 32, 3) and y of shape (n,), got {x.shape} and {y.shape}"
        )
    if x.dtype != np.uint8:
        if not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 255):
            raise UnreadableFile(f"{path}: images of {x.dtype} must lie in [0, 1] or [0, 255]")
        x = np.round(x * (255 if x.max() <= 1 else 1)).astype(np.uint8)
    return x, _labels(y, classes, x.ndim == 4, path)


def _laid_out(x: np.ndarray) -> np.ndarray:
    if x.shape[1:] in ((784,), (28, 28, 1), (1, 28, 28)):
        return x.reshape(len(x), 28, 28)
    return x.transpose(0, 2, 3, 1) if x.shape[1:] == (3, 32, 32) else x


def _labels(y: np.ndarray, classes: np.ndarray | None, pets: bool, path: Path) -> np.ndarray:
    names = {"cat": 0, "dog": 1} if pets else {str(k): k for k in range(10)}
    own = np.array([str(v).removesuffix(".0").lower() for v in y])
    if pets and classes is not None:
        listed = [str(c).lower() for c in np.ravel(classes)]
        own = np.array([listed[int(v)] if v.isdigit() and int(v) < len(listed) else v for v in own])
    elif pets and set(own) <= {"0", "1"}:
        names = {"0": 0, "1": 1}
    elif pets and set(own) <= {"3", "5"}:
        names = {"3": 0, "5": 1}  # of CIFAR-10
    strange = sorted(set(own) - set(names))
    if strange:
        raise UnreadableFile(
            f"{path}: label '{strange[0]}' is none of {'cat, dog (or 0, 1)' if pets else 'the digits 0 to 9'}"
        )
    return np.array([names[v] for v in own])


def score(out: Path, files: Sequence[Path], flips: int = 0) -> dict[str, Any]:
    """Accuracy on one file of digits or pets; with `flips`, exact distances of that many digits (784-256-256-10)."""
    if not isinstance(flips, int) or flips < 0:
        raise InvalidInput(f"--flips expects a whole number of images, 0 or more, got {flips!r}")
    if len(files) != 1:
        raise UnreadableFile("expected one .npz file with images x and labels y")
    pictures, y = read(Path(files[0]))
    x, pet = _model.flat(pictures), pictures.ndim == 4
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
        plain = restore(out, "plain")
        answer["baselines"]["mlp_plain_training"] = {
            "accuracy": t_interval([_share(_model.decide(m, x), y) for m in plain])
        }
    if flips > 0:
        some = x[:flips]
        if pet:
            answer["metrics"] |= bracket(restore(out, "pets")[0], some, pet=True)
            return answer
        exact, attacks = measure(restore(out, "mlp")[0], some)
        answer["metrics"] |= exact
        answer["metrics"]["cnn"] = bracket(restore(out, "cnn")[0], some[:CNN_ROWS])
        answer["baselines"] |= attacks
        answer["baselines"]["mlp_plain_training"]["median_distance_attacked"] = _finite_median(
            np.array([_model.attack(plain[0], row, RADII) for row in some])
        )
    return answer


def _finite_median(values: np.ndarray) -> float | None:
    middle = float(np.median(values)) if len(values) else np.inf
    return middle if np.isfinite(middle) else None


def bracket(module: Any, x: np.ndarray, pet: bool = False) -> dict[str, Any]:
    """Of a convolutional network: proven lower bounds of the distances, and the best flips found.

    Arguments:
        pet: Flips are found by attacks alone, since `relukit.flip` bounds every unit of a linear piece, which takes minutes on this network.
    """
    import relukit

    network, lower, upper = relukit.load(module, input_shape=(x.shape[1],)), [], []
    box = relukit.Box(np.zeros(x.shape[1]), np.ones(x.shape[1]))
    if len(x):  # the first proof of a process compiles its loops, longer than a question's share of the time
        _proves(network, x[0].astype(float), 1e-6, TIMEOUT)
    for row in x:
        if pet:
            attacks = _model.foolbox_attacks(module, row[None]).values()
            low, high = 0.0, min(_model.attack(module, row, RADII), *(float(d[0]) for d in attacks), np.inf)
        else:
            found = relukit.flip(network, row.astype(float), within=box, timeout=TIMEOUT)
            low, high = found.lower, found.upper
        if high - low > 1e-5:
            low, high = _proven(network, row.astype(float), low, high)
        lower.append(low)
        upper.append(high)
    return {
        "rows_bracketed": len(lower),
        "median_lower": _finite_median(np.array(lower)),
        "median_upper": _finite_median(np.array(upper)),
    }


def _proven(network: Any, row: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The largest radius within which a proof finds no other decision, and the least at which one was found, by bisection of its logarithm.

    `relukit.flip` asks for a proof at the distance of its flip, where bounds of a convolutional network are too loose to say anything;
    here `TIMEOUT` is shared by questions at smaller radii.
    """
    unknown = high if np.isfinite(high) else 1.0
    for _ in range(QUESTIONS):
        radius = float(np.sqrt(max(low, LEAST * unknown) * unknown))
        status = _proves(network, row, radius, TIMEOUT / QUESTIONS)
        if status == "unsat":
            low = radius
        else:
            unknown = radius
        if status == "sat":
            high = min(high, radius)
    return low, high


def _proves(network: Any, row: np.ndarray, radius: float, timeout: float) -> str:
    """`unsat` where no point of [0, 1] within the radius is decided otherwise, `sat` where one was found, else `unknown`."""
    import relukit

    x, y = network.variables()
    old = int(network.decide(row[None])[0])
    margins = [y[old] > y[k] for k in range(network.outputs) if k != old]
    claim = margins[0]
    for margin in margins[1:]:
        claim = claim & margin
    ball = relukit.Box((row - radius).clip(0, 1), (row + radius).clip(0, 1))
    return relukit.verify(network, x.within(ball), claim, timeout=timeout).status


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
    attacked = {"projected_gradient": np.array([_model.attack(module, row, RADII) for row in x])}
    attacked |= _model.foolbox_attacks(module, x)

    def beside(distance: np.ndarray) -> dict[str, Any]:
        gap = distance[proven] / upper[proven] - 1
        return {"median_distance": _finite_median(distance), "median_gap": _finite_median(gap)}

    exact = {
        "proven_share": float(proven.mean()),
        "median_distance": _finite_median(upper),
        "median_lower": _finite_median(np.array([f.lower for f in found])),
        "cpu_seconds_each": float(seconds),
    }
    return exact, {name: beside(distance) for name, distance in attacked.items()}
