"""Gymnasium's CarRacing without a screen, an expert that knows the track, and what the network gets to see.

An action is held for four steps of 1/50 s, and only the picture after them is drawn: drawing takes 9 ms, physics 0.2. Reward
and end are the environment's own: 1000 / tiles for each new tile, -0.1 for each step, 1000 steps at most.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._errors import MissingExtra

Array = np.ndarray
HELD, LIMIT, SIDE = 4, 1000, 48  # steps an action is held; steps of an episode; pixels of a picture's side
# Chosen for driving on when its commands are disturbed (pushes of `_model._Push` and noise of 0.15 in steering, 0.08 in pedal): mean return
# 900, the lowest of twelve 873. Steering by 3.2 of the angle with half the gas at full steering is as fast undisturbed, but weaves: 838, 15.
NEAR, BY_SPEED, BY_ANGLE, BY_TURN = 4.1, 0.35, 2.2, 0.34  # look-ahead [m, s]; steering by angle and against turning
CALM, NEAR_EDGE, RETURNING = 0.7, 3.5, 0.1  # gas given up at full steering; m from the middle, and braking per m beyond
GRIP, BRAKING, FASTEST = 175.0, 24.0, 80.0  # m/s^2 across, m/s^2 along, m/s
APART = 3.5  # m between two tiles


def make() -> Any:
    """The environment, whose pictures are drawn only while `seen` is true."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pygame and Box2D warn of their own old calls
            from gymnasium.envs.box2d.car_racing import CarRacing
    except ImportError as error:
        raise MissingExtra(f"CarRacing needs gymnasium with Box2D: pip install relukit[gallery] ({error})") from error

    blank = np.zeros((96, 96, 3), np.uint8)

    class Quick(CarRacing):
        seen = True

        def _render(self, mode: str) -> Any:
            return super()._render(mode) if self.seen else blank

    return Quick()


def picture(state: Array) -> Array:
    """(48, 48) bytes: the green channel (road dark, grass bright) at half size, of the indicators the speed alone."""
    green = state[..., 1].astype(np.uint16)
    small = ((green[::2, ::2] + green[1::2, ::2] + green[::2, 1::2] + green[1::2, 1::2]) // 4).astype(np.uint8)
    small[42:, :5] = small[42:, 14:] = 0
    return small


class Expert:
    """Pure pursuit of the middle of the track, as fast as the bends ahead allow. Gives steering and pedal in [-1, 1]."""

    def __init__(self, env: Any) -> None:
        xy = np.array([t[2:4] for t in env.track])
        wide = np.concatenate([xy[-3:], xy, xy[:3]])
        self.xy = np.stack([np.convolve(c, np.ones(7) / 7, "valid") for c in wide.T], 1)
        ahead = np.roll(self.xy, -1, 0) - self.xy
        heading = np.arctan2(ahead[:, 1], ahead[:, 0])
        turn = np.angle(np.exp(1j * (np.roll(heading, -1) - heading)))
        self.bend, self.env, self.at = np.abs(turn) / np.hypot(*ahead.T), env, 0

    def __call__(self) -> Array:
        hull, n = self.env.car.hull, len(self.xy)
        place, speed = np.array(hull.position), float(np.hypot(*hull.linearVelocity))
        near = (self.at + np.arange(-3, 12)) % n
        self.at = int(near[np.argmin(((self.xy[near] - place) ** 2).sum(1))])
        steps = max(1, round((NEAR + BY_SPEED * speed) / APART))
        to, angle = self.xy[(self.at + steps) % n] - place, hull.angle
        forward = to @ np.array([-np.sin(angle), np.cos(angle)])
        right = to @ np.array([np.cos(angle), np.sin(angle)])
        steering = np.clip(BY_ANGLE * np.arctan2(right, forward) + BY_TURN * hull.angularVelocity, -1, 1)
        far = np.arange(2 + int(1.2 * speed / APART))
        allowed = GRIP / np.maximum(self.bend[(self.at + far) % n], 1e-3)
        limit = np.sqrt(np.min(allowed + 2 * BRAKING * np.maximum(APART * far - 5, 0)))
        gap = min(float(limit), FASTEST) - speed
        pedal = np.clip(0.1 * gap, 0, 1) * (1 - CALM * abs(steering)) if gap > 0 else max(0.05 * gap, -0.6)
        beside = float(np.hypot(*(self.xy[self.at] - place)))
        if beside > NEAR_EDGE and speed > 30:
            pedal = max(min(pedal, -RETURNING * (beside - NEAR_EDGE)), -0.8)
        return np.array([steering, pedal])


def action(command: Array) -> Array:
    """Steering, gas and brake of steering and pedal."""
    steering, pedal = np.clip(command, -1, 1)
    return np.array([steering, max(pedal, 0.0), max(-pedal, 0.0)])


def episode(
    env: Any, seed: int, drive: Callable[[Array], Array] | None, mix: Callable[[Array], Array] = lambda c: c
) -> tuple[float, Array, Array]:
    """Return, pictures (decisions, 2, 48, 48) and what the expert wanted there (decisions, 2); `drive=None`: the expert drives unseen.

    Arguments:
        drive: Command for two pictures, the present one and the one before it.
        mix: Changes the command that is carried out.
    """
    env.seen = drive is not None
    state, _ = env.reset(seed=seed)
    expert, total, steps, done = Expert(env), 0.0, 0, False
    now = before = picture(state)
    frames, wanted = [], []
    while not done and steps < LIMIT:
        label = expert()
        both = np.stack([now, before])
        frames.append(both)
        wanted.append(label)
        carried = action(mix(label if drive is None else drive(both)))
        for k in range(HELD):
            env.seen = drive is not None and k == HELD - 1
            state, reward, done, _, _ = env.step(carried)
            total, steps = total + float(reward), steps + 1
            if done or steps == LIMIT:
                break
        before, now = now, picture(state)
    return total, np.array(frames), np.array(wanted)
