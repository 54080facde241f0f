"""Laps and frames, what each filter looks for, and a lap as a film."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery.line_follower import _model
from relukit.gallery.line_follower._baseline import Centroid
from relukit.gallery.line_follower._draw import draw
from relukit.gallery.line_follower._robots import Robots
from relukit.gallery.line_follower._world import CELL, HEIGHT, WIDTH, World
from relukit.gallery.line_follower.study import seen_frames

Array = np.ndarray
SHOWN = (1, 6)  # seed and number of the track that is drawn and filmed


def figures(out: Path, data: Path) -> list[Path]:
    """Write `line_follower.png`, `line_follower_filters.png` and `line_follower.gif`."""
    import relukit

    notes = json.loads((out / "training.json").read_text())
    net = relukit.load(out / f"net{notes['chosen']}.onnx")
    world = World([draw(SHOWN[1] + 1, SHOWN[0])[-1]])
    steer = _model.steering(net.on())
    ours, frames = path(world, steer)
    theirs, _ = path(world, Centroid(**notes["baseline"]))
    files = [out / "line_follower.png", out / "line_follower_filters.png", out / "line_follower.gif"]
    _laps(files[0], world, ours, theirs, frames)
    _filters(files[1], net, seen_frames(World(draw(12, SHOWN[0])), net, 120))
    _film(files[2], world, ours, frames)
    return files


def path(world: World, steer: Any) -> tuple[Array, list[Array]]:
    """Positions, headings and offsets (steps, 4: x, y, heading, offset in line widths) of one lap, and its frames."""
    robots, rows, frames = Robots(world, np.array([0])), [], []
    while robots.gone[0] < world.lines[0].length and len(rows) < 3000 and not robots.lost()[0]:
        both = robots.frames()
        frames.append(both[0, 0])
        off = robots.errors()[0][0] / robots.width[0]
        rows.append((robots.x[0], robots.y[0], robots.heading[0], off))
        robots.advance(steer(both, robots))
    return np.array(rows), frames


def floor_of(world: World) -> Array:
    shape = world.shape[0, 0]
    return world.cells[world.offset[0, 0] :][: shape[0] * shape[1]].reshape(shape)


def _laps(file: Path, world: World, ours: Array, theirs: Array, frames: list[Array]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    grid = figure.add_gridspec(2, 6)
    axes = figure.add_subplot(grid[:, :3])
    floor, o = floor_of(world), world.origin[0]
    axes.imshow(floor, cmap="gray", vmin=0, vmax=255, origin="lower", extent=(o[0], o[0] + CELL * floor.shape[1], o[1], o[1] + CELL * floor.shape[0]), alpha=0.6)  # fmt: skip
    axes.plot(theirs[:, 0], theirs[:, 1], color="C1", lw=1, label="threshold, centroid, PD")
    axes.plot(ours[:, 0], ours[:, 1], color="C0", lw=1, label="ReLU CNN")
    axes.set(xlabel="x [m]", ylabel="y [m]", title="A lap on a track not seen in training")
    axes.legend(fontsize=8, loc="lower left")
    for k, at in enumerate(np.linspace(0.05, 0.95, 3) * (len(frames) - 1)):
        picture = figure.add_subplot(grid[0, 3 + k])
        picture.imshow(frames[int(at)], cmap="gray", vmin=0, vmax=255)
        picture.set(xticks=[], yticks=[], title=f"frame {int(at)}")
    below = figure.add_subplot(grid[1, 3:])
    below.plot(np.arange(len(theirs)) / 30, theirs[:, 3], color="C1", lw=0.8)
    below.plot(np.arange(len(ours)) / 30, ours[:, 3], color="C0", lw=0.8)
    below.set(xlabel="time [s]", ylabel="offset [line widths]", ylim=(-1.5, 1.5))
    _save(file, figure)


def _filters(file: Path, net: Any, frames: list[Array]) -> None:
    """Each first-layer filter, the four patches of frames that excite it most, and its answer to one frame."""
    from matplotlib.figure import Figure

    kernels = first_layer(net)
    rows = np.array([f.ravel() for f in frames])
    answers = np.asarray(net.values(rows)[2]).reshape(len(frames), len(kernels), HEIGHT // 2, WIDTH // 2)
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    panels = figure.subplots(6, len(kernels))
    example = int(np.argmax(answers.var((2, 3)).sum(1)))
    for k, kernel in enumerate(kernels):
        reach = np.abs(kernel).max()
        panels[0, k].imshow(kernel, cmap="RdBu", vmin=-reach, vmax=reach)
        if not (answers[:, k] > 0).any():
            panels[0, k].set_title("silent", fontsize=8)
            for axes in panels[1:, k]:
                axes.axis("off")
            continue
        best = np.argsort(-answers[:, k].reshape(len(frames), -1).max(1))[:4]
        for j, f in enumerate(best):
            r, c = np.unravel_index(np.argmax(answers[f, k]), answers[f, k].shape)
            patch = np.pad(frames[f][0], 2, "edge")[2 * r : 2 * r + 5, 2 * c : 2 * c + 5]
            panels[1 + j, k].imshow(patch, cmap="gray", vmin=0, vmax=1)
        panels[5, k].imshow(answers[example, k], cmap="magma")
    for axes, label in zip(panels[:, 0], ("filter", "patches that", "excite it", "most", "", "answer")):
        axes.set_ylabel(label, fontsize=8)
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
    _save(file, figure)


def first_layer(net: Any) -> Array:
    """The first convolution's kernels on the present picture (filters, 5, 5), read off its answers to single bright pixels."""
    filters = net.nodes[1].size // (HEIGHT // 2 * (WIDTH // 2))
    out, r, c = np.zeros((filters, 5, 5)), HEIGHT // 4, WIDTH // 4
    rest = np.asarray(net.values(np.zeros((1, net.inputs)))[1]).reshape(filters, -1, WIDTH // 2)[:, r, c]
    for i in range(5):
        for j in range(5):
            x = np.zeros(_model.SHAPE)
            x[0, 2 * r + i - 2, 2 * c + j - 2] = 1
            out[:, i, j] = np.asarray(net.values(x.reshape(1, -1))[1]).reshape(filters, -1, WIDTH // 2)[:, r, c] - rest
    return out


def _film(file: Path, world: World, ours: Array, frames: list[Array], most: int = 90) -> None:
    """The floor from above with the robot and its trail, and what it sees, four times as fast as it is."""
    from PIL import Image, ImageDraw

    floor = Image.fromarray(floor_of(world)[::-1].copy())
    scale = 240 / max(floor.size)
    size = (round(floor.width * scale), round(floor.height * scale))
    floor = floor.resize(size).convert("RGB")
    place = lambda xy: (
        (xy[0] - world.origin[0, 0]) / CELL * scale,
        size[1] - (xy[1] - world.origin[0, 1]) / CELL * scale,
    )
    trail = [place(r) for r in ours]
    pictures, palette = [], Image.new("P", (1, 1))
    colors = [(31, 119, 180), (214, 39, 40)] + [(v, v, v) for v in np.linspace(0, 255, 30).astype(int).tolist()]
    palette.putpalette([part for color in colors for part in color])
    for k in range(0, len(ours), max(4, len(ours) // most)):
        canvas = Image.new("RGB", (size[0] + 200, max(size[1], 150)), "white")
        canvas.paste(floor, (0, 0))
        pen = ImageDraw.Draw(canvas)
        if k:
            pen.line(trail[: k + 1], fill=(31, 119, 180), width=2)
        x, y = trail[k]
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(214, 39, 40))
        pen.line((x, y, x + 10 * np.cos(ours[k, 2]), y - 10 * np.sin(ours[k, 2])), fill=(214, 39, 40), width=2)
        seen = Image.fromarray(frames[k]).resize((6 * WIDTH, 6 * HEIGHT), Image.Resampling.NEAREST)
        canvas.paste(seen.convert("RGB"), (size[0] + 4, 2))
        pictures.append(canvas.quantize(palette=palette, dither=Image.Dither.NONE))
    with atomic_path(file) as temporary:
        pictures[0].save(
            temporary, "GIF", save_all=True, append_images=pictures[1:], duration=60, loop=0, optimize=True
        )


def _save(file: Path, figure: Any) -> None:
    with atomic_path(file) as temporary:
        figure.savefig(temporary, dpi=85, format="png")
