"""What compiled walks ask for where float64 cannot hold exact numbers: signs and vertices in whole numbers, from the network's own weights.

So it is where a stage's rows are products that were rounded (leaky units, convolutions, residual connections), and where products leave
the range of float64. Compiled code calls back (see `_ask`); Python's integers have neither rounding nor range.
"""

import ctypes
import signal
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock, current_thread, main_thread
from typing import Any
from weakref import ref

import numpy as np

from relukit._types import Array, IntArray
from relukit.network import Affine, Network
from relukit.network.exact import ExactAffine, ExactForm, ExactHinges, Whole, integers, reduced
from relukit.piecewise import PiecewiseLinear

SIGN, PLACE = range(2)  # what is asked
DEPENDENT, UNKNOWN = 2, 3  # answers beside a sign: the lines do not meet in one point; there was no time
ZERO = 10  # is added to an answer: 0 comes where Python was interrupted before it began, and is no answer
ADDRESS, ALWAYS, STOP = range(3)  # places in `Rational.oracle`
_KEPT = 64  # patterns for which a node's form is kept
_PATIENCE = 60.0  # CPU seconds of one walk after which signs are left to rounded rows, and the result says so
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, *[ctypes.c_void_p] * 5, ctypes.c_int64)


class Rational:
    """Rows of hinges for any pattern, and answers made of them.

    Arguments:
        network: As it stands, with nothing multiplied out.
        start: Inputs as `start @ (p, 1)`, shape (N, D + 1), for coordinates p.
        columns: Powers of two that coordinates, and the constant 1, count in.
        cuts: Rows `(A, -b)` of half-spaces before the hinges, shape (count, D + 1).
    """

    def __init__(self, network: Network, start: Array, columns: IntArray, cuts: Array) -> None:
        self.source, self.dimension = ref(network), start.shape[1] - 1  # forms are kept as long as their networks
        self.start, self.columns, self.cuts, self.lock = start, columns, cuts, Lock()
        self.left, self.error = _PATIENCE, None
        self.forms: list[OrderedDict[int, ExactForm]] = []
        self.steps: dict[int, ExactAffine] = {}
        self.hinges: dict[int, ExactHinges] = {}
        self.first: list[int] = []  # of each node how many hinges lie in nodes before it, and of all
        self.owner: list[tuple[int, int]] = []  # of each hinge its node, and its number there
        self.callback = _PROTOTYPE(self._answer)
        self.oracle = np.array([ctypes.cast(self.callback, ctypes.c_void_p).value or 0, 0, 0], np.int64)

    def _prepare(self, network: Network) -> None:
        for i, node in enumerate(network.nodes):
            self.first.append(len(self.owner))
            if isinstance(node.op, PiecewiseLinear):
                self.hinges[i] = ExactHinges(node.op, node.size)
                self.owner += [(i, k) for k in range(len(self.hinges[i]))]
        self.first.append(len(self.owner))
        self.forms = [OrderedDict() for _ in network.nodes]

    def begin(self) -> None:
        """A new walk: patience is renewed."""
        self.left, self.error, self.oracle[STOP] = _PATIENCE, None, 0

    def run(self, walk: Callable[..., int], *arguments: Any) -> int:
        """Call compiled code that may ask; Ctrl-C waits until it returns, which it does soon once it has been told (`STOP`).

        Raises:
            KeyboardInterrupt: Ctrl-C came meanwhile; all answers were right.
        """
        before = self._hold()
        try:
            why = walk(*arguments)
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
        error, self.error = self.error, None
        if error is not None:
            raise error
        if self.oracle[STOP]:  # stays until the next walk begins, so that other threads stop as well
            raise KeyboardInterrupt
        return why

    def _hold(self) -> Any:
        """Where Python is asked often, an exception in the middle of an answer would lose it: Ctrl-C is only noted."""
        if not self.oracle[ALWAYS] or current_thread() is not main_thread():
            return None
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return None
        return signal.signal(signal.SIGINT, lambda *_: self.oracle.__setitem__(STOP, 1))

    def _answer(self, question: int, labels: int, pattern: int, lower: int, upper: int, out: int, g: int) -> int:
        """What compiled code calls: nothing may be raised here."""
        started = time.thread_time()
        while True:
            try:
                with self.lock:
                    network = self.source()
                    if self.left < 0 or self.error is not None or network is None:
                        return ZERO + UNKNOWN
                    if not self.forms:
                        self._prepare(network)
                    answer = self._exact(network, question, labels, pattern, (lower, upper), out, g)
                    self.left -= time.thread_time() - started
                return ZERO + answer
            except KeyboardInterrupt:  # the answer comes first: what was found so far is to be right
                self.oracle[STOP] = 1
            except BaseException as error:
                self.error = error
                return ZERO + UNKNOWN

    def _exact(self, network: Network, question: int, labels: int, pattern: int, box: tuple[int, int], out: int, g: int) -> int:  # fmt: skip
        D, words, kind = self.dimension, question >> 1, question & 1
        bits = int.from_bytes(ctypes.string_at(pattern, 8 * words), "little") >> len(self.cuts)
        sides = [(ctypes.c_double * D).from_address(a) for a in box]
        lines = [self._row(network, label, bits, sides) for label in (ctypes.c_int64 * D).from_address(labels)]
        if kind == SIGN:
            return sign_at(lines, self._row(network, g, bits, sides))
        return self._place(lines, (ctypes.c_double * D).from_address(out))

    def _place(self, lines: list[list[int]], out: Any) -> int:
        point = meeting_point(lines)
        if point is None:
            return DEPENDENT
        for k, (numerator, denominator) in enumerate(point):
            out[k] = numerator / denominator  # rounded once
        return 1

    def _row(self, network: Network, label: int, bits: int, box: Any) -> list[int]:
        """A hinge, a half-space or a side of the box as D slopes and a constant, up to a positive factor."""
        D = self.dimension
        if label < 0:
            side = -1 - label
            numerator, denominator = float(box[side % 2][side >> 1]).as_integer_ratio()
            return [denominator * int(k == side >> 1) for k in range(D)] + [-numerator]
        if label < len(self.cuts):
            return (integers(self.cuts[label])[0] * self._units()).tolist()
        node, hinge = self.owner[label - len(self.cuts)]
        form = self._form(network, network.nodes[node].inputs[0], bits)
        return self.hinges[node].above(form.matrix[self.hinges[node].unit_of[hinge]], form.exponent, hinge)[0].tolist()

    def _form(self, network: Network, last: int, bits: int) -> ExactForm:
        """A node's values as functions of the coordinates, where the hinges in `bits` are on."""
        key = lambda i: bits & ((1 << self.first[i + 1]) - 1)
        found, needed = {}, {last}
        for i in range(last, -1, -1):  # what is not known, and what that reads
            if i in needed:
                kept = self.forms[i]
                if key(i) in kept:
                    kept.move_to_end(key(i))
                    found[i] = kept[key(i)]
                else:
                    needed.update(network.nodes[i].inputs)
        for i in sorted(needed):
            if i in found:
                continue
            node = network.nodes[i]
            if i == 0:
                found[i] = self._inputs()
            elif isinstance(node.op, Affine):
                if i not in self.steps:
                    self.steps[i] = ExactAffine(node.op)
                found[i] = self.steps[i]([found[j] for j in node.inputs])
            else:
                many = len(self.hinges[i])
                on = np.array([bits >> self.first[i] + k & 1 for k in range(many)], bool)
                found[i] = self.hinges[i](found[node.inputs[0]], on)
            self.forms[i][key(i)] = found[i]
            if len(self.forms[i]) > _KEPT:
                self.forms[i].popitem(last=False)
        return found[last]

    def _inputs(self) -> ExactForm:
        whole, exponent = integers(self.start)
        return ExactForm(*reduced(whole * self._units(), exponent + int(self.columns.min())))

    def _units(self) -> Whole:
        """What coordinates and the constant count in, as whole numbers of the smallest of these powers of two."""
        return np.array([1 << int(c - self.columns.min()) for c in self.columns], object)


def sign_at(lines: list[list[int]], row: list[int]) -> int:
    """Sign of an affine function where D others vanish; `DEPENDENT` where these do not meet in one point."""
    base = determinant([line[:-1] for line in lines])
    if base == 0:
        return DEPENDENT
    whole = determinant([*lines, row])
    return 0 if whole == 0 else (1 if (whole > 0) == (base > 0) else -1)


def meeting_point(lines: list[list[int]]) -> list[tuple[int, int]] | None:
    """Where D affine functions vanish together, as quotients of integers (Cramer's rule)."""
    D, base = len(lines), determinant([line[:-1] for line in lines])
    if base == 0:
        return None
    swapped = lambda k: determinant([[-line[D] if c == k else line[c] for c in range(D)] for line in lines])
    return [(swapped(k), base) for k in range(D)]


def determinant(rows: list[list[int]]) -> int:
    """By Bareiss's elimination, in which all quotients are whole.

    References:
        Sylvester's identity and multistep integer-preserving Gaussian elimination, Bareiss, 1968.
    """
    rows, sign, before = [list(row) for row in rows], 1, 1
    n = len(rows)
    for k in range(n - 1):
        pivot = next((i for i in range(k, n) if rows[i][k]), None)
        if pivot is None:
            return 0
        if pivot != k:
            rows[k], rows[pivot], sign = rows[pivot], rows[k], -sign
        top = rows[k]
        for i in range(k + 1, n):
            row, factor = rows[i], rows[i][k]
            rows[i] = [0] * (k + 1) + [(row[j] * top[k] - factor * top[j]) // before for j in range(k + 1, n)]
        before = top[k]
    return sign * rows[-1][-1] if n else 1
