"""What every input set offers."""

import abc
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array, BoolArray

if TYPE_CHECKING:
    from relukit.sets._box import Box


class Rows(NamedTuple):
    """Linear constraints `A x <= b`: `A` of shape `(m, n)`, `b` of shape `(m,)`."""

    A: Array
    b: Array


def require_set(value: Any, name: str) -> None:
    """Refuse what is no set: a pair could be (lower, upper) or a range of each of two inputs.

    Raises:
        InvalidInput: With what to write instead.
    """
    if not isinstance(value, AbstractSet):
        raise InvalidInput(
            f"{name} is a Box, a Ball or a Polytope, got {type(value).__name__}: write relukit.Box(lower, upper)"
        )


class AbstractSet(abc.ABC):
    """A non-empty bounded convex set of inputs, or a batch of such sets of one kind (`batch` is its leading shape)."""

    @property
    @abc.abstractmethod
    def batch(self) -> tuple[int, ...]:
        """Leading shape: `()` for one set."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of inputs n."""

    @abc.abstractmethod
    def box(self) -> "Box":
        """The smallest box around the set."""

    @abc.abstractmethod
    def support(self, directions: Array) -> Array:
        r"""Upper bound of :math:`\max_{x \in S} d \cdot x`, rounded outward; equal to it up to rounding.

        Arguments:
            directions: Shape `(*batch, rows, n)`.

        Returns:
            Shape `(*batch, rows)`.
        """

    @abc.abstractmethod
    def rows(self) -> Rows:
        """Linear constraints of one set, without those of its box.

        Raises:
            UnsupportedOperation: The set is not a polytope (an l2 ball).
        """

    @abc.abstractmethod
    def sample(self, count: int, seed: int | np.random.Generator = 0) -> Array:
        """Points of one set, shape `(count, n)`; spread over it, not exactly uniform for polytopes."""

    @abc.abstractmethod
    def contains(self, x: Array) -> BoolArray:
        """Whether each row of `x`, shape `(..., n)`, lies in the set, without tolerance."""

    @abc.abstractmethod
    def project(self, x: Array) -> Array:
        """A nearest point of the set (l2) for each row of `x`."""

    @abc.abstractmethod
    def center(self) -> Array:
        """A point well inside, shape `(*batch, n)`."""

    def __contains__(self, x: Any) -> bool:
        """`x in set`: for a point whether it lies inside; variables of a network remember the set for `relukit.verify`."""
        return x.member(self) if hasattr(x, "member") else bool(self.contains(np.asarray(x)))
