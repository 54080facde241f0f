"""Teach, set exams (from a file or a seed), run them in closed loop beside the baseline, and prove the steering sign."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._numerics import write_json
from relukit.gallery._life import t_interval
from relukit.gallery.line_follower import _model
from relukit.gallery.line_follower._baseline import Centroid, tune
from relukit.gallery.line_follower._certificate import certify
from relukit.gallery.line_follower._draw import draw
from relukit.gallery.line_follower._robots import Robots, Run, drive
from relukit.gallery.line_follower._tracks import Track, read, write
from relukit.gallery.line_follower._world import World

NAME, EXAM, VALIDATION = "line-follower", 100, 9_998
PROVED = 20  # frames of the exam whose steering sign is put to the proof


def fetch() -> Path:
    """The study makes its own tracks and pictures; it reads no data."""
    return Path(tempfile.gettempdir())


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Teach `seeds` networks, tune the baseline, and keep the network that drives tracks drawn for this best."""
    import relukit

    epochs = _model.EPOCHS[-2:] if quick else _model.EPOCHS
    total, done = seeds * len(epochs) + 2, [0]

    def advance() -> None:
        done[0] += 1
        if on_progress is not None:
            on_progress(done[0], total)

    errors = []
    for seed in range(seeds):
        module, seen = _model.train(seed, epochs, advance)
        relukit.save(relukit.load(module, input_shape=_model.SHAPE), out / f"net{seed}.onnx")
        errors.append(seen[-1])
    baseline = tune(3 if quick else 8)
    advance()
    world, runs = World(draw(8 if quick else 60, VALIDATION)), []
    for seed in range(seeds):
        runs.append(lap(world, _model.steering(_network(out, seed).on())))
    advance()
    chosen = max(range(seeds), key=lambda k: (runs[k].finished.mean(), -_rms(runs[k])))
    summary = {
        "finished_share": t_interval([r.finished.mean() for r in runs]), "rms_lateral_line_widths": t_interval([_rms(r) for r in runs]),
        "chosen": chosen, "baseline": baseline, "command_error_last_round": errors,
    }  # fmt: skip
    write_json(out / "training.json", {"seeds": seeds, **summary})
    write(out / "tracks-example.json", draw(3, 1))
    return summary


def _network(out: Path, seed: int) -> Any:
    import relukit

    return relukit.load(out / f"net{seed}.onnx")


def lap(world: World, steer: Any, seed: int = 0) -> Run:
    """One robot on each track of the world."""
    return drive(Robots(world, np.arange(len(world.tracks)), seed), steer)


def _rms(run: Run) -> float:
    return float(np.sqrt(np.mean(run.rms**2)))


def score(
    out: Path,
    files: Sequence[Path],
    tracks: str | Path | None = None,
    seed: int | None = None,
    count: int = EXAM,
    prove: int = PROVED,
) -> dict[str, Any]:
    """Drive every track once in closed loop; the same tracks under the baseline, and under the expert that knows the line.

    Arguments:
        files: Files of tracks; likewise `tracks`.
        seed: Draws `count` new tracks where no file is given (1 by default).
        prove: Frames whose steering sign is put to the proof.
    """
    exam = _exam([*files, *([Path(tracks)] if tracks is not None else [])], seed, count)
    notes = json.loads((out / "training.json").read_text())
    world = World(exam)
    runs = [lap(world, _model.steering(_network(out, k).on())) for k in range(notes["seeds"])]
    net, ours = _network(out, notes["chosen"]), runs[notes["chosen"]]
    baseline = lap(world, Centroid(**notes["baseline"]))
    expert = lap(world, lambda _, robots: robots.expert())
    frames = seen_frames(world, net, prove) if prove > 0 else []
    each = {"finished_share": t_interval([float(r.finished.mean()) for r in runs]),
            "rms_lateral_line_widths": t_interval([_rms(r) for r in runs])}  # fmt: skip
    return {
        "study": NAME,
        "metrics": _metrics(ours) | {
            "milliseconds_per_frame": milliseconds(out / f"net{notes['chosen']}.onnx"),
            "each_network": each, "certificate": certify(net, frames) if prove > 0 else None,
        },
        "baselines": {"centroid_pd": _metrics(baseline) | notes["baseline"], "expert_that_knows_the_line": _metrics(expert)},
        "rows": len(exam), "not_finished": [t.name for t, f in zip(exam, ours.finished) if not f],
    }  # fmt: skip


def _metrics(run: Run) -> dict[str, float]:
    return {
        "finished_share": float(run.finished.mean()), "rms_lateral_line_widths": _rms(run),
        "largest_offset_line_widths": float(run.worst.max()),
    }  # fmt: skip


def _exam(files: Sequence[Path], seed: int | None, count: int) -> list[Track]:
    if files and seed is not None:
        raise InvalidInput("give either tracks from files (--tracks FILE) or a seed to draw them (--seed N), not both")
    if files:
        return [track for file in files for track in read(file)]
    if not isinstance(count, int) or count < 1:
        raise InvalidInput(f"--count expects a whole number of tracks, at least 1, got {count!r}")
    seed = 1 if seed is None else seed
    if not isinstance(seed, int) or seed < 0:
        raise InvalidInput(f"--seed expects a whole number, at least 0, got {seed!r}")
    return draw(count, seed)


def milliseconds(path: Path, frames: int = 300) -> float:
    """Mean time of one frame at a time, bytes in and command out, through onnxruntime on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    put = session.get_inputs()[0]
    shape = (1, *_model.SHAPE) if len(put.shape) == 4 else (1, int(np.prod(_model.SHAPE)))
    pictures = np.random.default_rng(0).integers(0, 256, (frames, *_model.SHAPE), np.uint8)
    say = lambda frame: session.run(None, {put.name: (frame.astype(np.float32) / 255).reshape(shape)})
    for frame in pictures[:20]:
        say(frame)
    start = time.perf_counter()
    for frame in pictures:
        say(frame)
    return (time.perf_counter() - start) / frames * 1e3


def seen_frames(world: World, net: Any, count: int) -> list[np.ndarray]:
    """Frames in [0, 1] that the network met on its way, from tracks and moments chosen at random."""
    robots, generator = Robots(world, np.arange(len(world.tracks))), np.random.default_rng(0)
    steer, kept = _model.steering(net.on()), []
    for step in range(150):
        frames = robots.frames()
        if step >= 10:
            kept.append(frames[generator.integers(0, len(frames))])
        robots.advance(steer(frames))
        robots.scatter(np.flatnonzero(robots.lost()))
    return [kept[k] / 255 for k in generator.permutation(len(kept))[:count]]
