"""What benchmarks share: where the data lie, what machine this is, how results are kept."""

import json
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def data_folder() -> Path | None:
    """The folder named by RELUKIT_DATA, or None (the benchmark then says so and ends)."""
    folder = os.environ.get("RELUKIT_DATA", "")
    if folder and Path(folder).is_dir():
        return Path(folder)
    print("RELUKIT_DATA names no folder of data: nothing to measure", file=sys.stderr)
    return None


def keep(name: str, content: dict[str, Any], smoke: bool) -> None:
    """Print a result; a full run also writes it to benchmarks/results."""
    import numba
    import numpy

    machine = {
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }
    if not smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine, **content}, indent=1) + "\n")
    print(json.dumps(content, indent=1))


def kept(name: str, field: str) -> dict[str, Any]:
    """A table of the result kept earlier, empty where there is none: a run of some cases keeps the figures of the others."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()).get(field, {}) if path.exists() else {}


def spread(work: Callable[..., Any], asked: Iterable[tuple[Any, ...]], jobs: int) -> list[Any]:
    """The work's answer to each tuple of arguments, in order; by `jobs` processes of one thread each."""
    import torch

    if jobs == 1:
        torch.set_num_threads(1)
        return [work(*arguments) for arguments in asked]
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return list(pool.map(_called, *zip(*((work, arguments) for arguments in asked))))


def _called(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return work(*arguments)


def cpu_seconds() -> float:
    """What this process and its children that ended have used, in CPU seconds."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in spent)
