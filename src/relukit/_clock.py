"""CPU seconds of work. What Python and Numba spend on loading code, once in a process, is counted apart: it is no part of an answer."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_spent = 0.0  # CPU seconds of loading in this process
_depth = 0  # of loads within loads
_began = 0.0
_watched = False  # whether Numba tells of its loads


class Clock:
    """CPU seconds since it was made, work and loading apart."""

    def __init__(self) -> None:
        _watch()
        self._began, self._loaded = time.process_time(), _spent

    @property
    def seconds(self) -> float:
        """Of work."""
        return time.process_time() - self._began - self.loading

    @property
    def loading(self) -> float:
        """Of importing modules, and of compiling loops or reading compiled ones from the cache."""
        return _spent - self._loaded


@contextmanager
def loading() -> Iterator[None]:
    """Around imports that are put off until they are needed."""
    _start()
    try:
        yield
    finally:
        _end()
        _watch()


def _start() -> None:
    global _depth, _began
    if _depth == 0:
        _began = time.process_time()
    _depth += 1


def _end() -> None:
    global _depth, _spent
    _depth -= 1
    if _depth == 0:
        _spent += time.process_time() - _began


def _watch() -> None:
    """Count what Numba loads from here on, where it is imported."""
    global _watched
    if _watched or "numba" not in sys.modules:
        return
    from numba.core import event

    class Loads(event.Listener):
        def on_start(self, event: Any) -> None:
            _start()

        def on_end(self, event: Any) -> None:
            _end()

    event.register("numba:compiler_lock", Loads())
    _watched = True
