"""Before the first search after an installation its loops are compiled: half a minute that no question's time limit should pay."""

import os
import time
from pathlib import Path

import numpy as np

HINT = "the search's loops are compiled at their first use, which takes half a minute; `relukit doctor --compile` does it beforehand"


def is_compiled() -> bool:
    """Whether compiled loops lie beside the sources or in `NUMBA_CACHE_DIR`, none older than a source; Numba itself is not loaded."""
    kept = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(__file__).parent / "__pycache__"] if kept is None else Path(kept).glob("search_*")
    newest = max(p.stat().st_mtime for p in Path(__file__).parent.glob("*.py"))
    return any(f.stat().st_mtime >= newest for p in places for f in p.glob("_few_kernel.run-*.nbi"))


def compile_loops() -> None:
    """Asks one small question that splits inputs; what is compiled for it is kept on disk, where there is room for it."""
    from relukit.activations import get
    from relukit.bounds import compact
    from relukit.network import from_layers
    from relukit.search._few import decide
    from relukit.search._propagate import split_by_propagation
    from relukit.sets import Box

    generator = np.random.default_rng(0)
    weights = [generator.standard_normal(shape) for shape in ((12, 3), (12, 12), (1, 12))]
    network = from_layers(weights, [np.zeros(len(W)) for W in weights], [get("relu")] * 2)
    box = Box(-np.full(3, 0.5), np.full(3, 0.5))
    above = float(network(box.sample(2000, seed=0)).max()) + 0.1
    decide(network, box, np.array([[-1.0]]), np.array([above]), lambda points: None, timeout=300.0)
    split_by_propagation(compact(network, box), np.zeros(1, np.int64), lambda points: None, time.perf_counter() + 300.0)
