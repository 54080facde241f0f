"""Numba's `njit` with a cache that knows of callees.

Numba reads a kernel's compiled code from its cache while the kernel's own file is unchanged. That code holds the code of kernels
in other files that it calls: after an update of one of them it would be stale, and wrong. Here it counts all of a folder's files
(kernels call none of other folders), and `_lanes.py`, which they share.
"""

from collections.abc import Callable
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with options; compiled code is read from the cache where the folder's files are those it was made from."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        kept = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
        if hasattr(kept, "_source_stamp"):  # an unknown version's insides: it then looks at the one file
            kept._source_stamp = (kept._source_stamp, _content(Path(function.__code__.co_filename).parent))
            kept._load_index = partial(_index, kept._load_index)
        return dispatcher

    return compiled


def _index(load: Callable[[], dict[Any, str]]) -> dict[Any, str]:
    """What the cache holds: nothing, where it was written by a version whose modules are no more."""
    try:
        return load()
    except (ImportError, AttributeError):
        return {}


@cache
def _content(folder: Path) -> str:
    """What a folder's modules hold, as one short word."""
    found = blake2b(digest_size=16)
    for path in (*sorted(folder.glob("*.py")), Path(__file__).with_name("_lanes.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
