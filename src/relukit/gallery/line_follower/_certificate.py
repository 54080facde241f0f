r"""A proof that the steering sign cannot change while the light changes and the picture shifts.

Of what the robot sees, x (the picture now and that of 0.2 s ago), let :math:`a x + b + t (x_{\pm 1} - x)`, held within [0, 1], be what the camera sees: a factor a and an offset b
of the brightness, and a shift by the share t / a of a pixel to the right or left (:math:`x_{\pm 1}`: the pictures moved by one
pixel, its border repeated). This family has three numbers, so the CNN behind it is a network of three inputs, and
`relukit.verify` decides its sign over the whole box of them: no grid, no samples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from relukit.gallery.line_follower._robots import SHARPEST
from relukit.gallery.line_follower._world import HEIGHT, WIDTH

Array = np.ndarray
FACTOR, OFFSET, SHIFT = (0.8, 1.25), (-0.05, 0.05), 1.0  # brightness, share of white, pixels
PARTS = (
    4  # of the factor's range: t goes up to the largest factor of each, so shifts are covered to 1.12 pixels, not 1.56
)


def moved(frame: Array, pixels: int) -> Array:
    """Pictures moved to the right by whole pixels, its border repeated."""
    columns = np.clip(np.arange(WIDTH) - pixels, 0, WIDTH - 1)
    return frame[..., columns]


def family(network: Any, frame: Array, side: int) -> Any:
    """The CNN as a network of (a, b, t) around two pictures (2, 24, 32), now and then, shifted to one side (1 right, -1 left)."""
    from relukit.activations import get
    from relukit.network import Affine, Input, Network, Node
    from relukit.network.affine import Dense

    x = frame.astype(float).reshape(-1, HEIGHT, WIDTH)
    W = np.column_stack([x.ravel(), np.ones(x.size), (moved(x, side) - x).ravel()])
    head = [
        Node(Input(3), (), (3,), "light and shift"),
        Node(Affine((Dense(W),), np.zeros(x.size)), (0,), (x.size,), "frame"),
        Node(get("hardtanh", min_val=0.0, max_val=1.0), (1,), (x.size,), "sensor"),
    ]
    rest = [Node(n.op, tuple(j + 2 for j in n.inputs), n.shape, n.name, n.source) for n in network.nodes[1:]]
    return Network(tuple(head + rest))


def holds(network: Any, frame: Array, timeout: float = 60.0) -> str:
    """`proven`, `refuted` (a light and shift turns the sign, replayed) or `open` for one input (2, 24, 32) in [0, 1]."""
    import relukit
    from relukit.verification.vnnlib import Case, Property

    sign = np.sign(float(network(frame.reshape(1, -1))[0, 0]))
    if sign == 0:
        return "refuted"
    factors, answers = np.geomspace(*FACTOR, PARTS + 1), []
    empty = (np.zeros((0, 3)), np.zeros(0), np.array([[sign]]), np.zeros((1, 3)), np.zeros(1))
    boxes = [
        relukit.Box(np.array([low, OFFSET[0], 0.0]), np.array([high, OFFSET[1], SHIFT * high]))
        for low, high in zip(factors[:-1], factors[1:])
    ]
    turned = Property(tuple(Case(box, *empty) for box in boxes), 3, 1)
    for side in (1, -1):
        answers.append(relukit.verify(family(network, frame, side), turned, timeout=timeout).status)
    if "sat" in answers:
        return "refuted"
    return "proven" if answers == ["unsat", "unsat"] else "open"


def certify(network: Any, frames: Sequence[Array], timeout: float = 60.0) -> dict[str, Any]:
    """Shares of the frames whose steering sign is proven, refuted and open; also among those that steer visibly."""
    found = np.array([holds(network, f, timeout) for f in frames])
    said = np.abs([float(network(f.reshape(1, -1))[0, 0]) for f in frames]) * SHARPEST
    share = lambda rows, word: float(np.mean(found[rows] == word)) if rows.any() else None
    every, turning = np.ones(len(found), bool), said > 1.0
    return {
        "brightness_factor": FACTOR, "brightness_offset": OFFSET, "shift_pixels": SHIFT, "frames": len(found),
        "proven_share": share(every, "proven"), "refuted_share": share(every, "refuted"), "open_share": share(every, "open"),
        "proven_share_where_curvature_above_1": share(turning, "proven"), "frames_where_curvature_above_1": int(turning.sum()),
    }  # fmt: skip
