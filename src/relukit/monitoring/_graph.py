"""Layers that follow each other in the graph of a loss with nothing between them: as many do no more than one."""

from typing import Any

_MATRIX = ("AddmmBackward", "MmBackward", "LinearBackward")
_SHAPES = {
    "View", "UnsafeView", "Reshape", "ReshapeAlias", "Transpose", "Permute", "Squeeze", "Unsqueeze", "Clone", "Alias", "T", "Expand", "ToCopy",
}  # fmt: skip
_NODES = 400  # of the graph that are looked at, once


def straight_pairs(loss: Any) -> list[tuple[Any, Any]]:
    """Weights of linear layers that take another linear layer's output as it is, with that layer's weights.

    Counted only where the layer between is at least as wide as one of its ends: a narrower one makes a matrix of lower rank, which may
    be meant.
    """
    found, seen, queue = [], set(), [getattr(loss, "grad_fn", None)]
    while queue and len(seen) < _NODES:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        queue.extend(parent for parent, _ in node.next_functions)
        after = _weight(node)
        if after is None:
            continue
        before = _weight(_through(after[1]))
        if before is not None and _pointless(before, after):
            found.append((before[0].variable, after[0].variable))
    return found


def _weight(node: Any) -> tuple[Any, Any, bool] | None:
    """Of a product with a parameter: the parameter's node, the other factor's node, and whether it is taken transposed."""
    if node is None or not type(node).__name__.startswith(_MATRIX):
        return None
    parents = [parent for parent, _ in node.next_functions][-2:]
    if len(parents) < 2 or None in parents:
        return None
    weight, turned = parents[1], False
    if type(weight).__name__.startswith(("TBackward", "TransposeBackward", "PermuteBackward")):
        weight, turned = weight.next_functions[0][0], True
    return (weight, parents[0], turned) if hasattr(weight, "variable") else None


def _through(node: Any) -> Any:
    """The node behind changes of shape and behind a bias that is added."""
    while node is not None:
        name = type(node).__name__.partition("Backward")[0]
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if name == "Add":  # of a product and a parameter
            parents = [p for p in parents if not hasattr(p, "variable")]
        elif name not in _SHAPES:
            return node
        if len(parents) != 1:
            return None
        node = parents[0]
    return None


def _pointless(before: tuple[Any, Any, bool], after: tuple[Any, Any, bool]) -> bool:
    (first, _, a), (second, _, b) = before, after
    inputs, width = first.variable.shape[::-1] if a else first.variable.shape
    outputs = second.variable.shape[0 if b else 1]
    return width >= min(inputs, outputs)
