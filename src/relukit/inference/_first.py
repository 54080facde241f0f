"""Compiling all loops at once, so that no later command waits for one."""

import numpy as np


def compile_loops() -> None:
    """Runs each compiled form on a layer of a few units; what is compiled for it is kept on disk, where there is room for it."""
    from relukit.activations import get
    from relukit.inference._chain import evaluate, flatten
    from relukit.inference._layers import Layer

    W, b, x = np.ones((16, 16), np.float32), np.zeros(16, np.float32), np.ones((1, 16), np.float32)
    hidden, last = Layer(W, b, get("relu"), True), Layer(W, b, None, True)
    for engine in hidden.engines:
        hidden.run(x, engine)
    hidden.run(x, "rows", active=np.arange(2))
    flat = flatten([hidden, last])
    assert flat is not None
    evaluate(*flat, x, np.empty_like(x))
