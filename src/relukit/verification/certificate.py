"""Certificates: claims about a network with proof trees, in one `.npz` file that `relukit check` follows by itself."""

import hashlib
import io
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import ShapeMismatch, UnsupportedOperation
from relukit._numerics import write_bytes
from relukit._shown import Shown
from relukit._types import Array
from relukit.network import Network
from relukit.sets import Box
from relukit.verification._carried import carried_chain
from relukit.verification._certify import Certifier, Tree

_NODES = 3_000_000
_SEAL = 64  # characters of the hash that a file ends with


@dataclass(frozen=True, eq=False)
class Claim:
    r"""Everywhere in a box, the largest row :math:`C z + D x + d` is above 0.

    Arguments:
        box: Inputs x, n entries.
        C, d: Shapes `(R, width)`, `(R,)`.
        D: Shape `(R, n)`; zero by default.
        layer: z is what ReLU layer number `layer` reads; None means the outputs.
        tree: Its proof.
    """

    box: Box
    C: Array
    d: Array
    D: Array | None = None
    layer: int | None = None
    tree: Tree | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Certificate(Shown):
    """Claims with their proofs.

    Example:
        >>> verdict = relukit.verify("net.onnx", "property.vnnlib", certificate=True)
        >>> verdict.certificate.save("proof.npz")
    """

    claims: tuple[Claim, ...]
    relus: int

    @property
    def nodes(self) -> int:
        return sum(len(c.tree.split) for c in self.claims if c.tree is not None)

    @property
    def leaves(self) -> int:
        return sum(int(np.sum(c.tree.split < 0)) for c in self.claims if c.tree is not None)

    def save(self, path: str | Path) -> Path:
        """Write the certificate as `.npz`, completely or not at all."""
        arrays: dict[str, Any] = {"claims": np.array(len(self.claims))}
        for i, c in enumerate(self.claims):
            assert c.tree is not None
            t, n = c.tree, c.box.size
            arrays |= {
                f"{i}_layer": np.array([self.relus if c.layer is None else c.layer]), f"{i}_lower": c.box.lower, f"{i}_upper": c.box.upper,
                f"{i}_C": c.C, f"{i}_D": np.zeros((len(c.d), n)) if c.D is None else c.D, f"{i}_d": c.d, f"{i}_split": t.split, f"{i}_value": t.value,
                f"{i}_fresh": t.fresh, f"{i}_child": t.child, f"{i}_row": t.row, f"{i}_weights": t.weights.reshape(-1, len(c.d)),
                f"{i}_beta_row": np.array([b[0] for b in t.beta], np.int64), f"{i}_beta_gate": np.array([b[1] for b in t.beta], np.int64),
                f"{i}_beta": np.array([b[2] for b in t.beta], float),
            }  # fmt: skip
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays, seal=np.array(1))  # "seal" says that the file ends with one
        with zipfile.ZipFile(buffer, "a") as file:
            file.comment = b"0" * _SEAL
        body = buffer.getvalue()[:-_SEAL]  # the hash of every byte before it: any change in the file shows
        return write_bytes(path, body + hashlib.sha256(body).hexdigest().encode())

    def to_dict(self) -> dict[str, Any]:
        return {"claims": len(self.claims), "nodes": self.nodes, "leaves": self.leaves}


def certify(network: Network, claims: list[Claim], timeout: float = 60.0, nodes: int = _NODES) -> Certificate | None:
    """Prove claims about a network of dense layers, convolutions and sums with ReLU; None where one of them could not be proven in time.

    Each claim is proven by itself, from the weights. What comes back is not trusted by anyone: `relukit check` follows
    the trees with its own arithmetic.

    Arguments:
        network: Dense layers (what folds into one included) or convolutions with ReLU between them, and branches that are added.
        claims: What is to be proven; for `-z_j > 0` ("unit j of layer k is never on") give
            `Claim(box, -np.eye(width)[[j]], np.zeros(1), layer=k)`.
        timeout: Seconds of wall time for all claims together.

    Raises:
        UnsupportedOperation: Another activation, or a network that is too large.
        ShapeMismatch: A claim's rows have another width than the values they are about.
    """
    chain = carried_chain(network)
    if chain is None:
        raise UnsupportedOperation(
            "certificates are written for networks of dense layers, convolutions and sums with ReLU whose matrices have at most "
            "50 million entries; this network has another activation, or is larger"
        )
    stop, relus, proven = time.perf_counter() + timeout, len(chain.relu) - 1, []
    for claim in claims:
        k = relus if claim.layer is None else claim.layer
        C, d = np.atleast_2d(np.asarray(claim.C, float)), np.atleast_1d(np.asarray(claim.d, float))
        D = np.zeros((len(d), claim.box.size)) if claim.D is None else np.atleast_2d(np.asarray(claim.D, float))
        if not 0 <= k <= relus or C.shape != (len(d), len(chain.biases[k])) or D.shape != (len(d), network.inputs):
            raise ShapeMismatch(
                f"a claim about layer {k} needs rows over {len(chain.biases[min(k, relus)])} values and {network.inputs} inputs, got C {C.shape}, D {D.shape}, d {d.shape}"
            )
        A, rest = C @ chain.weights[k], C @ chain.biases[k] + d
        if k == 0:  # rows over x alone
            A, D_all = np.zeros_like(A), D + A
        else:
            D_all = D
        tree = Certifier(chain.weights[:k], chain.biases[:k], A, D_all, rest, chain.relu[:k]).prove(
            claim.box.lower, claim.box.upper, stop, nodes
        )
        if tree is None:
            return None
        proven.append(Claim(claim.box, C, d, D, claim.layer, tree))
    return Certificate(tuple(proven), relus)
