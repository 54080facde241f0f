"""Several threads walk through one domain: its first hinges cut it into parts, and each thread takes parts that lie one after the other.

The first hinges of the first stage come first in every walk, so that the parts, in order, hold the pieces in the order in which one thread finds
them, and edges are cut in the same order on both of their sides, whoever cuts them. Each thread keeps its own vertices. One is named by the two
vertices of the edge that it cuts: a vertex of one list is looked up in another by the names there of these two, and where one of them is missing, so is the vertex.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from relukit._numba import njit
from relukit.geometry._bits import nth
from relukit.geometry._clip import AFTER, HEAD, OTHER, known_cut, remember_cut
from relukit.geometry._enumerate import longer
from relukit.geometry._form import Form, pack
from relukit.geometry._stages import Stage

# A thread takes a fourth of the parts that are left between it and the next, and no less than a fortieth of all: few calls, and threads end together.
_SHARE, _LEAST = 4, 40
_POOLS: dict[int, ThreadPoolExecutor] = {}
_HEADS: WeakKeyDictionary[Form, dict[int, Form]] = WeakKeyDictionary()  # of each form its first hinges


class Segment(NamedTuple):
    """Pieces that a thread found in one go, by their numbers in its list."""

    part: int  # the first one of the parts they lie in
    thread: int
    first: int
    stop: int


class Gaps:
    """Parts of the domain by their numbers: threads begin at places of their own and go on to both sides until they meet.

    So each one's parts lie one after the other, those of thread k before those of thread k + 1, and few vertices lie between the parts
    of two threads, and are found twice.
    """

    def __init__(self, total: int, threads: int) -> None:
        ends = [total * k // (threads - 1) for k in range(threads)]
        self.left = [[a, b] for a, b in zip(ends, ends[1:])]
        self.least = max(1, total // _LEAST)
        self.most = max(self.least, max(b - a for a, b in self.left) // _SHARE)
        self.lock = Lock()

    def next(self, thread: int) -> tuple[int, int]:
        """Where the thread's next parts begin and end; the same twice once there are none."""
        with self.lock:
            beside = [g for g in (thread - 1, thread) if 0 <= g < len(self.left)]
            g = max(beside, key=lambda g: self.left[g][1] - self.left[g][0])
            low, high = self.left[g]
            few = min(max(self.least, (high - low) // _SHARE), high - low)
            if g == thread:
                self.left[g][0] += few
                return low, low + few
            self.left[g][1] -= few
            return high - few, high


def on_threads(
    threads: int, prepare: Callable[[], Any], work: Callable[[int, Future[Any], Event], Any]
) -> tuple[Any, list[Any], bool]:
    """`work(k, prepared, halt)` on so many threads, the first one on this; what `prepare` gives is made while the others wake up.

    Ctrl-C comes to this thread: the others are told by `halt`, and what they found is kept.

    Returns:
        What was prepared, what each thread brought, and whether none was told to halt.
    """
    ready: Future[Any] = Future()
    halt = Event()
    others = [pool(threads).submit(work, k, ready, halt) for k in range(1, threads)]
    try:
        ready.set_result(prepare())
    except BaseException as error:
        ready.set_exception(error)
        raise
    done: list[Any] = []
    while len(done) < threads:
        try:
            done.append(work(0, ready, halt) if not done else others[len(done) - 1].result())
        except KeyboardInterrupt:
            if halt.is_set():
                raise
            halt.set()
    return ready.result(), done, not halt.is_set()


def pool(threads: int) -> ThreadPoolExecutor:
    """The threads beside this one."""
    return _POOLS.get(threads) or _POOLS.setdefault(threads, ThreadPoolExecutor(threads - 1, "relukit"))


def taken(kept: WeakKeyDictionary[Form, list[tuple[Any, Any]]], form: Form) -> tuple[Any, Any] | None:
    """A thread's arrays of an earlier call: what they hold has been copied."""
    try:
        return kept.get(form, []).pop()
    except IndexError:
        return None


def with_rows(found: Any, sizes: dict[str, int]) -> Any:
    """A walk's arrays, each with at least so many rows."""
    return found._replace(**{name: longer(getattr(found, name), n) for name, n in sizes.items() if len(getattr(found, name)) < n})  # fmt: skip


def head_of(form: Form, few: int) -> Form:
    """The first `few` hinges of a form as a form of their own, with one output."""
    heads = _HEADS.setdefault(form, {})
    if few not in heads:
        heads[few] = _made(form, few)
    return heads[few]


def _made(form: Form, few: int) -> Form:
    net, D = form.net, form.dimension
    n = int(net.size[0])
    rows = net.direct[: (D + 1) * n].reshape(D + 1, n)[:, :few].T
    factors = None if not len(net.plane) else (net.plane, net.plane_weight[:few], net.plane_bias[:few])
    small = pack([Stage(rows, {}), Stage(np.ones((1, D + 1)), {})], factors, 0)
    small = small._replace(
        slope_error=net.slope_error[:2], shift_error=net.shift_error[:2], oracle=net.oracle
    )  # the same bounds, the same vertices
    return replace(form, net=small, plain=small, outputs=1, hinges=few)


@njit(cache=True, nogil=True, _nrt=False)
def number_vertices(prefix, count, link, number, young, total, link2, keep):
    """Number the vertices of one walk in the list of another, which grows by those it lacks; returns its new length.

    Only a cut of an edge between two common vertices can be common: those are followed from the first `prefix` on. To `keep` the names
    of new vertices for a third walk, all edges are gone through.
    """
    known = total
    for v in range(count):
        number[nth(v)] = v if v < prefix else -1
    for v in range(count):
        if number[nth(v)] < 0:
            number[nth(v)] = total
            if keep:
                remember_cut(link2, number[nth(young[nth(v)])], number[nth(np.int64(link[nth(v), OTHER]))], total)
            total += 1
        a = number[nth(v)]
        if a >= known and not keep:
            continue
        u = np.int64(link[nth(v), HEAD])
        while u >= 0:
            young[nth(u)] = v
            b = number[nth(np.int64(link[nth(u), OTHER]))]
            if a < known and b < known:
                number[nth(u)] = known_cut(link2, a, b)
            u = np.int64(link[nth(u), AFTER])
    return total
