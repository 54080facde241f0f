"""`relukit doctor`."""

import typer

# extra -> modules it brings
_EXTRAS = {
    "keras": ("keras",),
    "pyomo": ("pyomo",),
    "scip": ("pyscipopt",),
    "cluster": ("distributed",),
    "gallery": ("pandas", "statsmodels", "logomaker", "torch_geometric", "torchdiffeq", "mujoco", "control", "gymnasium", "ase", "duckdb", "polars", "pyarrow", "lightgbm", "vehiclemodels", "foolbox"),
    "docs": ("sphinx", "myst_nb", "furo"),
}  # fmt: skip
_NEEDED = (
    "numpy", "scipy", "numba", "torch", "onnx", "onnxruntime", "highspy", "typer", "rich", "matplotlib", "scikit-learn",
    "safetensors", "pooch", "networkx",
)  # fmt: skip


def command(
    compiled: bool = typer.Option(
        False, "--compile", help="Compile all loops now, so that no later command waits for it"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """What is installed, what is missing and how to get it: versions, extras, threads, GPU."""
    from relukit.cli._frame import print_json

    content = _look()
    if compiled:
        content["compile_seconds"] = _compile()
    if as_json:
        print_json(content)
        return
    print(f"relukit {content['relukit']}, Python {content['python']}, {content['system']}")
    print(f"threads   {content['cores']} cores, OMP_NUM_THREADS {content['omp_num_threads'] or 'not set'}")
    print(f"GPU       {content['gpu']}")
    print(f"cache     {'compiled loops are kept between runs' if content['cache_writable'] else 'NOT writable: each run compiles anew; set NUMBA_CACHE_DIR to a folder of yours'}")  # fmt: skip
    print(f"data      RELUKIT_DATA {'is a folder' if content['data_folder'] else 'is not set or no folder: studies download their data'}")  # fmt: skip
    for name, version in content["packages"].items():
        print(f"  {name:<14}{version or 'MISSING: ' + _install('') + ' brings it'}")
    for name, missing in content["extras"].items():
        print(f"  extra {name:<10}{'complete' if not missing else 'without ' + ', '.join(missing)}")
        if missing:
            print(f"                  {_install(name)}")


def _install(extra: str) -> str:
    """The command that brings an extra: of the folder that relukit was installed from with `pip install -e`, else by its name."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        noted = json.loads(distribution("relukit").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        noted = {}
    url = noted.get("url", "") if noted.get("dir_info", {}).get("editable") else ""
    what = f"[{extra}]" if extra else ""
    return (
        f"pip install -e '{url.removeprefix('file://')}{what}'"
        if url.startswith("file://")
        else f"pip install 'relukit{what}'"
    )


def _compile() -> float:
    """Asks each engine one small question; what they compile for it is kept on disk. Returns seconds."""
    import time

    import numpy as np
    import torch

    import relukit
    from relukit.cli._frame import progress
    from relukit.inference import compile_loops

    def chain(*widths: int) -> relukit.Network:
        rng = np.random.default_rng(sum(widths))
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        arrays = {f"W{k}": rng.normal(size=(b, a)) / a**0.5 for k, (a, b) in enumerate(pairs)}
        return relukit.load(arrays | {f"b{k}": rng.normal(size=b) / 4 for k, (_, b) in enumerate(pairs)})

    cube = lambda n: relukit.Box(-np.ones(n), np.ones(n))
    torch.manual_seed(0)
    layers = (
        torch.nn.Conv2d(1, 4, 3, 2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 3),
    )
    images = relukit.load(torch.nn.Sequential(*layers), input_shape=(1, 13, 13))
    small, wide = chain(3, 12, 12, 3), chain(60, 24, 24, 3)
    jobs = [
        *[lambda n=n: relukit.regions(chain(n, 8, 8, 2), cube(n)) for n in (1, 2, 3, 4)],
        *[lambda m=m, norm=norm: relukit.flip(m, np.full(m.inputs, 0.3), norm=norm, timeout=20) for m in (small, wide) for norm in (np.inf, 2.0, 1.0)],
        lambda: relukit.flip(images, np.full(images.inputs, 0.3), timeout=20),
        lambda: relukit.optimize(chain(2, 16, 16, 1), maximize="y[0]", box=cube(2)),
        lambda: relukit.compress(small, relukit.Ball(np.zeros(3), 0.05)),
        compile_loops,
    ]  # fmt: skip
    started = time.perf_counter()
    with progress("compiling", len(jobs)) as advance:
        for k, job in enumerate(jobs):
            job()
            advance(k + 1, "")
    return time.perf_counter() - started


def _look() -> dict:
    import os
    import platform
    from importlib.util import find_spec
    from pathlib import Path

    from relukit._version import __version__

    folder = os.environ.get("RELUKIT_DATA", "")
    cache = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent)
    return {
        "relukit": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "gpu": _gpu(),
        "cache_writable": os.access(cache, os.W_OK),
        "data_folder": bool(folder) and Path(folder).is_dir(),
        "packages": {name: _version(name) for name in _NEEDED},
        "extras": {extra: [m for m in modules if find_spec(m) is None] for extra, modules in _EXTRAS.items()},
    }


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpu() -> str:
    """By torch, which is the one that would use it."""
    try:
        import torch
    except ImportError:
        return "unknown: torch is missing"
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)} (CUDA {torch.version.cuda})"
    if torch.version.cuda is None:
        return "none used: this torch is built for the CPU (https://pytorch.org tells how to get another)"
    return "none found by torch"
