"""How far a float execution of a network can be from the network in real arithmetic, over a box."""

from pathlib import Path

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array
from relukit.network import Network
from relukit.sets import Box
from relukit.verification import checker


def execution_error(network: Network, box: Box, kind: str) -> Array:
    r"""For each output the largest difference between executing the file in `kind` and real arithmetic, over the box.

    A layer of n products in any summation order, fused or not, errs by at most :math:`\gamma_{n+1} (|W| |h| + |b|)` and
    passes on :math:`|W| e` of what it is given (:math:`\gamma_n = n u / (1 - n u)` with u of the executed type); ReLU passes errors on and adds
    none. The layers are the file's own, none of them multiplied out, since folding would change what is executed. Underflow adds
    n times the smallest number.

    Raises:
        UnsupportedOperation: The file holds something that the independent reader does not take.

    References:
        Accuracy and Stability of Numerical Algorithms, N. J. Higham, 2002, chapter 3.
    """
    if network.origin.path is None or Path(network.origin.path).suffixes[-1:] not in ([".onnx"], [".npz"], [".gz"]):
        raise UnsupportedOperation(
            f"a proof about the {kind} execution needs the file (.onnx or .npz) that is executed; this network was made in memory. Ask about real arithmetic."
        )
    try:
        layers = checker.read_network(str(network.origin.path))
    except checker.Rejected as error:
        raise UnsupportedOperation(
            f"a proof about the {kind} execution needs a file that the independent reader takes: {error}. Ask about real arithmetic (type real)."
        ) from error
    u, smallest = float(np.finfo(kind).eps) / 2, float(np.finfo(kind).tiny)
    bounder = checker.Bounder(layers)
    bounds = bounder.interval(box.lower, box.upper)
    size = bounder.sizes(bounds, box.lower, box.upper)
    pairs = [(L[None], U[None]) for L, U in bounds]
    lo, hi, last, n = box.lower[None], box.upper[None], len(layers) - 1, box.size
    nothing = np.zeros((0, len(bounds[last][0]))), np.zeros((0, n)), np.zeros(0)
    folded = bounder.fold(last, nothing, pairs[:last], np.maximum(abs(box.lower), abs(box.upper)), size, ())
    bounder.refresh(folded, pairs[:last], lo, hi, np.zeros((1, n + 1)), np.ones(1, bool))
    error, reach = np.zeros(box.size), np.maximum(np.abs(box.lower), np.abs(box.upper))
    for (W, b, relu), (low, high) in zip(layers, pairs):
        n = W.shape[1] + 2
        gamma = n * u / (1 - n * u)
        A = np.abs(W)
        error = 1.0001 * (A @ error + gamma * (A @ (reach + error) + np.abs(b)) + n * smallest)
        reach = np.maximum(np.abs(low[0]), np.abs(high[0]))
        reach = np.where(relu, np.maximum(high[0], 0.0), reach)
        # A unit that stays off by more than its error is exactly 0 in both.
        error = np.where(relu & (high[0] + error < 0), 0.0, error)
    if not np.all(np.isfinite(error)):
        raise UnsupportedOperation(
            f"the network can overflow in {kind} on this box; ask about a smaller one, or about real arithmetic"
        )
    return error
