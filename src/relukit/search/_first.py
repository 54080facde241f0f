"""Before the first search after an installation its loops are compiled: half a minute that no question's time limit should pay."""

import os
from pathlib import Path

import numpy as np

HINT = "the search's loops are compiled at their first use, which takes half a minute; `relukit doctor --compile` does it beforehand"


def is_compiled() -> bool:
    """Whether compiled loops lie beside the sources or in `NUMBA_CACHE_DIR`; Numba itself is not loaded."""
    kept = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(__file__).parent / "__pycache__"] if kept is None else Path(kept).glob("search_*")
    return any(next(p.glob("_few_kernel.run-*.nbi"), None) is not None for p in places)


def compile_loops() -> None:
    """Asks one small question that splits inputs; what is compiled for it is kept on disk, where there is room for it."""
    from relukit.activations import get
    from relukit.network import from_layers
    from relukit.search._few import decide
    from relukit.sets import Box

    generator = np.random.default_rng(0)
    weights = [generator.standard_normal(shape) for shape in ((12, 3), (12, 12), (1, 12))]
    network = from_layers(weights, [np.zeros(len(W)) for W in weights], [get("relu")] * 2)
    box = Box(-np.full(3, 0.5), np.full(3, 0.5))
    above = float(network(box.sample(2000, seed=0)).max()) + 0.1
    decide(network, box, np.array([[-1.0]]), np.array([above]), lambda points: None, timeout=300.0)
