"""Proof files of compressions: claims about units, and which gate of the smaller network stands for which unit."""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._numerics import write_bytes
from relukit._types import IntArray
from relukit.bounds import Bounds
from relukit.network import Network
from relukit.sets import Box
from relukit.verification.certificate import Certificate, Claim, certify

_HAIR = (
    1e-290  # puts a bound just across 0: the unit counts as undecided; no subnormal, which some processes flush to 0
)


@dataclass(frozen=True, eq=False)
class UnitProof:
    """Units shown to keep their phase in a box: those of the first layer by their sum's extreme, the others by claims."""

    box: Box
    first_off: IntArray
    first_on: IntArray
    certificate: Certificate


def certified(network: Network, box: Box, bounds: Bounds, timeout: float) -> tuple[Bounds, UnitProof]:
    """Claims with their trees for all stable units, and bounds in which units without one are undecided.

    Raises:
        UnsupportedOperation: The network is no chain of dense layers with ReLU.
    """
    chain = network.dense_chain()
    if chain is None or not chain.is_relu or len(chain.activations) != len(network.activations):
        raise UnsupportedOperation("proof files are written for chains of dense layers with ReLU; this network is none. Compress it without --proof.")  # fmt: skip
    stop = time.perf_counter() + timeout
    lower, upper, proven = list(bounds.lower), list(bounds.upper), []
    first = network.activations[0]
    for k, i in enumerate(network.activations[1:], start=1):
        source, width = network.nodes[i].inputs[0], network.nodes[i].size
        lower[source], upper[source] = lower[source].copy(), upper[source].copy()
        for sign, units in ((-1.0, bounds.off(i)), (1.0, bounds.always_on(i))):
            for j in np.flatnonzero(units):
                C = np.zeros((1, width))
                C[0, j] = sign
                left = stop - time.perf_counter()
                found = certify(network, [Claim(box, C, np.zeros(1), layer=k)], left) if left > 0 else None
                if found is not None:
                    proven += found.claims
                elif sign < 0:
                    upper[source][j] = _HAIR
                else:
                    lower[source][j] = -_HAIR
    kept = Bounds(network, tuple(lower), tuple(upper))
    units = (np.flatnonzero(v) for v in (bounds.off(first), bounds.always_on(first)))
    return kept, UnitProof(box, *units, Certificate(tuple(proven), len(network.activations)))


def write_proof(
    path: str | Path, units: UnitProof, kept: np.ndarray, merged: np.ndarray, factors: np.ndarray, original: str | Path, small: str | Path
) -> float:  # fmt: skip
    """Write a proof once the checker accepts it for these two files; returns the bound of their difference.

    Arguments:
        kept: Layer and unit of each gate of the smaller network, in order, shape `(K, 2)`.
        merged: Layer and unit of each unit that is a multiple of a gate, and the gate, shape `(M, 3)`; `factors` the multiples.

    Raises:
        InvalidInput: The checker does not accept it; nothing is written.
    """
    from relukit._numerics import atomic_path
    from relukit.compression._check import check
    from relukit.verification.checker import Rejected

    with atomic_path(path) as temporary:
        named = temporary.with_name(temporary.name + ".npz")
        try:
            units.certificate.save(named)
            with np.load(named) as file:
                arrays = {k: file[k] for k in file.files}
        finally:
            named.unlink(missing_ok=True)
        arrays |= {
            "lower": units.box.lower.astype(float), "upper": units.box.upper.astype(float), "first_off": units.first_off,
            "first_on": units.first_on, "kept": np.asarray(kept, np.int64).reshape(-1, 2),
            "merged": np.asarray(merged, np.int64).reshape(-1, 3), "factors": np.asarray(factors, float), "error_bound": np.array(np.inf),
        }  # fmt: skip
        try:
            _save(temporary, arrays)
            bound = check(str(temporary), str(original), str(small))["error_bound"] * (1 + 1e-9)
            arrays["error_bound"] = np.array(bound)
            _save(temporary, arrays)
            check(str(temporary), str(original), str(small))
        except Rejected as error:
            raise InvalidInput(f"the checker does not accept this proof: {error}. Write both networks as .npz or .onnx of dense layers.") from error  # fmt: skip
    return bound


def _save(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())
