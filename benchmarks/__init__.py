"""Benchmarks: `python -m benchmarks NAME [--smoke]`; results go to benchmarks/results."""
