r"""Robots with a steering lag, where they are beside their line, and an expert that knows the line.

Command: a curvature :math:`u`. The curvature that the wheels take follows it, :math:`\dot\kappa = (u - \kappa) / \tau`, some
frames late; :math:`\dot\psi = v \kappa`. The expert steers by offset :math:`e`, heading error :math:`\psi` and the line's
curvature a little ahead: :math:`u = \kappa_{line}(s + d) - k_e e - k_\psi \psi`. It knows neither speed nor lag.
"""

from dataclasses import dataclass

import numpy as np

from relukit.gallery.line_follower._world import HEIGHT, WIDTH, Cameras, World

Array = np.ndarray
FRAME, SUBSTEPS, SHARPEST, PAST = 1 / 30, 4, 12.0, 6  # s between frames; 1/m; frames back that a picture is remembered
LOST = 4.0  # line widths from the middle of the line at which a robot counts as off it
AHEAD, BY_OFFSET, BY_HEADING = 0.055, 60.0, 12.5


@dataclass
class Run:
    """What a drive gave: finished (robots,), RMS and largest offset in line widths until the end of the lap or the line was lost."""

    finished: Array
    rms: Array
    worst: Array


class Robots:
    """A fleet, robot k on track `on[k]` of the world."""

    def __init__(self, world: World, on: Array, seed: int = 0) -> None:
        self.world, self.on = world, np.asarray(on)
        self.random = np.random.default_rng([seed, 1])
        self.cameras = Cameras(world, self.on, seed)
        parts = [world.tracks[k].robot for k in self.on]
        self.speed, self.lag = (np.array([getattr(p, n) for p in parts], float) for n in ("speed", "lag"))
        self.latency = np.array([p.latency for p in parts])
        self.width = np.array([world.tracks[k].line_width for k in self.on])
        n = len(self.on)
        self.x, self.y, self.heading, self.curvature = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
        self.index, self.gone, self.waiting = np.zeros(n, int), np.zeros(n), np.zeros((6, n))
        self.seen, self.fresh = np.zeros((PAST, n, HEIGHT, WIDTH), np.uint8), np.ones(n, bool)
        self.time = 0.0
        offset = np.array([p.start_offset for p in parts])
        self.place(np.arange(n), np.zeros(n, int), offset, np.deg2rad([p.start_heading for p in parts]))

    def place(self, robots: Array, index: Array, offset: Array, heading: Array) -> None:
        """Put robots beside sample `index` of their lines: to its left by `offset`, turned left by `heading`."""
        at = self.world.start[self.on[robots]] + index
        along = self.world.heading[at]
        self.x[robots] = self.world.xy[at, 0] - offset * np.sin(along)
        self.y[robots] = self.world.xy[at, 1] + offset * np.cos(along)
        self.heading[robots] = along + heading
        self.curvature[robots] = self.world.curvature[at]
        self.index[robots], self.gone[robots] = index, 0.0
        self.waiting[:, robots] = self.world.curvature[at]
        self.fresh[robots] = True

    def scatter(self, robots: Array) -> None:
        """Put robots anywhere along their lines, up to three line widths and 25 degrees off."""
        n = len(robots)
        index = (self.random.random(n) * self.world.count[self.on[robots]]).astype(int)
        spread = self.random.normal(size=(2, n))
        offset = np.clip(1.1 * spread[0], -3, 3) * self.width[robots]
        self.place(robots, index, offset, np.clip(0.15 * spread[1], -0.45, 0.45))

    def frames(self) -> Array:
        """What each robot sees now and what it saw 0.2 s ago (robots, 2, 24, 32); one that was just placed remembers what it sees.

        Called once between two `advance`.
        """
        now = self.cameras.frames(self.x, self.y, self.heading, self.time)
        self.seen[:, self.fresh] = now[self.fresh]
        self.fresh[:] = False
        both = np.stack([now, self.seen[-1]], axis=1)
        self.seen = np.roll(self.seen, 1, axis=0)
        self.seen[0] = now
        return both

    def errors(self) -> tuple[Array, Array]:
        """Offset to the left of the line [m] and heading to the left of it [rad]."""
        at = self.world.start[self.on] + self.index
        along = self.world.heading[at]
        dx, dy = self.x - self.world.xy[at, 0], self.y - self.world.xy[at, 1]
        ahead = dx * np.cos(along) + dy * np.sin(along)
        bend = along + ahead * self.world.curvature[at]
        offset = -dx * np.sin(along) + dy * np.cos(along) - self.world.curvature[at] * ahead**2 / 2
        return offset, (self.heading - bend + np.pi) % (2 * np.pi) - np.pi

    def expert(self) -> Array:
        """Curvatures that the expert wants."""
        offset, heading = self.errors()
        count = self.world.count[self.on]
        later = (self.index + np.round(AHEAD / self.world.step[self.on]).astype(int)) % count
        line = self.world.curvature[self.world.start[self.on] + later]
        return np.clip(line - BY_OFFSET * offset - BY_HEADING * heading, -SHARPEST, SHARPEST)

    def advance(self, command: Array) -> None:
        """One frame's time under those curvatures."""
        self.waiting = np.roll(self.waiting, 1, axis=0)
        self.waiting[0] = np.clip(command, -SHARPEST, SHARPEST)
        wanted = self.waiting[self.latency, np.arange(len(self.on))]
        h = FRAME / SUBSTEPS
        follow = 1 - np.exp(-h / np.maximum(self.lag, 1e-6))
        for _ in range(SUBSTEPS):
            self.curvature += follow * (wanted - self.curvature)
            turn = self.speed * self.curvature * h
            middle = self.heading + turn / 2
            self.x += self.speed * h * np.cos(middle)
            self.y += self.speed * h * np.sin(middle)
            self.heading += turn
        self.time += FRAME
        self._find()

    def _find(self) -> None:
        """The nearest sample, looked for close to the last one, so that a crossing does not lead astray."""
        reach = int(np.ceil(self.speed.max() * FRAME / 0.004)) + 6
        steps = np.arange(-4, reach)
        count, start = self.world.count[self.on], self.world.start[self.on]
        near = (self.index[:, None] + steps) % count[:, None]
        xy = self.world.xy[start[:, None] + near]
        best = np.argmin((xy[..., 0] - self.x[:, None]) ** 2 + (xy[..., 1] - self.y[:, None]) ** 2, axis=1)
        self.gone += steps[best] * self.world.step[self.on]
        self.index = near[np.arange(len(near)), best]

    def lost(self) -> Array:
        return np.abs(self.errors()[0]) > LOST * self.width


def drive(robots: Robots, steer) -> Run:
    """One lap under `steer(frames, robots) -> curvatures`; a robot that lost its line stands still."""
    n = len(robots.on)
    length = np.array([robots.world.lines[k].length for k in robots.on])
    running, finished, square, frames, worst = (
        np.ones(n, bool),
        np.zeros(n, bool),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
    )
    for _ in range(int(1.5 * (length / robots.speed).max() / FRAME) + 10):
        if not running.any():
            break
        robots.advance(steer(robots.frames(), robots))
        off = np.abs(robots.errors()[0]) / robots.width
        square += np.where(running, off**2, 0)
        frames += running
        worst = np.where(running, np.maximum(worst, off), worst)
        finished |= running & (robots.gone >= length)
        running &= (robots.gone < length) & (off <= LOST)
    return Run(finished, np.sqrt(square / np.maximum(frames, 1)), worst)
