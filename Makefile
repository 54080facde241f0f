# make demo and make test set up all they need on a fresh machine (Python 3.11 or later with venv).
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 2
# torch's CPU wheel is asked for first and pinned: a later plain "torch" would bring gigabytes of CUDA packages.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test install dev docs lint clean

demo: .venv/installed
	$(BIN)/python examples/demo.py demo

test: .venv/dev
	$(BIN)/python -m pytest -q $(ARGS)

install: .venv/installed

dev: .venv/dev

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch==2.13.0
	$(PIP) -e .
	touch $@

.venv/dev: .venv/installed
	$(PIP) -e ".[dev]"
	$(BIN)/relukit doctor --compile
	touch $@

.venv/docs: .venv/dev
	$(PIP) -e ".[docs]"
	touch $@

docs: .venv/docs
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html

lint: .venv/dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/pyright src/relukit

clean:
	rm -rf .venv build dist docs/_build demo
