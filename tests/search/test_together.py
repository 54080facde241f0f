"""Many cases at once, and work shared out among threads."""

import threading
import time

import numpy as np
import pytest

import relukit
from relukit import Box
from relukit.activations import get
from relukit.bounds import compact
from relukit.network import from_layers
from relukit.search._dual import Dual
from relukit.search._threads import share
from relukit.search._together import settled
from relukit.verification.vnnlib import parse


def net(seed, *widths):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in zip(widths, widths[1:])]
    return from_layers(weights, [0.1 * rng.normal(size=b) for b in widths[1:]], [get("relu")] * (len(widths) - 2))


def cuts(network, room, count=300):
    """Pieces of [0, 1] with a limit each that the output stays above by `room` on a fine grid of the piece (or not, where it is negative)."""
    ends = np.linspace(0, 1, count + 1)
    boxes, rows = [], []
    for k in range(count):
        low = float(network(np.linspace(ends[k], ends[k + 1], 50)[:, None]).min())
        boxes.append(Box(ends[k : k + 1], ends[k + 1 : k + 2]))
        rows.append((np.ones((1, 1)), np.array([low - room])))
    return boxes, rows


def test_bounds_of_many_boxes_close_what_holds_and_nothing_else():
    network = net(0, 1, 24, 24, 1)
    assert settled(network, *cuts(network, 0.05), 30).mean() > 0.9
    assert not settled(network, *cuts(network, -1e-6), 30).any()  # each has a counterexample
    assert not settled(network, *cuts(network, 0.05), 0.0).any()  # no time
    boxes, rows = cuts(network, 0.05)
    rows[7] = (rows[7][0], rows[7][1] + 0.1)
    done = settled(network, boxes, rows, 30)
    assert not done[7] and done[6]


def test_one_violated_case_among_thousands_is_found():
    network = net(1, 1, 16, 16, 1)
    boxes, rows = cuts(network, 0.02, 2000)
    texts = [f"(and (>= X_0 {float(b.lower[0])!r}) (<= X_0 {float(b.upper[0])!r}) (<= Y_0 {float(r[1][0])!r}))" for b, r in zip(boxes, rows)]  # fmt: skip
    ask = lambda some: parse("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (or " + "\n".join(some) + "))")
    assert relukit.verify(network, ask(texts), timeout=60).status == "unsat"
    k = 1234
    texts[k] = texts[k].replace(repr(float(rows[k][1][0])), repr(float(rows[k][1][0]) + 0.021))
    found = relukit.verify(network, ask(texts), timeout=60)
    assert found.status == "sat" and boxes[k].contains(found.witness)


@pytest.mark.parametrize("threads", [1, 3])
def test_every_item_is_worked_on_once(threads):
    seen, names = [], set()

    def work(item):
        time.sleep(0.001)
        seen.append(item)
        names.add(threading.current_thread().name)

    share(iter(range(100)), work, np.inf, threads)
    assert sorted(seen) == list(range(100))
    assert (len(names) > 1) == (threads > 1)
    share(iter(range(100)), work, time.perf_counter() - 1, threads)
    assert len(seen) == 100


def test_errors_and_interrupts_of_any_thread_arrive():
    main = threading.current_thread()

    def work(item):
        time.sleep(0.001)
        if (threading.current_thread() is main) == in_main and item > 10:
            raise KeyboardInterrupt if in_main else ArithmeticError

    for in_main, kind in ((True, KeyboardInterrupt), (False, ArithmeticError)):
        drawn = iter(range(10_000))
        with pytest.raises(kind):
            share(drawn, work, np.inf, 2)
        if in_main:
            assert next(drawn) < 9_000  # the others have stopped, too


def test_threads_change_no_bound(monkeypatch):
    from relukit.search import _dual

    network = net(2, 6, 40, 40, 40, 3)
    small = compact(network, Box(-np.ones(6), np.ones(6)))
    found = []
    for count in (1, 2):
        monkeypatch.setattr(_dual, "workers", lambda count=count: count)
        dual = Dual(small)
        first, last = dual.blocks[-1]
        rows = dual.gate_rows(np.arange(first, last))
        assert len(dual._parts(len(rows), first)) == (1 if count == 1 or len(rows) * first < _dual._WORTH else 2)
        P, S = dual.start(len(rows), first)
        found.append(dual.bound(rows, P, S, 8))
    assert len(found[0].bound) >= 2 * _dual._PORTION
    np.testing.assert_allclose(found[0].bound, found[1].bound, rtol=1e-4, atol=1e-4)
    assert found[0].P.shape == found[1].P.shape and found[0].x.shape == found[1].x.shape


def test_a_search_goes_on_while_it_is_to_close_in_time():
    """Gaps fall by about as much with each doubling of the nodes."""
    from relukit.search._pace import Pace

    def seen(bound, left):
        pace = Pace(-1.0, 256, time.perf_counter() + left)
        pace.began -= 1.0  # 512 nodes in a second
        pace.see(512, bound)
        return pace.good

    assert seen(-0.8, 100)  # 4 more doublings: 16 s
    assert not seen(-0.8, 30)
    assert not seen(-0.95, 100)  # 19 more
    assert seen(-0.5, 5)  # half of the gap at once
    assert not seen(-1.0, 1e9)
