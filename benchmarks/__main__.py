"""`python -m benchmarks NAME [options]` runs benchmarks/NAME.py; without a name it lists them."""

import importlib
import pkgutil
import sys

import benchmarks

names = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")]
if sys.argv[1:] == ["--names"]:
    print(*names)
    sys.exit(0)
if len(sys.argv) < 2 or sys.argv[1] not in names:
    print("usage: python -m benchmarks NAME [--smoke]\nbenchmarks:", ", ".join(names))
    sys.exit(0 if len(sys.argv) < 2 else 2)
importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
