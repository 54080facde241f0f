"""What the page asks and what Python answers: one function per question, from checked JSON to a header and arrays."""

import hashlib
import json
import tempfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.activations import get
from relukit.explorer._opened import dropped, open_network, rows_of
from relukit.explorer._plane import arrays_of, middles, nearest_boundary, neighbors
from relukit.explorer._state import ACTIVATIONS, MAX_STEP, Settings, items, point, read_settings, whole
from relukit.explorer._trainer import BOX, Trainer
from relukit.geometry import regions
from relukit.network import Network, from_layers, load

_KEPT = (
    8  # runs kept in memory: one per tab, the oldest goes first; a run that was dropped is made again from its settings
)
_KEPT_FILES = 4
_SMOOTH = "This activation is smooth: there are no exact pieces, so the picture shows sampled values and contours."
Reply = tuple[dict[str, Any], dict[str, Array]]


class Engine:
    """Runs of the open tabs, and the network given at the start."""

    def __init__(self, network: Network | None = None, rows: Array | None = None):
        self.network, self.rows = network, rows
        self._runs: OrderedDict[str, list[Trainer]] = (
            OrderedDict()
        )  # of each tab the latest run, and where it last stood
        self._opened: OrderedDict[str, Reply] = (
            OrderedDict()
        )  # what was said of dropped files: their links hold the key
        self._lock = Lock()

    def answer(self, question: str, asked: dict[str, Any]) -> Reply:
        """Raises: InvalidInput: There is no such question, or its fields are not what it needs."""
        table = {
            "hello": self.hello, "frame": self.frame, "point": self.point,
            "compare": self.compare, "curve": curve, "model": self.model,
        }  # fmt: skip
        if question not in table:
            raise InvalidInput("no such question")
        return table[question](asked)

    def hello(self, asked: dict[str, Any]) -> Reply:
        return {
            "model": self.network is not None,
            "box": [BOX.lower.tolist(), BOX.upper.tolist()],
            "max_step": MAX_STEP,
        }, {}

    def _run(self, asked: dict[str, Any]) -> Trainer:
        """The run at the asked step: the tab's own if it leads there, else one from the start. Called with the lock held.

        While the page draws a step it has already asked for the next one; who then pauses and clicks a point asks
        about the step that is shown. So where the run stood before is kept too.
        """
        settings, step = read_settings(asked.get("settings", {})), whole(asked.get("step", 0), "step", 0, MAX_STEP)
        tab = asked.get("tab", "")
        if not isinstance(tab, str) or len(tab) > 40:
            raise InvalidInput("tab must be a short text")
        kept = self._runs.pop(tab, [])
        run = next((old for old in kept if _leads_to(old, settings, step)), None) or Trainer(settings)
        if run.step == step and run.done == len(settings.events):
            self._runs[tab] = kept
            return run
        before, run.settings = run.copy(), settings
        self._runs[tab] = [before]  # also where an event is refused on the way
        run.run_to(step)
        self._runs[tab] = [run, before]
        while len(self._runs) > _KEPT:
            self._runs.popitem(last=False)
        return run

    def frame(self, asked: dict[str, Any]) -> Reply:
        """Everything to draw at one step of a run."""
        with self._lock:
            run = self._run(asked)
            network = run.network()
            header = _state_of(run)
            arrays = {"data": run.x.astype("<f4"), "labels": np.asarray(run.y, "<f4")}
            if asked.get("thumbnails", True):
                arrays["thumbnails"] = run.thumbnails()
            arrays["lines"] = _lines(run)
        if network.is_piecewise_linear:
            header, arrays = _with_pieces(network, header, arrays)
            if run.kind == "regression" and run.settings.activation == "relu":
                header["max_error"] = error_to_max(network)
        else:
            header["sentence"] = _SMOOTH
            arrays["grid"] = _grid(network)
        return header, arrays

    def point(self, asked: dict[str, Any]) -> Reply:
        """The piece that a point lies in, its formula and neighbors, and the way to the nearest decision boundary."""
        p = np.array(point(asked.get("point")))
        with self._lock:
            network = self._run(asked).network()
        value = network(p[None])[0]
        header: dict[str, Any] = {"point": p.tolist(), "value": value.tolist(), "label": _label(value)}
        if not network.is_piecewise_linear:
            return header | {"sentence": _SMOOTH}, {}
        found = regions(network, BOX)
        k = int(found.locate(p[None])[0])
        if k < 0:
            return header | {"sentence": "This point lies outside the box."}, {}
        A, c = found.maps
        inside = middles(found)[k]
        on = [(np.asarray(network.values(inside[None])[i])[0] > 0).astype(int).tolist() for i in network.activations]
        header |= {
            "piece": k, "slopes": A[k].tolist(), "offset": c[k].tolist(), "on": on, "neighbors": neighbors(found, k), "count": len(found),
        }  # fmt: skip
        near = nearest_boundary(found, p)
        if near is not None:
            header |= {"distance": near[0], "nearest": near[1].tolist()}
        return header, {"polygon": found.polygon(k).astype("<f4")}

    def compare(self, asked: dict[str, Any]) -> Reply:
        """The same seed with every activation: loss, accuracy and the gradient's size by layer after the same steps."""
        settings = read_settings(asked.get("settings", {}))
        step = whole(asked.get("step", 0), "step", 0, 2000)
        table, arrays = [], {}
        for name in ACTIVATIONS:
            run = Trainer(replace(settings, activation=name, events=()))
            start = run.gradient_norms.tolist()
            run.run_to(step)
            network = run.network()
            found = regions(network, BOX) if network.is_piecewise_linear else None
            arrays[f"field_{name}"] = _grid(network, 49)
            table.append({
                "activation": name, "loss": run.loss, "accuracy": run.accuracy, "gradients": run.gradient_norms.tolist(),
                "start": start, "count": None if found is None else len(found),
            })  # fmt: skip
        return {"step": step, "kind": run.kind, "table": table}, arrays

    def model(self, asked: dict[str, Any]) -> Reply:
        """Listing, health, a plane through three rows and the smallest flip of the first row, of one network.

        Which one: a file that was dropped in (`content`, `name`, perhaps `rows`), one that was dropped before (`kept`), the
        one that a run has trained (`settings`, `step`), or the one given at the start.
        """
        if "content" in asked:
            with tempfile.TemporaryDirectory() as folder:  # the file stays until the end: witnesses are replayed in it
                network = dropped(asked, Path(folder))
                rows = None if asked.get("rows") is None else rows_of(asked["rows"], network.inputs)
                header, arrays = open_network(network, rows)
            key = hashlib.sha256(json.dumps([asked["content"], asked.get("rows")]).encode()).hexdigest()[:20]
            self._opened[key] = (header | {"kept": key}, arrays)
            while len(self._opened) > _KEPT_FILES:
                self._opened.popitem(last=False)
            return self._opened[key]
        if "kept" in asked:
            if not isinstance(asked["kept"], str) or asked["kept"] not in self._opened:
                raise InvalidInput("this file is no longer in memory: drop it again")
            return self._opened[asked["kept"]]
        if "settings" in asked:
            with self._lock:
                run = self._run(asked)
                network, rows = run.network(), run.x
            return open_network(replace(network, box=BOX), rows)
        if self.network is None:
            raise InvalidInput("drop a network: an .onnx, .npz or .nnet file")
        return open_network(self.network, self.rows)


def _leads_to(run: Trainer, settings: Settings, step: int) -> bool:
    """Whether a run's past is also the past of the asked one: same settings, same events so far, no later step."""
    past = settings.events[: run.done]
    return (
        run.step <= step
        and replace(run.settings, events=()) == replace(settings, events=())
        and past == run.settings.events[: run.done]
        and all(event[0] >= run.step for event in settings.events[run.done :])
    )


def _state_of(run: Trainer) -> dict[str, Any]:
    return {
        "step": run.step, "loss": run.loss, "losses": run.losses[-400:], "accuracy": run.accuracy, "lr": run.lr, "kind": run.kind,
        "off_since": [since.tolist() for since in run.off_since], "gradients": run.gradient_norms.tolist(),
    }  # fmt: skip


def _with_pieces(network: Network, header: dict[str, Any], arrays: dict[str, Array]) -> Reply:
    found = regions(network, BOX)
    header |= {"count": len(found), "area": found.area, "area_error": found.area_error}
    return header, arrays | arrays_of(found)


def _lines(run: Trainer) -> Array:
    """First-layer hinges `(a, b, c)` with a x + b y + c = 0: what slides while the network trains."""
    return np.concatenate([run.W[0], run.b[0][:, None]], axis=1).astype("<f4")


def _grid(network: Network, size: int = 65) -> Array:
    ticks = np.linspace(BOX.lower[0], BOX.upper[0], size)
    values = network(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2))
    return (values[:, 0] if values.shape[1] == 1 else values.argmax(axis=1)).astype("<f4")


def _label(value: Array) -> int:
    return int(value[0] > 0) if len(value) == 1 else int(value.argmax())


def error_to_max(network: Network) -> float:
    """The largest |f(x, y) - max(0, x, y)| on the box, exact up to float64.

    f is affine on its pieces and the target on three; on a common refinement the difference is affine, so its largest
    size is at a corner. The refinement comes from one network that computes both side by side.
    """
    chain = network.dense_chain()
    weights, biases = [np.asarray(W) for W in chain.weights], [np.asarray(b) for b in chain.biases]
    if len(weights) == 2:  # carry f through a second layer as relu(f) - relu(-f)
        weights = [weights[0], np.concatenate([weights[1], -weights[1]]), np.array([[1.0, -1.0]])]
        biases = [biases[0], np.concatenate([biases[1], -biases[1]]), np.zeros(1)]
    target = [np.array([[1.0, -1], [0, 1], [0, -1]]), np.array([[1.0, 1, -1]])] + [np.eye(1)] * (len(weights) - 2)
    sides = [np.concatenate([weights[0], target[0]])] + [_diagonal(a, b) for a, b in zip(weights[1:], target[1:])]
    shifts = [np.concatenate([b, np.zeros(len(t))]) for b, t in zip(biases, target)]
    both = from_layers(sides, shifts, [get("relu")] * (len(sides) - 1))
    corners = regions(both, BOX).vertices
    return float(np.abs(both(corners)[:, 0] - np.maximum(0, corners.max(axis=1))).max())


def _diagonal(a: Array, b: Array) -> Array:
    both = np.zeros((len(a) + len(b), a.shape[1] + b.shape[1]))
    both[: len(a), : a.shape[1]], both[len(a) :, a.shape[1] :] = a, b
    return both


def curve(asked: dict[str, Any]) -> Reply:
    """The one-hidden-layer network through drawn points: f(x) = y_0 + sum_k c_k relu(x - x_k), one hinge per corner."""
    drawn = sorted({point(p) for p in items(asked.get("points"), "points", 500)})
    x = np.array([p[0] for p in drawn])
    keep = np.concatenate([[True], np.diff(x) > 1e-6]) if len(x) else np.zeros(0, bool)
    if keep.sum() < 2:
        raise InvalidInput("a curve needs two points at least, with different x")
    x, y = x[keep], np.array([p[1] for p in drawn])[keep]
    slopes = np.diff(y) / np.diff(x)
    bends = np.diff(slopes, prepend=0.0)
    network = load({"W0": np.ones((len(bends), 1)), "b0": -x[:-1], "W1": bends[None], "b1": y[:1]})
    tests = np.linspace(x[0], x[-1], 2001)
    error = float(np.abs(network(tests[:, None])[:, 0] - np.interp(tests, x, y)).max())
    return {
        "knots": x[:-1].tolist(),
        "bends": bends.tolist(),
        "start": float(y[0]),
        "end": float(x[-1]),
        "error": error,
    }, {}
