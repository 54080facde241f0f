"""Stop on time, and say what was known when someone stops a proof."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from relukit.bounds import interval, linear
from relukit.search import Search

_WIDE = 3000  # units
_AGAIN = 0.02  # seconds until a deadline that fell into an import is looked at again


class TimeIsUp(BaseException):
    """Raised in the main thread when a deadline passes; no `except Exception` on the way swallows it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a proof.

    Arguments:
        verdict: An `Undecided` with the bounds known so far.
    """

    def __init__(self, verdict: Any) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


def _importing(frame: Any) -> bool:
    """Whether a module is being imported in this frame or one that called it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TimeIsUp` in the body after so many seconds of wall time (main thread on POSIX; elsewhere nothing happens).

    Searches watch their own clocks; this is for what does not, like reading or bounding a large network. An import is let finish:
    half a module would stay behind and fail whatever comes next in this process. Compilers call back from code that swallows what is
    raised there, and then fail with an error of their own: whatever fails after the deadline counts as the deadline.
    """
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not usable or not np.isfinite(seconds) or signal.getsignal(signal.SIGALRM) not in (signal.SIG_DFL, None):
        yield
        return

    rung = False

    def ring(number: int, frame: Any) -> None:
        nonlocal rung
        if _importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
            return
        rung = True
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    except Exception:
        if rung:
            raise TimeIsUp from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def so_far(searches: list[Search]) -> str:
    """What is known about each case: its largest condition is between two numbers, and a counterexample needs it to be at most 0."""
    lines = []
    for k, search in enumerate(searches[:20]):
        try:
            low = getattr(search, "level", None)  # what the search over gates had found
            if low is None:
                # Of a wide network intervals: who stops a program does not want to wait for it.
                bounds = (linear if search.rows.units <= _WIDE else interval)(search.rows, search.domain)
                low = float(np.max(bounds.output[0]))
            high = float(np.min(search.rows(np.atleast_2d(search.tried)).max(axis=1)))
        except (AttributeError, ValueError, MemoryError):
            continue
        boxes = getattr(getattr(search, "engine", None), "boxes", 0)
        if low > 0:
            lines.append(f"case {k + 1}: no counterexample")
            continue
        state = f"open after {boxes:,} boxes" if boxes else "open"
        lines.append(
            f"case {k + 1}: {state}; the smallest value of its largest condition is between {low:.6g} and {high:.6g} (a counterexample needs at most 0)"
        )
    if len(searches) > 20:
        lines.append(f"and {len(searches) - 20} more cases")
    return "\n".join(lines)
