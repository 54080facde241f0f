"""Floors as pictures, and what pinhole cameras see of them: many robots at once, in NumPy.

A floor is a picture of 4 mm cells at four sharpnesses; a pixel takes the one whose cells are as wide as itself, from two
points one above the other, so that a far line fades instead of flickering.
"""

import numpy as np

from relukit.gallery.line_follower._tracks import Line, Track

Array = np.ndarray
HEIGHT, WIDTH, CELL, LEVELS, MARGIN = 24, 32, 0.004, 4, 0.3
ABOVE = 0.06  # rays flatter than this meet the floor as if they were this steep: no sky


def floor_picture(track: Track, line: Line) -> tuple[Array, Array]:
    """Light given back by each cell (rows, columns), float32, and the place (x, y) of the cell at [0, 0]."""
    origin = line.xy.min(0) - MARGIN
    shape = tuple(int(n) for n in np.ceil((np.ptp(line.xy, axis=0) + 2 * MARGIN) / CELL)[::-1] + 1)
    shape = tuple(-(-n // 2 ** (LEVELS - 1)) * 2 ** (LEVELS - 1) for n in shape)
    picture = track.floor.brightness * _texture(track, shape, origin)
    cover = np.zeros(shape, np.float32)
    _paint_curve(cover, track, line, origin)
    for at, angle, length in track.crossings:
        _paint_bar(cover, track, line, origin, at, angle, length)
    picture += cover * (track.floor.line - picture)
    for x, y, radius, dark in track.light.shadows:
        _shade(picture, origin, x, y, radius, dark)
    return picture, origin


def _texture(track: Track, shape: tuple[int, ...], origin: Array) -> Array:
    from scipy.ndimage import zoom

    generator = np.random.default_rng(track.floor.seed)
    out = np.ones(shape, np.float32)
    for size, weight in ((64, 0.6), (12, 0.6), (3, 0.5)):
        coarse = generator.normal(size=(shape[0] // size + 2, shape[1] // size + 2)).astype(np.float32)
        smooth = zoom(coarse, size, order=1)[: shape[0], : shape[1]]
        out[: smooth.shape[0], : smooth.shape[1]] += track.floor.texture * weight * smooth
    if track.floor.tiles > 0:
        for axis, start in ((0, origin[1]), (1, origin[0])):
            place = start + CELL * np.arange(shape[axis])
            joint = np.abs((place / track.floor.tiles + 0.5) % 1 - 0.5) * track.floor.tiles < 0.003
            out *= (
                np.where(joint, 0.8, 1.0).astype(np.float32)[:, None]
                if axis == 0
                else np.where(joint, 0.8, 1.0).astype(np.float32)
            )
    return out


def _paint_curve(cover: Array, track: Track, line: Line, origin: Array) -> None:
    """Cells by their distance to the nearest sample of the curve, with soft edges; gaps left out."""
    from scipy.spatial import cKDTree

    reach = track.line_width / 2 + CELL
    steps = np.arange(-int(reach / CELL) - 1, int(reach / CELL) + 2)
    base = np.round((line.xy - origin) / CELL).astype(int)
    cells = np.unique((base[:, None, None, 1] + steps[:, None]) * cover.shape[1] + base[:, None, None, 0] + steps)
    rows, columns = cells // cover.shape[1], cells % cover.shape[1]
    fine = np.arange(0, len(line.xy), 0.25)  # samples 1.25 mm apart
    period = np.append(np.arange(len(line.xy)), len(line.xy))
    dense = np.column_stack([np.interp(fine, period, np.append(line.xy[:, k], line.xy[0, k])) for k in (0, 1)])
    distance, nearest = cKDTree(dense).query(np.column_stack([columns, rows]) * CELL + origin)
    painted = np.clip((track.line_width / 2 - distance) / CELL + 0.5, 0, 1)
    along = fine[nearest] * line.length / len(line.xy)
    for start, length in track.gaps:
        inside = (along - start) % line.length
        painted *= np.clip(np.minimum(np.abs(inside), np.abs(line.length - inside)) / CELL, 0, 1) * (inside > length)
    cover[rows, columns] = np.maximum(cover[rows, columns], painted)


def _paint_bar(cover: Array, track: Track, line: Line, origin: Array, at: float, angle: float, length: float) -> None:
    k = int(at / line.length * len(line.xy)) % len(line.xy)
    direction = line.heading[k] + np.deg2rad(angle)
    x, y, rows, columns = _patch(cover.shape, origin, line.xy[k], length / 2 + track.line_width)
    a = x * np.cos(direction) + y * np.sin(direction)
    b = -x * np.sin(direction) + y * np.cos(direction)
    off = np.maximum(np.abs(b) - track.line_width / 2, np.abs(a) - length / 2)
    cover[rows, columns] = np.maximum(cover[rows, columns], np.clip(0.5 - off / CELL, 0, 1))


def _shade(picture: Array, origin: Array, x: float, y: float, radius: float, dark: float) -> None:
    dx, dy, rows, columns = _patch(picture.shape, origin, np.array([x, y]), radius + 0.05)
    picture[rows, columns] *= 1 - dark * np.clip((radius - np.hypot(dx, dy)) / 0.03 + 0.5, 0, 1)


def _patch(shape: tuple[int, ...], origin: Array, middle: Array, reach: float) -> tuple[Array, Array, slice, slice]:
    """Offsets (x, y) of the cells within `reach` of a place, and their rows and columns."""
    low = np.maximum(np.floor((middle - reach - origin) / CELL).astype(int), 0)
    high = np.maximum(np.ceil((middle + reach - origin) / CELL).astype(int) + 1, 0)
    rows, columns = slice(low[1], min(high[1], shape[0])), slice(low[0], min(high[0], shape[1]))
    x = origin[0] + CELL * np.arange(columns.start, columns.stop) - middle[0]
    y = origin[1] + CELL * np.arange(rows.start, rows.stop) - middle[1]
    return x[None, :], y[:, None], rows, columns


class World:
    """Floors and center lines of several tracks, packed so that robots on different ones are treated together."""

    def __init__(self, tracks: list[Track]) -> None:
        self.tracks, self.lines = tracks, [t.line() for t in tracks]
        self.start = np.cumsum([0] + [len(l.xy) for l in self.lines])
        self.count = np.diff(self.start)
        self.xy = np.concatenate([l.xy for l in self.lines])
        self.heading = np.concatenate([l.heading for l in self.lines])
        self.curvature = np.concatenate([l.curvature for l in self.lines])
        self.step = np.array([l.length / len(l.xy) for l in self.lines])
        parts, offset = [], 0
        self.offset, self.shape = (
            np.zeros((len(tracks), LEVELS), np.int64),
            np.zeros((len(tracks), LEVELS, 2), np.int64),
        )
        self.origin = np.zeros((len(tracks), 2))
        for k, (track, line) in enumerate(zip(tracks, self.lines)):
            picture, self.origin[k] = floor_picture(track, line)
            for level in range(LEVELS):
                self.offset[k, level], self.shape[k, level] = offset, picture.shape
                parts.append(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8).ravel())
                offset += picture.size
                h, w = picture.shape
                picture = picture.reshape(h // 2, 2, w // 2, 2).mean((1, 3)) if level + 1 < LEVELS else picture
        self.cells = np.concatenate(parts)


class Cameras:
    """One camera for each robot; `frames` gives (robots, 24, 32) uint8."""

    def __init__(self, world: World, on: Array, seed: int = 0) -> None:
        self.world, self.on, self.noise = world, on, np.random.default_rng(seed)
        tracks = [world.tracks[k] for k in on]
        get = lambda part, key: np.array([getattr(getattr(t, part), key) for t in tracks], np.float32)[:, None, None]
        half = np.tan(np.deg2rad(get("camera", "field_of_view")) / 2)
        u = (np.arange(WIDTH) - (WIDTH - 1) / 2) / (WIDTH / 2)
        v = (np.arange(2 * HEIGHT) - (2 * HEIGHT - 1) / 2) / WIDTH  # two points a pixel, one above the other
        pitch, height = np.deg2rad(get("camera", "pitch")), get("camera", "height")
        down = np.maximum(np.sin(pitch) + half * v[:, None] * np.cos(pitch), ABOVE)
        reach = height / down
        forward = reach * (np.cos(pitch) - half * v[:, None] * np.sin(pitch)) + get("camera", "ahead")
        self.forward = np.broadcast_to(forward, (len(on), 2 * HEIGHT, WIDTH)).astype(np.float32)
        self.left = (-reach * half * u).astype(np.float32)
        self.light = get("light", "brightness") * (1 + get("light", "across") * u) * (1 + get("light", "down") * np.linspace(-1, 1, HEIGHT)[:, None])  # fmt: skip
        corner = u**2 + np.linspace(-0.75, 0.75, HEIGHT)[:, None] ** 2
        self.light = (self.light * (1 - get("light", "vignette") * corner)).astype(np.float32)
        self.flicker, self.blur = get("light", "flicker"), get("camera", "blur") ** 2 / 4
        self.grain = get("light", "noise")
        level = np.clip(np.round(np.log2(np.maximum(reach * half * 2 / WIDTH / CELL, 1e-9))), 0, LEVELS - 1).astype(int)
        level = np.broadcast_to(level, self.left.shape)
        k = on[:, None, None]
        self.base, self.scale = world.offset[k, level], (1 / (CELL * 2.0**level)).astype(np.float32)
        self.rows, self.columns = world.shape[k, level, 0], world.shape[k, level, 1]
        self.shift = ((2.0**level - 1) / 2 / 2.0**level).astype(
            np.float32
        )  # a wide cell's middle lies between small ones

    def frames(self, x: Array, y: Array, heading: Array, time: float = 0.0) -> Array:
        """Pictures from those places (robots,)."""
        o = self.world.origin[self.on]
        c, s = np.cos(heading).astype(np.float32), np.sin(heading).astype(np.float32)
        x, y = (x - o[:, 0]).astype(np.float32), (y - o[:, 1]).astype(np.float32)
        wide = lambda a: a[:, None, None]
        column = (wide(x) + wide(c) * self.forward - wide(s) * self.left) * self.scale - self.shift
        row = (wide(y) + wide(s) * self.forward + wide(c) * self.left) * self.scale - self.shift
        np.clip(column, 0, self.columns - 1.001, out=column)
        np.clip(row, 0, self.rows - 1.001, out=row)
        left, low = column.astype(np.int64), row.astype(np.int64)
        column -= left
        row -= low
        at = self.base + low * self.columns + left
        cells = self.world.cells
        upper = at + self.columns
        near = cells[at] * (1 - column) + cells[at + 1] * column
        seen = near + row * (cells[upper] * (1 - column) + cells[upper + 1] * column - near)
        picture = seen.reshape(len(x), HEIGHT, 2, WIDTH).mean(2) * np.float32(1 / 255)
        picture *= self.light * (1 + self.flicker * np.float32(np.sin(4 * np.pi * time)))
        picture = _soft(_soft(picture, self.blur), self.blur)
        picture += self.grain * self.noise.standard_normal(picture.shape, np.float32)
        return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _soft(p: Array, b: Array) -> Array:
    """Each pixel with the share b of each neighbor, down and across."""
    q = np.pad(p, ((0, 0), (1, 1), (0, 0)), "edge")
    p = p + b * (q[:, 2:] + q[:, :-2] - 2 * p)
    q = np.pad(p, ((0, 0), (0, 0), (1, 1)), "edge")
    return p + b * (q[:, :, 2:] + q[:, :, :-2] - 2 * p)
