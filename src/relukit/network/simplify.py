"""Affine nodes in a row become one where that costs no more; what nobody reads goes."""

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit.network._nodes import Affine, Node
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse
from relukit.piecewise import PiecewiseLinear


def reachable(nodes: list[Node], output: int) -> list[Node]:
    """Only what `output` depends on, renumbered, the input first and `output` last."""
    needed, stack = {0}, [output]
    while stack:
        i = stack.pop()
        if i not in needed:
            needed.add(i)
            stack.extend(nodes[i].inputs)
    if output == 0:
        raise UnsupportedOperation("the network returns its input unchanged: there is nothing to analyze")
    order = sorted(needed)
    number = {i: k for k, i in enumerate(order)}
    return [
        Node(n.op, tuple(number[j] for j in n.inputs), n.shape, n.name, n.source) for n in (nodes[i] for i in order)
    ]


def simplify(nodes: list[Node]) -> list[Node]:
    """Merge affine nodes that follow each other where the merged map costs no more; drop identities."""
    readers = [0] * len(nodes)
    for node in nodes:
        for j in node.inputs:
            readers[j] += 1
    kept: list[Node] = []
    reads: list[int] = []  # how many nodes still read each kept node
    where: dict[int, int] = {}
    # Sums that are squared stay as they were written: `bounds.balanced` scales their two parts.
    squared = {n.inputs[0] for n in nodes if getattr(n.op, "name", "") == "square"}
    for i, node in enumerate(nodes):
        op, inputs, is_last = node.op, tuple(where[j] for j in node.inputs), i == len(nodes) - 1
        alias = isinstance(op, PiecewiseLinear) and op.is_identity
        if isinstance(op, Affine) and not (i in squared and len(op.maps) == 2):
            op, inputs = _merge_inputs(op, inputs, kept, reads)
            alias = len(inputs) == 1 and isinstance(op.maps[0], Identity) and not np.any(op.bias)
        if alias and (not is_last or kept[inputs[0]].shape == node.shape):
            where[i] = inputs[0]
            reads[inputs[0]] += readers[i] - 1
            continue
        kept.append(Node(op, inputs, node.shape, node.name, node.source))
        reads.append(readers[i])
        where[i] = len(kept) - 1
    return reachable(kept, where[len(nodes) - 1])


def _merge_inputs(
    op: Affine, inputs: tuple[int, ...], kept: list[Node], reads: list[int]
) -> tuple[Affine, tuple[int, ...]]:
    """Pull affine nodes that nobody else reads (or that cost nothing) into the node that reads them."""
    maps, sources, bias = list(op.maps), list(inputs), op.bias
    for k in range(len(maps)):
        while isinstance(before := kept[sources[k]].op, Affine):
            free = all(isinstance(m, Gather | Identity) for m in before.maps)
            if reads[sources[k]] > 1 and not free:
                break
            if len(before.maps) > 1:
                if len(maps) > 1 or not isinstance(maps[0], Identity):
                    break
                _release(sources[0], kept, reads)
                return Affine(before.maps, before.bias + bias), kept[sources[0]].inputs
            merged = _compose(maps[k], before.maps[0])
            if merged is None:
                break
            bias = bias + maps[k].apply(before.bias)
            _release(sources[k], kept, reads)
            maps[k], sources[k] = merged, kept[sources[k]].inputs[0]
    return Affine(tuple(maps), bias), tuple(sources)


def _release(index: int, kept: list[Node], reads: list[int]) -> None:
    """One reader of `index` now reads its inputs instead; where none is left, their count stays."""
    reads[index] -= 1
    if reads[index]:
        for j in kept[index].inputs:
            reads[j] += 1


def _compose(outer: AbstractLinear, inner: AbstractLinear) -> AbstractLinear | None:
    """One map equal to `outer` after `inner` where that costs nothing; None where the two are better kept apart."""
    if isinstance(inner, Identity):
        return outer
    if isinstance(outer, Identity):
        return inner
    if isinstance(outer, Gather) and isinstance(inner, Gather):
        return Gather(np.where(outer.index >= 0, inner.index[outer.index], -1), inner.in_size)
    if isinstance(outer, Scale) and isinstance(inner, Scale):
        return Scale(outer.diagonal * inner.diagonal)
    if isinstance(outer, Dense) and isinstance(inner, Scale):
        return Dense(outer.W * inner.diagonal)
    if isinstance(outer, Dense) and isinstance(inner, Gather):
        return Dense(inner.adjoint(outer.W))
    if isinstance(outer, Scale) and isinstance(inner, Dense):
        return Dense(outer.diagonal[:, None] * inner.W)
    if isinstance(outer, Gather) and isinstance(inner, Dense) and outer.out_size <= inner.out_size:
        return Dense(outer.apply(inner.W.T).T)
    if isinstance(outer, Scale) and isinstance(inner, Sparse):
        import scipy.sparse

        return Sparse((scipy.sparse.diags(outer.diagonal) @ inner.W).tocsr())
    if isinstance(outer, Scale) and isinstance(inner, Conv):
        per_channel = outer.diagonal.reshape(inner.out_shape[0], -1)
        if np.all(per_channel == per_channel[:, :1]):
            kernel = inner.kernel * per_channel[:, 0][:, None, None, None]
            return Conv(kernel, inner.in_shape, inner.stride, inner.padding, inner.dilation, inner.groups)
    return None
