"""What all commands share: exit codes, errors as one sentence, JSON on stdout, progress on stderr."""

import json
import sys
from collections.abc import Callable
from typing import Any

import typer

from relukit._errors import RelukitError
from relukit._version import __version__

DONE, INTERNAL, USAGE, FINDING, UNDECIDED, INTERRUPTED = 0, 1, 2, 10, 11, 130


# Typer brings its own copy of click, whose errors it does not name: the base of BadParameter's base.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]


def version_callback(value: bool) -> None:
    if value:
        print(f"relukit {__version__}")
        raise typer.Exit(DONE)


def run_app(app: Callable[..., Any]) -> int:
    """Run the command line (a Typer application, or a call) and return its exit code; no traceback reaches a user for a known error."""
    try:
        code = app(standalone_mode=False) if isinstance(app, typer.Typer) else app()
        if code == INTERRUPTED:  # Typer turns Ctrl-C into this code by itself
            return _interrupted()
        return code if isinstance(code, int) else DONE
    except RelukitError as error:
        say_error(str(error))
        return USAGE
    except ModuleNotFoundError as error:
        extra = _extra_with(error.name or "")
        if not extra:
            raise
        say_error(f"this needs {error.name}, which is not installed: pip install 'relukit[{extra}]'")
        return USAGE
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except _USAGE_ERROR as error:
        error.show()
        return USAGE
    except BrokenPipeError:
        return DONE


def _extra_with(module: str) -> str:
    """The extra of this project that brings a module, by what the installed metadata asks for; empty where none does."""
    import re
    from importlib.metadata import PackageNotFoundError, requires

    try:
        wanted = requires("relukit") or []
    except PackageNotFoundError:
        return ""
    name = module.partition(".")[0].replace("_", "-").lower()
    found = [re.match(r"([A-Za-z0-9._-]+).*extra == ['\"]([a-z]+)['\"]", line) for line in wanted]
    extras = [m[2] for m in found if m and m[1].replace("_", "-").lower() == name]
    return min(extras, key=lambda extra: extra in ("dev", "docs", "peers"), default="")


def _interrupted() -> int:
    say_error("interrupted; nothing half-written was left behind")
    return INTERRUPTED


def say_error(message: str) -> None:
    """One line on stderr."""
    print(f"relukit: {message}", file=sys.stderr)


def print_json(value: Any) -> None:
    """The answer as JSON on stdout."""
    from relukit._numerics._files import plain

    print(json.dumps(value, indent=1, default=plain))


def progress(description: str, total: int | None = None):
    """A rich progress bar on stderr as a context manager; it yields an `advance(done, text)` function."""
    from relukit.cli._progress import Progress

    return Progress(description, total)
