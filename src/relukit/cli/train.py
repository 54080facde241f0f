"""`relukit train DATA --target y -o DIR`."""

import sys
from pathlib import Path

import typer


def command(
    data: Path = typer.Argument(
        ...,
        help="Table (.csv, .csv.gz) with a header, .npz with x and y, or a folder of images: a subfolder for each class",
    ),
    target: str = typer.Option("y", help="Column to predict"),
    output: Path = typer.Option(
        Path("trained"), "-o", "--output", help="Folder for model.onnx, .npz, .safetensors and train.json"
    ),
    drop: list[str] = typer.Option([], help="Columns to leave out"),
    hidden: str = typer.Option("64,32", help="Widths of the hidden layers"),
    activation: str = typer.Option("relu", help="A name of `relukit activations`"),
    architecture: str | None = typer.Option(
        None, help="mlp, or cnn for images; by default cnn for a folder of images, else mlp"
    ),
    size: str | None = typer.Option(None, help="Bring all images of a folder to this height and width, such as 32x32"),
    task: str | None = typer.Option(None, help="classification or regression; told by the target if not given"),
    epochs: int = typer.Option(60, min=1),
    sparsity: float = typer.Option(
        0.0, min=0, help="Weight of the hidden activations' mean l1 norm; about 1 makes nine in ten zero"
    ),
    seed: int = typer.Option(0),
    device: str = typer.Option("cpu", help="torch device to train on, such as cuda"),
    test_share: float = typer.Option(0.2, min=0.0, max=0.5, help="Share of rows that only the score sees"),
    baseline: bool = typer.Option(
        True, help="Train scikit-learn's perceptron on the same rows, widths and passes beside it"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Fit a network on a table or arrays, watched live; an interrupted run goes on where it stopped."""
    import numpy as np

    import relukit
    from relukit._errors import InvalidInput, UnwritablePath
    from relukit._numerics import write_json
    from relukit.cli._frame import print_json, progress
    from relukit.report import read_data
    from relukit.training.table import read_table

    if data.is_dir():
        from relukit.training.images import read_images

        x, y = read_images(data, _size(size))
        columns: list[str] = []
        architecture = architecture or "cnn"
    elif data.suffix in (".npz", ".npy"):
        x, y = read_data(data)
        if y is None:
            raise InvalidInput(f"{data} holds no targets: give an .npz with arrays x and y")
        columns = []
    else:
        x, y, columns = read_table(data, target, drop)
    architecture = architecture or "mlp"
    try:
        widths = [int(w) for w in hidden.split(",") if w.strip()]
    except ValueError as error:
        raise InvalidInput(f"--hidden wants widths like 64,32, got '{hidden}'") from error
    fresh = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritablePath(f"cannot make the folder {output}: {error.strerror}; give -o a folder that you may write to") from error
    kind = task or ("regression" if np.asarray(y).dtype.kind == "f" else "classification")
    train, test = _split(np.asarray(y), kind, test_share, seed)
    try:
        with progress("training", epochs) as advance:
            fitted = relukit.fit(
                x[train], y[train], kind, widths, activation, epochs, seed=seed, architecture=architecture, sparsity=sparsity,
                checkpoint=output / "checkpoint.pt", device=device,
                on_progress=lambda done, _, row: advance(
                    done, f"loss {row['loss']:.3g} score {row['score']:.3f} health: {row['finding'] or 'good'}"
                ),
            )  # fmt: skip
    except InvalidInput:
        if fresh and not any(output.iterdir()):
            output.rmdir()  # nothing was trained: nothing is left behind
        raise
    except KeyboardInterrupt:
        if (output / "checkpoint.pt").exists():
            print(f"stopped; the same command goes on from {output / 'checkpoint.pt'}", file=sys.stderr)
        raise
    answer = fitted.to_dict() | {
        "score": _score(fitted, x[test], y[test]) if len(test) else fitted.score,
        "validation_score": fitted.score,
        "baseline_score": _perceptron(x[train], y[train], x[test], y[test], kind, widths, epochs, seed)
        if baseline and len(test)
        else None,
        "constant_score": _constant(y[train], y[test], kind) if len(test) else None,
        "rows": len(x), "test_rows": len(test), "target": target, "inputs": columns or int(np.prod(x.shape[1:])),
        "classes": None if fitted.classes is None else [str(c) for c in fitted.classes],
        "files": ["model.onnx", "model.npz", "model.safetensors"] if architecture == "mlp" else ["model.onnx", "model.safetensors"],
    }  # fmt: skip
    relukit.save(fitted.network, output / "model.onnx")
    if architecture == "mlp":
        relukit.save(fitted.network, output / "model.npz")
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in fitted.network.on().state_dict().items()}, output / "model.safetensors")
    write_json(output / "train.json", answer)
    (output / "checkpoint.pt").unlink(missing_ok=True)
    if as_json:
        print_json(answer)
        return
    word = "accuracy" if kind == "classification" else "R2"
    beside = {"scikit-learn's perceptron": answer["baseline_score"], "constant guess": answer["constant_score"]}
    base = ", ".join(f"{name} {value:.4f}" for name, value in beside.items() if value is not None)
    print(
        f"{word} on {len(test)} unseen rows: {answer['score']:.4f}{f' ({base})' if base else ''}; {answer['epochs']} epochs, {fitted.cpu_seconds:.1f} CPU-s"
    )
    for finding in fitted.findings:
        print(finding)
    print(f"written to {output}: {', '.join(answer['files'])}, train.json")


def _size(text: str | None) -> tuple[int, int] | None:
    from relukit._errors import InvalidInput

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdecimal() and 4 <= int(p) <= 4096 for p in parts):
        raise InvalidInput(f"--size wants height and width like 32x32 (4 to 4096), got '{text}'")
    return int(parts[0]), int(parts[1])


def _split(y, kind: str, share: float, seed: int):
    """Rows for training and for the score, drawn within each class."""
    import numpy as np

    generator = np.random.default_rng(seed + 1)
    groups = [np.flatnonzero(y == c) for c in np.unique(y)] if kind == "classification" else [np.arange(len(y))]
    test = np.concatenate([generator.permutation(g)[: round(share * len(g))] for g in groups]).astype(int)
    return np.setdiff1d(np.arange(len(y)), test), np.sort(test)


def _score(fitted, x, y) -> float:
    import numpy as np

    found = fitted.predict(x.reshape(len(x), -1))
    if fitted.task == "classification":
        return float(np.mean(found == y))
    y = np.asarray(y, np.float64)
    return float(1 - np.mean((found - y) ** 2) / max(np.mean((y - y.mean(axis=0)) ** 2), 1e-300))


def _perceptron(x, y, x_test, y_test, kind: str, widths: list[int], epochs: int, seed: int) -> float:
    """Score of scikit-learn's multi-layer perceptron with standardized inputs (and targets)."""
    import warnings

    from sklearn.compose import TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    make = MLPRegressor if kind == "regression" else MLPClassifier
    model = make_pipeline(StandardScaler(), make(hidden_layer_sizes=tuple(widths), max_iter=epochs, random_state=seed))
    if kind == "regression":
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x.reshape(len(x), -1), y)
    return float(model.score(x_test.reshape(len(x_test), -1), y_test))


def _constant(train, test, kind: str) -> float:
    """Accuracy of the commonest class; R2 of the mean."""
    import numpy as np

    if kind == "classification":
        classes, counts = np.unique(train, return_counts=True)
        return float(np.mean(test == classes[np.argmax(counts)]))
    spread = np.mean((test - test.mean(axis=0)) ** 2)
    return float(1 - np.mean((test - train.mean(axis=0)) ** 2) / max(spread, 1e-300))
