"""Numba's `njit` with a cache that knows of callees.

Numba reads a kernel's compiled code from its cache while the kernel's own file is unchanged. That code holds the code of kernels
in other files that it calls: after an update of one of them it would be stale, and wrong. Here it counts all of a folder's files
(kernels call none of other folders).
"""

from collections.abc import Callable
from functools import cache
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
        return dispatcher

    return compiled


@cache
def _content(folder: Path) -> str:
    """What a folder's modules hold, as one short word."""
    found = blake2b(digest_size=16)
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
