"""`relukit gallery list | run | score | use`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(
    no_args_is_help=True, help="Studies on real data: run them, score them on files of your own, use them."
)

_MORE = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("list")
def list_(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """The studies, each with its question."""
    from relukit.cli._frame import print_json
    from relukit.gallery import STUDIES, output_folder

    rows = [
        {"name": s.name, "question": s.question, "available": s.is_there, "trained": (output_folder(s.name) / "done.json").exists()}
        for s in STUDIES.values()
    ]  # fmt: skip
    if as_json:
        print_json({"studies": rows})
        return
    for row in rows:
        state = "trained" if row["trained"] else "" if row["available"] else "not in this version"
        print(f"{row['name']:16} {row['question']:66} {state}")


@app.command("run")
def run(
    name: str = typer.Argument(..., help="A study of `relukit gallery list`"),
    out: Path | None = typer.Option(None, help="Folder for what is trained; the user's cache by default"),
    seeds: int = typer.Option(5, min=1, help="Networks to train, for intervals and ensembles"),
    quick: bool = typer.Option(False, "--quick", help="A short version, to see that it works"),
    figures: bool = typer.Option(True, help="Draw the study's pictures"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Train a study on its data and save it."""
    import time

    from relukit._numerics import write_json
    from relukit.cli._frame import print_json, progress
    from relukit.gallery import output_folder, study

    chosen = study(name)
    module, folder = chosen.load(), output_folder(chosen.name, out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done.json").unlink(missing_ok=True)
    data = module.fetch()
    wall, cpu = time.perf_counter(), time.process_time()
    with progress(f"training {chosen.name}") as advance:
        summary = module.train(
            data, folder, seeds=seeds, quick=quick, on_progress=lambda done, total: advance(done, f"of {total}")
        )
    answer = {
        "study": chosen.name, "out": str(folder), "quick": quick, "summary": summary,
        "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu,
    }  # fmt: skip
    write_json(folder / "done.json", answer)
    if figures and hasattr(module, "figures"):
        answer["figures"] = [str(p) for p in module.figures(folder, data)]
    if as_json:
        print_json(answer)
        return
    print(
        f"{chosen.name}: trained in {answer['seconds']:.0f} s ({answer['cpu_seconds']:.0f} CPU-s), saved under {folder}"
    )
    for key, value in (summary or {}).items():
        print(f"  {key}: {value}")


@app.command("score", context_settings=_MORE)
def score(
    context: typer.Context,
    name: str = typer.Argument(..., help="A study that was run"),
    data: list[Path] = typer.Option([], help="Files of the study's format; several may follow"),
    out: Path | None = typer.Option(None, help="Folder of the trained study; the user's cache by default"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Apply a trained study to files: its metrics, and every baseline rerun on the same rows.

    Options of a study of its own (--train, --controller, --tracks, --seed, --flips) are handed on to it.
    """
    from relukit._errors import UnreadableFile
    from relukit.cli._frame import print_json
    from relukit.gallery import output_folder, study, told, trained

    chosen = study(name)
    module = chosen.load()
    options, files = _rest(context.args)
    files = [*data, *files]
    for file in files:
        if not file.exists():
            raise UnreadableFile(f"data file {file} does not exist")
    needs_training = getattr(module, "NEEDS_TRAINING", True)
    folder = trained(chosen.name, out) if needs_training else output_folder(chosen.name, out)
    options = _known(module.score, options, name, 2)
    with _whole(folder, chosen.name):
        answer = told(module.score(folder, files, **options))
    if as_json:
        print_json(answer)
        return
    print(f"{answer['study']}: {answer['rows']} rows")
    for key, value in answer["metrics"].items():
        print(f"  {key:32} {value}")
    for key, value in answer["baselines"].items():
        print(f"  baseline {key:23} {value}")


@app.command("use", context_settings=_MORE)
def use(
    context: typer.Context,
    name: str = typer.Argument(..., help="A study with a use of its own (crispr, maintenance, ...)"),
    out: Path | None = typer.Option(None, help="Folder of the trained study; the user's cache by default"),
) -> None:
    """Use a trained study: `relukit gallery use crispr --sequence FILE.fasta` lists guides as CSV."""
    from relukit._errors import InvalidInput
    from relukit.gallery import study, trained

    chosen = study(name)
    module = chosen.load()
    if not hasattr(module, "use"):
        raise InvalidInput(f"the study '{name}' has no use besides `score`")
    options, files = _rest(context.args)
    folder, options = trained(chosen.name, out), _known(module.use, options, name, 1 + len(files))
    with _whole(folder, chosen.name):
        answer = module.use(folder, *files, **options)
    if answer is not None:
        print(module.to_csv(answer) if hasattr(module, "to_csv") else answer, end="")


@contextmanager
def _whole(folder: Path, name: str) -> Iterator[None]:
    """A file that a trained study lacks (an older version wrote others, or it was removed) is said so."""
    from relukit._errors import UnreadableFile

    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None or folder.absolute() not in Path(error.filename).absolute().parents:
            raise
        raise UnreadableFile(
            f"the study saved at {folder} lacks {Path(error.filename).name}; run `relukit gallery run {name}` again"
        ) from error


def _known(function: Any, options: dict, name: str, given: int) -> dict:
    """The options, if the study's function takes each of them and they are all that it needs besides the first `given` arguments."""
    import inspect

    from relukit._errors import InvalidInput

    spell = lambda names: ", ".join("--" + k.replace("_", "-") for k in names)
    parameters = inspect.signature(function).parameters.values()
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if given > len(by_place) and not any_number:
        raise InvalidInput(f"the study '{name}' takes at most {len(by_place) - 1} files here, {given - 1} are given")
    free = [*by_place[given:], *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]
    taken = {p.name: p.default for p in free}
    unknown = [k for k in options if k not in taken]
    if unknown:
        raise InvalidInput(
            f"the study '{name}' has no option {spell(unknown)}; it takes {spell(taken) or 'none of its own'}"
        )
    needed = [k for k, default in taken.items() if default is inspect.Parameter.empty and k not in options]
    if needed:
        raise InvalidInput(f"the study '{name}' needs {spell(needed)} (or a file in its place)")
    return options


def _rest(arguments: list[str]) -> tuple[dict, list[Path]]:
    """What typer left over: `--name value` pairs for the study, and further files."""
    from relukit._errors import InvalidInput

    options: dict = {}
    files: list[Path] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            files.append(Path(word))
            continue
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise InvalidInput(f"option {word} wants a value")
            value = words.pop(0)
        number = value.lstrip("-").isdigit()
        options[key.replace("-", "_")] = int(value) if number else value
    return options, files
