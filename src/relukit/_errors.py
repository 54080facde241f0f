"""Every error relukit raises on purpose.

All derive from `RelukitError` and from the matching builtin, so that both `except RelukitError` and
`except ValueError` work. A message says what was expected, what arrived, where, and what to do next.
"""


class RelukitError(Exception):
    """Base of all errors raised on purpose."""


class InvalidInput(RelukitError, ValueError):
    """An argument, array or table is not what the function needs."""


class ShapeMismatch(InvalidInput):
    """An array has another shape than the network or set asks for."""


class EmptyInterval(InvalidInput):
    """Some lower bound lies above its upper bound."""


class EmptySet(InvalidInput):
    """An input set contains no point."""


class UnboundedSet(InvalidInput):
    """An input set reaches to infinity where a bounded one is needed."""


class UnreadableFile(RelukitError, ValueError):
    """A file is missing, damaged, too large, hostile, or of an unknown format."""


class UnwritablePath(RelukitError, OSError):
    """A result cannot be written where it was asked to be."""


class UnsupportedOperation(RelukitError, NotImplementedError):
    """A network holds an operation that the chosen method cannot treat."""


class MissingExtra(RelukitError, ImportError):
    """An optional library is needed; the message names the extra that brings it."""


class SolverDisagreement(RelukitError, RuntimeError):
    """A solver's answer contradicts an independent bound or a replayed point."""
