"""The reference is made of docstrings: every public name says what it takes, in which shape, what comes back and what can go wrong."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import relukit

ROOT = Path(__file__).parents[2]
NAMES = [n for n in sorted(relukit._PUBLIC) if not inspect.ismodule(getattr(relukit, n))]
THINGS = [n for n in NAMES if not (inspect.isclass(getattr(relukit, n)) and issubclass(getattr(relukit, n), Exception))]
NO_ERRORS = {"decreasing_factor", "explore", "hybrid", "tune_allocator"}  # nothing of their own is raised, or it is said where it happens


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_explained(name):
    text = inspect.getdoc(getattr(relukit, name)) or ""
    assert len(text) > 20 and not text.lower().startswith("todo")


@pytest.mark.parametrize("name", THINGS)
def test_every_argument_is_named(name):
    thing = getattr(relukit, name)
    text = inspect.getdoc(thing)
    given = [p for p in inspect.signature(thing).parameters if p not in ("self", "args", "kwargs")]
    missing = [p for p in given if not re.search(rf"\b{p}\b", text)]
    assert not missing, f"{name} does not say what {missing} are"
    assert not given or "Arguments:" in text


@pytest.mark.parametrize("name", [n for n in THINGS if inspect.isfunction(getattr(relukit, n))])
def test_functions_say_what_they_raise(name):
    text = inspect.getdoc(getattr(relukit, name))
    assert "Raises:" in text or name in NO_ERRORS


def kinds_below(kind):
    for below in kind.__subclasses__():
        yield below
        yield from kinds_below(below)


def test_what_is_said_to_be_raised_exists():
    known = {kind.__name__ for kind in kinds_below(BaseException)}
    for name in THINGS:
        text = inspect.getdoc(getattr(relukit, name))
        for block in re.findall(r"Raises:\n((?: {4}.*\n?)+)", text):
            for line in re.findall(r"^ {4}([A-Z][\w, ]*):", block, re.MULTILINE):
                for error in line.split(","):
                    assert error.strip() in known, f"{name} names {error.strip()}"


def test_every_page_can_be_reached():
    """A page that stands in no table of contents is read by nobody."""
    docs = ROOT / "docs"
    if not docs.is_dir():
        pytest.skip("no docs beside an installed package")
    reached, waiting = set(), [docs / "index.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
            lines = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")]
            for entry in lines:
                found = sorted(page.parent.glob("*.md")) if entry == "*" else [(page.parent / f"{entry}.md").resolve()]
                assert all(f.is_file() for f in found), f"{page.name} lists {entry}"
                waiting += [f for f in found if f not in reached]
    assert reached == {p for p in docs.rglob("*.md") if "_build" not in p.parts}


def test_every_benchmark_says_what_it_measures():
    folder = ROOT / "benchmarks"
    if not folder.is_dir():
        pytest.skip("no benchmarks beside an installed package")
    for script in folder.glob("[a-z]*.py"):
        text = ast.get_docstring(ast.parse(script.read_text())) or ""
        assert len(text.split("\n\n")[0]) > 30, script.name


def test_the_architecture_page_knows_every_floor():
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = {p.parent.name for p in (ROOT / "src" / "relukit").glob("*/__init__.py")}
    missing = [f for f in folders if f'"{f}"' not in text]
    assert not missing and "Where would my change go?" in text
