"""Work shared out among threads: compiled loops and matrix products let go of the interpreter's lock."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import cache
from typing import Any

_MOST = 8


@cache
def workers() -> int:
    """Threads of one search: the cores that this process may use, or fewer where OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(cores, int(asked) if asked.isdigit() and int(asked) else cores, _MOST))


def share(items: Iterator[Any], work: Callable[[Any], None], stop: float, threads: int) -> None:
    """`work(item)` for every item, on so many threads, until `stop` (`time.perf_counter`); items are drawn one by one.

    What one thread meets (an error, Ctrl-C, a deadline) ends the others after the item they are at, and is raised.
    """
    if threads < 2:
        for item in items:
            if time.perf_counter() > stop:
                return
            work(item)
        return
    lock, ended = threading.Lock(), threading.Event()

    def run() -> None:
        while not ended.is_set() and time.perf_counter() <= stop:
            with lock:
                item = next(items, _END)
            if item is _END:
                return
            try:
                work(item)
            except BaseException:
                ended.set()
                raise

    with _one_thread_products():
        others = [_pool().submit(run) for _ in range(threads - 1)]
        try:
            run()
            for other in others:
                other.result()
        finally:
            ended.set()
            wait(others)


_END = object()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(workers() - 1, 1), "relukit-search")


@cache
def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def _one_thread_products() -> Any:
    """A context in which NumPy's products take one thread each."""
    controller = _controller()
    return nullcontext() if controller is None else controller.limit(limits=1, user_api="blas")
