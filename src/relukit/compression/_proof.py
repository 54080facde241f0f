"""Proof files of compressions: the domain, claims about units, and which gate of the smaller network stands for which unit."""

import io
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._numerics import write_bytes
from relukit._types import Array, IntArray
from relukit.bounds import Bounds
from relukit.bounds._relu_form import numbered_relu_form
from relukit.network import Network
from relukit.piecewise import PiecewiseLinear
from relukit.sets import AbstractSet, Ball, Box, Polytope
from relukit.verification.certificate import Certificate, Claim, certify


@dataclass(frozen=True, eq=False)
class Domain:
    """Boxes `(count, n)`, and rows `A x <= a` or an l1 or l2 ball that hold in all of them."""

    lower: Array
    upper: Array
    A: Array
    a: Array
    ball: Ball | None = None

    @staticmethod
    def of(domain: AbstractSet, cover: Box | None) -> "Domain":
        """The domain of a proof.

        Raises:
            InvalidInput: A batch of sets.
        """
        if cover is not None:
            return Domain(cover.lower, cover.upper, np.zeros((0, cover.size)), np.zeros(0))
        if isinstance(domain, Polytope):
            return Domain(domain.within.lower[None], domain.within.upper[None], domain.A, domain.b)
        if isinstance(domain, Box) and not domain.batch:
            return Domain(domain.lower[None], domain.upper[None], np.zeros((0, domain.size)), np.zeros(0))
        if isinstance(domain, Ball) and not domain.batch:
            box = domain.box()
            round_ = None if domain.norm == np.inf else domain
            return Domain(box.lower[None], box.upper[None], np.zeros((0, box.size)), np.zeros(0), round_)
        raise InvalidInput(f"proof files cover one box, ball or polytope, or data with a margin, got {type(domain).__name__}")  # fmt: skip

    def arrays(self) -> dict[str, Array]:
        wide = lambda v: np.asarray(v, np.float64)
        found: dict[str, Array] = {
            "lower": wide(self.lower),
            "upper": wide(self.upper),
            "rows": wide(self.A),
            "sides": wide(self.a),
        }
        if self.ball is not None:
            found |= {"center": wide(self.ball.middle), "radius": wide(self.ball.radius), "norm": np.array(int(self.ball.norm))}  # fmt: skip
        return found

    def hull(self) -> Box:
        return Box(self.lower.min(axis=0).astype(float), self.upper.max(axis=0).astype(float))


@dataclass(frozen=True, eq=False)
class Record:
    """What a proof says about units.

    Arguments:
        gates: Layer and unit for each gate of the smaller network, (-1, -1) for gates that stand for none; then units that cancel.
        real: How many of them the smaller network has.
        merged: `(layer, unit, gate, factor)` of units that are a multiple of a gate.
        lines: `(layer, unit, slope, offset)` of units that count as a line of their sum.
    """

    domain: Domain
    certificate: Certificate
    gates: IntArray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    real: int = 0
    merged: list[tuple[int, int, int, float]] = field(default_factory=list)
    lines: list[tuple[int, int, float, float]] = field(default_factory=list)


def relu_only(network: Network) -> tuple[Network, dict[int, int]]:
    """The network with ReLUs for all kinks, as the checker reads it, and which of its nodes has the value of which node here.

    Raises:
        UnsupportedOperation: An activation has slopes that ReLUs give only up to rounding.
    """
    found = numbered_relu_form(network)
    if found is None:
        raise UnsupportedOperation(
            "proof files need slopes whose differences float64 holds exactly, as those of ONNX files are (float32): save the network as ONNX and "
            "load that file, or compress without proof."
        )
    return found


def stable(network: Network, target: Network, numbers: dict[int, int], bounds: Bounds) -> tuple[int, int]:
    """How many units of `network` are constant and how many always on, by bounds of its form with ReLUs."""
    lower, upper = ({i: side[k] for i, k in numbers.items()} for side in (bounds.lower, bounds.upper))
    own = Bounds(network, tuple(lower[i] for i in range(len(network))), tuple(upper[i] for i in range(len(network))))
    waiting, dead, on = list(target.activations), 0, 0
    for i in network.activations:
        op = network.nodes[i].op
        assert isinstance(op, PiecewiseLinear)
        gates = [waiting.pop(0) for _ in range(1 if op.is_relu else len(op.knots))]
        decided = ~np.any([bounds.undecided(k) for k in gates], axis=0)
        dead += int((decided & own.off(i)).sum())
        on += int((decided & ~own.off(i)).sum())
    return dead, on


def confirmed(network: Network, domain: Domain, bounds: Bounds, timeout: float, alone: bool = False) -> tuple[Bounds, Record]:  # fmt: skip
    """Bounds in which only those units are stable that the checker can follow, with trees for what it cannot bound by itself.

    Arguments:
        alone: Take what the checker knows and nothing else, so that a loss given up for lines is what the checker will find.

    Raises:
        UnsupportedOperation: An activation is no ReLU, or the checker reads the network otherwise.
    """
    from relukit.compression._check import bounds_of
    from relukit.verification.checker import Rejected

    chain = network.dense_chain()
    try:
        nodes = _as_the_checker_reads(network, chain is not None and chain.is_relu)
        relus = [node for node in nodes if node.is_relu]
        if [node.size for node in relus] != [network.nodes[i].size for i in network.activations]:
            raise Rejected("its ReLUs are not those of the network")
        sources = [network.nodes[i].inputs[0] for i in network.activations]
        open_ = lambda s: (bounds.lower[s] < 0) & (bounds.upper[s] > 0)
        wanted = {node.sources[0]: ~open_(s) for node, s in zip(relus, sources)}
        arrays = domain.arrays()
        plain = ends = bounds_of(nodes, arrays, wanted, {})
        certificate, known = Certificate((), len(relus)), {}
        if chain is not None and chain.is_relu and len(chain.activations) == len(relus):
            missing = [
                (k, j, side) for k, (s, (L, H)) in enumerate(zip(sources, ends)) if k
                for side, units in ((-1.0, (bounds.upper[s] <= 0) & (H > 0)), (1.0, (bounds.lower[s] >= 0) & (L < 0)))
                for j in np.flatnonzero(units).tolist()
            ]  # fmt: skip
            certificate = _trees(network, domain.hull(), missing, timeout, nodes, len(relus))
            known = _shown(certificate, nodes, relus)
            ends = bounds_of(nodes, arrays, wanted, known) if known else ends
    except Rejected as error:
        raise UnsupportedOperation(f"proof files are written for dense layers, convolutions and poolings with ReLU, leaky ReLU, clipping and maxima, sums and concatenations of them: {error}. Compress without --proof.") from error  # fmt: skip
    lower, upper = list(bounds.lower), list(bounds.upper)
    for s, (L, H) in zip(sources, ends):
        low, high = (L, H) if alone else (np.maximum(lower[s], L), np.minimum(upper[s], H))
        follows = ((low >= 0) == (L >= 0)) & ((high <= 0) == (H <= 0))
        lower[s], upper[s] = np.where(follows, low, L), np.where(follows, high, H)
    for i, (L, H) in zip(
        network.activations, plain
    ):  # folding shifts by these: what the checker sees in the smaller network, where no tree helps
        lower[i], upper[i] = L, np.maximum(H, 0)
    return Bounds(network, tuple(lower), tuple(upper)), Record(domain, certificate)


def _as_the_checker_reads(network: Network, is_chain: bool) -> list[Any]:
    from relukit.compression._check_network import read
    from relukit.network.arrays import write_npz

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("net.npz" if is_chain else "net.onnx")
        if is_chain:
            write_npz(network, path)
        else:
            from relukit.network.onnx_write import to_onnx

            path.write_bytes(to_onnx(network).SerializeToString())
        return read(str(path))


def _trees(network: Network, box: Box, missing: list[tuple[int, int, float]], timeout: float, nodes: list[Any], layers: int) -> Certificate:  # fmt: skip
    """Claims with trees for the units that need them, as far as the time allows and the checker follows."""
    from relukit.compression._check import layers_of
    from relukit.verification.checker import Bounder

    stop, proven = time.perf_counter() + timeout, []
    net = Bounder(layers_of(nodes)) if missing else None
    for count, (k, j, side) in enumerate(missing):
        left = stop - time.perf_counter()
        if left <= 0:
            break
        left = min(left, 3 * left / (len(missing) - count))  # one that is hard leaves time for the others
        C = np.zeros((1, network.nodes[network.activations[k]].size))
        C[0, j] = side
        found = certify(network, [Claim(box, C, np.zeros(1), layer=k)], left)
        proven += [] if found is None or not _followed(found, net) else list(found.claims)
    return Certificate(tuple(proven), layers)


def _followed(certificate: Certificate, net: Any) -> bool:
    """Whether the checker accepts the claims; where values tie, its other arithmetic may be a hair short at a leaf."""
    from relukit.verification.checker import Rejected, check_claim, read_claims

    with tempfile.TemporaryDirectory() as folder:
        certificate.save(Path(folder) / "claims.npz")
        try:
            for claim in read_claims(str(Path(folder) / "claims.npz"), net):
                check_claim(net, claim)
        except Rejected:
            return False
    return True


def _shown(certificate: Certificate, nodes: list[Any], relus: list[Any]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for claim in certificate.claims:
        assert claim.layer is not None
        source = relus[claim.layer].sources[0]
        L, H = found.setdefault(source, (np.full(nodes[source].size, -np.inf), np.full(nodes[source].size, np.inf)))
        j = int(np.argmax(np.abs(claim.C[0])))
        (H if claim.C[0, j] < 0 else L)[j] = 0.0
    return found


def write_proof(path: str | Path, record: Record, original: str | Path, small: str | Path, allowed: float = np.inf) -> float:  # fmt: skip
    """Write a proof once the checker accepts it for these two files; returns the bound of their difference.

    Raises:
        InvalidInput: The checker does not accept it, or only with a difference above `allowed`; nothing is written.
    """
    from relukit._numerics import atomic_path
    from relukit.compression._check import check
    from relukit.verification.checker import Rejected

    with atomic_path(path) as temporary:
        named = temporary.with_name(temporary.name + ".npz")
        try:
            record.certificate.save(named)
            with np.load(named) as file:
                arrays = {k: file[k] for k in file.files if k != "seal"}  # of the trees alone
        finally:
            named.unlink(missing_ok=True)
        table = lambda rows, width, kind: np.array(rows, kind).reshape(-1, width)
        arrays |= record.domain.arrays() | {
            "gates": record.gates, "real_gates": np.array(record.real), "error_bound": np.array(np.inf),
            "merged": table([m[:3] for m in record.merged], 3, np.int64), "factors": np.array([m[3] for m in record.merged], float),
            "lines": table([m[:2] for m in record.lines], 2, np.int64), "line_values": table([m[2:] for m in record.lines], 2, float),
        }  # fmt: skip
        try:
            _save(temporary, arrays)
            bound = check(str(temporary), str(original), str(small))["error_bound"] * (1 + 1e-9)
        except Rejected as error:
            raise InvalidInput(f"the checker does not accept this proof: {error}. It reads .npz and .onnx files of dense layers, convolutions and poolings with ReLU, leaky ReLU, clipping and maxima.") from error  # fmt: skip
        if bound > allowed:
            raise InvalidInput(f"the checker shows the two files equal within {bound:.3g} only, where rounding explains {allowed:.3g}: was the smaller one made from this original?")  # fmt: skip
        arrays["error_bound"] = np.array(bound)
        _save(temporary, arrays)
    return bound


def _save(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())
