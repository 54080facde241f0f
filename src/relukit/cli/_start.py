"""Start-up: what a process does before any work is most of what an easy question costs.

Three things are avoided, all of them in this process only. Typer's conversion of arguments loads pydantic where that is
installed (0.2 CPU-s): plain arguments are read here, and Typer reads the rest, `--help` and mistakes included. OpenBLAS
starts threads that wait in a loop: one is enough for the small products of a proof. Numba fills its registries before it
reads compiled code from its cache, and loads SciPy on the way (0.4 CPU-s): only compiling needs them.
"""

import importlib
import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Commands whose products are small, or done by compiled code.
_ONE_THREAD = {"verify", "flip", "check", "supports", "optimize", "regions", "explain", "compress", "summary"}
# Settings of an option that read_plainly knows nothing about: where one is set, Typer reads the line.
_SPECIAL = (
    "callback", "parser", "click_type", "min", "max", "formats", "case_sensitive", "exists", "readable", "writable",
    "resolve_path", "dir_okay", "file_okay", "allow_dash", "envvar", "prompt", "count", "is_eager", "autocompletion",
)  # fmt: skip


def quick_call(arguments: list[str], commands: tuple[str, ...]) -> Callable[[], Any] | None:
    """The call that a plain command line stands for; None where Typer has to read it.

    Arguments:
        arguments: What follows the program's name.
        commands: Names of commands, each a module of this package with a function `command`.
    """
    if not arguments or arguments[0] not in commands:
        return None
    if arguments[0] in _ONE_THREAD:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        _load_compiled_code_alone()
    module = importlib.import_module(f"relukit.cli.{arguments[0]}")
    if hasattr(module, "app") or hasattr(module, "CONTEXT"):
        return None
    values = read_plainly(module.command, arguments[1:])
    return None if values is None else lambda: module.command(**values)


def read_plainly(command: Callable[..., Any], words: list[str]) -> dict[str, Any] | None:
    """Values of a typed function's parameters from `--option value`, `--option=value`, `--flag` and positional words.

    None for whatever is not that: short options, `--help`, missing or wrong values, values with checks of their own.
    """
    hints = typing.get_type_hints(command)
    parameters = inspect.signature(command).parameters
    options: dict[str, str] = {}
    positional: list[str] = []
    values: dict[str, Any] = {}
    special: set[str] = set()
    for name, parameter in parameters.items():
        about = parameter.default
        if type(about).__name__ == "ArgumentInfo":
            positional.append(name)
        elif type(about).__name__ == "OptionInfo":
            declared = [d for d in about.param_decls or () if d.startswith("--")] or ["--" + name.replace("_", "-")]
            options |= dict.fromkeys(declared, name)
        else:
            return None
        fresh = type(about)(default=about.default)
        if about.default_factory is not None:
            return None
        if any(getattr(about, k, None) != getattr(fresh, k, None) for k in _SPECIAL):
            special.add(name)
        values[name] = about.default
    found = _sorted(words, options, hints)
    if found is None:
        return None
    given, rest = found
    for name in positional:
        many = _item(hints[name]) is not None
        taken, rest = (rest, []) if many else (rest[:1], rest[1:])
        if taken:
            given[name] = taken
    if rest or special & set(given):
        return None
    try:
        for name, raw in given.items():
            item = _item(hints[name])
            kind = item or _plain(hints[name])
            values[name] = [_value(kind, r) for r in raw] if item else _value(kind, raw[-1])
    except (ValueError, TypeError):
        return None
    return None if any(value is ... for value in values.values()) else values


def _sorted(
    words: list[str], options: dict[str, str], hints: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str]] | None:
    """What each option was given, and the words that belong to none."""
    given: dict[str, list[str]] = {}
    rest: list[str] = []
    k = 0
    while k < len(words):
        word = words[k]
        k += 1
        if not word.startswith("-"):
            rest.append(word)
            continue
        option, sign, value = word.partition("=")
        if option not in options:
            return None
        name = options[option]
        if _plain(hints[name]) is bool:
            if sign:
                return None
            value = "true"
        elif not sign:
            if k == len(words):
                return None
            value, k = words[k], k + 1
        given.setdefault(name, []).append(value)
    return given, rest


def _plain(hint: Any) -> Any:
    """The one type of `T` or `T | None`."""
    if isinstance(hint, types.UnionType):
        kinds = [k for k in typing.get_args(hint) if k is not type(None)]
        return kinds[0] if len(kinds) == 1 else None
    return hint


def _item(hint: Any) -> Any:
    """The type of a list's items; None for no list."""
    hint = _plain(hint)
    return typing.get_args(hint)[0] if typing.get_origin(hint) is list else None


def _value(kind: Any, text: str) -> Any:
    if kind is bool:
        return True
    if kind not in (str, int, float, Path):
        raise TypeError(kind)
    if kind in (int, float) and (text != text.strip() or "_" in text):
        raise ValueError(text)
    return kind(text)


def _load_compiled_code_alone() -> None:
    """When Numba is imported, let it read cached code without filling its registries first.

    A compilation, should one be needed, fills them itself. This reaches into Numba: where a version has other names, nothing
    is changed.
    """
    if "numba" not in sys.modules:
        sys.meta_path.insert(0, _AfterNumba(_patch))


def tell_compiling() -> None:
    """When Numba begins to compile, which is once on a machine, say so: a first command takes a minute where later ones take a second."""
    if "numba" not in sys.modules:
        sys.meta_path.insert(0, _AfterNumba(_listen))


class _AfterNumba:
    """Calls `then` with `numba.core.caching` once that has been imported, and steps aside."""

    def __init__(self, then: Callable[[Any], None]) -> None:
        self.then = then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "numba.core.caching":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        whole = spec.loader.exec_module

        def load(module: Any) -> None:
            whole(module)
            self.then(module)

        spec.loader.exec_module = load
        return spec


def _listen(_: Any) -> None:
    from numba.core import event

    class Once(event.Listener):
        said = False

        def on_start(self, event: Any) -> None:
            if not self.said:
                self.said = True
                print(
                    "compiling loops, once on this machine (`relukit doctor --compile` does it ahead) ...",
                    file=sys.stderr,
                )

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Once())


def _patch(caching: Any) -> None:
    cache = getattr(caching, "FunctionCache", None)
    before, inner = getattr(cache, "load_overload", None), getattr(cache, "_load_overload", None)
    if cache is None or before is None or inner is None:
        return

    def load_overload(self: Any, sig: Any, target_context: Any) -> Any:
        try:
            from numba.core.runtime import rtsys

            rtsys.initialize(target_context)
            return inner(self, sig, target_context)
        except Exception:  # an unknown version's insides: its own way to load is always right, only slower
            return before(self, sig, target_context)

    cache.load_overload = load_overload
