"""What benchmarks share: where the data lie, what machine this is, how results are kept."""

import json
import os
import platform
import sys
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
