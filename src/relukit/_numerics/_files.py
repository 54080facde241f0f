"""Files that are either complete or not there."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relukit._errors import UnwritablePath


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; move it there on success, remove it on any failure.

    Raises:
        UnwritablePath: The folder does not exist and cannot be made, is read-only, or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise UnwritablePath(
            f"cannot write {target}: {error.strerror or error}. Choose another place with -o."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private to the user; a result is as readable as any other file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except OSError as error:
        raise UnwritablePath(
            f"cannot write {target}: {error.strerror or error}. Free space or choose another place with -o."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: str | Path, content: bytes) -> Path:
    """Write `content` to `target` completely or not at all."""
    with atomic_path(target) as path:
        path.write_bytes(content)
    return Path(target)


def write_json(target: str | Path, value: Any) -> Path:
    """Write `value` as JSON to `target` completely or not at all."""
    return write_bytes(target, (json.dumps(value, indent=1, default=plain) + "\n").encode())


def plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
