"""Names of a package that load the module holding them on first use."""

import importlib
from collections.abc import Callable
from typing import Any


def attach(package: str, public: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` for a package whose names live elsewhere (PEP 562).

    Arguments:
        package: The package's name.
        public: For each name the module that holds it; `""` for a subpackage of that name, `"module:attribute"` for
            an attribute of another name, `"module:"` for the module itself.
    """

    def get(name: str) -> Any:
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        where = public[name]
        if not where:
            return importlib.import_module(f"{package}.{name}")
        module, colon, attribute = where.partition(":")
        loaded = importlib.import_module(module)
        value = loaded if colon and not attribute else getattr(loaded, attribute or name)
        importlib.import_module(package).__dict__[name] = value
        return value

    names = sorted(public)
    return get, lambda: [*names, "__version__"], names
